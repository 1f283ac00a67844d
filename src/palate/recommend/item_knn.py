"""ItemKNN: an item is offered when it is like the items of the history.

    score(u, j) = Σ_{i in history of u and in N(j)} s_ij

``N(j)`` are the ``k`` items most similar to ``j`` by the people who had them; with ``normalise`` the similarities of ``N(j)``
are divided by their sum, so a score lies between 0 and 1.

Sources: M. Deshpande, G. Karypis, ACM TOIS 2004; shrinkage as in M. Ferrari Dacrema et al., RecSys 2019.
Differences: each pair of a person and an item counts once. People are weighted as the words of an item
(:mod:`palate.recommend.weighting`). ``shrink`` has no part in the inner product.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.kernels.neighbours import Similarity, nearest
from palate.recommend.item_weights import ItemWeightsRecommender, by_source
from palate.recommend.weighting import Weighting, Weights


class ItemKNNConfig(Config):
    """Settings of ItemKNN."""

    k: int = Field(100, gt=0, description="neighbours kept for each item")
    similarity: Similarity = Field("cosine", description="how items are compared: cosine, jaccard, or dot (inner product)")
    weights: Weights = Field("none", description="weights of people before items are compared: none, tfidf or bm25")
    shrink: float = Field(10.0, ge=0, description="added to the denominator: few common people count less")
    normalise: bool = Field(False, description="divide each item's similarities by their sum")


class ItemKNN(ItemWeightsRecommender):
    """Item neighbourhoods (see the module's text)."""

    name: ClassVar[str] = "item_knn"
    Settings = ItemKNNConfig
    config: ItemKNNConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        fitting.report("ItemKNN", 0, 1)
        plain = dataset.matrix().T.tocsr()
        rows = Weighting.of(plain, self.config.weights).apply(plain)
        k = min(self.config.k, max(1, dataset.n_items - 1))
        own = np.arange(dataset.n_items, dtype=np.int32)
        neighbours, similar = nearest(rows, rows, k, similarity=self.config.similarity, shrink=self.config.shrink, own=own)
        if self.config.normalise:
            similar /= np.maximum(similar.sum(1, keepdims=True), np.float32(1e-12))
        self.weights_ = by_source(neighbours, similar)
        fitting.report("ItemKNN", 1, 1)
