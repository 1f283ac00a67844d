"""Greedy orders: the fast forms choose as the definitions do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels import diversify
from palate.kernels.diversify import (
    calibrated,
    calibrated_reference,
    determinantal,
    determinantal_reference,
    divergence,
    marginal,
    marginal_reference,
)

shapes = {
    "m": st.integers(1, 25),
    "d": st.integers(1, 9),
    "trade": st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    "seed": st.integers(0, 999),
}


def unit(m: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(m, d))
    return rng.random(m), (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(**shapes, sets=st.booleans())
def test_marginal_equals_its_definition(m: int, d: int, trade: float, seed: int, sets: bool) -> None:
    relevance, rows = unit(m, d, seed)
    sizes = None
    if sets:
        rows = (rows > 0.2).astype(np.float32)
        sizes = rows.sum(1)
    k = 1 + seed % m
    fast, plain = marginal(relevance, rows, sizes, k, trade), marginal_reference(relevance, rows, sizes, k, trade)
    np.testing.assert_array_equal(fast[0], plain[0])
    np.testing.assert_allclose(fast[1], plain[1], atol=1e-12)
    np.testing.assert_array_equal(fast[2] < 0, plain[2] < 0)
    if not sets:
        np.testing.assert_array_equal(fast[2], plain[2])


@settings(max_examples=80, deadline=None)
@given(**shapes)
def test_determinantal_equals_determinants(m: int, d: int, trade: float, seed: int) -> None:
    relevance, rows = unit(m, d, seed)
    k = min(1 + seed % m, d)  # further candidates have no volume at all, up to rounding
    fast, plain = determinantal(relevance, rows, k, trade), determinantal_reference(relevance, rows, k, trade)
    if plain[1][plain[0]].min() < 1e-6:
        return  # nearly flat: which of them is chosen is rounding
    np.testing.assert_array_equal(fast[0], plain[0])
    np.testing.assert_allclose(fast[1][fast[0]], plain[1][plain[0]], rtol=1e-4)


def test_determinantal_fills_up_by_relevance() -> None:
    relevance = np.array([0.1, 0.9, 0.8, 0.3, 0.7])
    rows = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1]]
    order, volume = determinantal(relevance, rows, 5, 0.5)
    assert order.tolist() == determinantal_reference(relevance, rows, 5, 0.5)[0].tolist() == [1, 4, 2, 3, 0]
    assert volume[1] == volume[4] == 1 and volume[2] == 0
    zero = determinantal(relevance, np.zeros((5, 2), np.float32), 3, 0.5)
    assert zero[0].tolist() == [1, 2, 4] and not zero[1].any()


def test_determinantal_finds_the_largest_volume_of_two() -> None:
    # All pairs, counted: greedy begins with the most relevant and then has the best partner of it.
    relevance, rows = unit(12, 5, 3)
    first, second = determinantal(relevance, rows, 2, 0.4)[0]
    kernel = rows.astype(float) @ rows.T.astype(float)
    values = [
        0.4 * relevance[j] + 0.6 * np.log(np.linalg.det(kernel[np.ix_([first, j], [first, j])])) if j != first else -9
        for j in range(12)
    ]
    assert first == relevance.argmax() and second == int(np.argmax(values))


@settings(max_examples=80, deadline=None)
@given(**shapes)
def test_calibrated_equals_its_definition(m: int, d: int, trade: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    relevance, wanted = rng.random(m), rng.random(d) * (rng.random(d) < 0.8) + 1e-9
    wanted[rng.integers(d)] += 0.1
    wanted[wanted < 1e-6] = 0
    wanted /= wanted.sum()
    sets = [np.flatnonzero(rng.random(d) < 0.4) for _ in range(m)]
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    categories = np.concatenate([np.empty(0, np.int64), *sets]).astype(np.int32)
    case = (relevance, offsets, categories, wanted, 1 + seed % m, trade, 0.01)
    if trade == 0:
        case = (relevance, offsets, categories, wanted, 1, 1.0, 0.01)  # without relevance, equal sets are equal candidates
    fast, plain = calibrated(*case), calibrated_reference(*case)
    np.testing.assert_array_equal(fast[0], plain[0])
    np.testing.assert_allclose(fast[1], plain[1], atol=1e-9)
    assert ((fast[2] < 0) == (plain[2] < 0)).all()


def test_divergence_by_hand() -> None:
    wanted, held = np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0, 0.0])
    expected = 0.5 * np.log(0.5 / 0.95) + 0.5 * np.log(0.5 / 0.05)
    assert divergence(wanted, held, 0.1) == pytest.approx(expected)
    assert divergence(wanted, wanted, 0.1) == pytest.approx(0)


def test_jaccard_by_hand() -> None:
    rows = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], np.float32)
    assert diversify.similarity(rows, rows.sum(1), 0, 1) == pytest.approx(1 / 3)
    assert diversify.similarity(rows, rows.sum(1), 2, 2) == 0
