"""GF-CF: collaborative filtering as a low-pass filter of the history on the graph of items, in closed form.

With ``R`` the users x items matrix of ones, ``D_U`` and ``D_I`` its row and column sums, and ``V`` the ``K`` strongest right
singular vectors of ``R̃``::

    R̃ = D_U^-1/2 R D_I^-1/2        s = h ( R̃ᵀR̃ + α D_I^-1/2 V Vᵀ D_I^1/2 )

where ``h`` is the row of ones of the history. The first part is the linear filter (items two steps away), the second the ideal
low-pass filter (the smoothest ``K`` directions of the graph). Nothing belongs to a person, so known and unseen people are
treated alike, and the score splits exactly into the shares of the history's items.

Source: Y. Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021 (GF-CF), arXiv 2108.07567.
Differences: none in the score. The item-item matrix ``R̃ᵀR̃`` is never formed: a history is carried to its people and back
(:mod:`palate.kernels.hops`), so the model takes the training histories, ``K`` numbers an item, and no more. Once people are
forgotten their rows are left out of the first part; degrees and ``V`` stay as they were learnt.
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
from palate.data.ragged import Ragged
from palate.kernels.hops import add_inner, two_hops
from palate.kernels.lanczos import right_singular
from palate.kernels.rows import sum_rows
from palate.kernels.topk import topk_dense
from palate.recommend.shares import explain_by_shares, knows_items, one_history


class GFCFConfig(Config):
    """Settings of GF-CF."""

    dim: int = Field(256, ge=0, description="K, directions that the ideal low-pass filter lets through (0 = no such filter)")
    alpha: float = Field(0.3, ge=0, description="α, weight of the ideal low-pass filter beside the linear one")


class GFCF(Recommender):
    """Graph-filter collaborative filtering (see the module's text for the equations)."""

    name: ClassVar[str] = "gf_cf"
    Settings = GFCFConfig
    config: GFCFConfig

    directions_: np.ndarray  # float32[n_items, K], V
    values_: np.ndarray  # float32[K], singular values
    degrees_: np.ndarray  # float32[n_items], distinct people of each item
    rows_: tuple[np.ndarray, np.ndarray]  # R by people: offsets, items
    columns_: tuple[np.ndarray, np.ndarray]  # R by items: offsets, people
    people_: np.ndarray  # float32[n_users], 1/d_u

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        matrix = dataset.matrix()
        fitting.report("GF-CF", 0, 1)
        self.degrees_ = np.bincount(matrix.indices, minlength=dataset.n_items).astype(np.float32)
        if self.config.dim and self.config.alpha:
            normal = normalised(matrix)
            self.directions_, self.values_ = right_singular(normal, self.config.dim, fitting.rng("gf_cf"))
        else:
            self.directions_, self.values_ = np.zeros((dataset.n_items, 0), np.float32), np.zeros(0, np.float32)
        self._prepare(matrix)
        fitting.report("GF-CF", 1, 1)
        return {"directions": len(self.values_), "least value": float(self.values_.min(initial=1.0))}

    def _prepare(self, matrix: sparse.csr_matrix) -> None:
        """Lay out the two sides of ``R``, and what is derived from what was learnt."""
        columns = matrix.T.tocsr()
        self.rows_ = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.columns_ = columns.indptr.astype(np.int64), columns.indices.astype(np.int32)
        lengths = np.diff(self.rows_[0])
        self.people_ = np.divide(1, lengths, out=np.zeros(len(lengths)), where=lengths > 0).astype(np.float32)
        roots = np.sqrt(np.maximum(self.degrees_, 1))[:, None]
        self.roots_ = np.where(self.degrees_ > 0, 1 / roots[:, 0], 0).astype(np.float32)
        self.into_ = np.ascontiguousarray(self.directions_ / roots, np.float32)
        self.outof_ = np.ascontiguousarray(np.float32(self.config.alpha) * self.directions_ * roots, np.float32)

    def _scores(self, requests: Requests) -> np.ndarray:
        return self._filtered(requests.histories.ragged.distinct)

    def _filtered(self, histories: Ragged) -> np.ndarray:
        """Return ``float32[n, n_items]`` scores of histories whose items are distinct and ascending."""
        out = self._linear(histories)
        if len(self.values_):
            add_inner(sum_rows(histories.offsets, histories.values, self.into_), self.outof_, out)
        return out

    def _linear(self, histories: Ragged) -> np.ndarray:
        rows, columns = self.rows_, self.columns_
        return two_hops(histories.offsets, histories.values, rows, columns, self.roots_, self.people_)

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` items that score highest for a history of that item alone."""
        found = [np.empty((0, k), np.int32)]
        scores = [np.empty((0, k), np.float32)]
        for start in range(0, len(items), self._block_rows()):
            some = items[start : start + self._block_rows()]
            alone = Ragged(np.arange(len(some) + 1, dtype=np.int64), some)
            best = topk_dense(self._filtered(alone), k, alone.offsets, some)
            found.append(best[0])
            scores.append(best[1])
        return np.concatenate(found), np.concatenate(scores)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        history = one_history(self, request, item)
        linear = self._linear(Ragged.from_rows([[item]]))[0, history]
        shares = linear.astype(np.float64) + self.into_[history].astype(np.float64) @ self.outof_[item]
        return explain_by_shares(self, request, item, history, shares, "graph filter")

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _forget(self, numbers: np.ndarray) -> None:
        self._prepare(self.histories_.matrix(self.n_items))

    def _state(self) -> dict[str, np.ndarray]:
        return {"directions": self.directions_, "values": self.values_, "degrees": self.degrees_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.directions_, self.values_, self.degrees_ = state["directions"], state["values"], state["degrees"]
        self._prepare(self.histories_.matrix(self.n_items))


def normalised(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return ``R̃ = D_U^-1/2 R D_I^-1/2`` of a matrix of ones, ``float32``; rows and columns without entries stay zero."""
    lengths = np.diff(matrix.indptr)
    degrees = np.bincount(matrix.indices, minlength=matrix.shape[1])
    weights = 1 / np.sqrt(np.repeat(lengths, lengths).astype(np.float64) * degrees[matrix.indices])
    return sparse.csr_matrix((weights.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape)
