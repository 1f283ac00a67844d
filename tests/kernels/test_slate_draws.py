"""Slates drawn from joint draws: the fast kernel is the plain one, and chances are by hand what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from palate.kernels.slate_draws import (
    SlateFilling,
    draw_slates,
    draw_slates_reference,
    mixed_share,
    slate_chances,
    slate_chances_reference,
)
from palate.kernels.topk import topk_dense


def made(seed: int, m: int, draws: int, width: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (m, draws, width)).astype(float)  # many ties
    values[rng.random(values.shape) < 0.1] = np.inf
    allowed = rng.random((n, width)) < 0.7
    return values, allowed, rng.random((n, 4))


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("shared", "draws"), [(True, 1), (True, 7), (False, 5)])
def test_fast_equals_plain(shared: bool, draws: int, epsilon: float, joint: bool) -> None:
    for seed in range(5):
        values, allowed, uniforms = made(seed, 1 if shared else 30, draws, 6, 30)
        plain = draw_slates_reference(values, allowed, epsilon, uniforms, joint=joint)
        fast = draw_slates(values, allowed, epsilon, uniforms, joint=joint)
        np.testing.assert_array_equal(fast[0], plain[0])
        np.testing.assert_allclose(fast[1], plain[1], rtol=1e-14)
        again = slate_chances(values, allowed, epsilon, fast[0], joint=joint)
        np.testing.assert_array_equal(again, fast[1])
        other = draw_slates(values, np.ones((1, 6), bool), 1.0, uniforms)[0]  # slates that may be impossible
        np.testing.assert_allclose(
            slate_chances(values, allowed, epsilon, other, joint=joint),
            slate_chances_reference(values, allowed, epsilon, other, joint=joint),
            rtol=1e-14,
        )


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_a_slate_filled_from_outside_has_the_same_chances(epsilon: float, joint: bool) -> None:
    """Among some of the items, with ties."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values, items = rng.integers(0, 4, (6, 9)).astype(float), rng.permutation(9)[:5]
        allowed = np.isin(np.arange(9), items)[None]
        slate, taken, left = rng.permutation(5)[:4], -1, np.arange(5)
        filling, found = SlateFilling(values[:, items], items, epsilon, joint=joint), np.zeros(4)
        for position, place in enumerate(slate.tolist()):
            found[position] = filling(taken, left)[left == place][0]
            if found[position] == 0:
                break
            left, taken = left[left != place], place
        plain = slate_chances_reference(values[None], allowed, epsilon, items[slate][None], joint=joint)
        np.testing.assert_array_equal(found, plain[0])


def test_what_is_left_out_of_a_slate_tells_nothing_of_its_draw() -> None:
    values = np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 0.0, 2.0, 1.0], [0.0, 3.0, 2.0, 1.0]])
    filling = SlateFilling(values, np.arange(4), 0.0, joint=True)
    np.testing.assert_allclose(filling(-1, np.arange(4)), [2 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(filling(0, np.array([2, 3])), [1, 0])  # of the two draws that begin so, without item 1
    np.testing.assert_allclose(filling(-1, np.array([1, 3])), [1 / 2, 1 / 2])  # what came was none of these: both draws count


def test_without_chance_it_is_the_ranking() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (20, 1, 15)).astype(float)
    items, chances = draw_slates(values, np.ones((1, 15), bool), 0.0, rng.random((20, 5)))
    np.testing.assert_array_equal(items, topk_dense(values[:, 0].astype(np.float32), 5)[0])
    assert (chances == 1).all()


def test_chances_by_hand() -> None:
    """Three draws over three items; item 0 is the best in two, item 1 in one; without 0, item 1 in two and 2 in one."""
    values = np.array([[[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [1.0, 3.0, 2.0]]])
    every = np.ones((1, 3), bool)
    one = slate_chances(values, every, 0.0, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(one, [[2 / 3, 2 / 3, 1.0]])
    smoothed = slate_chances(values, every, 0.25, np.array([[0, 1, 2]]))  # one more draw that is even
    np.testing.assert_allclose(smoothed, [[(2 + 1 / 3) / 4, (2 + 1 / 2) / 4, 1.0]])
    np.testing.assert_allclose(mixed_share(np.array([2, 1, 0]), 3, 3, 0.25), (np.array([2, 1, 0]) + 1 / 3) / 4)
    whole = slate_chances(values, every, 0.0, np.array([[0, 1, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1]]), joint=True)
    np.testing.assert_allclose(whole.prod(axis=1), [1 / 3, 1 / 3, 1 / 3, 0])


def test_empty_positions_and_what_cant_come() -> None:
    values, allowed = np.array([[[3.0, 2.0, 1.0]]]), np.array([[True, True, False]])
    items, chances = draw_slates(values, allowed, 0.0, np.zeros((1, 4)))
    assert items.tolist() == [[0, 1, -1, -1]] and chances.tolist() == [[1, 1, 1, 1]]
    given = np.array([[0, 1, -1], [0, -1, -1], [2, 0, 1], [0, 2, 1]])
    found = slate_chances(values, np.repeat(allowed, 4, 0), 0.0, given)
    assert found.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_the_largest_uniform_number_draws_something_possible() -> None:
    values = np.array([[[1.0, 2.0, 3.0]]])
    items, chances = draw_slates(values, np.ones((1, 3), bool), 0.0, np.full((1, 3), np.nextafter(1.0, 0.0)))
    assert items.tolist() == [[2, 1, 0]] and (chances == 1).all()
