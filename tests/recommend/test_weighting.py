"""Weights of entries: TF-IDF and BM25 by hand, and for rows that were not there when they were learnt."""

import numpy as np
import pytest
from scipy import sparse

from palate.recommend.weighting import Weighting

ROWS = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], np.float32))


def test_none_leaves_ones():
    assert Weighting.of(ROWS, "none").apply(ROWS).toarray().tolist() == ROWS.toarray().tolist()


def test_tfidf_by_hand():
    """Four rows; the columns occur in 3, 2 and 1 of them."""
    idf = [np.log(5 / 4) + 1, np.log(5 / 3) + 1, np.log(5 / 2) + 1]
    np.testing.assert_allclose(Weighting.of(ROWS, "tfidf").apply(ROWS).toarray(), ROWS.toarray() * idf, rtol=1e-6)


def test_tfidf_is_scikit_learns_up_to_the_length_of_rows():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    theirs = text.TfidfTransformer(norm=None).fit_transform(ROWS).toarray()
    np.testing.assert_allclose(Weighting.of(ROWS, "tfidf").apply(ROWS).toarray(), theirs, rtol=1e-6)


def test_bm25_by_hand():
    """Rows with entries have 2, 1 and 3 of them: 2 on average; K1 = 1.2, B = 0.75."""
    idf = [np.log(1 + (4 - m + 0.5) / (m + 0.5)) for m in (3, 2, 1)]
    scale = [2.2 / (1.2 * (0.25 + 0.75 * n / 2) + 1) for n in (2, 1, 3, 0)]
    found = Weighting.of(ROWS, "bm25").apply(ROWS).toarray()
    np.testing.assert_allclose(found, ROWS.toarray() * idf * np.array(scale)[:, None], rtol=1e-6)


@pytest.mark.parametrize("weights", ["tfidf", "bm25"])
def test_other_rows_have_the_weights_that_were_learnt(weights):
    learnt = Weighting.of(ROWS, weights)
    np.testing.assert_array_equal(learnt.apply(ROWS[1:2]).toarray(), learnt.apply(ROWS).toarray()[1:2])


def test_nothing_to_learn_from():
    empty = sparse.csr_matrix((2, 3), dtype=np.float32)
    for weights in ("none", "tfidf", "bm25"):
        assert Weighting.of(empty, weights).apply(empty).nnz == 0
