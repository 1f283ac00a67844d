"""Rel-SVD: relevance by least squares on clicks weighted by propensity, solved whole by a singular value decomposition.

The unbiased loss of :mod:`palate.recommend.rel_mf` with squared errors of the score itself (no sigmoid) is, over all pairs::

    Σ Y/θ (1 - s)² + (1 - Y/θ) s² = Σ_{all} (s - Y/θ)² + constant

so the weights cancel in the square, every pair weighs the same, and what is left is to fit ``T = Y/max(θ, M)`` by a matrix
of rank ``d``. With the ridge ``λ (Σ |x_u|² + Σ |y_i|²)`` the best factors of all are known (there is nothing to iterate)::

    T = U S Vᵀ:     X = U (S - λ)₊^½,   Y = V (S - λ)₊^½        x(H) = Σ_{i in H} y_i / (θ_i S)        score(j) = <x(H), y_j>

``x(H)`` is the exact solution for any history, so known and unseen people are treated alike, and the score splits exactly into
the parts of the history. With ``eta=0`` and ``reg=0`` this is PureSVD of the clicks. Alternating least squares would end at the
same point, more slowly: the matrix of the normal equations is the same for all rows.

Source: Y. Saito et al., WSDM 2020 (the loss); P. Cremonesi, Y. Koren, R. Turrin, "Performance of Recommender Algorithms on
Top-N Recommendation Tasks", RecSys 2010 (PureSVD). The ridge has the solution of the nuclear norm: R. Mazumder,
T. Hastie, R. Tibshirani, JMLR 2010, lemma 1.
Differences: the weighting of PureSVD is ours. Scores are estimates of relevance, but not held between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import svds

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.propensities import by_popularity
from palate.kernels.rows import sum_rows
from palate.recommend.exposure import ExposureConfig
from palate.recommend.shares import explain_by_shares, knows_items, one_history
from palate.runtime import single_threaded_blas


class RelSVDConfig(ExposureConfig):
    """Settings of Rel-SVD."""

    dim: int = Field(64, gt=0, description="width of the vectors (fewer where the data has a lower rank)")
    reg: float = Field(1.0, ge=0, description="λ, the ridge; singular values shrink by it")


class RelSVD(VectorRecommender):
    """Least squares on weighted clicks (see the module's text)."""

    name: ClassVar[str] = "rel_svd"
    Settings = RelSVDConfig
    config: RelSVDConfig

    vectors_: np.ndarray  # float32[n_items, d], y
    shares_: np.ndarray  # float32[n_items, d], y / (θ S)
    theta_: np.ndarray  # float64[n_items], propensities before clipping

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        self.theta_ = by_popularity(dataset.item_counts, c.eta)
        weights = np.where(dataset.item_counts > 0, 1 / np.maximum(self.theta_, c.clip), 0)
        matrix = dataset.matrix().astype(np.float64) @ sparse.diags(weights)
        fitting.report("Rel-SVD", 0, 1)
        values, basis = right_singular(matrix, c.dim, fitting.rng("rel_svd"))
        fitting.report("Rel-SVD", 1, 1)
        kept = values > c.reg
        values, basis = values[kept], basis[:, kept]
        vectors = basis * np.sqrt(values - c.reg)
        self.vectors_ = np.ascontiguousarray(vectors, np.float32)
        self.shares_ = np.ascontiguousarray(weights[:, None] * vectors / values, np.float32)
        return {"rank": int(kept.sum()), "largest": float(values.max(initial=0)), "smallest": float(values.min(initial=0))}

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``."""
        return self.vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``: the exact solution for each history (zero where it holds nothing known)."""
        seen = requests.histories.ragged.distinct
        found: np.ndarray = sum_rows(seen.offsets, seen.values, self.shares_)
        return found

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        history = one_history(self, request, item)
        shares = (self.shares_[history] @ self.vectors_[item]).astype(np.float64)
        return explain_by_shares(self, request, item, history, shares, "shares of the fold-in")

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _state(self) -> dict[str, np.ndarray]:
        return {"items": self.vectors_, "shares": self.shares_, "theta": self.theta_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.vectors_, self.shares_, self.theta_ = state["items"], state["shares"], state["theta"]


def right_singular(matrix: sparse.csr_matrix, rank: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest singular values, falling, and ``float64[columns, rank]`` right vectors, signs fixed.

    At most ``min(rank, rows, columns)`` of them, and none where the matrix is zero.
    """
    small, most = min(matrix.shape), min(rank, min(matrix.shape))
    with single_threaded_blas():
        if most >= small - 1 or small <= 200:
            values, basis = np.linalg.svd(matrix.toarray(), full_matrices=False)[1:]
            values, basis = values[:most], basis[:most].T
        else:
            _, values, rows = svds(matrix, k=most, v0=rng.standard_normal(small), return_singular_vectors="vh")
            order = np.argsort(-values)
            values, basis = values[order], rows[order].T
    kept = values > 1e-9 * max(1.0, float(values.max(initial=0)))
    values, basis = values[kept], basis[:, kept]
    signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])]) if basis.size else np.ones(basis.shape[1])
    return values, basis * signs
