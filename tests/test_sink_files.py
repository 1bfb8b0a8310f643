"""A group's history as files, read by pandas, Polars and DuckDB as they lie there."""

import glob
from datetime import datetime

import duckdb
import millpond
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.harness.sinks import history, sink, windows

CAMPAIGNS = """
SELECT campaign_id, COUNT(*) AS n, AVG(item_id) AS mean, window_end,
       MAX(CASE WHEN campaign_id = 3 THEN NULL WHEN campaign_id = 4 THEN ''
           ELSE CONCAT('c/', CAST(campaign_id AS VARCHAR), ' é%=') END) AS label
FROM TUMBLE({stream}, DESCRIPTOR(ts), INTERVAL '5' MINUTES) GROUP BY campaign_id, window_end
"""


def test_csv_by_campaign_in_pandas_duckdb_and_polars(sinking, name):
    sinks = [millpond.FileSink("csv", path="campaigns", partition_by="campaign_id")]
    group = windows(sinking, name, sinks, CAMPAIGNS)
    expected = history(group)
    folder = sink(group, "files")["location"]
    assert folder == str(sinking.data / "sinks" / "campaigns")
    files = sorted(glob.glob(f"{folder}/campaign_id=*/part-*.csv"))
    assert files
    compare_csv(files, folder, expected)


def compare_csv(files, folder, expected):
    """Value by value in pandas, which takes "" for a missing text; by their number in the others."""
    times = [c for c, v in expected[0].items() if isinstance(v, datetime)]
    found = pd.concat([pd.read_csv(f, parse_dates=times) for f in files])
    found = found.sort_values(["campaign_id", "_commit", "_event_time"])
    wanted = pd.DataFrame(expected).sort_values(["campaign_id", "_commit", "_event_time"])
    assert list(found.columns) == list(wanted.columns)
    for column in wanted.columns:
        a, b = found[column].tolist(), wanted[column].tolist()
        if column == "_event_date":
            b = [str(d) for d in b]
        elif column == "label":
            a, b = ([v if isinstance(v, str) else "" for v in (x or "" for x in values)] for values in (a, b))
        assert a == b, column
    count = duckdb.sql(
        f"SELECT count(*) FROM read_csv('{folder}/*/*.csv', hive_partitioning = true)"
    ).fetchall()
    assert count == [(len(expected),)]
    assert pl.scan_csv(f"{folder}/*/*.csv").select(pl.len()).collect().item() == len(expected)


@pytest.mark.parametrize("column", ["campaign_id", "label", "_event_date"])
def test_parquet_partitions_are_read_as_hive_writes_them(sinking, name, column):
    name = f"hive_{column.strip('_')}"
    sinks = [millpond.FileSink("parquet", partition_by=column)]
    group = windows(sinking, name, sinks, CAMPAIGNS)
    expected = pl.from_dicts(history(group)).sort("_commit", "campaign_id", "window_end")
    folder = sink(group, "files")["location"]
    order = ["_commit", "campaign_id", "window_end"]
    polars = pl.scan_parquet(
        f"{folder}/**/*.parquet", hive_partitioning=True, hive_schema={column: expected.schema[column]}
    )
    polars = polars.collect().sort(order)
    assert polars.select(expected.columns).equals(expected), f"{polars} is not {expected}"
    duck = duckdb.sql(
        f"SELECT count(*), count(DISTINCT {column}), sum(n)::BIGINT"
        f" FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    ).fetchall()[0]
    assert duck == (expected.height, expected[column].drop_nulls().n_unique(), expected["n"].sum())
    # pyarrow passes over folders that begin with an underscore, and guesses no type where values are missing.
    kind = pl.DataFrame(schema={column: expected.schema[column]}).to_arrow().schema.field(0).type
    kind = pa.string() if kind == pa.large_string() else kind
    folders = ds.partitioning(pa.schema([(column, kind)]), flavor="hive")
    pandas = pd.read_parquet(folder, partitioning=folders, ignore_prefixes=["."])
    assert len(pandas) == expected.height
    assert {str(v) for v in pandas[column].dropna().unique()} == {
        str(v) for v in expected[column].drop_nulls().unique()
    }
