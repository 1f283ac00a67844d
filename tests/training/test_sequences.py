"""Windows, packing and time-major batches lose nothing and mix nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.histories import Histories
from palate.training.sequences import PackedSequences, TimeMajorSequences, best_fit, cut_windows

rows = st.lists(st.lists(st.integers(0, 50), max_size=30), max_size=12)


def pairs(histories):
    """All (history so far within its window, target) pairs are built from these neighbours."""
    return sorted(
        (a, b) for r in range(len(histories)) for a, b in zip(histories.ragged[r], histories.ragged[r][1:], strict=False)
    )


def test_windows_by_hand():
    windows = cut_windows(Histories.from_rows([[1, 2, 3, 4, 5, 6], [7], [], [8, 9]]), 3)
    got = [
        (windows.items[s : s + n].tolist(), windows.items[s + 1 : s + n + 1].tolist())
        for s, n in zip(windows.starts, windows.lengths, strict=True)
    ]
    assert got == [([3, 4, 5], [4, 5, 6]), ([1, 2], [2, 3]), ([8], [9])]
    assert windows.n_positions == 6


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
@settings(deadline=None)
def test_best_fit_never_overlaps_and_stays_inside(lengths):
    lengths = np.array(lengths)
    row, column = best_fit(lengths, 20)
    taken = np.zeros((row.max() + 1, 20), int)
    for r, c, n in zip(row, column, lengths, strict=True):
        taken[r, c : c + n] += 1
        assert c + n <= 20
    assert taken.max() == 1
    assert (taken.sum(1) > 0).all()


def test_best_fit_wastes_little_on_short_histories():
    lengths = np.random.default_rng(0).geometric(0.15, 600).clip(1, 50)
    row, _ = best_fit(lengths, 50)
    assert lengths.sum() / ((row.max() + 1) * 50) > 0.97


@given(rows, st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_position_trains_once_an_epoch(data, max_len, size, seed):
    histories = Histories.from_rows(data)
    packed, seen, windows = PackedSequences(histories, max_len, size), [], []
    epoch = packed.epoch(np.random.default_rng(seed))
    for batch in epoch:
        items, segments = batch.items.ravel(), batch.segments.ravel()
        assert (segments[batch.at] >= 0).all()
        assert (segments >= 0).sum() == len(batch)
        seen += list(zip(items[batch.at].tolist(), batch.targets.tolist(), strict=True))
        windows += batch.windows.tolist()
        assert (batch.age.ravel()[batch.at] + batch.place.ravel()[batch.at] < max_len).all()
    assert sorted(seen) == pairs(histories)
    assert sorted(windows) == list(range(len(packed.windows)))


@given(rows, st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_time_major_batches_hold_the_same_positions(data, max_len, size, seed):
    histories = Histories.from_rows(data)
    seen = []
    for batch in TimeMajorSequences(histories, max_len, size).epoch(np.random.default_rng(seed)):
        assert batch.active.sum() == len(batch)
        assert (np.diff(batch.active) <= 0).all()
        assert len(batch.windows) == batch.active[0]
        starts = np.cumsum(batch.active) - batch.active
        for step in range(1, len(batch.active)):  # the input of a step is the target of the one before
            n = batch.active[step]
            before = batch.targets[starts[step - 1] : starts[step - 1] + n]
            assert (batch.items[starts[step] : starts[step] + n] == before).all()
        seen += list(zip(batch.items.tolist(), batch.targets.tolist(), strict=True))
    assert sorted(seen) == pairs(histories)


def test_epochs_are_shuffled_and_repeat_under_a_seed():
    packed = PackedSequences(Histories.from_rows([[i, i + 1, i + 2] for i in range(40)]), 5, 20)
    first, again, other = ([b.targets.tolist() for b in packed.epoch(np.random.default_rng(s))] for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(packed.epoch(np.random.default_rng(0))) == len(first) == 4
