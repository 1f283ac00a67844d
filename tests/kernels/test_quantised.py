"""Exact top-k through 8-bit codes: the bits of the plain path, whatever the vectors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels import quantised
from palate.kernels.inner import topk_inner
from palate.kernels.quantised import encode, encode_reference, topk_among, topk_coded, topk_coded_reference


def case(n: int, size: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    queries, vectors = (rng.normal(size=(m, d)).astype(np.float32) for m in (n, size))
    vectors *= rng.pareto(2.0, size)[:, None].astype(np.float32) + 0.3
    lengths = rng.integers(0, min(12, size), n)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return queries, vectors, offsets, rng.integers(0, size, offsets[-1]).astype(np.int32)


def same(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1].view(np.int32), wanted[1].view(np.int32))


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e-33, 1e15, 1e19])
@pytest.mark.parametrize(("size", "d"), [(1, 1), (40, 3), (700, 16), (300, 64)])
def test_codes_equal_the_plain_codes(size: int, d: int, scale: float) -> None:
    vectors = case(1, size, d)[1] * np.float32(scale)
    fast, plain = encode(vectors), encode_reference(vectors)
    np.testing.assert_array_equal(fast.codes, plain.codes)
    np.testing.assert_array_equal(fast.order, plain.order)
    np.testing.assert_array_equal(fast.steps, plain.steps)
    np.testing.assert_allclose(fast.widths, plain.widths, rtol=1e-6)
    np.testing.assert_allclose(fast.norms, plain.norms, rtol=1e-6)
    assert (np.diff(fast.norms) <= 0).all()


@pytest.mark.parametrize("d", [1, 2, 7, 64, 300])
@pytest.mark.parametrize("kind", ["normal", "spiky", "signs"])
def test_the_bound_holds_and_is_near(d: int, kind: str) -> None:
    rng = np.random.default_rng(d)
    queries, vectors = rng.normal(size=(30, d)), rng.normal(size=(500, d))
    if kind == "spiky":
        queries, vectors = queries**5, vectors**5
    if kind == "signs":
        queries, vectors = np.sign(queries), np.sign(vectors)
    queries, vectors = queries.astype(np.float32), vectors.astype(np.float32)
    codes = encode(vectors)
    exact = queries.astype(np.float64) @ vectors[codes.order].astype(np.float64).T
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    code, bounds = np.empty(d, np.int16), np.empty(500, np.float32)
    for row, query in enumerate(queries):
        step, length = quantised._encode_query(query, codes.limit, code)
        quantised._bound(code, codes.codes, codes.steps, codes.widths, step, length, np.float32(0), bounds)
        room = bounds - exact[row]
        assert (room >= 0).all()
        # Never more than both errors, each counted twice.
        assert (room <= 2.1 * lengths[row] * codes.widths + 1e-6).all()


SHAPES = [(3, 50, 4, 5), (20, 900, 8, 10), (9, 1300, 64, 20), (5, 20, 4, 40), (4, 700, 13, 1)]


@pytest.mark.parametrize(("n", "size", "d", "k"), SHAPES)
def test_fast_equals_plain_to_the_bit(n: int, size: int, d: int, k: int) -> None:
    queries, vectors, offsets, exclude = case(n, size, d)
    allowed = np.random.default_rng(1).random(size) < 0.5
    for mask in (None, allowed):
        found = topk_coded(queries, vectors, encode(vectors), k, offsets, exclude, mask)
        same(found, topk_coded_reference(queries, vectors, k, offsets, exclude, mask))


@pytest.mark.parametrize("d", [1, 3, 8, 17, 32, 50, 64, 100, 128, 200])
def test_has_the_bits_of_the_blocked_search(d: int) -> None:
    queries, vectors, offsets, exclude = case(150, 3000, d, seed=d)
    same(
        topk_coded(queries, vectors, encode(vectors), 10, offsets, exclude), topk_inner(queries, vectors, 10, offsets, exclude)
    )


def test_near_ties_and_duplicates_follow_the_rule() -> None:
    rng = np.random.default_rng(2)
    queries = rng.normal(size=(12, 6)).astype(np.float32)
    vectors = np.repeat(rng.normal(size=(4, 6)), 300, axis=0).astype(np.float32)
    same(topk_coded(queries, vectors, encode(vectors), 9), topk_coded_reference(queries, vectors, 9))
    near = np.nextafter(vectors, np.where(rng.random(vectors.shape) < 0.5, -np.inf, np.inf).astype(np.float32))
    same(topk_coded(queries, near, encode(near), 9), topk_coded_reference(queries, near, 9))


def test_zeros() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(700, 5)).astype(np.float32)
    vectors[::3] = 0
    queries = np.concatenate([np.zeros((2, 5)), rng.normal(size=(2, 5))]).astype(np.float32)
    same(topk_coded(queries, vectors, encode(vectors), 11), topk_coded_reference(queries, vectors, 11))
    nothing = np.zeros_like(vectors)
    same(topk_coded(queries, nothing, encode(nothing), 11), topk_coded_reference(queries, nothing, 11))


@pytest.mark.parametrize("query_scale", [1e-44, 1e-38, 1e-20, 1.0, 1e18, 1e30, 3e37])
@pytest.mark.parametrize("item_scale", [1e-44, 1e-38, 1e-27, 1.0, 1e17, 1e25, 3e37])
def test_magnitudes_at_the_ends_of_float32(query_scale: float, item_scale: float) -> None:
    rng = np.random.default_rng(4)
    queries = (rng.uniform(-1, 1, (3, 6)) * query_scale).astype(np.float32)
    vectors = (rng.uniform(-1, 1, (600, 6)) * item_scale).astype(np.float32)
    vectors[:100] *= np.float32(1e-3)
    same(topk_coded(queries, vectors, encode(vectors), 7), topk_coded_reference(queries, vectors, 7))


def test_one_vector_of_huge_norm_beside_common_ones() -> None:
    queries, vectors, _, _ = case(6, 1200, 16, seed=5)
    vectors[7] *= np.float32(1e30)
    vectors[9] *= np.float32(1e-36)
    same(topk_coded(queries, vectors, encode(vectors), 5), topk_coded_reference(queries, vectors, 5))


def test_all_excluded_or_none_allowed() -> None:
    queries, vectors, _, _ = case(2, 40, 4)
    codes = encode(vectors)
    offsets, exclude = np.array([0, 40, 40], np.int64), np.arange(40, dtype=np.int32)[::-1].copy()
    items, scores = topk_coded(queries, vectors, codes, 3, offsets, exclude)
    assert (items[0] == -1).all() and np.isneginf(scores[0]).all() and (items[1] >= 0).all()
    assert (topk_coded(queries, vectors, codes, 3, allowed=np.zeros(40, bool))[0] == -1).all()


@pytest.mark.parametrize(("n", "size", "k"), [(0, 5, 3), (5, 0, 3), (2, 3, 9), (2, 5, 0)])
def test_short_rows_and_nothing_to_rank(n: int, size: int, k: int) -> None:
    queries, vectors = np.ones((n, 4), np.float32), np.ones((size, 4), np.float32)
    items, scores = topk_coded(queries, vectors, encode(vectors), k)
    assert items.shape == scores.shape == (n, k)
    assert ((items >= 0).sum(axis=1) == min(k, size)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 1200), st.integers(1, 70), st.integers(1, 15), st.integers(0, 1000))
def test_any_shape(n: int, size: int, d: int, k: int, seed: int) -> None:
    queries, vectors, offsets, exclude = case(n, size, d, seed)
    same(topk_coded(queries, vectors, encode(vectors), k, offsets, exclude), topk_inner(queries, vectors, k, offsets, exclude))


def test_most_vectors_are_never_scored() -> None:
    rng = np.random.default_rng(6)
    query, vectors = rng.normal(size=64).astype(np.float32), rng.normal(size=(20_000, 64)).astype(np.float32)
    codes = encode(vectors)
    bar = topk_coded(query[None], vectors, codes, 10)[1][0, -1]
    code, bounds = np.empty(64, np.int16), np.empty(20_000, np.float32)
    step, length = quantised._encode_query(query, codes.limit, code)
    quantised._bound(code, codes.codes, codes.steps, codes.widths, step, length, np.float32(0), bounds)
    assert 10 <= (bounds >= bar).sum() < 40


def test_among_scores_only_its_candidates() -> None:
    queries, vectors, offsets, exclude = case(5, 200, 8, seed=7)
    rng = np.random.default_rng(0)
    candidates = np.array([rng.permutation(200)[:30] for _ in range(5)], np.int32)
    candidates[:, 25:] = -1
    allowed = rng.random(200) < 0.7
    items, scores = topk_among(queries, vectors, candidates, 6, offsets, exclude, allowed)
    for row in range(5):
        mask = np.zeros(200, bool)
        mask[candidates[row, :25]] = True
        own = exclude[offsets[row] : offsets[row + 1]]
        wanted = topk_coded_reference(queries[row : row + 1], vectors, 6, np.array([0, len(own)]), own, mask & allowed)
        same((items[row : row + 1], scores[row : row + 1]), wanted)


def test_many_threads_at_once() -> None:
    queries, vectors, _, _ = case(40, 4000, 16, seed=8)
    codes = encode(vectors)
    wanted = topk_coded(queries, vectors, codes, 10)
    wrong: list[int] = []

    def work(start: int) -> None:
        for row in range(start, 40, 4):
            found = topk_coded(queries[row : row + 1], vectors, codes, 10)
            if not np.array_equal(found[0][0], wanted[0][row]):
                wrong.append(row)

    workers = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
