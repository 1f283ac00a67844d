"""The market of slates: repeatable, its propensities those of the draws, its clicks those of the truth."""

from collections import Counter

import numpy as np
import pytest

from palate.data.slates import SlateLog
from palate.errors import ConfigError, DataError
from palate.simulate.slates import SlateMarket

SMALL = {"users": 60, "items": 30, "groups": 5, "dim": 4, "slate": 6, "seed": 2}


def test_same_settings_give_the_same_market():
    first, second = (SlateMarket(**SMALL).log(4) for _ in range(2))
    assert first.fingerprint == second.fingerprint and first.impressions.equals(second.impressions)
    assert SlateMarket(**{**SMALL, "seed": 3}).log(4).fingerprint != first.fingerprint


def test_a_log_is_slates_with_at_most_one_click():
    data = SlateMarket(**SMALL).log(5)
    log = SlateLog.of(data)
    assert len(log) == 300 and (log.lengths == 7).all() and (log.items.lengths == 6).all()
    np.testing.assert_array_equal(log.clicked_items[log.clicked >= 0], data.interactions.item)
    clicked = np.isin(log.person, data.interactions.user[:1]) & (log.clicked >= 0)
    assert log.clicked_items[clicked].tolist() == data.histories.ragged[int(data.interactions.user[0])].tolist()
    assert 0.05 < (log.clicked < 0).mean() < 0.9
    assert data.items.column("category") is not None


def test_propensities_are_the_chances_of_the_draws():
    market = SlateMarket(users=1, items=4, groups=2, slate=2, skew=1.5, exploration=0.2, seed=1)
    n = 60_000
    slates, likely = market.logged_slates(n, np.random.default_rng(0))
    assert (slates[:, 0] != slates[:, 1]).all()
    stated = {tuple(s): float(np.prod(p)) for s, p in zip(slates.tolist(), likely, strict=True)}
    assert len(stated) == 12 and sum(stated.values()) == pytest.approx(1.0)
    for slate, count in Counter(map(tuple, slates.tolist())).items():
        assert count / n == pytest.approx(stated[slate], abs=4 * np.sqrt(stated[slate] / n))


def test_slates_as_long_as_the_catalogue():
    slates, likely = SlateMarket(users=1, items=3, groups=1, slate=9).logged_slates(50, np.random.default_rng(0))
    assert slates.shape == (50, 3) and np.allclose(likely[:, -1], 1)


def test_people_click_what_is_near_and_move_to_it():
    market = SlateMarket(**SMALL, scale=300.0, gamma=0.0, no_click=-1000.0)
    users = np.arange(60, dtype=np.int32)
    slates = np.tile(np.arange(30, dtype=np.int32), (60, 1))
    nearest = np.linalg.norm(market.states[:, None] - market.vectors, axis=2).argmin(1)
    got = market.show(users, slates, np.random.default_rng(0))
    assert (got - 1 == nearest).mean() > 0.8
    np.testing.assert_allclose(market.states, market.vectors[got - 1])
    assert (market.show(users, slates, np.random.default_rng(1)) == got).mean() > 0.8


def test_newcomers_are_new_and_repeatable():
    market, other = SlateMarket(**SMALL), SlateMarket(**SMALL)
    before = market.states.copy()
    assert market.newcomers(20, "round", 1).tolist() == list(range(20))
    assert not np.allclose(market.states[:20], before[:20]) and (market.states[20:] == before[20:]).all()
    other.newcomers(20, "round", 1)
    np.testing.assert_array_equal(market.states, other.states)
    with pytest.raises(DataError, match="fewer people"):
        market.newcomers(61)


def test_the_sphere():
    market = SlateMarket(users=5, items=2000, groups=8, dim=6, radius=(0.3, 0.5), spread=0.05)
    radius = np.linalg.norm(market.centres, axis=1)
    assert (radius >= 0.3).all() and (radius <= 0.5).all()
    assert (market.vectors - market.centres[market.group]).std() == pytest.approx(0.05, rel=0.05)
    assert np.bincount(market.group).tolist() == [250] * 8


def test_bad_numbers_and_settings():
    market, rng = SlateMarket(**SMALL), np.random.default_rng(0)
    with pytest.raises(DataError, match="no such item"):
        market.show(np.array([0]), np.array([[30]]), rng)
    with pytest.raises(DataError, match="no such person"):
        market.show(np.array([60]), np.array([[1]]), rng)
    with pytest.raises(ConfigError, match="unknown setting"):
        SlateMarket(people=3)
