"""The comparison with Flink (`make flink`) itself: what differs must fail, what is known must not."""

from pathlib import Path

import pytest

from tests.flink.cases import Case
from tests.flink.compare import Different, compare

HERE = Path(__file__)
CTR = Case("", "ctr", HERE, "window_end", integer_ratio="ctr")
HOP = Case("", "hop", HERE, "window_end", carried=True)


def rows(*values):
    names = ("user_id", "_event_time", "clicks", "ctr")
    return [dict(zip(names, row, strict=True)) for row in values]


OURS = rows(("a", 10, 1, 0.5), ("a", 20, 2, 2.5), ("b", 10, 0, None))
THEIRS = rows(("a", 10, 1, 0), ("a", 20, 2, 2), ("b", 10, 0, None))


def test_equal_but_for_integer_division():
    result = compare(CTR, ["user_id"], OURS, THEIRS)
    assert (result.ours, result.flink, result.truncated) == (3, 3, 2)


@pytest.mark.parametrize(
    ("row", "change"), [(0, {"clicks": 2}), (1, {"ctr": 3}), (2, {"ctr": 0}), (2, {"user_id": "c"})]
)
def test_an_altered_row(row, change):
    altered = [{**found, **(change if at == row else {})} for at, found in enumerate(THEIRS)]
    with pytest.raises(Different):
        compare(CTR, ["user_id"], OURS, altered)


def test_a_row_too_few_on_either_side():
    for ours, theirs in ((OURS[1:], THEIRS), (OURS, THEIRS[1:])):
        with pytest.raises(Different):
            compare(CTR, ["user_id"], ours, theirs)


def window(at, events):
    return {"user_id": "a", "_event_time": at, "events": events}


def test_rows_that_repeat_the_one_before():
    ours = [window(1, 1), window(5, 3), window(9, 0)]
    theirs = [window(1, 1), window(2, 1), window(3, 1), window(5, 3)]
    assert compare(HOP, ["user_id"], ours, theirs).repeated == 2
    for wrong in (window(3, 2), window(0, 1), window(5, 2)):
        with pytest.raises(Different):
            compare(
                HOP,
                ["user_id"],
                ours,
                [*(w for w in theirs if w["_event_time"] != wrong["_event_time"]), wrong],
            )
    with pytest.raises(Different):
        compare(HOP, ["user_id"], [window(1, 1), window(4, 2)], [window(1, 1)])
