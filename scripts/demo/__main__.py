"""The demo from start to end; exit code 1 if any number differs from its recomputation."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import millpond

from . import historical, live, server
from .screen import Checks, heading, line


def main() -> int:
    """Run it; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    port = int(os.environ.get("PORT") or 7878)
    once = os.environ.get("ONCE", "") not in ("", "0")
    folder = Path(".millpond/demo")
    begun = time.monotonic()
    try:
        running = server.start(port, folder)
    except server.CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    url = f"http://127.0.0.1:{port}"
    checks = Checks()
    try:
        line(f"millpond serve is up at {url}; data in {folder}")
        fs = millpond.login(url).get_feature_store()
        historical.run(fs, url, folder, checks)
        live.run(fs, url, checks)
        heading("Result")
        verdict = "all equal" if checks.failed == 0 else f"{checks.failed} DIFFERENT"
        line(
            f"  {checks.made} comparisons with the recomputation: {verdict} ({time.monotonic() - begun:.0f} s)"
        )
        if not once:
            line(f"\nThe server stays up until Ctrl-C. Look at {url}/docs, or run `make notebooks`;")
            line(f"  curl '{url}/api/v1/feature-views/user_ctr_live/1/vector?user_id=user_1'")
            _until_interrupted(running)
        return 1 if checks.failed else 0
    except KeyboardInterrupt:
        line("\nStopped. `make demo` goes on from here; `make clean-demo` removes the data.")
        return 130
    finally:
        server.stop(running)


def _until_interrupted(running: server.subprocess.Popen[bytes]) -> None:
    try:
        running.wait()
    except KeyboardInterrupt:
        line("\nStopped.")


if __name__ == "__main__":
    sys.exit(main())
