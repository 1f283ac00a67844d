"""Interleaving: the draft's rules, fairness of positions, preferences that are there and that aren't."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments.interleaving import EMPTY, credit, preferences, team_draft


def rankings(n: int, k: int, m: int, catalogue: int, seed: int = 0) -> np.ndarray:
    return np.argsort(np.random.default_rng(seed).random((n, k, catalogue)), axis=-1)[..., :m]


# -- the draft --------------------------------------------------------------------------------------


@given(st.integers(2, 4), st.integers(1, 6), st.integers(6, 10), st.integers(1, 14), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_rules_of_the_draft(k: int, m: int, catalogue: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given_ = rankings(5, k, m, catalogue, seed)
    given_[rng.random((5, k)) < 0.2] = EMPTY  # some systems have nothing to say
    given_[0, 0, m // 2 :] = EMPTY
    shown = team_draft(given_, length, rng)
    for row, items, teams in zip(given_, *shown, strict=True):
        known = set(row[row != EMPTY].tolist())
        used = [item for item in items.tolist() if item != EMPTY]
        assert len(used) == len(set(used)) == min(length, len(known))
        assert (items[len(used) :] == EMPTY).all() and ((items == EMPTY) == (teams == EMPTY)).all()
        for place, item in enumerate(used):
            rest = [x for x in row[teams[place]].tolist() if x != EMPTY and x not in used[:place]]
            assert rest[0] == item


def test_a_round_gives_each_team_one_position() -> None:
    shown = team_draft(rankings(200, 3, 20, 30), 10, np.random.default_rng(1))
    for start in (0, 3, 6):
        assert (np.sort(shown.teams[:, start : start + 3], axis=1) == [0, 1, 2]).all()


@pytest.mark.parametrize("k", [2, 3, 5])
def test_every_team_supplies_every_position_equally_often(k: int) -> None:
    given_ = np.broadcast_to(rankings(1, k, 12, 15), (20_000, k, 12))
    teams = team_draft(given_, 7, np.random.default_rng(2)).teams
    for place in range(7):
        assert stats.chisquare(np.bincount(teams[:, place], minlength=k)).pvalue > 1e-4


def test_the_same_generator_gives_the_same_lists() -> None:
    given_ = rankings(50, 2, 8, 20)
    one, two, three = (team_draft(given_, 5, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.items, two.items)
    np.testing.assert_array_equal(one.teams, two.teams)
    assert (one.teams != three.teams).any()


def test_equal_rankings_keep_their_order() -> None:
    given_ = np.tile(np.arange(6), (10, 2, 1))
    assert (team_draft(given_, 6, np.random.default_rng(5)).items == np.arange(6)).all()


def test_nothing_to_show() -> None:
    shown = team_draft(np.full((2, 2, 3), EMPTY), 4, np.random.default_rng(0))
    assert (shown.items == EMPTY).all() and (shown.teams == EMPTY).all()
    assert team_draft(np.zeros((0, 2, 3), int), 4, np.random.default_rng(0)).items.shape == (0, 4)


# -- credit and preference --------------------------------------------------------------------------


def test_credit_by_hand() -> None:
    teams = np.array([[0, 1, 1, EMPTY], [1, 0, 0, 1]])
    clicks = np.array([[1, 0, 2, 5], [0, 1, 1, 0]])
    assert credit(teams, clicks, 3).tolist() == [[1, 2, 0], [2, 0, 0]]
    assert credit(np.zeros((0, 4), int), np.zeros((0, 4)), 2).shape == (0, 2)


def test_preference_by_hand() -> None:
    # a: 2 + 0 against 0 + 3, a loss; b: a win; c: nothing, a tie; d: equal, a tie
    credits = np.array([[2, 0], [0, 3], [1, 0], [0, 0], [1, 1]])
    (found,) = preferences(credits, np.array(["a", "a", "b", "c", "d"]), names=["new", "old"])
    assert (found.system, found.baseline) == ("new", "old")
    assert (found.units, found.wins, found.losses, found.ties) == (4, 1, 1, 2)
    assert found.delta == 0 and found.p == 1


@pytest.mark.parametrize(("credit_of", "vote"), [((1, 0), 0.5), ((0, 0), 0.0), ((0, 2), -0.5)])
def test_where_all_vote_alike_the_interval_is_exact(credit_of: tuple[int, int], vote: float) -> None:
    (found,) = preferences(np.tile(credit_of, (100, 1)), np.arange(100))
    others = 1 - 0.025 ** (1 / 100)
    assert found.delta == vote and found.low < found.high
    assert found.low == pytest.approx(max(-0.5, vote - others * (vote + 0.5)))
    assert found.high == pytest.approx(min(0.5, vote + others * (0.5 - vote)))


def test_pairs_and_baseline() -> None:
    credits = np.random.default_rng(6).poisson([3.0, 1.0, 1.0], (400, 3))
    pairs = preferences(credits, np.arange(400))
    assert [(one.system, one.baseline) for one in pairs] == [("0", "1"), ("0", "2"), ("1", "2")]
    against = preferences(credits, np.arange(400), baseline=1)
    assert [(one.system, one.baseline) for one in against] == [("0", "1"), ("2", "1")]
    assert pairs[0].p_adjusted == pytest.approx(3 * pairs[0].p, rel=1) and pairs[0].p_adjusted >= pairs[0].p
    best = pairs[0]
    assert best.low > 0 and best.low < best.delta < best.high and best.p_adjusted < 1e-6
    assert best.p == pytest.approx(stats.binomtest(best.wins, best.wins + best.losses).pvalue)


def test_sums_in_another_order_are_ties() -> None:
    credits = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    assert preferences(credits, np.zeros(3, int))[0].ties == 1


def browse(rng: np.random.Generator, people: int, lists: int, better: float) -> tuple[np.ndarray, np.ndarray]:
    """Simulate people who click what suits them, higher positions sooner; system 0 ranks by noisier or sharper taste."""
    n, catalogue = people * lists, 15
    taste = np.repeat(rng.normal(size=(people, catalogue)), lists, axis=0)
    noise = np.array([1.0 - better, 1.0])[None, :, None] * rng.normal(size=(n, 2, catalogue))
    given_ = np.argsort(-(taste[:, None] + noise), axis=-1)
    shown = team_draft(given_, 6, rng)
    suits = np.take_along_axis(taste, shown.items.astype(int), axis=1)
    clicks = rng.random(suits.shape) < 0.8 ** np.arange(6) / (1 + np.exp(1 - suits))
    return credit(shown.teams, clicks, 2), np.repeat(np.arange(people), lists)


def test_preference_is_recovered_and_grows() -> None:
    found = [preferences(*browse(np.random.default_rng(7), 1500, 3, better))[0] for better in (-0.6, 0.0, 0.6)]
    assert found[0].high < 0 < found[2].low and found[0].p < 1e-4 and found[2].p < 1e-4
    assert found[0].delta < found[1].delta < found[2].delta and found[1].low < 0 < found[1].high


def test_without_a_preference_the_rate_is_nominal(at_most) -> None:
    rng, p, outside = np.random.default_rng(8), [], []
    for _ in range(400):
        found = preferences(*browse(rng, 150, 2, 0.0), resamples=200)[0]
        p.append(found.p)
        outside.append(found.low > 0 or found.high < 0)
    at_most(np.array(p) < 0.05, 0.05)
    assert np.mean(np.array(p) < 0.05) > 0.01  # exact and therefore below its level, yet not asleep
    at_most(np.array(outside), 0.06)  # 200 resamples and 150 people: slightly short intervals


def test_clicks_at_the_top_without_regard_to_content_prefer_nobody() -> None:
    rng = np.random.default_rng(9)
    shown = team_draft(rankings(6000, 2, 10, 30), 6, rng)
    clicks = np.zeros(shown.items.shape)
    clicks[:, 0] = 1
    found = preferences(credit(shown.teams, clicks, 2), np.arange(6000))[0]
    assert found.p > 1e-3 and found.ties == 0


def test_wrong_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    for wrong in (np.zeros((2, 3), int), np.zeros((2, 1, 3), int), np.zeros((2, 2, 3))):
        with pytest.raises(DataError, match="two systems"):
            team_draft(wrong, 3, rng)
    with pytest.raises(ConfigError, match="position"):
        team_draft(rankings(1, 2, 3, 5), 0, rng)
    with pytest.raises(DataError, match="no team"):
        credit(np.array([[2]]), np.array([[1]]), 2)
    with pytest.raises(DataError, match="one owner"):
        credit(np.array([[0, 1]]), np.array([[1]]), 2)
    with pytest.raises(DataError, match="one unit a list"):
        preferences(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ConfigError, match="2 systems"):
        preferences(np.zeros((3, 2)), np.zeros(3), names=["a"])
