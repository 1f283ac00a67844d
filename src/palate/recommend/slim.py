"""SLIM: a sparse linear item-item model, one elastic net for each item.

    min_{w_j} ½ |x_j - X w_j|² + l2/2 |w_j|² + l1 |w_j|₁,   w_jj = 0, w ≥ 0 by option
    score(u, j) = Σ_{i in history of u} w_ij

``x_j`` is the column of item ``j`` in the users x items matrix ``X`` of ones. In scikit-learn's ``ElasticNet`` the same problem
has ``alpha = (l1 + l2) / n_users`` and ``l1_ratio = l1 / (l1 + l2)`` (``fit_intercept=False``).

Source: X. Ning, G. Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender Systems", ICDM 2011; its fsSLIM chooses
the features of an item among its nearest neighbours (``candidates``; 0 takes all items).
Differences: none; the solver is coordinate descent with an active set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.data.ragged import offsets_of
from palate.kernels.neighbours import nearest
from palate.kernels.slim import elastic_nets
from palate.recommend.item_weights import ItemWeightsRecommender


class SLIMConfig(Config):
    """Settings of SLIM."""

    l1: float = Field(1.0, ge=0, description="weight of the sum of sizes: makes weights sparse")
    l2: float = Field(10.0, gt=0, description="weight of half the sum of squares: makes weights small")
    positive: bool = Field(True, description="no weight below zero")
    candidates: int = Field(200, ge=0, description="features of an item: its nearest neighbours by cosine; 0 takes all items")
    tolerance: float = Field(1e-3, gt=0, description="a weight that changes by less has settled")
    rounds: int = Field(50, gt=0, description="most passes over all features of an item")


class SLIM(ItemWeightsRecommender):
    """Sparse linear method (see the module's text for the equations)."""

    name: ClassVar[str] = "slim"
    Settings = SLIMConfig
    config: SLIMConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        config, n = self.config, dataset.n_items
        by_item = dataset.matrix().T.tocsr()
        fitting.report("SLIM", 0, 2)
        features = None
        if config.candidates:
            own = np.arange(n, dtype=np.int32)
            features, _ = nearest(by_item, by_item, min(config.candidates, max(1, n - 1)), own=own)
        fitting.report("SLIM", 1, 2)
        counts, sources, weights = elastic_nets(
            by_item, l1=config.l1, l2=config.l2, positive=config.positive, features=features,
            tolerance=config.tolerance, rounds=config.rounds,
        )  # fmt: skip
        by_target = sparse.csr_matrix((weights, sources, offsets_of(counts)), (n, n))
        self.weights_ = by_target.T.tocsr()
        fitting.report("SLIM", 2, 2)
        return {"weights": int(counts.sum())}
