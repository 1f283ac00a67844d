"""UserKNN: what people alike chose.

    score(u, j) = Σ_{v in N_k(u), j in H_v} sim(u, v)

``N_k(u)`` are the ``k`` people of training nearest to the history of the request, the person's own training row left
out. Because neighbours are found when asked, people never seen in training are served like all others. Similarities
and weights as in :mod:`palate.recommend.item_knn`, with users and items in each other's place.

Source: Resnick et al., CSCW 1994, for implicit feedback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.kernels.neighbours import nearest_to


class UserKNNConfig(Config):
    """Settings of UserKNN."""

    k: int = Field(100, ge=1, description="neighbours of a person")
    similarity: Literal["cosine", "jaccard", "dot"] = Field("cosine", description="how alike two people are")
    weights: Literal["none", "tfidf"] = Field("none", description="tfidf: rare items count more")
    shrink: float = Field(10.0, ge=0, description="how much similarities that rest on few items are held back")


class UserKNN(Recommender):
    """User-based nearest neighbours (see the module's text)."""

    name: ClassVar[str] = "user_knn"
    Settings = UserKNNConfig
    config: UserKNNConfig

    offsets_: np.ndarray  # int64[n_users + 1], the training matrix
    columns_: np.ndarray  # int32[m]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        matrix = dataset.matrix()
        self.offsets_, self.columns_ = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self._index()
        fitting.report("UserKNN", 1, 1)

    def _index(self) -> None:
        n_users = len(self.offsets_) - 1
        ones = np.ones(len(self.columns_), np.float32)
        self._matrix = sparse.csr_matrix((ones, self.columns_, self.offsets_), shape=(n_users, self.n_items))
        people = np.bincount(self.columns_, minlength=self.n_items)
        rare = np.log(max(1, n_users) / np.maximum(people, 1)) if self.config.weights == "tfidf" else np.ones(self.n_items)
        self._item_weight = rare.astype(np.float32)
        weighted = self._weighted(self._matrix)
        self._square = np.asarray(weighted.multiply(weighted).sum(1), np.float64).ravel()
        if self.config.similarity == "jaccard":
            self._square = np.diff(self.offsets_).astype(np.float64)
        self._across = weighted.T.tocsr()

    def _weighted(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        weighted = matrix.copy()
        weighted.data = self._item_weight[matrix.indices]
        return weighted

    def _scores(self, requests: Requests) -> np.ndarray:
        queries = self._weighted(requests.histories.matrix(self.n_items))
        k = min(self.config.k, max(1, len(self.offsets_) - 1))
        config = self.config
        found, near = nearest_to(queries, self._across, self._square, k, config.similarity, config.shrink, requests.users)
        kept = found >= 0
        starts = np.concatenate([[0], np.cumsum(kept.sum(1))])
        people = sparse.csr_matrix((near[kept], found[kept], starts), shape=(len(requests), len(self.offsets_) - 1))
        people.sort_indices()
        scores: np.ndarray = (people @ self._matrix).toarray().astype(np.float32)
        return scores

    def _state(self) -> dict[str, np.ndarray]:
        return {"offsets": self.offsets_, "columns": self.columns_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.offsets_, self.columns_ = state["offsets"], state["columns"]
        self._index()
