"""Policies that count: bounds and shares by hand, what is learnt, and what is refused."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from palate.contracts.policy import Feedback, Slate
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.errors import DataError
from palate.explore.cascade_ts import CascadeTS
from palate.explore.cascade_ucb import CascadeUCB
from palate.explore.epsilon_greedy import EpsilonGreedy
from palate.explore.thompson import Thompson
from palate.explore.ucb1 import UCB1
from palate.kernels.kl_bound import kl_upper_reference
from palate.runtime import generator

ITEMS = Dataset.from_columns(["a"] * 5, list(range(5)))
KINDS = [EpsilonGreedy, UCB1, CascadeUCB, Thompson, CascadeTS]


def told(policy, items, rewards, examined=None) -> None:
    """Let a policy learn from slates."""
    items = np.array(items)
    feedback = Feedback(Slate(items, np.ones(items.shape)), np.array(rewards, float), examined)
    policy.update(Requests.of_histories([[]] * len(items)), feedback)


def taught(policy):
    """Five slates of cascading clicks."""
    policy.fit(ITEMS)
    told(
        policy,
        [[0, 1, 2], [1, 0, 3], [4, 2, 0], [3, 4, 1], [0, 1, 2]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]],
    )
    return policy


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_was_looked_at_counts(kind) -> None:
    policy = taught(kind())
    np.testing.assert_array_equal(policy.trials_, [3, 3, 2, 1, 2])
    np.testing.assert_array_equal(policy.gains_, [0, 2, 1, 0, 1])
    assert policy.rounds_.tolist() == [5]
    whole = taught(kind(user_model="all"))
    np.testing.assert_array_equal(whole.trials_, [4, 4, 3, 2, 2])
    np.testing.assert_array_equal(whole.gains_, policy.gains_)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_are_learnt_like_single_ones(kind) -> None:
    whole, single = taught(kind()), kind().fit(ITEMS)
    for items, rewards in zip(
        [[0, 1, 2], [1, 0, 3], [4, 2, 0], [3, 4, 1], [0, 1, 2]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]],
        strict=True,
    ):
        told(single, [items], [rewards])
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, single._state()[name])
    asked = Requests.of_histories([[]] * 3)
    np.testing.assert_array_equal(whole.act(asked, 3, generator(0)).items, single.act(asked, 3, generator(0)).items)


def test_bounds_by_hand() -> None:
    mean, trials = np.array([0, 2 / 3, 1 / 2, 0, 1 / 2]), np.array([3, 3, 2, 1, 2])
    asked = Requests.of_histories([[]])
    np.testing.assert_allclose(taught(UCB1())._values(asked)[0, 0], mean + np.sqrt(2 * np.log(5) / trials))
    ucb = taught(CascadeUCB(bound="ucb1"))
    np.testing.assert_allclose(ucb._values(asked)[0, 0], mean + np.sqrt(1.5 * np.log(5) / trials))
    level = np.log(5) + 3 * np.log(np.log(5))
    kl = taught(CascadeUCB())
    np.testing.assert_allclose(kl._values(asked)[0, 0], kl_upper_reference(mean, trials, level))
    slate = ucb.act(Requests.of_histories([[]]), 5, generator(0))
    assert slate.items[0].tolist() == np.argsort(-ucb._values(asked)[0, 0]).tolist()
    assert (slate.propensities == 1).all()


@pytest.mark.parametrize("policy", [UCB1(), CascadeUCB(), CascadeUCB(bound="ucb1"), EpsilonGreedy(epsilon=0.0)])
def test_what_nobody_looked_at_comes_first(policy) -> None:
    policy.fit(ITEMS)
    told(policy, [[0, 1, 2, 3], [2, 0, 1, 3]], [[0, 0, 1, 0], [0, 1, 0, 0]])  # 3 and 4 weren't looked at
    assert sorted(policy.act(Requests.of_histories([[]]), 2, generator(0)).items[0].tolist()) == [3, 4]


def test_the_share_of_chance_may_fall() -> None:
    policy = EpsilonGreedy(decay=4.0).fit(ITEMS)
    assert policy._epsilon == 1.0
    told(policy, [[0]] * 16, [[1]] * 16)
    assert policy._epsilon == 0.25
    asked = Requests.of_histories([[]])
    best = policy.propensities(asked, np.array([[1]])) + policy.propensities(asked, np.array([[0]]))
    np.testing.assert_allclose(best.sum() + 3 * policy.propensities(asked, np.array([[2]])).sum(), 0.25 / 5 * 5 + 0.75)


def test_epsilon_greedy_states_its_shares() -> None:
    policy = taught(EpsilonGreedy(epsilon=0.2))
    told(policy, [[2]], [[1]])  # now the means fall in the order 1, 2, 4, then 0 and 3
    found = policy.propensities(Requests.of_histories([[]] * 3), np.array([[1, 2, 4], [0, 1, 2], [1, 4, 2]]))
    even = np.array([0.2 / 5, 0.2 / 4, 0.2 / 3])
    np.testing.assert_allclose(found, even + 0.8 * np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1]]))


def test_thompson_draws_from_the_posterior() -> None:
    policy = taught(Thompson(draws=200_000, prior_clicks=2.0, prior_refusals=3.0))
    drawn = policy._values(Requests.of_histories([[]]))[0]
    good, bad = 2 + np.array([0, 2, 1, 0, 1]), 3 + np.array([3, 1, 1, 1, 1])
    np.testing.assert_allclose(drawn.mean(0), good / (good + bad), atol=3e-3)
    variance = good * bad / ((good + bad) ** 2 * (good + bad + 1))
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.02)


def test_draws_stand_until_the_next_update() -> None:
    policy = taught(Thompson(draws=8))
    asked = Requests.of_histories([[]])
    first = policy._values(asked).copy()
    policy.act(asked, 2, generator(0))
    np.testing.assert_array_equal(policy._values(asked), first)
    told(policy, [[0]], [[np.nan]])  # nothing was observed, but time went on
    assert (policy._values(asked) != first).any()
    again = taught(Thompson(draws=8))
    np.testing.assert_array_equal(again._values(asked), first)


def test_a_cascade_slate_is_the_ranking_of_one_draw() -> None:
    policy = taught(CascadeTS(draws=5))
    asked = Requests.of_histories([[]] * 500)
    rankings = {tuple(row[:3]) for row in np.argsort(-policy._values(asked)[0], axis=1).tolist()}
    slate = policy.act(asked, 3, generator(0))
    assert {tuple(row) for row in slate.items.tolist()} == rankings
    np.testing.assert_allclose(slate.joint, 1 / 5)


def test_smoothing_reaches_everything() -> None:
    sure, wide = taught(CascadeTS(draws=4)), taught(CascadeTS(draws=4, smoothing=1.0))
    rows = np.array(list(permutations(range(5), 2)))
    asked = Requests.of_histories([[]] * len(rows))
    assert (sure.propensities(asked, rows) == 0).any()
    found = wide.propensities(asked, rows)
    assert (found > 0).all()
    assert found.prod(axis=1).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [UCB1, CascadeUCB, Thompson, CascadeTS])
@pytest.mark.parametrize("reward", [1.5, -0.5])
def test_rewards_outside_their_range_are_refused_with_the_row(kind, reward) -> None:
    policy = taught(kind())
    before = policy._state()
    with pytest.raises(DataError, match="row 1") as caught:
        told(policy, [[0, 1], [1, 2]], [[0, 1], [0, reward]], np.ones((2, 2), bool))
    assert caught.value.value == reward
    assert all((before[name] == array).all() for name, array in policy._state().items())


def test_epsilon_greedy_takes_any_reward() -> None:
    policy = EpsilonGreedy(epsilon=0.0).fit(ITEMS)
    told(policy, [[0, 1, 2, 3, 4]], [[-2.0, 5.0, 3.0, 0.0, -1.0]], np.ones((1, 5), bool))
    assert policy.act(Requests.of_histories([[]]), 5, generator(0)).items.tolist() == [[1, 2, 3, 4, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_differ_by_request(kind) -> None:
    policy = taught(kind())
    rows = [[0], [1, 2], [], [4, 3, 2, 1, 0]]
    asked = Requests.of_histories([[]] * 4)
    asked = Requests(asked.users, asked.histories, candidates=Ragged.from_rows(rows))
    slate = policy.act(asked, 3, generator(0))
    assert [sorted(row[row >= 0].tolist()) for row in slate.items[:3]] == [[0], [1, 2], []]
    np.testing.assert_allclose(policy.propensities(asked, slate.items), slate.propensities)
