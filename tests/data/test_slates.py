"""Slates in the order in which people saw them."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.readers import read_impressions
from palate.data.slates import NO_CLICK, UNKNOWN, SlateLog
from palate.errors import DataError


def shown(**columns):
    data = Dataset.from_columns([0, 1, 2], [10, 11, 12])
    return data.derive({"step": "test"}, impressions=pa.table(columns))


def whole():
    """Person 1 saw b (nothing clicked) before a (second place); person 0 saw c, whose click is on an unknown item."""
    return shown(
        slate=["a", "a", "a", "b", "c", "c", "b"],
        user=pa.array([1, 1, 1, 1, 0, 0, 1], pa.int32()),
        time=[20, 20, 20, 10, 5, 5, 10],
        position=[3, 1, 2, 1, 1, 2, 2],
        item=pa.array([2, 0, 1, 2, None, 1, None], pa.int32()),
        click=[0, 0, 1, 0, 1, 0, 0],
    )


def test_order_places_lengths():
    log = SlateLog.of(whole())
    assert log.person.tolist() == [0, 1, 1]
    assert log.items.tolist() == [[1], [2], [0, 1, 2]]
    assert log.clicked.tolist() == [UNKNOWN, NO_CLICK, 1]
    assert log.clicked_items.tolist() == [-1, -1, 1]
    assert log.lengths.tolist() == [3, 3, 4]


def test_several_clicks_give_several_events_and_unknown_people_stay_apart():
    log = SlateLog.of(
        shown(
            impression=[7, 7, 7, 8, 9],
            user=pa.array([2, 2, 2, None, None], pa.int32()),
            item=pa.array([0, 1, 2, 1, 2], pa.int32()),
            click=[True, False, True, True, False],
        )
    )
    known = log.person >= 0
    assert log.clicked_items[known].tolist() == [0, 2] and log.items.take(np.flatnonzero(known)).tolist() == [[0, 1, 2]] * 2
    assert len(set(log.person[~known].tolist())) == 2
    assert (np.diff(log.windows(20)) == [1, 1, 2]).all()


def test_windows():
    log = SlateLog.of(shown(impression=list(range(7)), user=[0] * 5 + [2] * 2, item=[0] * 7, click=[0] * 7))
    assert log.windows(2).tolist() == [0, 2, 4, 5, 7]
    assert log.windows(20).tolist() == [0, 5, 7]
    assert SlateLog.empty().windows(3).tolist() == [0]


def test_what_readers_give_is_understood():
    frame = pa.table({"uid": [0, 0, 1], "item_id": [10, 12, 99], "click": [0, 1, 1], "slate_id": [5, 5, 6]})
    log = SlateLog.of(read_impressions(Dataset.from_columns([0, 1], [10, 12]), frame))
    assert log.items.tolist() == [[0, 1], []] and log.clicked.tolist() == [1, UNKNOWN]


def test_without_impressions_the_log_is_empty():
    assert len(SlateLog.of(Dataset.from_columns([0], [1]))) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [0], "item": [0], "click": [0]}, "which slate"),
        ({"slate": [None, 1], "user": [0, 0], "item": [0, 1], "click": [0, 0]}, "row 1"),
        ({"slate": [1, 1], "user": [0, 1], "item": [0, 1], "click": [0, 0]}, "two people"),
        ({"slate": [1], "user": [0], "item": [0]}, "no clicks"),
        ({"slate": [1], "item": [0], "click": [0]}, "no user"),
    ],
)
def test_bad_logs_are_refused(columns, message):
    with pytest.raises(DataError, match=message):
        SlateLog.of(shown(**columns))
