"""Popularity: counts of all time, in a window, with a half-life; the same list for everybody."""

import numpy as np
import pytest

from palate.contracts.growth import grown
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError
from palate.recommend.popularity import DAY, Popularity

#: (item, days before the last event).
EVENTS = [(0, 90), (0, 80), (0, 70), (0, 60), (1, 10), (1, 5), (2, 0), (2, 7), (2, 30)]
DATA = Dataset.from_columns(range(9), [i for i, _ in EVENTS], time=[DAY * (1000 - age) for _, age in EVENTS])


def weights(**settings):
    return Popularity(**settings).fit(DATA).weight_.tolist()


def test_all_time_counts_every_event(events):
    assert weights() == [4, 2, 3]
    np.testing.assert_array_equal(Popularity().fit(events).weight_, events.item_counts)


@pytest.mark.parametrize(("days", "want"), [(7, [0, 1, 2]), (6.9, [0, 1, 1]), (30, [0, 2, 3]), (1000, [4, 2, 3])])
def test_a_window_counts_the_last_days_with_its_border(days, want):
    assert weights(window_days=days) == want


def test_a_half_life_halves():
    want = np.zeros(3)
    for item, age in EVENTS:
        want[item] += 0.5 ** (age / 10)
    np.testing.assert_allclose(weights(half_life_days=10), want, rtol=1e-6)


def test_the_same_list_for_everybody_but_what_they_had():
    model = Popularity().fit(DATA)
    ranking = model.recommend(Requests.of_histories([[], [0], [1, 2]]), 3)
    assert ranking.items.tolist() == [[0, 2, 1], [2, 1, -1], [0, -1, -1]]
    assert ranking.scores[0].tolist() == [4, 3, 2] and not ranking.cold.any()


def test_the_count_is_the_reason():
    why = Popularity().fit(DATA).explain(Requests.of_histories([[1]]), 2)
    assert why.exact and why.score == 3
    assert [(e.kind, e.weight) for e in why.evidence] == [("popularity", 3.0)]


def test_recent_popularity_needs_times():
    plain = Dataset.from_columns([0, 1], [0, 0])
    with pytest.raises(DataError, match="times"):
        Popularity(window_days=3).fit(plain)
    assert Popularity().fit(plain).weight_.tolist() == [2]


@pytest.mark.parametrize("settings", [{"window_days": 3, "half_life_days": 3}, {"window_days": 0}, {"half_life_days": -1}])
def test_bad_settings_are_refused_before_any_fit(settings):
    with pytest.raises(ConfigError):
        Popularity(**settings)


def test_an_update_counts_anew():
    past = Dataset.from_columns(["a", "b"], ["x", "y"], time=[0, DAY])
    model = Popularity(half_life_days=1).fit(past)
    whole = grown(Dataset.from_columns(["c", "a", "b"], ["z", "x", "y"], time=[2 * DAY, 0, DAY]), model)
    updated = model.update(whole)
    fitted = Popularity(half_life_days=1).fit(whole)
    assert updated.weight_.tolist() == fitted.weight_.tolist() == [0.25, 0.5, 1.0]
