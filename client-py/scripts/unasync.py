"""Write `_sync/` from `_async/`: the synchronous client is the asynchronous one without its words.

python scripts/unasync.py           writes
python scripts/unasync.py --check   exits 1 if what is there differs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "millpond"
WORDS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync([A-Z])", r"\1"),
    (r"\b_async\b", "_sync"),
    (r"\basync_sleep\b", "sleep"),
    (r"\baclose\b", "close"),
    (r"\baread\b", "read"),
    (r"\baiter_(bytes|raw)\b", r"iter_\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\bAwaitable\[([^\]]+)\]", r"\1"),
    (r"\blogin_async\b", "login"),
    (r"\basynchronous\b", "synchronous"),
]
HEADER = "# Generated from ../_async by scripts/unasync.py. Edit there.\n"


def synchronous(text: str) -> str:
    """The synchronous form of an asynchronous module's source."""
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return HEADER + text


def main() -> int:
    """Write or check every module; returns the exit code."""
    check = "--check" in sys.argv[1:]
    sources = {p.name: synchronous(p.read_text()) for p in sorted((PACKAGE / "_async").glob("*.py"))}
    target = PACKAGE / "_sync"
    target.mkdir(exist_ok=True)
    stale = [p for p in target.glob("*.py") if p.name not in sources]
    differing = [name for name, text in sources.items() if not _same(target / name, text)]
    if check:
        for name in [*differing, *(p.name for p in stale)]:
            print(f"_sync/{name} is not what _async/{name} gives: run scripts/unasync.py")
        return 1 if differing or stale else 0
    for path in stale:
        path.unlink()
    for name in differing:
        (target / name).write_text(sources[name])
    return 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
