"""The same events through Flink: a folder for each query with its tables, its events as JSON lines, and its rows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .cases import Case
from .ours import Replayed, Row

TYPES = {
    "string": "STRING",
    "int": "INT",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP(3)",
}


def prepare(folder: Path, case: Case, replayed: Replayed) -> Path:
    """Write tables.sql, query.sql and a file for each stream; returns the folder."""
    folder.mkdir(parents=True)
    tables = [_table(folder, stream, replayed) for stream in replayed.columns]
    (folder / "tables.sql").write_text(";\n".join(tables))
    (folder / "query.sql").write_text(case.flink.read_text())
    for stream in replayed.columns:
        time = replayed.times[stream]
        with (folder / f"{stream}.jsonl").open("w") as out:
            for event in replayed.events:
                if event.stream == stream:
                    out.write(json.dumps(_json(event.row, time)) + "\n")
    return folder


def _table(folder: Path, stream: str, replayed: Replayed) -> str:
    time, columns = replayed.times[stream], replayed.columns[stream]
    listed = [f"`{name}` {TYPES.get(kind, kind.upper())}" for name, kind in columns.items()]
    # Flink has no difference of two timestamps in milliseconds: the time as a number besides.
    listed.append(f"`{time}_ms` BIGINT")
    listed.append(f"WATERMARK FOR `{time}` AS `{time}` - INTERVAL '{replayed.delays[stream]:.0f}' SECOND")
    options = {
        "connector": "filesystem",
        "path": (folder / f"{stream}.jsonl").as_uri(),
        "format": "json",
        "json.timestamp-format.standard": "ISO-8601",
    }
    given = ", ".join(f"'{name}' = '{value}'" for name, value in options.items())
    return f"CREATE TABLE `{stream}` ({', '.join(listed)}) WITH ({given})"


def _json(row: Row, time: str) -> dict[str, Any]:
    at = row[time]
    if not isinstance(at, datetime):
        at = datetime.fromtimestamp(at / 1000, timezone.utc)
    text = at.replace(tzinfo=None).isoformat(timespec="milliseconds")
    values = {
        name: value if isinstance(value, (int, str, type(None))) else str(value)
        for name, value in row.items()
    }
    return {**values, time: text, f"{time}_ms": round(at.timestamp() * 1000)}


def run(folders: Sequence[Path]) -> None:
    """All queries, one after the other, in one Java process."""
    home = Path(os.environ["FLINK_HOME"])
    opened = ("java.lang", "java.util", "java.time", "java.math", "java.net", "java.text")
    command = [
        "java",
        "-Xmx2g",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in opened),
        "-Dlog4j2.level=ERROR",
        "-cp",
        f"{home / 'classes'}:{home / 'jars'}/*",
        "FlinkRows",
        *map(str, folders),
    ]
    subprocess.run(command, check=True)


def rows(folder: Path, case: Case) -> list[Row]:
    """What Flink gave, with the event time; a row that OVER gives for each of several events at one time is one."""
    names, *found = (json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines())
    distinct = {json.dumps(values): values for values in found}
    made = [dict(zip(names, values, strict=True)) for values in distinct.values()]
    return [{**row, "_event_time": row[case.event_time]} for row in made]
