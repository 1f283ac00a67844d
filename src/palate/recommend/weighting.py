"""How the entries of a sparse matrix of ones are weighted before its rows are compared.

Rows are documents and columns are words. For row ``a`` with ``n_a`` entries (``n̄`` on average) and a column that occurs in
``m_c`` of ``N`` rows::

    none     w_ac = 1
    tfidf    w_ac = ln((1 + N) / (1 + m_c)) + 1
    bm25     w_ac = ln(1 + (N - m_c + ½) / (m_c + ½)) (K1 + 1) / (K1 (1 - B + B n_a / n̄) + 1)

with ``K1 = 1.2`` and ``B = 0.75``. Jaccard counts ones, whatever the weights. Cosine cancels the factor of the row, so ``bm25``
shows all it has with the inner product (``dot``).

Sources: G. Salton, C. Buckley, 1988; S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

#: Weights that are known.
Weights = Literal["none", "tfidf", "bm25"]
K1, B = 1.2, 0.75


@dataclass(frozen=True)
class Weighting:
    """Weights learnt from the rows of a matrix, for these rows and for others with the same columns.

    Attributes
    ----------
    weights
        Which.
    column
        ``float32[columns]``, the weight of each column.
    mean_length
        Entries of a row that has any, on average.
    """

    weights: Weights
    column: np.ndarray
    mean_length: float

    @classmethod
    def of(cls, matrix: sparse.csr_matrix, weights: Weights) -> Weighting:
        """Learn the weights of the columns."""
        n, occurs = matrix.shape[0], np.bincount(matrix.indices, minlength=matrix.shape[1])
        if weights == "tfidf":
            column = np.log((1 + n) / (1 + occurs)) + 1
        elif weights == "bm25":
            column = np.log1p((n - occurs + 0.5) / (occurs + 0.5))
        else:
            column = np.ones(matrix.shape[1])
        filled = int((np.diff(matrix.indptr) > 0).sum())
        return cls(weights, column.astype(np.float32), matrix.nnz / max(1, filled))

    def apply(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return the weighted matrix."""
        data = self.column[matrix.indices]
        if self.weights == "bm25":
            lengths = np.diff(matrix.indptr)
            scale = (K1 + 1) / (K1 * (1 - B + B * lengths / max(self.mean_length, 1e-12)) + 1)
            data = data * np.repeat(scale, lengths).astype(np.float32)
        return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape)
