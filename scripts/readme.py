"""Puts the demo's real output into README.md, between its two markers: `make readme`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- demo: written by `make readme` -->", "<!-- /demo -->"


def main() -> int:
    """Run the demo on fresh data; returns its exit code, and changes nothing if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("client-py", "scripts", "schemas", "examples"):
            (Path(folder) / name).symlink_to(ROOT / name)
        env = {**os.environ, "ONCE": "1", "PORT": os.environ.get("PORT", "7979")}
        command = [sys.executable, "-m", "scripts.demo"]
        run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print(run.stdout + run.stderr, file=sys.stderr)
        return run.returncode
    readme = ROOT / "README.md"
    block = f"{BEGIN}\n```\n$ make demo ONCE=1\n{run.stdout.strip()}\n```\n{END}"
    text = readme.read_text()
    changed = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: block, text, flags=re.DOTALL)
    readme.write_text(changed)
    return 0 if BEGIN in text else 1


if __name__ == "__main__":
    sys.exit(main())
