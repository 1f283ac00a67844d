"""Recommenders with a sparse matrix of item-item weights: a score is the sum over the history.

    score(u, j) = Σ_{i in history of u} W_ij

Each share is a weight of the matrix, so explanations are exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from palate.contracts.explanation import Explanation
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.kernels.rows import sum_sparse_rows
from palate.kernels.topk import topk_dense
from palate.recommend.shares import explain_by_shares, knows_items, one_history


class ItemWeightsRecommender(Recommender):
    """Base of recommenders of this form; ``_fit`` sets ``weights_``.

    Attributes
    ----------
    weights_
        CSR ``float32[n_items, n_items]``: row ``i`` holds what item ``i`` of a history adds to each item's score.
    """

    weights_: sparse.csr_matrix

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` items with the highest weights in each item's own score (a column of ``W``)."""
        dense = np.ascontiguousarray(self.weights_[:, items].toarray().T, np.float32)
        dense[dense == 0] = -np.inf
        return topk_dense(dense, k, own, items)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        history = one_history(self, request, item)
        shares = self.weights_[history].toarray()[:, item]
        return explain_by_shares(self, request, item, history, shares, "item-item weights")

    def _scores(self, requests: Requests) -> np.ndarray:
        table, events = self.weights_, requests.histories
        return sum_sparse_rows(events.offsets, events.items, table.indptr, table.indices, table.data, self.n_items)

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _state(self) -> dict[str, np.ndarray]:
        return {"offsets": self.weights_.indptr, "items": self.weights_.indices, "weights": self.weights_.data}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        shape = (self.n_items, self.n_items)
        self.weights_ = sparse.csr_matrix((state["weights"], state["items"], state["offsets"]), shape)


def by_source(neighbours: np.ndarray, weights: np.ndarray) -> sparse.csr_matrix:
    """Turn the sources of each target, ``int32[n, k]`` (-1 is none), into CSR rows of the sources."""
    n = len(neighbours)
    kept = neighbours >= 0
    targets = np.repeat(np.arange(n, dtype=np.int32), kept.sum(1))
    matrix = sparse.csr_matrix((weights[kept].astype(np.float32), (neighbours[kept], targets)), (n, n))
    matrix.sort_indices()
    return matrix
