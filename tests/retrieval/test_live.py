"""Vectors that come and go: after any mixture of changes the answer is that of a table made anew."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from palate.errors import DataError
from palate.kernels.quantised import topk_coded_reference
from palate.retrieval import live
from palate.retrieval.live import LiveVectors


def check(index: LiveVectors, table: dict[int, np.ndarray], rng: np.random.Generator) -> None:
    """Compare with the plain path over the same table, with and without a mask."""
    query = rng.standard_normal(index.dim).astype(np.float32)
    vectors, present = np.zeros((400, index.dim), np.float32), np.zeros(400, bool)
    for item, vector in table.items():
        vectors[item], present[item] = vector, True
    for mask in (None, rng.random(400) < 0.5):
        good = present if mask is None else present & mask
        items, scores = index.search(query, 7, allowed=mask)
        wanted = topk_coded_reference(query[None], vectors, 7, None, None, good)
        kept = wanted[0][0] >= 0
        np.testing.assert_array_equal(items, wanted[0][0][kept])
        np.testing.assert_array_equal(scores, wanted[1][0][kept])
    found, known = index.take(np.arange(400))
    np.testing.assert_array_equal(known, present)
    np.testing.assert_array_equal(found, np.where(present[:, None], vectors, 0))
    assert len(index) == len(table)
    np.testing.assert_allclose(index.mean, vectors.sum(0) / max(1, len(table)), atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_table_made_anew(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEHIND", 20)  # so that the index is made anew now and then
    rng, index, table = np.random.default_rng(seed), LiveVectors(9), {}
    check(index, table, rng)
    for _ in range(40):
        if rng.random() < 0.6:
            items = rng.choice(400, rng.integers(1, 25), replace=False)
            vectors = rng.standard_normal((len(items), 9)).astype(np.float32)
            index.put(items, vectors)
            table.update(zip(items.tolist(), vectors, strict=True))
        else:
            items = rng.choice(400, rng.integers(1, 60), replace=False)
            assert index.remove(items) == len(table.keys() & set(items.tolist()))
            table = {item: vector for item, vector in table.items() if item not in items}
        check(index, table, rng)


def test_one_more_vector_does_not_make_the_index_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    index = LiveVectors(4)
    index.put(np.arange(5_000), np.random.default_rng(0).standard_normal((5_000, 4)).astype(np.float32))
    made = []
    plain = live.ExactIndex
    monkeypatch.setattr(live, "ExactIndex", lambda vectors: made.append(len(vectors)) or plain(vectors))
    for item in range(5_000, 7_100):
        index.put([item], np.ones((1, 4), np.float32))
    assert len(made) == 2 and len(index) == 7_100


def test_a_search_sees_one_moment() -> None:
    """While one thread replaces every vector, another always finds each item once, with its old or its new vector."""
    index, n, stop = LiveVectors(2), 300, threading.Event()
    index.put(np.arange(n), np.tile(np.array([[1.0, 0.0]], np.float32), (n, 1)))
    wrong: list[object] = []

    def look() -> None:
        while not stop.is_set():
            items, scores = index.search(np.array([1.0, 2.0], np.float32), n)
            if len(set(items.tolist())) != n or not set(scores.tolist()) <= {1.0, 2.0}:
                wrong.append((items, scores))

    thread = threading.Thread(target=look)
    thread.start()
    for at in range(n):
        index.put([at], np.array([[0.0, 1.0]], np.float32))
    stop.set()
    thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("items", "vectors"),
    [
        ([1, 1], np.ones((2, 3))),
        ([-1], np.ones((1, 3))),
        ([0.5], np.ones((1, 3))),
        ([0, 1], np.ones((1, 3))),
        ([0], np.full((1, 3), np.nan)),
    ],
)
def test_what_is_wrong_changes_nothing(items: list, vectors: np.ndarray) -> None:
    index = LiveVectors(3)
    index.put([5], np.ones((1, 3), np.float32))
    with pytest.raises(DataError):
        index.put(items, vectors)
    assert len(index) == 1 and index.take(np.array([5, 0]))[1].tolist() == [True, False]
