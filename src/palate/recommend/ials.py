"""iALS: matrix factorisation of implicit feedback by alternating least squares.

    L = Σ_{(u,i) observed} (1 - <x_u, y_i>)² + α₀ Σ_{all u,i} <x_u, y_i>²
        + λ ( Σ_u (|I_u| + α₀ |I|)^ν |x_u|² + Σ_i (|U_i| + α₀ |U|)^ν |y_i|² )

Every half sweep solves one side while the other stands still, so ``L`` never rises with the exact solver. A person's vector is
not stored: every request is answered by one exact solution from its own history (fold-in), so known and unseen people are
treated alike::

    x(H) = A⁻¹ Σ_{i in H} y_i,   A = Σ_{i in H} y_i y_iᵀ + α₀ YᵀY + λ (|H| + α₀ |I|)^ν        score(j) = <x(H), y_j>

and the score splits exactly into the parts ``y_jᵀ A⁻¹ y_i`` of the history.

Sources: Y. Hu, Y. Koren, C. Volinsky, ICDM 2008; S. Rendle, W. Krichene, L. Zhang, Y. Koren, "Revisiting the Performance of
iALS on Item Recommendation Benchmarks", RecSys 2022, arXiv 2110.14037 (this form, frequency-scaled ridge), and "iALS++",
arXiv 2110.14044 (``solver="block"``).
Differences: both sides are turned into the eigenbasis of the fixed side's Gram matrix before each half sweep, which changes no
score and makes the dense part diagonal (see :mod:`palate.kernels.als`); blocks are therefore blocks of principal directions.
An update takes up the item vectors learnt before; α₀ follows the new density.
By default rows take a few steps of conjugate gradients from the last sweep's values instead of an exact solution.
Without a setting α₀ follows the density of the data. Repeated events of a pair count once. ``|H|`` counts the distinct items
that were seen in training.
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
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.errors import TrainingError
from palate.kernels.als import Solver, gram, half_sweep, loss, solve_rows, turn
from palate.recommend.shares import explain_by_shares, one_history
from palate.runtime import single_threaded_blas

#: Without a setting, all pairs together weigh this much more than the observed ones do: near the best in published tunings.
CELLS = 20.0


class IALSConfig(Config):
    """Settings of iALS."""

    dim: int = Field(256, gt=0, description="width of the vectors")
    epochs: int = Field(16, ge=0, description="sweeps over people and items")
    update_epochs: int = Field(3, ge=1, description="sweeps of an update, which begins from the vectors learnt before")
    alpha0: float | None = Field(None, gt=0, description=f"α₀, the weight of every pair; none: {CELLS:g} x the share observed")
    reg: float = Field(0.003, gt=0, description="λ, the weight of the ridge penalty")
    nu: float = Field(1.0, ge=0, le=1, description="ν: 0 is a plain ridge, 1 scales it with the number of events")
    solver: Solver = Field("cg", description="cg (a few steps), exact, or block (one pass over blocks, as in iALS++)")
    steps: int = Field(2, gt=0, description="steps of conjugate gradients a row and half sweep (cg)")
    block: int = Field(64, gt=0, description="dimensions of a block (block)")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors, divided by √dim")


class IALS(VectorRecommender):
    """Implicit alternating least squares (see the module's text for the equations)."""

    name: ClassVar[str] = "ials"
    can_update: ClassVar[bool] = True
    Settings = IALSConfig
    config: IALSConfig

    vectors_: np.ndarray  # float32[n_items, d], in the eigenbasis of their Gram matrix
    spectrum_: np.ndarray  # float64[d], the diagonal of that matrix
    alpha0_: np.ndarray  # float64[1]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        matrix = dataset.matrix()
        people, items = _Side.of(matrix), _Side.of(matrix.T.tocsr())
        share = matrix.nnz / max(1, matrix.shape[0] * matrix.shape[1])
        alpha0 = CELLS * max(share, 1e-12) if self.config.alpha0 is None else self.config.alpha0
        self.alpha0_ = np.array([alpha0])
        size = np.float32(self.config.init / np.sqrt(self.config.dim))
        y = fitting.rng("ials").standard_normal((dataset.n_items, self.config.dim), np.float32) * size
        epochs = self.config.epochs
        if fitting.former is not None:
            y, epochs = fitting.former.carry_items("items", y), self.config.update_epochs
        y[items.lengths == 0] = 0
        x = np.zeros((dataset.n_users, self.config.dim), np.float32)
        reg_x, reg_y = self._ridge(people.lengths, dataset.n_items), self._ridge(items.lengths, dataset.n_users)
        how: dict[str, Any] = {"solver": self.config.solver, "steps": self.config.steps, "block": self.config.block}
        with single_threaded_blas():
            fitting.report("iALS", 0, epochs)
            for epoch in range(epochs):
                half_sweep(people.offsets, people.columns, items.lengths, y, x, reg_x, alpha0=alpha0, **how)
                half_sweep(items.offsets, items.columns, people.lengths, x, y, reg_y, alpha0=alpha0, **how)
                if not np.isfinite(y).all():
                    raise TrainingError("the vectors are not finite.", value=f"sweep {epoch + 1}", remedy="raise reg")
                fitting.report("iALS", epoch + 1, epochs)
            reached = loss(people.offsets, people.columns, x, y, reg_x, reg_y, alpha0=alpha0)
            turn(y, np.linalg.eigh(gram(y))[1][:, ::-1].astype(np.float32))
        self.vectors_, self.spectrum_ = y, np.einsum("nd,nd->d", y, y, dtype=np.float64)
        return {"loss": reached, "alpha0": alpha0}

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``."""
        return self.vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``: the exact solution for each history (zero where it holds nothing known)."""
        rows = requests.histories.ragged.distinct
        out = np.zeros((len(requests), self.vectors_.shape[1]), np.float32)
        reg = self._ridge(self._known_items(rows), self.n_items)
        solve_rows(rows.offsets, rows.values, self.vectors_, self.alpha0_ * self.spectrum_, reg, out)
        return out

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history: the score is their sum."""
        history = one_history(self, request, item)
        z, wanted = self.vectors_[history].astype(np.float64), self.vectors_[item].astype(np.float64)
        ridge = self._ridge(np.array([(self.item_counts_[history] > 0).sum()]), self.n_items)[0]
        matrix = np.diag(self.alpha0_ * self.spectrum_ + ridge) + z.T @ z
        shares = z @ np.linalg.solve(matrix, wanted)
        return explain_by_shares(self, request, item, history, shares, "shares of the fold-in")

    def _informed(self, requests: Requests) -> np.ndarray:
        return self._known_items(requests.histories.ragged.distinct) > 0

    def _known_items(self, rows: Ragged) -> np.ndarray:
        """Return ``int64[n]``: distinct items of each history that were seen in training."""
        seen = np.concatenate([[0], np.cumsum(self.item_counts_[rows.values] > 0)])
        return seen[rows.offsets[1:]] - seen[rows.offsets[:-1]]

    def _ridge(self, lengths: np.ndarray, others: int) -> np.ndarray:
        """Return ``float32[n]``, the ridge weight of rows with these numbers of observed pairs."""
        return (self.config.reg * (lengths + self.alpha0_[0] * others) ** self.config.nu).astype(np.float32)

    def _state(self) -> dict[str, np.ndarray]:
        return {"items": self.vectors_, "spectrum": self.spectrum_, "alpha0": self.alpha0_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.vectors_, self.spectrum_ = state["items"], state["spectrum"]
        self.alpha0_ = state["alpha0"]


class _Side:
    """Rows of a sparse matrix of ones."""

    def __init__(self, offsets: np.ndarray, columns: np.ndarray) -> None:
        self.offsets, self.columns = offsets, columns
        self.lengths = np.diff(offsets).astype(np.float32)

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> _Side:
        return cls(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))
