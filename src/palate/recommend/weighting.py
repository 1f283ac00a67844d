"""How the entries of a sparse matrix of ones are weighted before rows are compared.

For row ``a`` with ``n_a`` entries (``n̄`` on average) and a column that occurs in ``m_c`` of ``N`` rows::

    tfidf    w_ac = ln((1 + N) / (1 + m_c)) + 1,                                           then cosine
    bm25     w_ac = ln(1 + (N - m_c + ½) / (m_c + ½)) (K1 + 1) / (K1 (1 - B + B n_a / n̄) + 1),  then inner product

with ``K1 = 1.2`` and ``B = 0.75``. ``cosine`` and ``jaccard`` compare the ones as they are.

Sources: G. Salton, C. Buckley, 1988; S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from palate.kernels.neighbours import Kind

#: Ways to compare two people or two items.
Similarity = Literal["cosine", "jaccard", "tfidf", "bm25"]
K1, B = 1.2, 0.75


@dataclass(frozen=True)
class Weighting:
    """Weights learnt from the rows of a matrix, for these rows and for others with the same columns.

    Attributes
    ----------
    similarity
        The way to compare.
    column
        ``float32[columns]``, the weight of each column.
    mean_length
        Entries of a row, on average.
    """

    similarity: Similarity
    column: np.ndarray
    mean_length: float

    @classmethod
    def of(cls, matrix: sparse.csr_matrix, similarity: Similarity) -> Weighting:
        """Learn the weights of the columns."""
        n, occurs = matrix.shape[0], np.bincount(matrix.indices, minlength=matrix.shape[1])
        weights = {
            "tfidf": np.log((1 + n) / (1 + occurs)) + 1,
            "bm25": np.log(1 + (n - occurs + 0.5) / (occurs + 0.5)),
        }
        column = weights.get(similarity, np.ones(matrix.shape[1]))
        return cls(similarity, column.astype(np.float32), matrix.nnz / max(1, int((np.diff(matrix.indptr) > 0).sum())))

    @property
    def kind(self) -> Kind:
        """How weighted rows are compared."""
        kinds: dict[Similarity, Kind] = {"jaccard": "jaccard", "bm25": "dot"}
        return kinds.get(self.similarity, "cosine")

    def apply(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return the weighted matrix."""
        data = self.column[matrix.indices]
        if self.similarity == "bm25":
            lengths = np.diff(matrix.indptr)
            scale = (K1 + 1) / (K1 * (1 - B + B * lengths / max(self.mean_length, 1e-12)) + 1)
            data = data * np.repeat(scale, lengths).astype(np.float32)
        return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape)
