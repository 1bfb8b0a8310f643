"""Running an example as its README says: define, then produce, in processes of their own; and its curl lines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import millpond

from examples.producer import Event

from .server import Server

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT = "http://127.0.0.1:7878"


def command(example: str, step: str, *options: str) -> str:
    """Run `python -m examples.<example>.<step>`; returns what it prints."""
    line = [sys.executable, "-m", f"examples.{example}.{step}", *options]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def replayed(server: Server, example: str, *options: str, define: tuple[str, ...] = ()) -> None:
    """The example's replay: `define --historical`, then `produce`."""
    command(example, "define", "--url", server.url, "--historical", *define)
    command(example, "produce", "--url", server.url, *options)


def stepped(
    fs: millpond.FeatureStore, group: millpond.FeatureGroup, events: Sequence[Event], seconds: float
) -> None:
    """Append events as they arrive, each `seconds` of them read before the next: what is late is late. Then finish."""
    streams = {name: fs.get_stream(name) for name in {event.stream for event in events}}
    step = 0
    while step * seconds <= events[-1].arrival:
        due = [event for event in events if step * seconds <= event.arrival < (step + 1) * seconds]
        for name, stream in sorted(streams.items()):
            if rows := [event.row for event in due if event.stream == name]:
                group.wait(stream.append(rows))
        step += 1
    for stream in streams.values():
        stream.finish()


def requests(example: str) -> list[str]:
    """The addresses that the README asks with curl, without the server's own."""
    text = (ROOT / "examples" / example / "README.md").read_text()
    found = re.findall(rf"^curl .*{re.escape(DEFAULT)}([^'\s]*)", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^curl ", text, re.MULTILINE)), (
        f"{example}: a curl line of another form"
    )
    return found
