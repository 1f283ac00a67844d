"""Histories and what followed: laid out by hand, cut at random or at the end, told apart or not."""

from __future__ import annotations

import numpy as np
import pytest

from palate.data.histories import Histories
from palate.training.following import FollowingItems

ROWS = [[3, 1, 4, 1, 5, 9, 2], [6, 5], [7], [3, 5, 8]]
SHAPE = {"max_len": 2, "steps": 4, "batch_size": 2}


def test_a_batch_by_hand() -> None:
    batch = FollowingItems(Histories.from_rows(ROWS), **SHAPE).batch(np.array([0, 1, 3]), np.array([3, 1, 1]))
    assert batch.needed.tolist() == [1, 2, 3, 4, 5, 6, 8, 9]
    assert batch.needed[batch.events[0]].tolist() == [1, 4] and batch.lengths.tolist() == [2, 1, 1]
    assert batch.needed[batch.events[1:, 0]].tolist() == [6, 3]
    assert batch.needed[batch.followed[0]].tolist() == [1, 5, 9, 2] and batch.counts.tolist() == [4, 1, 2]
    column = np.where(batch.columns >= 0, batch.needed[batch.columns], -1)
    assert column.tolist() == [-1, 1, 2, 5, 8, 9]
    assert column[batch.own].tolist() == [1, 5, 9, 2, -1, 5, -1, 5, 8, -1]
    assert batch.at.tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12]


def test_each_answer_may_have_a_column_of_its_own() -> None:
    batch = FollowingItems(Histories.from_rows(ROWS), **SHAPE, distinct=False).batch(np.array([1, 3]), np.array([1, 1]))
    column = np.where(batch.columns >= 0, batch.needed[batch.columns], -1)
    assert column.tolist() == [5, -1, 5, 8, -1] and batch.own.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", ["last", "random"])
def test_where_the_items_that_follow_begin(cut: str) -> None:
    histories = Histories.from_rows([list(range(n)) for n in range(12)])
    items = FollowingItems(histories, max_len=9, steps=4, batch_size=3, cut=cut)  # type: ignore[arg-type]
    passes = [items.epoch(np.random.default_rng(n)) for n in (1, 2)]
    assert len(passes[0]) == len(list(passes[0])) == 4 and sorted(passes[0].people.tolist()) == list(range(2, 12))
    places = [dict(zip(p.people.tolist(), p.begin.tolist(), strict=True)) for p in passes]
    last = {n: max(1, n - 4) for n in range(2, 12)}
    if cut == "last":
        assert places[0] == places[1] == last
    else:
        assert places[0] != places[1] and all(1 <= at <= last[n] for n, at in places[0].items())
