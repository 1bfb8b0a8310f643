"""What the demo writes: headings, a progress bar, tables, and a count of differences."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

TERMINAL = sys.stdout.isatty()


def heading(text: str) -> None:
    """A line that begins a part."""
    print(f"\n\033[1m{text}\033[0m" if TERMINAL else f"\n{text}", flush=True)


def line(text: str = "") -> None:
    """A line."""
    print(text, flush=True)


def progress(done: int, total: int, what: str) -> None:
    """A bar that grows in place; where there is no terminal, its end only."""
    if TERMINAL or done == total:
        filled = 40 * done // max(total, 1)
        bar = "█" * filled + "·" * (40 - filled)
        print(f"\r  {bar} {done:,} of {total:,} {what}", end="\n" if done == total else "", flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns."""
    texts = [list(columns), *([_text(v) for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    for row in texts:
        line("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


class Checks:
    """Counts comparisons; the demo's exit code is whether any failed."""

    def __init__(self) -> None:
        self.made = 0
        self.failed = 0

    def equal(self, what: str, found: Any, recomputed: Any) -> bool:
        """Compare what Millpond shows with the recomputation; says so if they differ."""
        self.made += 1
        if found == recomputed:
            return True
        self.failed += 1
        line(f"  DIFFERENT: {what}: Millpond has {found!r}, recomputed {recomputed!r}")
        return False

    def holds(self, what: str, condition: bool) -> None:
        """Check something that is not an equality."""
        self.made += 1
        if not condition:
            self.failed += 1
            line(f"  NOT SO: {what}")
