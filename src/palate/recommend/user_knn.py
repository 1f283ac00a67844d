"""UserKNN: an item is offered when people with a like history had it.

    score(u, j) = Σ_{v in N(u), j in history of v} s_uv

``N(u)`` are the ``k`` people of the training data whose histories are most similar to the history of the request, found when
it is asked, so unseen people are an ordinary case. A known person is not their own neighbour. With ``normalise`` the
similarities are divided by their sum, so a score lies between 0 and 1.

Sources: P. Resnick et al., CSCW 1994; J. Herlocker et al., SIGIR 1999.
Differences: each pair of a person and an item counts once. Items are weighted as the words of a person
(:mod:`palate.recommend.weighting`). ``shrink`` has no part in the inner product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.contracts.config import Config
from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.kernels.neighbours import Similarity, mix_sparse, nearest
from palate.recommend.shares import explain_by_shares, knows_items, one_history
from palate.recommend.weighting import Weighting, Weights


class UserKNNConfig(Config):
    """Settings of UserKNN."""

    k: int = Field(100, gt=0, description="neighbours of each person")
    similarity: Similarity = Field("cosine", description="how people are compared: cosine, jaccard, or dot (inner product)")
    weights: Weights = Field("none", description="weights of items before people are compared: none, tfidf or bm25")
    shrink: float = Field(10.0, ge=0, description="added to the denominator: few common items count less")
    normalise: bool = Field(False, description="divide the similarities of the neighbours by their sum")


class UserKNN(Recommender):
    """Neighbourhoods of people (see the module's text)."""

    name: ClassVar[str] = "user_knn"
    Settings = UserKNNConfig
    config: UserKNNConfig

    people_: sparse.csr_matrix  # n_users x n_items, ones
    weighting_: Weighting
    weighted_: sparse.csr_matrix  # people_, weighted
    by_item_: sparse.csr_matrix  # weighted_ transposed

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        fitting.report("UserKNN", 0, 1)
        self._prepare(dataset.matrix())
        fitting.report("UserKNN", 1, 1)

    def _prepare(self, people: sparse.csr_matrix) -> None:
        self.people_ = people
        self.weighting_ = Weighting.of(people, self.config.weights)
        self.weighted_ = self.weighting_.apply(people)
        self.by_item_ = self.weighted_.T.tocsr()

    def neighbours(self, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbours of each request, ``int32[n, k]`` (-1 is none), and their weights ``float32[n, k]``."""
        rows = self.weighting_.apply(requests.histories.matrix(self.n_items))
        k = min(self.config.k, max(1, self.people_.shape[0]))
        how: dict[str, Any] = {"similarity": self.config.similarity, "shrink": self.config.shrink}
        found, weights = nearest(rows, self.weighted_, k, own=requests.users, columns=self.by_item_, **how)
        if self.config.normalise:
            weights /= np.maximum(weights.sum(1, keepdims=True), np.float32(1e-12))
        return found, weights

    def _scores(self, requests: Requests) -> np.ndarray:
        return mix_sparse(*self.neighbours(requests), self.people_)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history, through the neighbours who had both it and ``item``."""
        history = one_history(self, request, item)
        (found,), (weights,) = self.neighbours(request)
        have = np.flatnonzero(self.people_[:, item].toarray()[:, 0])
        chosen = np.isin(found, have) & (found >= 0)
        mine = self.weighting_.apply(request.histories.matrix(self.n_items)).toarray()[0, history].astype(np.float64)
        common = self.weighted_[found[chosen]].toarray()[:, history].astype(np.float64) * mine
        if self.config.similarity == "jaccard":
            common = (common > 0).astype(np.float64)
        parts = common / np.maximum(common.sum(1, keepdims=True), 1e-300)
        shares = weights[chosen].astype(np.float64) @ parts
        return explain_by_shares(self, request, item, history, shares, "similarity of neighbours, by common item")

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _forget(self, numbers: np.ndarray) -> None:
        kept = np.ones(len(self.users_), np.float32)
        kept[numbers] = 0
        people = sparse.diags(kept, format="csr") @ self.people_
        people.eliminate_zeros()
        self._prepare(people.tocsr())

    def _state(self) -> dict[str, np.ndarray]:
        return {"offsets": self.people_.indptr, "items": self.people_.indices}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        ones = np.ones(len(state["items"]), np.float32)
        shape = (len(self.users_), self.n_items)
        self._prepare(sparse.csr_matrix((ones, state["items"], state["offsets"]), shape))
