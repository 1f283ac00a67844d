"""SLIM: sparse linear methods, an item regressed on the others with an elastic net.

    min_W  1/2 |X - XW|² + β/2 |W|² + λ₁ |W|₁,     W >= 0,  diag W = 0          score(u, j) = Σ_{i in H_u} W_ij

Each column is its own problem (:mod:`palate.kernels.slim`). As candidates stand only the ``candidates`` items nearest by cosine
(fsSLIM); an item that shares nobody with ``j`` can't get a positive weight, so with ``candidates`` as large as the catalogue
the non-negative problem is solved exactly.

Source: Ning and Karypis, ICDM 2011. scikit-learn's ``ElasticNet`` divides the first term by the number of rows ``n``:
``alpha * l1_ratio = λ₁ / n``, ``alpha * (1 - l1_ratio) = β / n``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.contracts.config import Config
from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.model import Fitting
from palate.contracts.ranking import Ranking
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.kernels.neighbours import nearest_rows
from palate.kernels.rows import sum_sparse_rows
from palate.kernels.slim import regress_columns
from palate.kernels.topk import topk_rows


class SLIMConfig(Config):
    """Settings of SLIM."""

    l1: float = Field(1.0, ge=0, description="λ₁, the weight of the absolute values: more makes W sparser")
    l2: float = Field(50.0, ge=0, description="β, the weight of the squares")
    candidates: int = Field(200, ge=1, description="nearest items that may enter an item's regression")
    positive: bool = Field(True, description="hold W non-negative")
    rounds: int = Field(50, ge=1, description="rounds of coordinate descent, at most")
    tolerance: float = Field(1e-4, gt=0, description="stop when no weight changes by more")


class SLIM(Recommender):
    """Sparse linear method (see the module's text)."""

    name: ClassVar[str] = "slim"
    Settings = SLIMConfig
    config: SLIMConfig

    starts_: np.ndarray  # int64[n_items + 1], rows of W
    columns_: np.ndarray  # int32[m]
    weights_: np.ndarray  # float32[m]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        config, matrix = self.config, dataset.matrix().tocsc()
        fitting.report("SLIM", 0, 2)
        k = min(config.candidates, max(1, dataset.n_items - 1))
        near, _ = nearest_rows(matrix.T.tocsr(), k, "cosine")
        fitting.report("SLIM", 1, 2)
        weights = regress_columns(
            matrix, near, config.l1, config.l2, positive=config.positive, rounds=config.rounds, tolerance=config.tolerance
        )
        kept = (near >= 0) & (weights != 0)
        targets = np.repeat(np.arange(dataset.n_items, dtype=np.int32), kept.sum(1))
        shape = (dataset.n_items, dataset.n_items)
        table = sparse.csr_matrix((weights[kept], (near[kept], targets)), shape=shape)
        table.sort_indices()
        self.starts_, self.columns_, self.weights_ = table.indptr.astype(np.int64), table.indices, table.data
        fitting.report("SLIM", 2, 2)

    def _scores(self, requests: Requests) -> np.ndarray:
        events = requests.histories
        return sum_sparse_rows(events.offsets, events.items, self.starts_, self.columns_, self.weights_, self.n_items)

    def similar(self, items: np.ndarray, k: int = 10) -> Ranking:
        """Return the ``k`` items to which each item lends the most weight (a row of ``W``)."""
        self._check_fitted()
        items = np.asarray(items, np.int32)
        rows = [slice(self.starts_[i], self.starts_[i + 1]) for i in items]
        width = max([k, *(r.stop - r.start for r in rows)])
        found, scores = np.full((len(items), width), -1, np.int32), np.full((len(items), width), -np.inf, np.float32)
        for at, row in enumerate(rows):
            found[at, : row.stop - row.start], scores[at, : row.stop - row.start] = self.columns_[row], self.weights_[row]
        return Ranking(*topk_rows(found, scores, k), np.zeros(len(items), bool))

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        self._check_request(request, 1)
        reasons = []
        for i in np.unique(request.histories.items):
            row = slice(self.starts_[i], self.starts_[i + 1])
            at = np.flatnonzero(self.columns_[row] == item)
            if len(at):
                reasons.append(Evidence("history", int(i), float(self.weights_[row][at[0]])))
        reasons.sort(key=lambda e: -abs(e.weight))
        return Explanation(item, sum(e.weight for e in reasons), tuple(reasons), exact=True, method="item-item weights")

    def _state(self) -> dict[str, np.ndarray]:
        return {"starts": self.starts_, "columns": self.columns_, "weights": self.weights_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.starts_, self.columns_, self.weights_ = state["starts"], state["columns"], state["weights"]
