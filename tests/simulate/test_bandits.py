"""Worlds for bandits: values by hand and by simulation, regret curves, and what policies make of each world."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from palate.contracts.policy import Feedback, Policy, Slate
from palate.errors import DataError
from palate.explore.cascade_ucb import CascadeUCB
from palate.explore.epsilon_greedy import EpsilonGreedy
from palate.explore.linucb import LinUCB
from palate.runtime import generator
from palate.simulate.bandits import CascadeWorld, LinearWorld, PositionWorld, Run, mean_interval, run, runs


def test_values_by_hand() -> None:
    world = CascadeWorld([0.5, 0.2, 0.1], 2)
    asked = world.requests(0, 3, generator(0))
    np.testing.assert_allclose(world.value(asked, np.array([[0, 1], [2, -1], [1, 0]])), [0.6, 0.1, 0.6])
    np.testing.assert_allclose(world.best(asked), 0.6)
    positions = PositionWorld([0.5, 0.2, 0.1], [1.0, 0.4])
    np.testing.assert_allclose(positions.value(asked, np.array([[0, 1], [1, 0], [2, -1]])), [0.58, 0.4, 0.1])
    np.testing.assert_allclose(positions.best(asked), 0.58)


@pytest.mark.parametrize("world", [CascadeWorld([0.5, 0.2, 0.1], 3), PositionWorld([0.5, 0.2, 0.1], [1.0, 0.4, 0.2])])
def test_clicks_follow_the_law(world) -> None:
    n, items = 40_000, np.array([[1, 0, 2]])
    clicks = world.clicks(np.repeat(world.attraction[items], n, 0), generator(0).random((n, 3)))
    wanted = world.worth(world.attraction[items])[0]
    assert clicks.sum(1).mean() == pytest.approx(wanted, abs=4 * clicks.sum(1).std() / np.sqrt(n))
    if type(world) is CascadeWorld:
        assert clicks.sum(1).max() == 1
        np.testing.assert_allclose(clicks.mean(0), [0.2, 0.8 * 0.5, 0.8 * 0.5 * 0.1], atol=0.01)


def test_the_linear_world_is_linear_in_what_is_told() -> None:
    world = LinearWorld(12, 3, seed=4)
    asked = world.requests(0, 200, generator(0))
    attraction = world.attraction_of(asked)
    assert ((attraction >= 0) & (attraction <= 0.6)).all()
    policy = LinUCB(context=world.columns, reg=1e-6).fit(world.dataset)
    features = policy.learner_.features
    x, z = features.of_requests(asked), features.items
    rows = np.einsum("na,lb->nlab", x, z).reshape(-1, x.shape[1] * z.shape[1])
    fitted = rows @ np.linalg.lstsq(rows, attraction.ravel(), rcond=None)[0]
    np.testing.assert_allclose(fitted, attraction.ravel(), atol=1e-6)  # vectors are kept as float64


def test_items_appear() -> None:
    world = CascadeWorld([0.1, 0.2, 0.9], 1, arrivals=np.array([0, 0, 50]))
    asked = world.requests(48, 4, generator(0))
    assert [row.tolist() for row in map(asked.candidates.__getitem__, range(4))] == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]
    np.testing.assert_allclose(world.best(asked), [0.2, 0.2, 0.9, 0.9])

    shown = []

    class Watched(CascadeUCB):
        def act(self, requests, k, rng):
            slate = super().act(requests, k, rng)
            shown.append(int(slate.items[0, 0]))
            return slate

    found = run(Watched(), world, 600, seed=1)
    assert 2 not in shown[:50] and shown[50] == 2
    assert found.regret[-1] - found.regret[found.rounds <= 50][-1] < 100


class Fixed(Policy):
    """Shows the same slate always; what it is told is kept."""

    name = "fixed"

    def __init__(self, items) -> None:
        super().__init__()
        self.shown = np.array(items, np.int32)

    def _begin(self, dataset, fitting) -> None:
        self.clicks = 0.0

    def act(self, requests, k, rng):
        items = np.tile(self.shown, (len(requests), 1))
        return Slate(items, np.ones(items.shape))

    def update(self, requests, feedback: Feedback) -> None:
        self.clicks += feedback.total.sum()

    def _state(self):
        return {}

    def _restore(self, state) -> None:
        pass


@pytest.mark.parametrize("batch", [1, 7])
def test_regret_by_hand(batch: int) -> None:
    world = CascadeWorld([0.5, 0.2, 0.1], 2)
    policy = Fixed([1, 2])
    found = run(policy, world, 1_000, seed=3, batch=batch)
    np.testing.assert_allclose(found.regret, found.rounds * (0.6 - 0.28), rtol=1e-9)
    assert found.rounds[-1] == 1_000 and found.slope() == pytest.approx(1.0)
    assert found.earned == policy.clicks == pytest.approx(280, abs=4 * np.sqrt(280))
    assert run(Fixed([0, 1]), world, 100).slope() == 0.0


def test_runs_repeat_and_are_paired() -> None:
    world = CascadeWorld.two_levels()
    first, second = (run(CascadeUCB(), world, 300, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.regret, second.regret)
    assert (
        run(Fixed([0, 5, 10, 15]), world, 300, seed=5).earned == run(Fixed([0, 5, 10, 15]), world, 300, seed=5, batch=50).earned
    )
    other = runs(CascadeUCB, world, 300, [6, 7])
    assert (other[0].regret != other[1].regret).any()


def test_slopes_of_known_curves() -> None:
    rounds = np.unique(np.geomspace(1, 100_000, 200).round().astype(int))
    assert Run(rounds, 0.3 * rounds, 0.0).slope() == pytest.approx(1.0)
    assert Run(rounds, 5 * np.sqrt(rounds), 0.0).slope() == pytest.approx(0.5)
    assert Run(rounds, 5 * np.log(rounds + 1), 0.0).slope() == pytest.approx(1 / np.log(100_000 / np.sqrt(10)), abs=0.01)


def test_learning_from_what_was_not_seen_costs_regret() -> None:
    """The cascade update against that of the whole list, in a world where low positions are rarely reached."""
    attraction = np.full(12, 0.25)
    attraction[[2, 5, 9]] = 0.5
    world = CascadeWorld(attraction, 3)
    right = [r.regret[-1] for r in runs(CascadeUCB, world, 4_000, range(3), batch=5)]
    wrong = [r.regret[-1] for r in runs(lambda: CascadeUCB(user_model="all"), world, 4_000, range(3), batch=5)]
    assert np.mean(wrong) > 1.3 * np.mean(right)


def test_a_constant_share_of_chance_costs_a_constant_share() -> None:
    """Epsilon-greedy that has learnt loses ε times what lot loses, position by position: regret is in line with time."""
    world = CascadeWorld([0.9, 0.1, 0.1], 1)
    found = run(EpsilonGreedy(epsilon=0.3), world, 6_000, seed=0, batch=10)
    half = found.regret[-1] - found.regret[found.rounds <= 3_000][-1]
    since = 6_000 - found.rounds[found.rounds <= 3_000][-1]
    assert half / since == pytest.approx(0.3 * 2 / 3 * 0.8, rel=0.1)


def test_a_position_bias_that_is_taken_for_a_cascade_misleads() -> None:
    """Where positions are looked at by themselves, inferring 'all looked at, nothing clicked' lowers what stands low."""
    world = PositionWorld(np.full(6, 0.3), [1.0, 0.2])
    policy = EpsilonGreedy(epsilon=1.0).fit(world.dataset)
    rng = generator(0)
    asked = world.requests(0, 20_000, rng)
    slate = policy.act(asked, 2, rng)
    uniforms = rng.random((20_000, 2))
    policy.update(asked, Feedback(slate, world.clicks(world.shown(asked, slate.items), uniforms)))
    assert policy.means.max() < 0.25  # all attract with 0.3
    seen = rng.random((20_000, 2)) < world.examination
    told = EpsilonGreedy(epsilon=1.0).fit(world.dataset)
    told.update(asked, Feedback(slate, ((rng.random((20_000, 2)) < 0.3) & seen) * 1.0, seen))
    np.testing.assert_allclose(told.means, 0.3, atol=0.04)


def test_intervals_over_seeds() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (
        mean == 2
        and high - mean == pytest.approx(stats.t.ppf(0.975, 2) / np.sqrt(3))
        and mean - low == pytest.approx(high - mean)
    )
    with pytest.raises(DataError, match="two seeds"):
        mean_interval([1.0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CascadeWorld([0.5, 1.5], 1),
        lambda: CascadeWorld([], 1),
        lambda: CascadeWorld([0.5, np.nan], 1),
        lambda: PositionWorld([0.5], [0.2, 0.4]),
        lambda: CascadeWorld([0.5, 0.2], 1, arrivals=np.zeros(3)),
    ],
)
def test_impossible_worlds_are_refused(wrong) -> None:
    with pytest.raises(DataError):
        wrong()
