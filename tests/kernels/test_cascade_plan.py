"""Plans of cascades: the fast forms follow the definitions; bounds hold the truth; visits happen by the chances told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels.best_perm import every_list
from palate.kernels.cascade import tally, tally_reference, walk, walk_reference
from palate.kernels.cascade_plan import (
    STOPPING,
    VARIANCE,
    WORST_CASE,
    Bonus,
    Counts,
    bounds,
    bounds_reference,
    solve,
    solve_reference,
    value_of,
    value_of_reference,
)
from palate.kernels.list_plan import ListCounts, list_bounds, list_bounds_reference

shapes = {"states": st.integers(1, 3), "items": st.integers(1, 5), "m": st.integers(1, 3), "seed": st.integers(0, 9_999)}


def world(states: int, items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rewards = rng.random((states, items + 1))
    rewards[:, -1] = 0
    return rng.random((states, items)), rng.dirichlet(np.ones(states), (states, items + 1)), rewards


def seen(chances: np.ndarray, moves: np.ndarray, most: int, rng: np.random.Generator) -> Counts:
    """Counts drawn from a world; some are 0."""
    states, items = chances.shape
    looks = rng.integers(0, most + 1, (states, items))
    visits = rng.integers(0, most + 1, (states, items + 1))
    moved = rng.multinomial(visits, moves)
    return Counts(*(np.asarray(x, float) for x in (looks, rng.binomial(looks, chances), moved, visits)))


@settings(max_examples=60, deadline=None)
@given(**shapes, forced=st.booleans())
def test_solving_equals_its_definition(states: int, items: int, m: int, seed: int, forced: bool) -> None:
    rng = np.random.default_rng(seed)
    known = world(states, items, rng)
    fast, plain = solve(*known, 3, m, forced), solve_reference(*known, 3, m, forced)
    np.testing.assert_array_equal(fast.lists, plain.lists)
    np.testing.assert_allclose(fast.upper, plain.upper, atol=1e-12)
    np.testing.assert_allclose(fast.worth, plain.worth, atol=1e-12)
    np.testing.assert_allclose(value_of(fast.lists, *known), fast.upper, atol=1e-12)
    other = rng.permuted(np.tile(np.arange(-1, items, dtype=np.int32), (3, states, 1)), axis=2)[:, :, : min(m, items)]
    other = -np.sort(-other, axis=2)
    np.testing.assert_allclose(value_of(other, *known), value_of_reference(other, *known), atol=1e-12)
    if not forced or (other[:, :, 0] >= 0).all():
        assert (value_of(other, *known)[0] <= fast.upper[0] + 1e-12).all()


def test_solving_tries_every_plan_of_two_steps() -> None:
    """One state at a time: the optimal values are those of the best list against the optimal values of the next step."""
    rng = np.random.default_rng(5)
    chances, moves, rewards = world(3, 4, rng)
    found = solve(chances, moves, rewards, 2, 2)
    for s in range(3):
        best = 0.0
        for items in [np.full(2, -1, np.int32), *every_list(4, 2)]:
            lists = found.lists.copy()
            lists[0, s] = items
            best = max(best, value_of_reference(lists, chances, moves, rewards)[0, s])
        assert best == pytest.approx(found.upper[0, s])


@settings(max_examples=80, deadline=None)
@given(
    **shapes,
    kind=st.sampled_from([VARIANCE, WORST_CASE, STOPPING]),
    scale=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    most=st.sampled_from([3, 100, 5_000]),
    forced=st.booleans(),
)
def test_bounds_equal_their_definition(
    states: int, items: int, m: int, seed: int, kind: int, scale: float, most: int, forced: bool
) -> None:
    rng = np.random.default_rng(seed)
    chances, moves, rewards = world(states, items, rng)
    counts, bonus = seen(chances, moves, most, rng), Bonus(kind, scale, 4.0)
    fast, plain = (f(counts, rewards, bonus, 3, m, forced) for f in (bounds, bounds_reference))
    for name in ("upper", "chances", "low", "worth"):
        np.testing.assert_allclose(getattr(fast, name), getattr(plain, name), atol=1e-9, err_msg=name)
    same = (fast.lists == plain.lists).all()  # worths that differ by rounding only may stand in either order
    if same:
        np.testing.assert_allclose(fast.lower, plain.lower, atol=1e-9)
    tried = bounds(counts, rewards, bonus, 3, m, forced, every_list(items, m))
    if kind != STOPPING:
        np.testing.assert_allclose(tried.upper, fast.upper, atol=1e-9)


@pytest.mark.parametrize("kind", [VARIANCE, WORST_CASE, STOPPING])
@pytest.mark.parametrize("forced", [False, True])
def test_bounds_hold_the_truth(kind: int, forced: bool) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        chances, moves, rewards = world(3, 4, rng)
        counts = seen(chances, moves, 10 ** int(rng.integers(1, 5)), rng)
        found = bounds(counts, rewards, Bonus(kind, 1.0, 12.0), 3, 2, forced)
        best = solve(chances, moves, rewards, 3, 2, forced).upper
        own = value_of(found.lists, chances, moves, rewards)
        assert (found.upper >= best - 1e-9).all()
        if kind == STOPPING:
            assert (best - own <= found.lower + 1e-9).all()
        else:
            assert (found.lower <= own + 1e-9).all()


def test_much_data_gives_the_optimal_plan() -> None:
    rng = np.random.default_rng(7)
    chances, moves, rewards = world(3, 5, rng)
    looks, visits = np.full((3, 5), 1e12), np.full((3, 6), 1e12)
    counts = Counts(looks, looks * chances, moves * 1e12, visits)
    best = solve(chances, moves, rewards, 3, 3)
    for kind in (VARIANCE, WORST_CASE, STOPPING):
        found = bounds(counts, rewards, Bonus(kind, 1.0, 10.0), 3, 3)
        np.testing.assert_allclose(found.upper, best.upper, atol=2e-3)
        np.testing.assert_array_equal(found.lists, best.lists)
    assert found.lower[0].max() < 0.02


def test_bonuses_by_hand() -> None:
    # One state, one item, two steps; looked at 100 times, clicked 20; 50 moves of the click, 50 of no click; L = 1, c = 0.5.
    one = np.ones((1, 1))
    counts = Counts(100 * one, 20 * one, np.full((1, 2, 1), 50.0), np.full((1, 2), 50.0))
    found = bounds(counts, np.array([[1.0, 0.0]]), Bonus(VARIANCE, 0.5, 1.0), 2, 1)
    width = 0.5 * (2 * np.sqrt(0.2 * 0.8 / 100) + 5 / 100)
    assert found.chances[0, 0] == pytest.approx(0.2 + width) and found.low[0, 0] == pytest.approx(0.2 - width)
    assert found.worth[1, 0].tolist() == [1, 0], "nothing follows the last step, so nothing is uncertain about what follows"
    upper, lower = 0.2 + width, 0.2 - width
    np.testing.assert_allclose([found.upper[1, 0], found.lower[1, 0]], [upper, lower])
    b = 0.5 * (2 * (upper - lower) * np.sqrt(1 / 50) + 5 / 50)
    np.testing.assert_allclose(found.worth[0, 0], [1 + min(upper + b, 1), min(upper + b, 1)])
    assert found.upper[0, 0] == pytest.approx(upper * (1 + upper + b) + (1 - upper) * (upper + b))
    least = [1 + max(lower - b, 0), max(lower - b, 0)]
    assert found.lower[0, 0] == pytest.approx(lower * least[0] + (1 - upper) * least[1])


def test_bonuses_of_stopping_by_hand() -> None:
    """Two states, one item, two steps; whatever is done, the next state is even. L = 1, c = 0.5."""
    n, m, c = 1e5, 4e4, 0.5
    counts = Counts(np.full((2, 1), n), n * np.array([[0.2], [0.7]]), np.full((2, 2, 2), m / 2), np.full((2, 2), m))
    found = bounds(counts, np.array([[1.0, 0.0]] * 2), Bonus(STOPPING, c, 1.0), 2, 1)
    of_looks, of_moves = np.log(8 * np.e * (n + 1)), np.log(8 * np.e * (m + 1))
    share = np.array([0.2, 0.7])
    width = c * (2 * np.sqrt(share * (1 - share) * (1 + of_looks) / n) + 5 * (1 + of_looks) / n)
    np.testing.assert_allclose(found.chances[:, 0], share + width)
    np.testing.assert_allclose(found.upper[1], share + width)
    np.testing.assert_allclose(found.lower[1], 6 * width)  # the last step: nothing follows
    variance, gap = np.var(share + width), np.mean(6 * width)
    b = c * (4 * np.sqrt(variance * (1 + of_moves) / m) + 15 * (1 + 2 * of_moves) / m) + 2 / 2 * gap
    follows = min(np.mean(share + width) + b, 1)
    np.testing.assert_allclose(found.worth[0], [[1 + follows, follows]] * 2)
    wanted = 6 * 2 * width + (share + width) * (2 * b + gap) + (1 - share + width) * (2 * b + gap)
    assert b < 1 and (wanted < 2).all()
    np.testing.assert_allclose(found.lower[0], wanted)


def test_bonuses_blind_to_variance_by_hand() -> None:
    n, m, c = 100.0, 50.0, 0.5
    counts = Counts(np.full((1, 1), n), np.full((1, 1), 20.0), np.full((1, 2, 1), m), np.full((1, 2), m))
    found = bounds(counts, np.array([[1.0, 0.0]]), Bonus(WORST_CASE, c, 1.0), 2, 1)
    width, b = c * np.sqrt(1 / n), c * 1 * np.sqrt(1 / m)
    assert found.chances[0, 0] == pytest.approx(0.2 + width) and found.low[0, 0] == pytest.approx(0.2 - width)
    np.testing.assert_allclose(found.worth[0, 0], [1 + 0.2 + width + b, 0.2 + width + b])


@settings(max_examples=40, deadline=None)
@given(**shapes, kind=st.sampled_from([VARIANCE, STOPPING]), most=st.sampled_from([1, 50]))
def test_lists_as_actions_equal_their_definition(states: int, items: int, m: int, seed: int, kind: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    actions = len(every_list(min(items, 3), min(m, 2)))
    shown = rng.integers(0, most + 1, (states, actions)).astype(float)
    earned = shown * rng.random(shown.shape)
    squares = earned**2 / np.maximum(shown, 1) + 0.1 * shown * rng.random(shown.shape)
    moved = rng.multinomial(shown.astype(int), np.full(states, 1 / states)).astype(float)
    counts, bonus = ListCounts(shown, earned, squares, moved), Bonus(kind, 0.1, 3.0)
    fast, plain = list_bounds(counts, bonus, 3), list_bounds_reference(counts, bonus, 3)
    np.testing.assert_allclose(fast[1], plain[1], atol=1e-9)
    if (fast[0] == plain[0]).all():
        np.testing.assert_allclose(fast[2], plain[2], atol=1e-9)


def lists_of(horizon: int, states: int, items: int, m: int, rng: np.random.Generator) -> np.ndarray:
    order = rng.permuted(np.tile(np.arange(items, dtype=np.int32), (horizon, states, 1)), axis=2)
    lists = np.full((horizon, states, m), -1, np.int32)
    lists[:, :, : min(m, items)] = order[:, :, :m]
    lists[rng.random(lists.shape[:2]) < 0.2, -1] = -1
    return lists


@settings(max_examples=40, deadline=None)
@given(**shapes)
def test_walks_and_tallies_equal_their_definitions(states: int, items: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chances, moves, _ = world(states, items, rng)
    lists, running = lists_of(3, states, items, m, rng), np.cumsum(moves, axis=2)
    starts, draws = rng.integers(0, states, 20).astype(np.int32), rng.random((20, 3, m + 1))
    fast, plain = (f(chances, running, lists, starts, draws) for f in (walk, walk_reference))
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(a, b)
    at, clicks, nexts = fast[0][:, 1].copy(), fast[1][:, 1].copy(), fast[0][:, 2].copy()
    nexts[::4] = -1
    shown, looked = lists[1, at], rng.random((20, m)) < 0.8
    counts, others = Counts.empty(states, items), Counts.empty(states, items)
    tally(counts, at, shown, looked, clicks, nexts)
    tally_reference(others, at, shown, looked, clicks, nexts)
    for a, b in zip(counts, others, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(counts.moved.sum(2), counts.visits)


def test_visits_earn_what_their_lists_are_worth() -> None:
    rng = np.random.default_rng(11)
    chances, moves, rewards = world(3, 4, rng)
    lists = lists_of(3, 3, 4, 2, rng)
    n = 40_000
    states, clicks = walk(chances, np.cumsum(moves, axis=2), lists, np.zeros(n, np.int32), rng.random((n, 3, 3)))
    earned = np.zeros(n)
    for h in range(3):
        clicked = lists[h, states[:, h], np.maximum(clicks[:, h], 0)]
        earned += np.where(clicks[:, h] >= 0, rewards[states[:, h], clicked], 0)
    assert earned.mean() == pytest.approx(value_of(lists, chances, moves, rewards)[0, 0], abs=4 * earned.std() / np.sqrt(n))
