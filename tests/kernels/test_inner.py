"""Exact top-k of inner products: the fast form gives the plain form's bits, whatever the batch and the threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels import inner
from palate.kernels.inner import inner_pairs, topk_inner, topk_inner_reference
from palate.runtime import set_threads, threads


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    before = threads()
    yield
    set_threads(before)


def case(n: int, size: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    queries, vectors = (rng.normal(size=(m, d)).astype(np.float32) for m in (n, size))
    vectors *= rng.pareto(2.0, size)[:, None].astype(np.float32) + 0.3
    lengths = rng.integers(0, min(12, size), n)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return queries, vectors, offsets, rng.integers(0, size, offsets[-1]).astype(np.int32)


@pytest.mark.parametrize(("n", "size", "d", "k"), [(3, 50, 4, 5), (140, 900, 8, 10), (600, 1300, 16, 20), (130, 20, 4, 40)])
@pytest.mark.parametrize("count", [1, 2])
def test_fast_equals_plain_to_the_bit(n: int, size: int, d: int, k: int, count: int) -> None:
    set_threads(count)
    queries, vectors, offsets, exclude = case(n, size, d)
    items, scores = topk_inner(queries, vectors, k, offsets, exclude)
    plain_items, plain_scores = topk_inner_reference(queries, vectors, k, offsets, exclude)
    np.testing.assert_array_equal(items, plain_items)
    np.testing.assert_array_equal(scores, plain_scores)


def test_one_by_one_equals_a_batch() -> None:
    queries, vectors, offsets, exclude = case(150, 700, 8, seed=1)
    whole = topk_inner(queries, vectors, 7, offsets, exclude)
    for row in range(0, 150, 13):
        own = exclude[offsets[row] : offsets[row + 1]]
        single = topk_inner(queries[row : row + 1], vectors, 7, np.array([0, len(own)]), own)
        np.testing.assert_array_equal(single[0][0], whole[0][row])
        np.testing.assert_array_equal(single[1][0], whole[1][row])


def test_masses_of_ties_follow_the_rule() -> None:
    rng = np.random.default_rng(2)
    queries = rng.normal(size=(200, 6)).astype(np.float32)
    vectors = np.repeat(rng.normal(size=(4, 6)), 150, axis=0).astype(np.float32)
    np.testing.assert_array_equal(topk_inner(queries, vectors, 9)[0], topk_inner_reference(queries, vectors, 9)[0])
    zero = np.zeros((200, 6), np.float32)
    np.testing.assert_array_equal(topk_inner(zero, vectors, 9)[0], topk_inner_reference(zero, vectors, 9)[0])


def test_excluded_items_never_come_back() -> None:
    queries, vectors, _, _ = case(300, 400, 8, seed=3)
    best = topk_inner(queries, vectors, 5)[0]
    offsets = np.arange(301, dtype=np.int64) * 5
    after = topk_inner(queries, vectors, 5, offsets, best.ravel())[0]
    assert all(not set(a) & set(b) for a, b in zip(best.tolist(), after.tolist(), strict=True))


def test_short_rows_are_padded() -> None:
    queries, vectors, _, _ = case(2, 3, 4)
    items, scores = topk_inner(queries, vectors, 5)
    assert (items[:, 3:] == -1).all() and np.isneginf(scores[:, 3:]).all() and (np.sort(items[:, :3]) == [0, 1, 2]).all()


@pytest.mark.parametrize(("n", "size"), [(0, 5), (5, 0)])
def test_nothing_to_rank(n: int, size: int) -> None:
    items, scores = topk_inner(np.zeros((n, 4), np.float32), np.zeros((size, 4), np.float32), 3)
    assert items.shape == (n, 3) and (items == -1).all() and np.isneginf(scores).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 260), st.integers(1, 400), st.integers(1, 12), st.integers(1, 15), st.integers(0, 1000))
def test_any_shape(n: int, size: int, d: int, k: int, seed: int) -> None:
    queries, vectors, offsets, exclude = case(n, size, d, seed)
    fast, plain = topk_inner(queries, vectors, k, offsets, exclude), topk_inner_reference(queries, vectors, k, offsets, exclude)
    np.testing.assert_array_equal(fast[0], plain[0])
    np.testing.assert_array_equal(fast[1], plain[1])


def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, vectors, offsets, exclude = case(400, 1500, 8, seed=5)
    whole = topk_inner(queries, vectors, 10, offsets, exclude)
    monkeypatch.setattr(inner, "ROWS", 37)
    monkeypatch.setattr(inner, "CHUNK", 130)
    cut = topk_inner(queries, vectors, 10, offsets, exclude)
    np.testing.assert_array_equal(whole[0], cut[0])
    np.testing.assert_array_equal(whole[1], cut[1])


def test_pairs_have_the_bits_of_the_ranking() -> None:
    queries, vectors, _, _ = case(200, 300, 16, seed=6)
    items, scores = topk_inner(queries, vectors, 6)
    np.testing.assert_array_equal(inner_pairs(queries, vectors, items), scores)
    assert np.isneginf(inner_pairs(queries, vectors, np.full((200, 1), -1, np.int32))).all()
