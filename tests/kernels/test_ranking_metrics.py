"""Fast kernels equal their plain references, for any shape, block and thread count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.ragged import Ragged
from palate.kernels import list_metrics as lm
from palate.kernels import topic_metrics as tm
from palate.kernels.find_ranks import FAULTS, find_ranks, find_ranks_reference
from palate.kernels.ranking_metrics import Code, measure, measure_reference
from palate.runtime import set_threads, threads


def world(seed: int, n: int = 40, width: int = 12, n_items: int = 30, most: int = 9) -> tuple[np.ndarray, Ragged, np.ndarray]:
    """Random lists (some short or empty), truths (some empty or longer than 32) and gains."""
    rng = np.random.default_rng(seed)
    items = np.full((n, width), -1, np.int32)
    rows = []
    for row in range(n):
        length = rng.integers(0, min(width, n_items) + 1)
        items[row, :length] = rng.permutation(n_items)[:length]
        rows.append(rng.permutation(n_items)[: rng.integers(0, most + 1)])
    truth = Ragged.from_rows(rows)
    return items, truth, rng.integers(0, 5, len(truth.values)).astype(np.float64)


def programs(width: int) -> np.ndarray:
    parameters = {
        Code.RBP: (0.5, 0.95),
        Code.RBP_GAIN: (0.5,),
        Code.PRECISION: (0, 1, 2, 3),
        Code.ERR: (1, 4),
        Code.DCG: (0, 1, 2),
        Code.NDCG: (0, 1, 2),
    }
    both = (Code.RECALL, Code.AP, Code.PERCENTILE_RANK)
    lines = []
    for code in Code:
        for parameter in parameters.get(code, (0, 1) if code in both else (0,)):
            lines += [(code, cut, parameter) for cut in (1, 3, width, width + 20)]
    return np.array(lines, np.float64)


@given(st.integers(0, 10**6), st.sampled_from([(12, 30, 9), (1, 5, 5), (40, 30, 30), (60, 80, 80)]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_fast_equals_reference(seed: int, shape: tuple[int, int, int], graded: bool) -> None:
    width, n_items, most = shape
    items, truth, gains = world(seed, 20, width, n_items, most)
    slow = find_ranks_reference(items, truth.offsets, truth.values, n_items)
    fast = find_ranks(items, truth.offsets, truth.values, n_items)
    for a, b in zip(slow, fast, strict=True):
        np.testing.assert_array_equal(a, b)
    pool = np.maximum(n_items - np.arange(len(items)) % 4, slow[1])
    args = (slow[0], truth.offsets, slow[1], programs(width), gains if graded else None, pool)
    np.testing.assert_allclose(measure(*args), measure_reference(*args), rtol=1e-12, atol=1e-12)


def test_threads_and_blocks_change_nothing() -> None:
    items, truth, gains = world(3, 101)
    before = threads()
    results = []
    for count in (1, 2):
        set_threads(count)
        ranks, lengths, _ = find_ranks(items, truth.offsets, truth.values, 30)
        results.append(measure(ranks, truth.offsets, lengths, programs(12), gains, np.full(101, 30)))
    set_threads(before)
    assert results[0].tobytes() == results[1].tobytes()
    parts = []
    for low in range(0, 101, 7):
        part = truth.slice(low, min(low + 7, 101))
        ranks, lengths, _ = find_ranks(items[low : low + 7], part.offsets, part.values, 30)
        own = gains[truth.offsets[low] : truth.offsets[min(low + 7, 101)]]
        parts.append(measure(ranks, part.offsets, lengths, programs(12), own, np.full(len(part), 30)))
    assert np.concatenate(parts, 1).tobytes() == results[0].tobytes()


@pytest.mark.parametrize(
    ("fault", "line", "truth"),
    [
        (1, [4, 2, 4], [1]),
        (2, [4, 10, 1], [1]),
        (3, [4, -1, 1], [1]),
        (4, [4, 2, 1], [1, 1]),
        (5, [4, 2, 1], [10]),
        (5, [4, 2, 1], [-1]),
    ],
)
def test_faulty_rows_are_found(fault: int, line: list[int], truth: list[int]) -> None:
    items, wanted = np.array([[1, 2, 3], line], np.int32), Ragged.from_rows([[1], truth])
    for function in (find_ranks, find_ranks_reference):
        assert function(items, wanted.offsets, wanted.values, 10)[2].tolist() == [0, fault]
    assert fault in FAULTS


def test_an_item_may_return_in_another_row() -> None:
    items, truth = np.array([[1, 2], [1, 2], [2, 1]], np.int32), Ragged.from_rows([[1], [2], [1]])
    assert find_ranks(items, truth.offsets, truth.values, 3)[0].tolist() == [1, 2, 2]


def likenesses(n_items: int) -> list[lm.Likeness]:
    rng = np.random.default_rng(5)
    empty = (np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1), np.zeros(1))
    vectors = rng.normal(size=(n_items, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sets = Ragged.from_rows([np.sort(rng.permutation(7)[: rng.integers(0, 4)]) for _ in range(n_items)])
    table = np.triu(rng.integers(0, 3, (n_items, n_items)))
    table = table + table.T
    cells = Ragged.from_rows([np.flatnonzero(row) for row in table])
    values = np.concatenate([row[row > 0] for row in table]).astype(np.float64)
    flat = np.zeros((1, 1), np.float32)
    crowds = Ragged.from_rows([np.sort(rng.permutation(200)[: 3 if i % 3 else 40 + 4 * i]) for i in range(n_items)])
    crowds_like = lm.Likeness(1, flat, crowds.offsets, crowds.values, np.zeros(1), np.sqrt(crowds.lengths.astype(np.float64)))
    return [
        lm.Likeness(0, vectors, *empty),
        lm.Likeness(1, flat, sets.offsets, sets.values, np.zeros(1), np.sqrt(sets.lengths.astype(np.float64))),
        lm.Likeness(2, flat, cells.offsets, cells.values, values, np.sqrt(np.diag(table).astype(np.float64))),
        lm.with_bitmaps(crowds_like, 200),
    ]


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_likeness_kernels(mode: int) -> None:
    items, truth, _ = world(11)
    like = likenesses(30)[mode]
    assert mode < 3 or (like.slots >= 0).sum() == len(like.bits) == 10
    for cut in (1, 2, 5, 50):
        weights = 1 / np.log2(np.arange(2, cut + 2))
        np.testing.assert_allclose(
            lm.pair_means(items, cut, like, weights), lm.pair_means_reference(items, cut, like, weights), atol=1e-12
        )
    queries, rows = np.arange(30, dtype=np.int32), np.arange(30) % len(truth)
    args = (queries, rows, truth.offsets, truth.values, like)
    np.testing.assert_allclose(lm.history_likeness(*args), lm.history_likeness_reference(*args), atol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 15))
@settings(max_examples=15, deadline=None)
def test_slot_kernels(seed: int, cut: int) -> None:
    items, truth, _ = world(seed, 15)
    rng = np.random.default_rng(seed)
    for a, b in zip(lm.count_slots(items, cut, 30), lm.count_slots_reference(items, cut, 30), strict=True):
        np.testing.assert_array_equal(a, b)
    table, weights = rng.normal(size=30), 1 / np.log2(np.arange(2, cut + 2))
    np.testing.assert_allclose(
        lm.slot_means(items, cut, table, weights), lm.slot_means_reference(items, cut, table, weights), atol=1e-12
    )
    popular = rng.permutation(30)
    args = (items, cut, popular, truth.offsets, truth.values)
    np.testing.assert_array_equal(lm.in_primitive(*args), lm.in_primitive_reference(*args))


@given(st.integers(0, 10**6), st.integers(1, 15), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
@settings(max_examples=15, deadline=None)
def test_topic_kernels(seed: int, cut: int, alpha: float) -> None:
    items, truth, _ = world(seed, 12)
    rng = np.random.default_rng(seed)
    topics = Ragged.from_rows([rng.permutation(6)[: rng.integers(0, 4)] for _ in range(30)])
    args = (items, cut, truth.offsets, truth.values, topics.offsets, topics.values)
    np.testing.assert_allclose(tm.alpha_ndcg(*args, alpha), tm.alpha_ndcg_reference(*args, alpha), atol=1e-12)
    np.testing.assert_allclose(tm.subtopic_recall(*args), tm.subtopic_recall_reference(*args), atol=1e-12)
    mixed = max(alpha, 0.01)
    np.testing.assert_allclose(tm.calibration(*args, mixed), tm.calibration_reference(*args, mixed), atol=1e-12)
