"""LimitedPerm finds what trying every set finds, without limits what BestPerm does; cut off, it says how far off it can be."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels.best_perm import best_perm_reference, list_value_reference
from palate.kernels.limited_perm import limited_perm, limited_perm_reference


def case(n: int, groups: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chances, values, rest = rng.random(n), rng.normal(size=n), float(rng.normal() - 1)
    if kind == "ties":
        chances, values, rest = rng.integers(0, 3, n) / 2, rng.integers(0, 3, n) / 2.0, 0.0
    member = np.zeros((n, groups), bool)
    if groups and kind != "many":
        member[np.arange(n), rng.integers(groups, size=n)] = True  # one value each
    elif groups:
        member = rng.random((n, groups)) < 0.4
    return chances, values, rest, member, rng.integers(0, 3, groups)


@settings(max_examples=250, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 5),
    groups=st.integers(0, 3),
    kind=st.sampled_from(["one", "many", "ties"]),
    seed=st.integers(0, 9_999),
)
def test_it_is_the_best_of_every_list_within_the_limits(n: int, m: int, groups: int, kind: str, seed: int) -> None:
    chances, values, rest, member, room = case(n, groups, kind, seed)
    worth, bound, items = limited_perm(chances, values, rest, m, member, room)
    best, _ = limited_perm_reference(chances, values, rest, m, member, room)
    assert worth == pytest.approx(best, abs=1e-12) and bound == worth
    assert list_value_reference(items, chances, values, rest) == pytest.approx(worth, abs=1e-12)
    assert len(set(items.tolist())) == len(items) <= m and (member[items].sum(0) <= room).all()
    if not groups:
        assert worth == pytest.approx(best_perm_reference(chances, values, rest, m)[0], abs=1e-12)


def test_by_hand() -> None:
    # the two best are of one kind, of which one may stand: f([0, 2]) = .5*4 + .5*.5*2 = 2.5, f([1, 2]) = .9*3 + .1*.5*2 = 2.8
    chances, values = np.array([0.5, 0.9, 0.5]), np.array([4.0, 3.0, 2.0])
    member = np.array([[True], [True], [False]])
    worth, bound, items = limited_perm(chances, values, 0.0, 2, member, np.array([1]))
    assert items.tolist() == [1, 2] and worth == pytest.approx(2.8) == bound
    assert limited_perm(chances, values, 0.0, 2, member, np.array([2]))[2].tolist() == [0, 1]
    assert limited_perm(chances, values, 0.0, 2, member, np.array([0]))[2].tolist() == [2]
    assert limited_perm(chances, values, 9.0, 2, member, np.array([1]))[:2] == (9.0, 9.0)


def test_a_search_that_ends_early_keeps_to_the_limits_and_bounds_its_error() -> None:
    chances, values, rest, member, room = case(14, 3, "many", 5)
    room = np.array([2, 2, 1])
    best, _ = limited_perm_reference(chances, values, rest, 6, member, room)
    for most in (0, 1, 5, 20):
        worth, bound, items = limited_perm(chances, values, rest, 6, member, room, most)
        assert worth <= best + 1e-12 <= bound + 2e-12 and (member[items].sum(0) <= room).all()
        assert list_value_reference(items, chances, values, rest) == pytest.approx(worth)
    assert worth > rest


def test_a_pool_of_the_usual_size_is_solved_in_milliseconds() -> None:
    limited_perm(*case(5, 2, "one", 0)[:3], 3, *case(5, 2, "one", 0)[3:])
    rng = np.random.default_rng(0)
    for _ in range(5):
        chances, values = rng.beta(1, 15, 100), rng.lognormal(size=100)
        member = np.zeros((100, 8), bool)
        member[np.arange(100), rng.choice(8, size=100, p=rng.dirichlet(np.ones(8)))] = True
        started = time.perf_counter()
        worth, bound, items = limited_perm(chances, values, 0.0, 10, member, np.full(8, 2))
        assert time.perf_counter() - started < 0.5
        assert len(items) == 10 and bound <= 1.02 * worth
