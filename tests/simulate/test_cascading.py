"""Cascading worlds: chances are chances, optimal values are those of visits, ratings give the states they say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset, Entities
from palate.errors import ConfigError, DataError
from palate.explore.cascading_learners import OptimisticVI
from palate.simulate.cascading import CascadingWorld, bored_world, random_world, run
from palate.simulate.cascading_ratings import rated_world


def test_the_optimal_lists_earn_the_optimum() -> None:
    world, n = random_world(4, 8, np.random.default_rng(0)), 20_000
    states, clicks = world.play(world.best.lists, n, np.random.default_rng(1))
    earned = np.zeros(n)
    for h in range(world.horizon):
        items = world.best.lists[h, states[:, h], np.maximum(clicks[:, h], 0)]
        earned += np.where(clicks[:, h] >= 0, world.rewards[states[:, h], items], 0)
    assert earned.mean() == pytest.approx(world.optimum, abs=4 * earned.std() / np.sqrt(n))
    assert world.value(world.best.lists) == pytest.approx(world.optimum)


def test_in_the_bored_world_baits_wait_for_the_last_step() -> None:
    for seed in range(5):
        world = bored_world(np.random.default_rng(seed))
        bait = world.moves[0, :-1, -1] > 0.5
        assert (world.chances[0][bait].min() > world.chances[0][~bait].max()) and 0 < bait.sum() < len(bait)
        assert not bait[world.best.lists[0, 1]].any()
        greedy = np.broadcast_to(world.best.lists[-1], world.best.lists.shape)
        assert world.value(np.ascontiguousarray(greedy)) < 0.9 * world.optimum
    with pytest.raises(ConfigError, match="baits"):
        bored_world(np.random.default_rng(0), states=1)


def test_regret_adds_up_what_plans_are_short_of() -> None:
    world = random_world(2, 4, np.random.default_rng(0))

    class Kept(OptimisticVI):
        def plan(self, rng: np.random.Generator) -> np.ndarray:
            lists = super().plan(rng)
            shortfalls.append(world.optimum - world.value(lists))
            return lists

    shortfalls: list[float] = []
    found = run(world, Kept(world.cascade, visits=50), 50, np.random.default_rng(0), points=7)
    np.testing.assert_allclose(found.regret, np.cumsum(shortfalls)[found.visits - 1])
    assert found.visits[-1] == 50 and (np.diff(found.regret) >= 0).all() and found.seconds > 0
    with pytest.raises(ConfigError, match="visit"):
        run(world, Kept(world.cascade, visits=50), 0, np.random.default_rng(0))


def test_impossible_worlds_are_refused() -> None:
    good = random_world(2, 3, np.random.default_rng(0))
    parts = {"chances": good.chances, "moves": good.moves, "rewards": good.rewards, "start": good.start}
    with pytest.raises(DataError, match="sum to 1"):
        CascadingWorld(**{**parts, "moves": good.moves / 2})
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        CascadingWorld(**{**parts, "chances": good.chances + 1})
    with pytest.raises(DataError, match="shape"):
        CascadingWorld(**{**parts, "rewards": good.rewards[:, :-1]})


def rated() -> Dataset:
    """Two kinds of people: u0, u1 like action, u2, u3 drama; items 0, 1 are action, 2, 3 drama, 4 both."""
    users = np.repeat(np.arange(4), 5)
    items = np.array([0, 1, 4, 2, 3, 1, 0, 3, 2, 4, 2, 3, 0, 1, 4, 3, 2, 4, 1, 0])
    values = np.array([5, 4, 5, 1, 2, 5, 5, 1, 1, 4, 5, 5, 1, 2, 4, 4, 5, 4, 1, 1])
    data = Dataset.from_columns(users, items, time=np.tile(np.arange(5), 4), value=values)
    kinds = pa.table({"categories": [["Action"], ["Action"], ["Drama"], ["Drama"], ["Action", "Drama"]]})
    order = np.argsort(np.asarray(data.items.ids.raw))
    return Dataset(data.interactions, data.users, Entities(data.items.ids, kinds.take(pa.array(np.argsort(order)))))


def test_ratings_give_the_states_they_say() -> None:
    data = rated()
    world = rated_world(data, np.random.default_rng(0), items=5, segments=2, categories=2, pool=5, shrink=1e-9)
    assert world.chances.shape == (6, 5)
    np.testing.assert_allclose(np.sort(world.start), [0, 0, 0, 0, 0.5, 0.5])
    np.testing.assert_allclose(world.moves.sum(2), 1)
    for segment in (0, 1):
        inside = slice(3 * segment, 3 * segment + 3)
        assert world.moves[inside, :, inside].sum() == pytest.approx(3 * 6), "a segment is never left"
        np.testing.assert_allclose(world.moves[3 * segment, -1, inside], [0.5, 0, 0.5])
    # With hardly any shrinking, where a cell was seen it is the share of likes in it: 0 or 1 for these people.
    assert set(np.round(world.chances, 3).ravel().tolist()) >= {0.0, 1.0}
    both = world.moves[0, :-1, :3]
    assert sorted(both.tolist()) == sorted([[1.0, 0, 0]] * 2 + [[0, 1.0, 0]] * 2 + [[0.5, 0.5, 0]])


def test_what_ratings_can_not_give_is_refused() -> None:
    data = rated()
    with pytest.raises(DataError, match="too few categories"):
        rated_world(data, np.random.default_rng(0), items=3, segments=3)
    with pytest.raises(DataError, match="too few items"):
        rated_world(data, np.random.default_rng(0), items=9, segments=2, categories=2)
    bare = Dataset.from_columns(np.zeros(3, int), np.arange(3))
    with pytest.raises(DataError, match="ratings"):
        rated_world(bare, np.random.default_rng(0))
