"""iALS: implicit alternating least squares, in the form of 2021 with frequency-scaled regularisation.

    L = Σ_{(u,i) in S} (1 - <w_u, h_i>)² + α₀ Σ_{all u,i} <w_u, h_i>²
        + λ Σ_u (|S_u| + α₀ |I|)^ν |w_u|² + λ Σ_i (|S_i| + α₀ |U|)^ν |h_i|²

Users and items are solved in turn, each row on its own (:mod:`palate.kernels.als`). A person is always folded in: the
vector is the exact minimiser for the history that the request carries, so people never seen in training are served like all
others, and

    score(u, j) = h_jᵀ (α₀ HᵀH + Σ_{i in S_u} h_i h_iᵀ + λ (|S_u| + α₀ |I|)^ν I)⁻¹ Σ_{i in S_u} h_i

splits exactly into one share an item of the history.

Source: Hu, Koren and Volinsky, ICDM 2008; Rendle, Krichene, Zhang and Koren, RecSys 2022 (arXiv 2110.14037); block updates
as in iALS++ (arXiv 2110.14044). Differences: known users are folded in too, with the direct solver, instead of using their row
of the last sweep; by default rows are solved by a few steps of conjugate gradients from the last sweep's values.
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
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import TrainingError
from palate.kernels import als

METHODS = {"direct": als.DIRECT, "cg": als.CONJUGATE, "block": als.BLOCK}


class IALSConfig(Config):
    """Settings of iALS."""

    dim: int = Field(128, ge=1, description="length of the vectors")
    epochs: int = Field(16, ge=1, description="sweeps over users and items")
    reg: float = Field(0.003, gt=0, description="λ, the weight of the penalty")
    alpha0: float = Field(0.1, gt=0, description="α₀, the weight of every cell of the matrix, seen or not")
    nu: float = Field(1.0, ge=0, le=2, description="ν, how much more frequent rows are held small (0: all alike)")
    solver: Literal["cg", "direct", "block"] = Field("cg", description="how each row is solved")
    steps: int = Field(3, ge=1, description="steps of conjugate gradients, or rounds over the blocks")
    block: int = Field(64, ge=1, description="coordinates a block (solver block)")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors, times 1/√dim")


class IALS(VectorRecommender):
    """Implicit alternating least squares (see the module's text)."""

    name: ClassVar[str] = "ials"
    Settings = IALSConfig
    config: IALSConfig

    vectors_: np.ndarray  # float32[n_items, dim], in the eigenbasis of their Gram matrix
    eigenvalues_: np.ndarray  # float64[dim]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        config = self.config
        matrix = dataset.matrix()
        sides = (_Side(matrix, self._penalty(matrix)), _Side(matrix.T.tocsr(), self._penalty(matrix.T.tocsr())))
        rng = fitting.rng("ials")
        scale = config.init / np.sqrt(config.dim)
        users, items = (rng.normal(0, scale, (n, config.dim)).astype(np.float32) for n in matrix.shape)
        for epoch in range(config.epochs):
            items, users = self._half(sides[0], items, users)
            users, items = self._half(sides[1], users, items)
            if not np.isfinite(items).all():
                raise TrainingError("the item vectors are not finite.", where=f"iALS, epoch {epoch + 1}", remedy="raise reg")
            fitting.report("iALS: epoch", epoch + 1, config.epochs)
        self.eigenvalues_, (self.vectors_,) = als.rotate(items)

    def _half(self, side: _Side, fixed: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve one side against the other; both come back in the eigenbasis of the fixed side."""
        eigenvalues, (fixed, free) = als.rotate(fixed, free)
        config = self.config
        free = als.solve_rows(
            side.offsets, side.columns, side.ones, side.ones, fixed, eigenvalues, config.alpha0, side.penalty, free,
            method=METHODS[config.solver], steps=config.steps, block=config.block,
        )  # fmt: skip
        return fixed, free

    def _penalty(self, matrix: sparse.csr_matrix, columns: int | None = None) -> np.ndarray:
        """``λ (entries + α₀ columns)^ν`` of each row."""
        width = matrix.shape[1] if columns is None else columns
        weight = np.diff(matrix.indptr) + self.config.alpha0 * width
        return (self.config.reg * weight**self.config.nu).astype(np.float32)

    def loss(self, matrix: sparse.csr_matrix, users: np.ndarray, items: np.ndarray) -> float:
        """Return ``L`` of some factors; memory does not grow with users x items."""
        data, rows = 0.0, np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        for start in range(0, len(rows), 1 << 20):
            own = slice(start, start + (1 << 20))
            predicted = np.einsum("nd,nd->n", users[rows[own]], items[matrix.indices[own]])
            data += float(((1 - predicted.astype(np.float64)) ** 2).sum())
        grams = [x.astype(np.float64).T @ x for x in (users, items)]
        penalties = zip((matrix, matrix.T.tocsr()), (users, items), strict=True)
        held = sum(float(self._penalty(m) @ (x.astype(np.float64) ** 2).sum(1)) for m, x in penalties)
        return data + self.config.alpha0 * float((grams[0] * grams[1]).sum()) + held

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, dim]``."""
        return self.vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, dim]``: the exact fold-in of each history (zero where it is empty)."""
        matrix = requests.histories.matrix(self.n_items)
        side = _Side(matrix, self._penalty(matrix, self.n_items))
        start = np.zeros((len(requests), self.vectors_.shape[1]), np.float32)
        return als.solve_rows(
            side.offsets, side.columns, side.ones, side.ones, self.vectors_, self.eigenvalues_, self.config.alpha0,
            side.penalty, start, method=als.DIRECT,
        )  # fmt: skip

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        self._check_request(request, 1)
        matrix = request.histories.matrix(self.n_items)
        near = self.vectors_[matrix.indices].astype(np.float64)
        diagonal = self.config.alpha0 * self.eigenvalues_ + self._penalty(matrix, self.n_items)[0]
        shares = near @ np.linalg.solve(near.T @ near + np.diag(diagonal), self.vectors_[item].astype(np.float64))
        order = np.argsort(-np.abs(shares), kind="stable")
        reasons = tuple(Evidence("history", int(matrix.indices[at]), float(shares[at])) for at in order)
        return Explanation(item, float(shares.sum()), reasons, exact=True, method="fold-in contributions")

    def _state(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors_, "eigenvalues": self.eigenvalues_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.vectors_, self.eigenvalues_ = state["vectors"], state["eigenvalues"]


class _Side:
    """One side's entries, in the form that the kernel takes."""

    def __init__(self, matrix: sparse.csr_matrix, penalty: np.ndarray) -> None:
        self.offsets, self.columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.ones, self.penalty = np.ones(matrix.nnz, np.float32), penalty
