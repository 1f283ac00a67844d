"""Histories beside a training pair: nothing of the answer, nothing later; negatives of the same weeks; recency weights."""

import numpy as np
import pytest

from palate.data.histories import Histories
from palate.errors import ConfigError
from palate.training.release_pairs import DAY, ReleasePairs, first_events, recency_weights, weighted_means

#: Person 0: items 3, 1, 3 again, 2 (the last two on one day); person 1: nothing; person 2: items 0 and 4.
TIMES = DAY * np.array([0, 10, 20, 20, 5, 30])
WHOLE = Histories(np.array([0, 4, 4, 6]), np.array([3, 1, 3, 2, 0, 4], np.int32), TIMES)


def made(n_people=40, n_items=30, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.choice(n_items, rng.integers(0, 9), replace=False) for _ in range(n_people)]
    flat = Histories.from_rows(rows)
    times = DAY * np.concatenate([np.sort(rng.integers(0, 60, len(row))) for row in rows])
    return Histories(flat.offsets, flat.items, times)


def test_an_item_counts_at_its_first_event():
    once = first_events(WHOLE)
    assert once.items.tolist() == [3, 1, 2, 0, 4] and once.offsets.tolist() == [0, 3, 3, 5]
    assert (once.times // DAY).tolist() == [0, 10, 20, 5, 30]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("form", ["before", "others"])
def test_a_mean_never_holds_the_answer_and_equals_direct_recomputation(form, timed):
    data = made()
    data = data if timed else Histories(data.offsets, data.items)
    pairs = ReleasePairs(data, 30, batch_size=7, form=form, half_life=20.0 if timed else 0.0)
    vectors = np.random.default_rng(1).standard_normal((30, 3))
    seen = 0
    for batch in pairs.epoch(1, np.random.default_rng(2)):
        for row, place in enumerate(batch.places):
            user = int(np.searchsorted(data.offsets, place, side="right")) - 1
            own = np.arange(data.offsets[user], data.offsets[user + 1])
            if form == "others":
                own = own[own != place]
            else:
                own = own[data.times[own] < data.times[place]] if timed else own[own < place]
            weight = np.exp2((data.times[own] - data.times[own].max()) / (20 * DAY)) if timed else np.ones(len(own))
            wanted = weight @ vectors[data.items[own]] / weight.sum()
            part = slice(*batch.history.offsets[row : row + 2])
            items, got = batch.history.values[part], batch.weights[part]
            assert batch.positives[row] not in items
            np.testing.assert_allclose(got @ vectors[items], wanted, atol=1e-5)
            seen += 1
    assert seen == len(pairs.pairs) > 50


def test_events_of_one_moment_do_not_see_each_other():
    pairs = ReleasePairs(Histories(np.array([0, 3]), np.array([0, 1, 2], np.int32), np.array([5, 5, 9])), 4, batch_size=8)
    batch = pairs.batch(pairs.pairs, np.random.default_rng(0))
    assert batch.positives.tolist() == [2] and sorted(batch.history.values.tolist()) == [0, 1]


def test_long_histories_keep_the_last_or_a_draw_without_the_answer():
    data = Histories.from_rows([np.arange(20)])
    last = ReleasePairs(data, 25, batch_size=8, most=3).batch(np.array([19]), np.random.default_rng(0))
    assert last.history.values.tolist() == [16, 17, 18]
    drawn = ReleasePairs(data, 25, batch_size=8, form="others", most=5)
    found = np.concatenate([drawn.batch(np.array([7]), np.random.default_rng(s)).history.values for s in range(200)])
    assert set(found.tolist()) == set(range(20)) - {7}


def test_negatives_are_of_the_same_weeks_and_were_not_had():
    data = made(seed=3)
    pairs = ReleasePairs(data, 30, batch_size=500, n_negatives=6, window=7)
    (batch,) = pairs.epoch(1, np.random.default_rng(0))
    weeks = (data.times - data.times.min()) // (7 * DAY)
    for row, place in enumerate(batch.places):
        user = int(np.searchsorted(data.offsets, place, side="right")) - 1
        playing = set(data.items[weeks == weeks[place]].tolist())
        had = set(data.items[data.offsets[user] : data.offsets[user + 1]].tolist())
        drawn = set(batch.negatives[row].tolist())
        assert drawn <= playing - had or (drawn == {-1} and playing <= had)


def test_only_allowed_items_are_negatives_and_none_is_minus_one():
    data = Histories.from_rows([[0, 1, 2], [0, 1]])
    allowed = np.array([True, True, True, False])
    batch = ReleasePairs(data, 4, batch_size=9, allowed=allowed, n_negatives=3).batch(
        np.array([1, 4]), np.random.default_rng(0)
    )
    assert batch.negatives.tolist() == [[-1] * 3, [2] * 3]
    with pytest.raises(ConfigError, match="times of events"):
        ReleasePairs(data, 4, batch_size=9, window=7)


def test_recency_halves_and_another_moment_changes_nothing():
    found = recency_weights(np.array([0, 2, 2]), DAY * np.array([0, 30]), 30.0)
    np.testing.assert_allclose(found, [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(recency_weights(np.array([0, 2]), DAY * np.array([900, 930]), 30.0), found, rtol=1e-6)
    vectors = np.eye(5, dtype=np.float32)
    mean = weighted_means(first_events(WHOLE), 0.0, vectors)
    np.testing.assert_allclose(mean, [[0, 1 / 3, 1 / 3, 1 / 3, 0], [0] * 5, [0.5, 0, 0, 0, 0.5]], rtol=1e-6)
