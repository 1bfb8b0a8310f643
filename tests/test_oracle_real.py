"""The real data: every window of 10,000 impressions and their clicks, over both logs; and the check of the check."""

import copy
import importlib.util

import pytest

from tests.definitions import CTR, CTR_SQL, DAY, DAY_SQL, WIDE, WIDE_SQL
from tests.harness import feeding
from tests.harness.events import encode, schema
from tests.oracle import Mismatch, check, verify


@pytest.fixture(scope="module")
def events(root):
    spec = importlib.util.spec_from_file_location("bandit", root / "examples/data/events.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.events()


@pytest.fixture(scope="module")
def replayed(shared, events):
    """A historical stream of the real events with three groups on it, finished."""
    fs = shared.store()
    stream = fs.get_or_create_stream(
        "bandit",
        schema("event"),
        event_time="ts",
        watermark_delay=10,
        time="historical",
    )
    for name, sql in (
        ("bandit_ctr", CTR_SQL),
        ("bandit_day", DAY_SQL),
        ("bandit_wide", WIDE_SQL),
    ):
        fs.get_or_create_feature_group(name, sql=sql.format(stream="bandit"))
    stream.append(events)
    stream.finish()
    for name in ("bandit_ctr", "bandit_day", "bandit_wide"):
        feeding.settle(shared, name)
    return shared


@pytest.mark.parametrize(
    ("group", "query"),
    [("bandit_ctr", CTR), ("bandit_day", DAY), ("bandit_wide", WIDE)],
)
def test_every_window_equals_the_recomputation(replayed, events, group, query):
    verified = verify(replayed, "bandit", group, query)
    assert verified.expected.counts["read"] == len(events) == 10_038
    assert verified.expected.counts["late"] == 0
    assert len(verified.expected.rows) > 50
    assert verified.expected.previous


def test_over_kafka(kafka, make_server, name, events):
    topic = kafka.topic(name, 4)
    server = make_server({"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap})
    fs = server.store()
    stream = fs.get_or_create_stream(
        name,
        schema("event"),
        event_time="ts",
        watermark_delay=10,
        time="historical",
        topic=topic,
    )
    fs.get_or_create_feature_group(name, sql=CTR_SQL.format(stream=name))
    frames = encode(stream.schema_id, schema("event"), events)
    feeding.over_kafka(kafka, topic, frames, [e["user_id"] for e in events], 4)
    stream.finish()
    feeding.settle(server, name)
    verified = verify(server, name, name, CTR)
    assert verified.expected.counts["read"] == len(events)


def _altered(observed, change):
    altered = copy.deepcopy(observed)
    change(altered)
    return altered


def _set(rows, name, value):
    rows[len(rows) // 2][name] = value


ALTERATIONS = {
    "a Delta value": lambda o: _set(o.history, "clicks", 77),
    "a Delta float by one bit": lambda o: _set(o.history, "ctr", 1e-17),
    "a Delta row missing": lambda o: o.history.pop(len(o.history) // 2),
    "a Delta row twice": lambda o: o.history.append(dict(o.history[3])),
    "a Delta commit": lambda o: _set(o.history, "_commit", 10**9),
    "a Delta availability": lambda o: _set(o.history, "_available_at", o.history[0]["_available_at"] - 1),
    "an online value": lambda o: _set(o.latest, "impressions", 10**6),
    "an online event time": lambda o: _set(o.latest, "window_end", "2019-11-24T00:05:00Z"),
    "an online row missing": lambda o: o.latest.pop(),
    "a previous value": lambda o: _set(o.previous, "impressions", 10**6),
    "a dead letter too many": lambda o: o.quarantine.update({(0, 5): "bad_body"}),
    "a late record too many": lambda o: o.late.append((0, 5)),
    "a count": lambda o: o.counts.update(applied=o.counts["applied"] - 1),
}


@pytest.fixture(scope="module")
def verified(replayed):
    return verify(replayed, "bandit", "bandit_ctr", CTR)


@pytest.mark.parametrize("what", ALTERATIONS)
def test_the_check_sees_every_alteration(verified, what):
    check(verified.expected, verified.observed)
    with pytest.raises(Mismatch):
        check(verified.expected, _altered(verified.observed, ALTERATIONS[what]))
