"""The exact index: the answer of the plain path for any mixture of exclusions and filters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.ragged import Ragged
from palate.errors import DataError
from palate.kernels.inner import topk_inner
from palate.kernels.quantised import topk_coded_reference
from palate.retrieval.exact import ExactIndex


def vectors_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * rng.lognormal(0, 0.5, (n, 1))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 5),
    size=st.integers(1, 900),
    d=st.integers(1, 33),
    k=st.integers(1, 20),
    share=st.floats(0, 1),
    excluded=st.integers(0, 40),
    seed=st.integers(0, 999),
)
def test_equals_the_plain_path(n: int, size: int, d: int, k: int, share: float, excluded: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = vectors_of(size, d, seed), vectors_of(n, d, seed + 1)
    exclude = Ragged.from_rows([rng.integers(0, size, excluded) for _ in range(n)])
    allowed = rng.random(size) < share
    items, scores = ExactIndex(vectors).search(queries, k, exclude=exclude, allowed=allowed)
    wanted = topk_coded_reference(queries, vectors, k, exclude.offsets, exclude.values, allowed)
    np.testing.assert_array_equal(items, wanted[0])
    np.testing.assert_array_equal(scores, wanted[1])


def test_has_the_bits_of_a_batch() -> None:
    vectors, queries = vectors_of(5000, 48), vectors_of(200, 48, 1)
    index = ExactIndex(vectors)
    items, scores = topk_inner(queries, vectors, 10)
    for row in range(0, 200, 7):
        one_items, one_scores = index.search(queries[row], 10)
        np.testing.assert_array_equal(one_items[0], items[row])
        np.testing.assert_array_equal(one_scores[0], scores[row])


def test_one_array_excludes_for_all_queries() -> None:
    vectors, queries = vectors_of(300, 8), vectors_of(4, 8, 1)
    index = ExactIndex(vectors)
    gone = np.array([7, 3, 250, 3])
    one = index.search(queries, 5, exclude=gone)
    rows = index.search(queries, 5, exclude=Ragged.from_rows([gone] * 4))
    np.testing.assert_array_equal(one[0], rows[0])
    assert not np.isin(one[0], gone).any()


def test_few_allowed_items_and_many_give_the_same_rule() -> None:
    vectors, query = np.ones((1000, 4), np.float32), np.ones(4, np.float32)
    index = ExactIndex(vectors)
    allowed = np.zeros(1000, bool)
    allowed[:50] = True
    few = index.search(query, 1000, allowed=allowed)[0][0]
    many = index.search(query, 1000)[0][0]
    np.testing.assert_array_equal(few[few >= 0], many[np.isin(many, np.arange(50))])


def test_short_rows() -> None:
    index = ExactIndex(vectors_of(3, 4))
    items, scores = index.search(np.ones(4), 7)
    assert items.shape == (1, 7) and (items[0, 3:] == -1).all() and np.isneginf(scores[0, 3:]).all()
    assert (index.search(np.ones(4), 2, exclude=np.arange(3))[0] == -1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(bad: float) -> None:
    vectors = vectors_of(5, 3)
    vectors[2, 1] = bad
    with pytest.raises(DataError, match="item vectors hold NaN") as error:
        ExactIndex(vectors)
    assert "row 2" in str(error.value)
    with pytest.raises(DataError, match="queries hold NaN"):
        ExactIndex(vectors_of(5, 3)).search(vectors[2])


def test_wrong_questions_are_refused() -> None:
    index = ExactIndex(vectors_of(5, 3))
    with pytest.raises(DataError, match="as many columns"):
        index.search(np.ones(4))
    with pytest.raises(DataError, match="one row for each query"):
        index.search(np.ones((2, 3)), exclude=Ragged.empty(3))
    with pytest.raises(DataError, match="one list of items"):
        index.search(np.ones((2, 3)), exclude=np.zeros((2, 2)))
    with pytest.raises(DataError, match="yes or no"):
        index.search(np.ones(3), allowed=np.array([0, 1, 2]))
    with pytest.raises(DataError, match="yes or no"):
        index.search(np.ones(3), allowed=np.ones(4, bool))
    with pytest.raises(DataError, match="k must"):
        index.search(np.ones(3), 0)
    with pytest.raises(DataError, match="table"):
        ExactIndex(np.ones(3))


def test_memory_is_known() -> None:
    index = ExactIndex(vectors_of(1000, 64))
    assert len(index) == 1000 and index.dim == 64
    assert index.nbytes == 1000 * (64 * 4 + 64 + 4 * 4)
