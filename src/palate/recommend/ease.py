"""EASE: a linear item-item model in closed form.

With ``X`` the users x items matrix of ones::

    P = (XᵀX + λ I)⁻¹        B_ij = -P_ij / P_jj,  B_ii = 0        score(u, j) = Σ_{i in history of u} B_ij

Source: H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equations 4 to 8.
Differences: none. The inverse is taken in place (:mod:`palate.kernels.symmetric_inverse`), in float32 or float64 by option; the
catalogue takes one n x n array in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palate.contracts.config import Config
from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import TrainingError
from palate.kernels.item_gram import ease_weights, upper_gram
from palate.kernels.rows import sum_rows
from palate.kernels.symmetric_inverse import invert_upper
from palate.kernels.topk import topk_dense
from palate.recommend.shares import explain_by_shares, knows_items, one_history


class EASEConfig(Config):
    """Settings of EASE."""

    reg: float = Field(250.0, gt=0, description="λ, the weight of the ridge penalty")
    precision: Literal["float32", "float64"] = Field("float32", description="arithmetic of the inverse")


class EASE(Recommender):
    """Embarrassingly shallow autoencoder (see the module's text for the equations)."""

    name: ClassVar[str] = "ease"
    Settings = EASEConfig
    config: EASEConfig

    weights_: np.ndarray  # float32[n_items, n_items], B

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        matrix = dataset.matrix()
        fitting.report("EASE", 0, 2)
        columns = matrix.T.tocsr()
        weights = np.zeros((dataset.n_items, dataset.n_items), self.config.precision)
        upper_gram(matrix.indptr, matrix.indices, columns.indptr, columns.indices, weights)
        weights.flat[:: len(weights) + 1] += self.config.reg
        fitting.report("EASE", 1, 2)
        if invert_upper(weights):
            raise TrainingError(
                "the matrix XᵀX + λI is not positive definite in this precision.",
                remedy="raise reg, or set precision=float64",
            )
        ease_weights(weights)
        self.weights_ = weights.astype(np.float32, copy=False)
        fitting.report("EASE", 2, 2)

    def _scores(self, requests: Requests) -> np.ndarray:
        return sum_rows(requests.histories.offsets, requests.histories.items, self.weights_)

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` items to which each item lends the most weight (a row of ``B``)."""
        return topk_dense(self.weights_[items].copy(), k, own, items)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        history = one_history(self, request, item)
        return explain_by_shares(self, request, item, history, self.weights_[history, item], "item-item weights")

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.weights_ = state["weights"]
