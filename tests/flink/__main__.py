"""Runs everything and writes docs/flink.md; a difference is exit code 1, and the page stays as it is."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.harness.server import Server

from . import cluster, ours
from .cases import REPLAYS
from .compare import Different, compare
from .page import page

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "flink.md"


def main() -> int:
    """Returns the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder, results = Path(name), []
        server = Server(folder / "server")
        server.folder.mkdir()
        try:
            server.start()
            waiting = []
            for replay in REPLAYS:
                replayed = ours.replayed(server, replay)
                for case in replay.cases:
                    place = cluster.prepare(folder / "flink" / case.group, case, replayed)
                    waiting.append((case, place, ours.rows(server, case)))
                    print(
                        f"{case.group}: {len(replayed.events):,} events, {len(waiting[-1][2][1]):,} rows here"
                    )
        finally:
            server.stop()
        cluster.run([place for _, place, _ in waiting])
        try:
            for case, place, (keys, rows) in waiting:
                results.append(compare(case, keys, rows, cluster.rows(place, case)))
                print(f"{case.group}: {results[-1].flink:,} rows in Flink, equal")
        except Different as error:
            print(f"DIFFERENT: {error}", file=sys.stderr)
            return 1
    DOCS.write_text(page(os.environ["FLINK_VERSION"], results))
    print(f"written: {DOCS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
