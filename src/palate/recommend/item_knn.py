"""ItemKNN: an item is as good as its neighbours that the person knows.

    score(u, j) = Σ_{i in H_u, i in N_k(j)} sim(j, i)

``N_k(j)`` are the ``k`` items nearest to ``j`` by cosine, Jaccard or inner product of their (weighted) columns of the users x
items matrix. Weights: ``none`` (ones), ``tfidf`` (a user's event counts log(|I| / |H_u|)) or ``bm25`` with users as the
words of documents.

Source: Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004. The similarity is of distinct (user, item) pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

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

Weights = Literal["none", "tfidf", "bm25"]


class ItemKNNConfig(Config):
    """Settings of ItemKNN."""

    k: int = Field(100, ge=1, description="neighbours of an item")
    similarity: Literal["cosine", "jaccard", "dot"] = Field("cosine", description="how alike two items are")
    weights: Weights = Field("none", description="weights of the matrix before similarities are taken")
    shrink: float = Field(10.0, ge=0, description="how much similarities that rest on few people are held back")


class ItemKNN(Recommender):
    """Item-based nearest neighbours (see the module's text)."""

    name: ClassVar[str] = "item_knn"
    Settings = ItemKNNConfig
    config: ItemKNNConfig

    neighbours_: np.ndarray  # int32[n_items, k], best first, -1 is padding
    similarities_: np.ndarray  # float32[n_items, k]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        items = weigh(dataset.matrix(), self.config.weights).T.tocsr()
        fitting.report("ItemKNN", 0, 1)
        k = min(self.config.k, max(1, dataset.n_items - 1))
        self.neighbours_, self.similarities_ = nearest_rows(items, k, self.config.similarity, self.config.shrink)
        self._index()
        fitting.report("ItemKNN", 1, 1)

    def _index(self) -> None:
        """Turn the lists round: which items have a given one as neighbour."""
        kept = self.neighbours_ >= 0
        owners = np.repeat(np.arange(len(self.neighbours_), dtype=np.int32), kept.sum(1))
        shape = (len(self.neighbours_), len(self.neighbours_))
        table = sparse.csr_matrix((self.similarities_[kept], (self.neighbours_[kept], owners)), shape=shape)
        table.sort_indices()
        self._table = table

    def _scores(self, requests: Requests) -> np.ndarray:
        table, events = self._table, requests.histories
        return sum_sparse_rows(events.offsets, events.items, table.indptr, table.indices, table.data, self.n_items)

    def similar(self, items: np.ndarray, k: int = 10) -> Ranking:
        """Return the nearest ``k`` items (at most as many as were kept)."""
        self._check_fitted()
        items = np.asarray(items, np.int32)
        pad = ((0, 0), (0, max(0, k - self.neighbours_.shape[1])))
        found = np.pad(self.neighbours_[items, :k], pad, constant_values=-1)
        scores = np.pad(self.similarities_[items, :k], pad, constant_values=-np.inf)
        return Ranking(found, scores, np.zeros(len(items), bool))

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        self._check_request(request, 1)
        history = np.unique(request.histories.items)
        kept = self.neighbours_[item] >= 0
        share = dict(zip(self.neighbours_[item][kept].tolist(), self.similarities_[item][kept].tolist(), strict=True))
        reasons = [Evidence("history", int(i), share[int(i)]) for i in history if int(i) in share]
        reasons.sort(key=lambda e: -e.weight)
        score = sum(e.weight for e in reasons)
        return Explanation(item, score, tuple(reasons), exact=True, method="similar items of the history")

    def _state(self) -> dict[str, np.ndarray]:
        return {"neighbours": self.neighbours_, "similarities": self.similarities_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.neighbours_, self.similarities_ = state["neighbours"], state["similarities"]
        self._index()


def weigh(matrix: sparse.csr_matrix, weights: Weights, *, k1: float = 1.2, b: float = 0.75) -> sparse.csr_matrix:
    """Return a users x items matrix of ones with weights applied: items are documents, users are words.

    ``tfidf``: ``log(|I| / |H_u|)``; ``bm25``: ``idf_u (k1 + 1) / (1 + k1 (1 - b + b n_j / mean n))`` with
    ``idf_u = log(1 + (|I| - |H_u| + 0.5) / (|H_u| + 0.5))`` and ``n_j`` the people of item ``j``.
    """
    if weights == "none":
        return matrix
    n_items, per_user = matrix.shape[1], np.diff(matrix.indptr)
    rows = np.repeat(np.arange(matrix.shape[0]), per_user)
    weighted = matrix.copy()
    if weights == "tfidf":
        weighted.data = np.log(n_items / np.maximum(per_user, 1))[rows].astype(np.float32)
        return weighted
    idf = np.log1p((n_items - per_user + 0.5) / (per_user + 0.5))
    per_item = np.bincount(matrix.indices, minlength=n_items)
    length = per_item / max(per_item.mean(), 1e-9)
    saturated = (k1 + 1) / (1 + k1 * (1 - b + b * length))
    weighted.data = (idf[rows] * saturated[matrix.indices]).astype(np.float32)
    return weighted
