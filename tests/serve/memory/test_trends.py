"""Trends: a window counted by its ends has what a window counted anew has."""

from __future__ import annotations

import numpy as np
import pytest

from palate.data.positive import Positive
from palate.serve.memory.trends import ANEW, Trends
from palate.serve.store import Store
from palate.serve.store.rows import Event

ROWS = {f"i{at}": at for at in range(20)}


def pairs(trends, *question):
    """Return rows and counts, one by one."""
    rows, counts = trends.best(*question)
    assert rows.dtype == np.int32 and counts.dtype == np.float32
    return list(zip(rows.tolist(), counts.tolist(), strict=True))


@pytest.fixture
def store(store_url):
    with Store.open(store_url) as opened:
        yield opened


def test_a_moving_window_equals_one_counted_anew(store, monkeypatch):
    random = np.random.default_rng(0)
    trends, asked = Trends(store), []
    tally = store.tally

    def recorded(*args, **given):
        asked.append(given.get("after", 0))
        return tally(*args, **given)

    monkeypatch.setattr(store, "tally", recorded)
    for step in range(12):
        now = 10_000.0 + 300.0 * step
        store.add_events(
            [
                Event(
                    f"u{at}",
                    f"i{random.integers(25)}",
                    random.choice(["view", "buy"]),
                    time=now - float(random.uniform(0, 2_500)),
                )
                for at in range(30)
            ]
        )
        for types in ((), ("buy",)):
            fresh = pairs(Trends(store), now, 0.5, types, ROWS)
            assert pairs(trends, now, 0.5, types, ROWS) == fresh
            assert fresh and fresh == sorted(fresh, key=lambda pair: (-pair[1], f"i{pair[0]}"))
    assert sum(after > 0 for after in asked) == 22  # all but the first of each kind were counted by their ends


def test_nothing_new_and_nothing_old_changes_nothing(store):
    store.add_events([Event("u", "i3", time=900.0), Event("v", "i3", time=950.0), Event("v", "i4", time=950.0)])
    trends = Trends(store)
    assert pairs(trends, 1_000.0, 1.0, (), ROWS) == [(3, 2), (4, 1)]
    assert pairs(trends, 1_000.0, 1.0, (), ROWS) == [(3, 2), (4, 1)]
    assert pairs(trends, 4_530.0, 1.0, (), ROWS) == [(3, 1), (4, 1)]
    assert pairs(trends, 4_560.0, 1.0, (), ROWS) == []


def test_erasure_shows_once_it_is_told_and_in_the_end_by_itself(store):
    store.add_events([Event("u", "i1", time=10_000.0), Event("v", "i2", time=10_000.0)])
    told, untold = Trends(store), Trends(store)
    for trends in (told, untold):
        assert pairs(trends, 10_001.0, 5.0, (), ROWS) == [(1, 1), (2, 1)]
    store.erase_user("u")
    told.clear()
    assert pairs(told, 10_002.0, 5.0, (), ROWS) == [(2, 1)]
    assert pairs(untold, 10_001.0 + ANEW, 5.0, (), ROWS) == [(2, 1)]


def test_a_clock_set_back_is_no_trouble(store):
    store.add_events([Event("u", "i1", time=100.0), Event("v", "i2", time=5_000.0)])
    trends = Trends(store)
    assert pairs(trends, 5_001.0, 1.0, (), ROWS) == [(2, 1)]
    assert pairs(trends, 3_000.0, 1.0, (), ROWS) == [(1, 1), (2, 1)]


def test_only_what_counts_is_counted(store):
    trends = Trends(store)
    done = [("i1", "rating", 5.0), ("i1", "rating", 1.0), ("i2", "rating", 2.0), ("i3", "buy", None), ("i3", "view", None)]
    store.add_events([Event(f"u{at}", item, kind, value, time=50.0) for at, (item, kind, value) in enumerate(done)])
    counted = Positive.parse(["rating:4", "buy"])
    assert pairs(trends, 60.0, 1.0, (), ROWS) == [(1, 2), (3, 2), (2, 1)]
    assert pairs(trends, 60.0, 1.0, (), ROWS, counted) == [(1, 1), (3, 1)]
    store.add_events([Event("v", "i2", "rating", 4.0, time=55.0), Event("v", "i2", "view", time=55.0)])
    assert pairs(trends, 60.0, 1.0, (), ROWS, counted) == [(1, 1), (2, 1), (3, 1)]
    assert pairs(trends, 60.0, 1.0, ("buy",), ROWS) == [(3, 1)]
