"""Values and frames on their way to the server and back."""

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import millpond
from millpond import _frames, _retry, _spine, _time, _types, _vectors
from millpond._models import Column

UTC = timezone.utc
T = datetime(2024, 5, 1, 12, 30, 0, 123456, UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-05-01T12:30:00.123456Z", T),
        ("2024-05-01T12:30:00.123456789Z", T),
        ("2024-05-01T14:30:00.123456+02:00", T),
        ("2024-05-01T12:30:00.123456", T),
        ("1969-12-31T23:59:59Z", datetime(1969, 12, 31, 23, 59, 59, 0, UTC)),
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01T12:30:00.5Z", datetime(2024, 5, 1, 12, 30, 0, 500000, UTC)),
    ],
)
def test_instants(text, instant):
    assert _time.parse(text) == instant


def test_instants_are_sent_as_utc():
    assert _time.rfc3339(T) == "2024-05-01T12:30:00.123456Z"
    assert _time.rfc3339(T.replace(tzinfo=None)) == "2024-05-01T12:30:00.123456Z"
    assert _time.rfc3339(T.astimezone(timezone(timedelta(hours=2)))) == "2024-05-01T12:30:00.123456Z"
    with pytest.raises(ValueError, match="yesterday"):
        _time.rfc3339("yesterday")


def test_durations_are_seconds():
    assert _time.seconds(timedelta(minutes=5)) == 300
    assert _time.seconds(0.05) == 0.05
    assert _time.seconds(None) is None


@pytest.mark.parametrize(
    ("data_type", "json_value", "value"),
    [
        ("bigint", 2**62 + 1, 2**62 + 1),
        ("double", "NaN", float("nan")),
        ("double", "-Infinity", float("-inf")),
        ("double", 1, 1.0),
        ("decimal(10,2)", "12.30", Decimal("12.30")),
        ("binary", "AP8=", b"\x00\xff"),
        ("date", "2024-05-01", date(2024, 5, 1)),
        ("timestamp", "2024-05-01T12:30:00.123456Z", T),
        ("timestamp_ntz", "2024-05-01T12:30:00.123456", T.replace(tzinfo=None)),
        ("array<decimal(4,1)>", ["1.5", None], [Decimal("1.5"), None]),
        ("map<string,date>", {"a": "2024-05-01"}, {"a": date(2024, 5, 1)}),
        (
            "struct<a:decimal(4,1),b:array<binary>>",
            {"a": "1.5", "b": ["AA=="]},
            {"a": Decimal("1.5"), "b": [b"\x00"]},
        ),
        ("string", None, None),
    ],
)
def test_values_by_type(data_type, json_value, value):
    assert repr(_types.decode(data_type, json_value)) == repr(value)
    back = _types.to_json(value)
    if data_type not in ("double",) or isinstance(json_value, str):
        assert back == json_value


COLUMNS = [
    Column("user_id", "string"),
    Column("n", "bigint"),
    Column("x", "double"),
    Column("ts", "timestamp"),
]
ROWS = [
    {"user_id": "a", "n": 1, "x": 0.5, "ts": "2024-05-01T12:30:00.123456Z"},
    {"user_id": "b", "n": None, "x": None, "ts": "2024-05-01T12:30:00.123456Z"},
]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_frames_become_the_rows_that_dicts_are(zone):
    time = T if zone else T.replace(tzinfo=None)
    data = {"user_id": ["a", "b"], "n": [1, None], "x": [0.5, None], "ts": [time, time]}
    dicts = [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
    for frame in (pd.DataFrame(data), pl.DataFrame(data), pl.LazyFrame(data), pa.table(data), dicts):
        assert _frames.rows_of(frame, COLUMNS) == ROWS, type(frame)


def test_what_is_not_rows_is_refused():
    with pytest.raises(millpond.InvalidRequestError, match="int is not rows"):
        _frames.rows_of(7, COLUMNS)
    with pytest.raises(millpond.InvalidRequestError, match="str is not a row"):
        _frames.rows_of(["a"], COLUMNS)


def test_frames_come_back_as_asked():
    table = pa.table({"a": [1, 2]})
    assert isinstance(_frames.from_arrow(table), pd.DataFrame)
    assert isinstance(_frames.from_arrow(table, "polars"), pl.DataFrame)
    assert _frames.from_arrow(table, "python") == [{"a": 1}, {"a": 2}]
    assert _frames.from_arrow(table, "arrow") is table
    with pytest.raises(millpond.InvalidRequestError, match="spark"):
        _frames.from_arrow(table, "spark")


def test_vectors_are_typed_and_missing_ones_named():
    reply = {
        "features": ["n", "ctr", "spent"],
        "vectors": [
            {"values": [3, 0.05, "1.20"], "status": "complete", "event_time": "2024-05-01T12:30:00.123456Z"},
            {"values": [None, None, None], "status": "missing", "event_time": None},
        ],
        "as_of": "2024-05-01T13:00:00Z",
    }
    vectors = _vectors.decoded(reply, {"n": "bigint", "ctr": "double", "spent": "decimal(10,2)"}, None)
    assert vectors[0].values == {"n": 3, "ctr": 0.05, "spent": Decimal("1.20")}
    assert vectors[0].event_time == T
    assert vectors[1].as_of == datetime(2024, 5, 1, 13, tzinfo=UTC)
    entries = [{"user_id": "a"}, {"user_id": "b"}]
    _vectors.complete("v", entries[:1], vectors[:1])
    with pytest.raises(millpond.MissingFeaturesError, match=r"no features for \{'user_id': 'b'\}"):
        _vectors.complete("v", entries, vectors)


@pytest.mark.parametrize("return_type", ["dict", "list", "numpy", "pandas", "polars"])
def test_return_types(return_type):
    found = _vectors.as_returned([{"a": 1, "b": 2.0}], return_type, single=True)
    values = {
        "dict": lambda: list(found.values()),
        "list": lambda: found,
        "numpy": lambda: found.tolist(),
        "pandas": lambda: found.iloc[0].tolist(),
        "polars": lambda: list(found.row(0)),
    }[return_type]
    assert values() == [1, 2.0]


LABELS = {
    "user_id": ["a", "b", "c"],
    "when": [T, T + timedelta(hours=1), T + timedelta(hours=2)],
    "bought": [1, 0, 1],
}


def test_a_spine_knows_its_columns():
    spine = _spine.Spine.of(pl.DataFrame(LABELS), ["user_id"], None)
    assert (spine.event_time, spine.others) == ("when", ["bought"])
    assert spine.table.schema.field("when").type == pa.timestamp("us", "UTC")
    assert spine.between(T + timedelta(minutes=1), T + timedelta(hours=2)).table["bought"].to_pylist() == [0]
    naive = _spine.Spine.of(
        pd.DataFrame({**LABELS, "when": [t.replace(tzinfo=None) for t in LABELS["when"]]}), ["user_id"], None
    )
    assert naive.table["when"].to_pylist() == LABELS["when"]


def test_a_spine_that_is_not_clear_is_refused():
    two = pa.table({**LABELS, "other": LABELS["when"]})
    with pytest.raises(millpond.InvalidRequestError, match="2 timestamp columns"):
        _spine.Spine.of(two, ["user_id"], None)
    assert _spine.Spine.of(two, ["user_id"], "other").event_time == "other"
    with pytest.raises(millpond.InvalidRequestError, match="no column item_id"):
        _spine.Spine.of(two, ["item_id"], "other")


def test_labels_are_cut_from_features():
    assert _spine.cut_labels(["a", "b", "y", "z"], ["y"], ["y", "z"]) == (["a", "b"], ["y"])
    assert _spine.cut_labels(["a", "b", "y", "z"], [], ["y", "z"]) == (["a", "b"], ["y", "z"])
    assert _spine.cut_labels(["a", "y"], ["y"], []) == (["a"], ["y"])


def test_splits():
    table = pa.table(LABELS)
    train, test = _spine.split(table, "when", 0.34, 7, (None, None), (None, None))
    assert (train.num_rows, test.num_rows) == (2, 1)
    assert test.equals(_spine.split(table, "when", 0.34, 7, (None, None), (None, None))[1])
    train, test = _spine.split(table, "when", None, None, (None, T + timedelta(hours=1)), (None, None))
    assert (train["user_id"].to_pylist(), test["user_id"].to_pylist()) == (["a"], ["b", "c"])
    with pytest.raises(millpond.InvalidRequestError, match="what is test"):
        _spine.split(table, "when", None, None, (None, None), (None, None))


def test_pauses_grow_and_obey():
    assert 0.05 <= _retry.pause(0) <= 0.1
    assert 2.5 <= _retry.pause(20) <= 5
    assert _retry.pause(0, "3") == 3
    assert _retry.pause(0, "3600") == 30
    assert _retry.pause(0, "soon") <= 0.1
