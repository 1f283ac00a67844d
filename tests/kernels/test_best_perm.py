"""BestPerm finds what trying every list finds; what forcing an item into the list does to bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels.best_perm import (
    best_list,
    best_of_lists,
    best_perm_reference,
    best_perms,
    every_list,
    list_value_reference,
    worth_of_list,
)

shapes = {
    "n": st.integers(1, 7),
    "m": st.integers(1, 4),
    "kind": st.sampled_from(["even", "ties", "certain", "closed"]),
    "seed": st.integers(0, 9_999),
}


def case(n: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    chances, values, rest = rng.random(n), rng.normal(size=n), float(rng.normal())
    if kind == "ties":
        chances, values, rest = rng.integers(0, 3, n) / 2, rng.integers(0, 3, n) / 2.0, float(rng.integers(0, 2) / 2)
    if kind == "certain":
        chances = rng.integers(0, 2, n).astype(float)
    if kind == "closed":
        values[rng.random(n) < 0.4] = -np.inf
    return chances, values, rest


def by_trying(chances: np.ndarray, values: np.ndarray, rest: float, m: int, forced: bool) -> float:
    table = every_list(len(values), m)
    open_ = [items for items in table if np.isfinite(values[items[items >= 0]]).all()]
    found = [list_value_reference(items, chances, values, rest) for items in open_]
    return max(found if forced and found else [*found, rest])


@settings(max_examples=250, deadline=None)
@given(**shapes, forced=st.booleans())
def test_it_is_the_best_of_every_list(n: int, m: int, kind: str, seed: int, forced: bool) -> None:
    chances, values, rest = case(n, kind, seed)
    low = chances if forced else None
    value, items = best_perm_reference(chances, values, rest, m, low)
    assert value == pytest.approx(by_trying(chances, values, rest, m, forced), abs=1e-12)
    assert list_value_reference(items, chances, values, rest) == pytest.approx(value, abs=1e-12)
    assert len(set(items.tolist())) == len(items) <= m
    worth, lists = best_perms(chances[None], values[None], np.array([rest]), m, None if low is None else low[None])
    assert worth[0] == value
    assert lists[0][lists[0] >= 0].tolist() == items.tolist() and (lists[0][len(items) :] == -1).all()


def test_by_hand() -> None:
    # f([0]) = 0.5 * 1, f([1, 0]) = 0.4 * 2 + 0.6 * 0.5 * 1, f([0, 1]) = 0.5 * 1 + 0.5 * 0.4 * 2
    chances, values = np.array([0.5, 0.4, 0.9]), np.array([1.0, 2.0, 0.0])
    assert best_perm_reference(chances, values, 0.0, 1)[1].tolist() == [1]
    value, items = best_perm_reference(chances, values, 0.0, 2)
    assert items.tolist() == [1, 0] and value == pytest.approx(1.1)
    assert best_perm_reference(chances, values, 0.0, 3)[1].tolist() == [1, 0], "an item worth no more than no click is left out"
    assert best_perm_reference(chances, values, 5.0, 2) == (5.0, pytest.approx(np.empty(0)))
    value, items = best_perm_reference(chances, values, 5.0, 2, chances)
    assert items.tolist() == [1] and value == pytest.approx(0.4 * 2 + 0.6 * 5)


def test_a_fixed_list_is_no_better_by_higher_chances_unless_its_worth_falls() -> None:
    """A lure on top of what is worth more: the more it attracts, the less the list is worth. In order, this can't happen."""
    values = np.array([0.2, 1.0])
    dull, lure = np.array([0.1, 0.9]), np.array([0.8, 0.9])
    wrong = [list_value_reference(np.array([0, 1]), chances, values, 0.0) for chances in (dull, lure)]
    right = [list_value_reference(np.array([1, 0]), chances, values, 0.0) for chances in (dull, lure)]
    assert wrong == pytest.approx([0.1 * 0.2 + 0.9 * 0.9, 0.8 * 0.2 + 0.2 * 0.9]) and wrong[1] < wrong[0]
    assert right == pytest.approx([0.9 + 0.1 * 0.1 * 0.2, 0.9 + 0.1 * 0.8 * 0.2]) and right[1] > right[0]
    rng = np.random.default_rng(4)
    for _ in range(100):
        chances, worth, rest = rng.random(4), np.sort(rng.random(4) + 0.5)[::-1], 0.5 * rng.random()
        more = chances + rng.random(4) * (1 - chances)
        low, high = (list_value_reference(np.arange(4), c, worth, rest) for c in (chances, more))
        assert high >= low - 1e-12


def test_rows_of_a_batch_are_independent() -> None:
    rng = np.random.default_rng(3)
    chances, values, rest = rng.random((50, 9)), rng.normal(size=(50, 9)), rng.normal(size=50)
    worth, lists = best_perms(chances, values, rest, 3)
    for row in range(50):
        alone = best_perms(chances[row : row + 1], values[row : row + 1], rest[row : row + 1], 3)
        assert alone[0][0] == worth[row] and (alone[1][0] == lists[row]).all()


def test_of_a_set_the_order_of_falling_worth_is_the_best() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        chances, values = rng.random(4), rng.random(4)
        down = list_value_reference(np.argsort(-values), chances, values, 0.1)
        assert all(list_value_reference(rng.permutation(4), chances, values, 0.1) <= down + 1e-12 for _ in range(10))
        same = np.full(4, 0.7)
        other = list_value_reference(rng.permutation(4), chances, same, 0.1)
        assert other == pytest.approx(list_value_reference(np.arange(4), chances, same, 0.1))


def test_more_room_is_never_worth_less() -> None:
    rng = np.random.default_rng(2)
    chances, values, rest = rng.random((40, 8)), rng.random((40, 8)), rng.random(40)
    worth = np.array([best_perms(chances, values, rest, m)[0] for m in range(9)])
    assert (np.diff(worth, axis=0) >= 0).all() and (worth[0] == rest).all()


def test_a_forced_item_spoils_upper_bounds_and_lower_chances_mend_it() -> None:
    """Where no click is worth most, a higher chance lowers the paper's value; the empty list, or low chances, don't."""
    rng = np.random.default_rng(0)
    fell, n = 0, 2_000
    for _ in range(n):
        true, values, rest = rng.random(5), rng.random(5), 1.0 + rng.random()
        width = 0.3 * rng.random(5)
        up, low = np.minimum(true + width, 1), np.maximum(true - width, 0)
        exact = best_perm_reference(true, values, rest, 3, true)[0]
        fell += best_perm_reference(up, values, rest, 3, up)[0] < exact
        assert best_perm_reference(up, values, rest, 3, low)[0] >= exact
        assert best_perm_reference(up, values, rest, 3)[0] >= best_perm_reference(true, values, rest, 3)[0]
    assert fell > 0.9 * n


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 3), seed=st.integers(0, 9_999))
def test_bounds_of_chances_bound_the_value(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, values, rest = rng.random(n), rng.random(n), rng.random()
    up, more = np.minimum(true + rng.random(n) * 0.3, 1), values + rng.random(n)
    assert best_perm_reference(up, more, rest, m)[0] >= best_perm_reference(true, values, rest, m)[0] - 1e-12


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 3), kind=st.sampled_from(["even", "ties"]), seed=st.integers(0, 999))
def test_the_exhaustive_search_is_worth_the_same(n: int, m: int, kind: str, seed: int) -> None:
    chances, values, rest = case(n, kind, seed)
    for forced in (False, True):
        out, other = np.empty(m, np.int32), np.empty(m, np.int32)
        tried = best_of_lists(every_list(n, m), chances, values, rest, chances, forced, out)
        planned = best_list(chances, values, rest, chances, forced, other)
        assert tried == pytest.approx(planned, abs=1e-12)
        assert worth_of_list(out, chances, values, rest) == pytest.approx(tried, abs=1e-12)


def test_there_are_as_many_lists_as_the_paper_says() -> None:
    assert [len(every_list(n, 3)) for n in (10, 15, 20, 25)] == [820, 2_955, 7_240, 14_425]
    table = every_list(4, 3)
    assert len({tuple(row) for row in table.tolist()}) == len(table)
    assert len(every_list(2, 3)) == 4


def seconds(n: int, m: int, plans: int = 20) -> float:
    """Return the least time of some plans of ``m`` among ``n`` items, of many tries."""
    import time

    rng = np.random.default_rng(0)
    chances, values, rest = rng.random((plans, n)), rng.random((plans, n)), np.zeros(plans)
    best_perms(chances, values, rest, m)
    times = []
    for _ in range(31):  # the least of many, as other work shares the caches
        began = time.perf_counter()
        best_perms(chances, values, rest, m)
        times.append(time.perf_counter() - began)
    return min(times)


def test_time_grows_with_items_and_not_with_lists() -> None:
    """As many items in a tenth of the plans take about as long (n log n allowed for), though lists are 10^4 times as many.

    Both lie in memory as a whole: caches don't count.
    """
    assert seconds(10_000, 5) < 2.5 * seconds(1_000, 5, plans=200)


def test_time_grows_with_positions() -> None:
    """Eight times the positions take no more than that, with room for noise."""
    assert seconds(10_000, 40) < 12 * seconds(10_000, 5)
