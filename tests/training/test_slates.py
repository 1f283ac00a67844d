"""Batches of slates: everything once an epoch, states before clicks, and what is held out."""

import numpy as np

from palate.data.ragged import Ragged
from palate.data.slates import NO_CLICK, UNKNOWN, SlateLog
from palate.training.slates import SlateEpoch, SlateWindows


def log():
    """Person 0: click on 4, nothing, unknown, click on 2; person 1: click on 3."""
    items = Ragged.from_rows([[4, 1], [0], [5, 2], [3, 2, 1], [3]])
    clicked = np.array([0, NO_CLICK, UNKNOWN, 1, 0], np.int32)
    return SlateLog(np.array([0, 0, 0, 0, 1]), items, clicked, np.array([3, 2, 3, 4, 2], np.int32))


def test_a_batch_by_hand():
    windows = SlateWindows(log(), 6, 20)
    batch = windows.batch(np.array([1, 0]), np.arange(6))
    assert batch.lengths.tolist() == [1, 2] and batch.known.tolist() == [1, 2]
    clicks = batch.rows[batch.clicks]
    assert clicks[0, 0] == 3 and clicks[1].tolist() == [4, 2]
    assert batch.window.tolist() == [0, 1, 1, 1]  # what was clicked is unknown once: that event counts for nothing
    assert batch.state.tolist() == [0, 0, 1, 1]
    assert batch.slot.tolist() == [1, 1, 0, 2] and batch.slots.tolist() == [2, 3, 2, 4]
    shown = [batch.rows[row[used]].tolist() for row, used in zip(batch.items, batch.used, strict=True)]
    assert shown == [[3], [4, 1], [0], [3, 2, 1]]


def test_a_click_on_the_first_item_of_the_catalogue_tells_of_the_start_state_too():
    """The published program counts clicks on numbers above 3, so that one on item 3, the first real one, is lost."""
    items, clicked = Ragged.from_rows([[2, 0], [0, 1]]), np.array([1, 0], np.int32)
    given = SlateLog(np.zeros(2, int), items, clicked, np.array([3, 3], np.int32))
    windows = SlateWindows(given, 3, 20)
    batch = windows.batch(np.array([0]), np.arange(0))
    assert windows.known.tolist() == batch.lengths.tolist() == batch.known.tolist() == [2]
    assert batch.rows[batch.clicks].tolist() == [[0, 0]] and batch.state.tolist() == [0, 1]


def test_an_epoch_has_every_window_and_every_item_once():
    rng = np.random.default_rng(0)
    items = Ragged.from_rows([rng.integers(0, 40, rng.integers(1, 6)).tolist() for _ in range(101)])
    many = SlateLog(np.sort(rng.integers(0, 30, 101)), items, np.zeros(101, np.int32), np.full(101, 7, np.int32))
    windows = SlateWindows(many, 40, 3)
    batches = list(SlateEpoch(windows, 4, rng))
    assert len(batches) == len(SlateEpoch(windows, 4, rng)) == -(-len(windows) // 4)
    assert sum(len(batch) for batch in batches) == 101
    assert sorted(np.concatenate([batch.share for batch in batches]).tolist()) == list(range(40))
    assert max(batch.lengths.max() for batch in batches) <= 3


def test_what_is_held_out_moves_nothing_in_learning():
    windows = SlateWindows(log(), 6, 20, held=np.array([True, False]), given=1)
    learnt, asked = (windows.batch(np.array([0, 1]), np.arange(0), held_out=held) for held in (False, True))
    assert learnt.lengths.tolist() == [1, 1] and len(learnt) == 2 == windows.n_learnt
    assert asked.lengths.tolist()[0] == 2 and asked.known.tolist()[0] == 1
    assert asked.window.tolist() == [0, 0] and asked.state.tolist() == [1, 1]
    assert windows.validation.tolist() == [0]


def test_random_items_keep_the_click_and_the_sizes():
    windows, rng = SlateWindows(log(), 6, 20), np.random.default_rng(1)
    batch = windows.batch(np.array([0, 1]), np.arange(0), random_items=rng)
    assert batch.used.sum(1).tolist() == [2, 1, 3, 1] and batch.slot.tolist() == [1, 0, 1, 1]
    assert [int(batch.rows[batch.items[row, 0]]) for row in (0, 2, 3)] == [4, 2, 3]
    drawn = [
        batch.rows[batch.items[2, 1:]]
        for batch in (windows.batch(np.array([0]), np.arange(0), random_items=rng) for _ in range(300))
    ]
    assert set(np.concatenate(drawn).tolist()) == set(range(6))
