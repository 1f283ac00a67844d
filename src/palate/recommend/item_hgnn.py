"""Item-HGNN: vectors of items by a graph network over items alone; a person is the mean of what they had.

    v(H) = Σ_{i in H} z_i / |Σ_{i in H} z_i|        score(u, j) = <v(H), z_j>

``z`` are the unit vectors of :mod:`palate.training.item_vectors`: links between items that the same people had, typed by the
types of their ends, learnt with a margin. Items that nobody had are placed by their text, among the others (``new items``).
The score splits exactly into shares of the history.

Source: M. De Nadai et al., "Personalized Audiobook Recommendations at Spotify Through Graph Neural Networks", WWW Companion
2024: the "HGNN" of their tables. Differences: see :mod:`palate.recommend.two_tower_hgnn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.kernels.rows import sum_rows
from palate.recommend.shares import explain_by_shares, one_history
from palate.training.item_vectors import ItemGraphSettings, ItemVectors, learn_item_vectors


class ItemHGNN(VectorRecommender):
    """Graph network over items (see the module's text)."""

    name: ClassVar[str] = "item_hgnn"
    Settings = ItemGraphSettings
    config: ItemGraphSettings

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        self.vectors_, _, notes = learn_item_vectors(dataset, self.config, fitting)
        self.speaks_ = np.asarray(self.vectors_.vectors.any(axis=1))
        return notes

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, graph_dim]``, of length one (zero where nothing is known of an item)."""
        return self.vectors_.vectors

    def embed_items(self, attributes: pa.Table) -> np.ndarray:
        """Return ``float32[n, graph_dim]``: vectors of items that need not be in the catalogue, from their texts alone."""
        self._check_fitted()
        return self.vectors_.embed(attributes)[1]

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, graph_dim]``, one vector a request (zero where the history says nothing)."""
        seen = requests.histories.ragged.distinct
        total = sum_rows(seen.offsets, seen.values, self.item_vectors)
        total[~self._informed(requests)] = 0
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.float32(1e-12)))

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history."""
        history = one_history(self, request, item)
        z = self.item_vectors
        length = max(1e-12, float(np.linalg.norm(z[history].sum(0))))
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        shares = (z[history] @ z[item]).astype(np.float64) / length
        return explain_by_shares(self, request, item, history, shares, "shares of the history", score=score)

    def _informed(self, requests: Requests) -> np.ndarray:
        return speaking(requests.histories.ragged, self.speaks_) > 0

    def _state(self) -> dict[str, np.ndarray]:
        return self.vectors_.state()

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.vectors_ = ItemVectors.of_state(state, self.items_, self.config)
        self.speaks_ = np.asarray(self.vectors_.vectors.any(axis=1))


def speaking(rows: Ragged, speaks: np.ndarray) -> np.ndarray:
    """Return ``int64[n]``: how many items of each row say something."""
    known = np.concatenate([[0], np.cumsum(speaks[rows.values])])
    return np.asarray(known[rows.offsets[1:]] - known[rows.offsets[:-1]])
