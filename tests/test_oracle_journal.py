"""The oracle sees a journal that does not say what the records say: one altered value must fail."""

from dataclasses import replace

import pytest

from tests.oracle.digest import Digest
from tests.oracle.judge import Epoch, Rules, Span, judge
from tests.oracle.records import Record, Rejected
from tests.oracle.watermarks import Stream, check_watermarks

WINDOW = 10
RULES = Rules("ts", WINDOW, ("k",), lambda row: True, skew=1_000)
STREAM = Stream(partitions=2, delay=1, live=False, finish=(3, 2), idles=False)
# partition 0: 5, 12, bad; partition 1: 7, heartbeat 25
RECORDS = [
    Record(0, 0, "event", None, b"5"),
    Record(0, 1, "event", b"k", b"12"),
    Record(0, 2, "event", None, b"junk"),
    Record(1, 0, "event", None, b"7"),
    Record(1, 1, "heartbeat", None, None, 25),
]


def decode(value):
    if not value.isdigit():
        raise Rejected("bad_body")
    return {"ts": int(value), "k": "k"}


def span(partition, start, end):
    digest = Digest()
    for record in RECORDS:
        if record.partition == partition and start <= record.offset < end:
            digest.add(record)
    return Span(partition, start, end, digest.count, digest.value())


def epoch(number, ranges, watermark, source):
    return Epoch(number, 100, ranges, watermark, [source], 0, True, False, 0)


JOURNAL = [
    epoch(1, [span(0, 0, 1)], None, None),  # partition 1 has said nothing
    epoch(2, [span(0, 1, 2), span(1, 0, 1)], 6, 6),
    epoch(3, [span(0, 2, 3), span(1, 1, 2)], 11, 11),
    epoch(4, [], 20, 11),  # the finish: to the end of the last window
]


def check(journal, stream=STREAM, records=RECORDS):
    return check_watermarks(stream, journal, judge(records, journal, decode, RULES))


def altered(number, **change):
    return [replace(e, **change) if e.number == number else e for e in JOURNAL]


def test_what_the_records_say_passes():
    assert check(JOURNAL) == len(JOURNAL)
    assert check(JOURNAL[:3], replace(STREAM, finish=None)) == 3
    # A live stream's watermark stays at the clock.
    live = [*altered(2, opened_at=4, watermark=4, source_watermarks=[4])[:2], *JOURNAL[2:]]
    assert check(live, replace(STREAM, live=True)) == len(JOURNAL)


@pytest.mark.parametrize(
    "journal",
    [
        altered(1, watermark=4),
        altered(2, watermark=5),
        altered(2, watermark=7),
        altered(2, source_watermarks=[5]),
        altered(3, watermark=12),
        altered(3, watermark=19),
        altered(4, watermark=19),
        altered(4, watermark=30),
        altered(4, source_watermarks=[20]),
        JOURNAL[:3],
    ],
    ids=str,
)
def test_a_watermark_that_the_records_do_not_give_fails(journal):
    with pytest.raises(AssertionError):
        check(journal)


def test_a_finish_before_its_offsets_fails():
    with pytest.raises(AssertionError):
        check(JOURNAL, replace(STREAM, finish=(4, 2)))


@pytest.mark.parametrize(
    "change",
    [
        {"value": b"6"},
        {"key": b""},
        {"kind": "tombstone", "value": None},
        {"kind": "heartbeat", "value": None, "heartbeat": 5},
    ],
    ids=str,
)
def test_other_bytes_than_the_journals_fail(change):
    for at, record in enumerate(RECORDS):
        if record.kind == "event":
            records = [*RECORDS[:at], replace(record, **change), *RECORDS[at + 1 :]]
            with pytest.raises(AssertionError, match="other bytes"):
                check(JOURNAL, records=records)


def test_a_record_too_few_fails():
    with pytest.raises(AssertionError, match="records were read"):
        check(JOURNAL, records=RECORDS[:-1])


def test_the_digest_is_the_servers():
    digest = Digest()
    digest.add(Record(3, 7, "event", b"key", b"value"))
    assert int(digest.value(), 16) == 2_544_704_422_298_448_847  # of `golden` in server/src/log/digest.rs
