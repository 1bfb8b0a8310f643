"""docs/flink.md: what was compared last, and how it came out."""

from __future__ import annotations

from collections.abc import Sequence

from .compare import Compared

HEAD = """# The examples on Apache Flink

Written by `make flink`, which fetches Apache Flink {version} from Maven Central, runs the definitions of [examples/](../examples/README.md) on
it in streaming mode, with the events of the examples' own producers, and compares every row with what a Millpond server gives. It
fails at the first row that differs for any other reason than those below. This is its last result:

| example | feature group | SQL on both sides | rows here | rows in Flink | result |
| --- | --- | --- | --- | --- | --- |
"""
TAIL = """
## The known differences

They are checked, not left out: a value that differs otherwise fails the comparison.

- **Integer division.** `SUM(clicks) / NULLIF(SUM(impressions), 0)` is a DOUBLE here, an integer in Flink: ours, cut to an integer, is Flink's.
- **Literals.** `14.0` is a DOUBLE here and a DECIMAL in Flink, which rounds quotients to six digits: Flink's text says `14e0`.
- **Aliases.** Flink does not know an earlier alias in a later column: its text has subqueries instead.
- **Differences of timestamps.** `MAX(ts) - MIN(ts)` does not exist in Flink with milliseconds: its table has the time as a number as well.
- **HOP.** Flink gives a row for every window that holds an event of the key. Here a row comes out where the window's content differs from that
  of the window before, and one with the empty values when the key leaves; each row that Flink has besides says what our row before it says.
- **`on_update`.** Flink gives a row when the watermark passes, and never changes it. Here rows come out before, and revisions follow; compared
  are the last revision of each time, and of sessions those at their end.
- **OVER.** Flink gives a row for each event, here there is one for each key and time. Events at one time are in each other's frame on both sides, so
  Flink's rows of one time are alike.
- **Late events.** Flink's window functions drop what comes after the watermark; there is no `allowed_lateness`. The comparison is of events that
  are out of order within the watermark delay.

The queries that Flink's dialect needs written differently are [card_fraud.sql](../tests/flink/card_fraud.sql) and
[sessions.sql](../tests/flink/sessions.sql).
"""


def page(version: str, results: Sequence[Compared]) -> str:
    """The page."""
    lines = []
    for result in results:
        case = result.case
        text = "one file" if case.same_text else "two dialects"
        notes = ["equal"]
        if result.truncated:
            notes.append(f"{result.truncated:,} ratios cut to an integer")
        if result.repeated:
            notes.append(f"{result.repeated:,} rows of Flink repeat the one before")
        lines.append(
            f"| {case.example} | `{case.group}` | {text} | {result.ours:,} | {result.flink:,} | {'; '.join(notes)} |"
        )
    return HEAD.format(version=version) + "\n".join(lines) + "\n" + TAIL
