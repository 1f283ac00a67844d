"""ExpoMF: matrix factorisation in which a pair without a click may simply not have been seen.

    θ_u ~ N(0, I/λ)    β_i ~ N(0, I/λ)    μ_i ~ Beta(α₁, α₂)        a_ui ~ Bernoulli(μ_i): was the item seen?
    y_ui | a=1 ~ N(<θ_u, β_i>, 1/λ_y)     y_ui | a=0 = 0                         score(u, j) = μ_j <θ_u, β_j>

fitted by expectation maximisation. Where there is no click, ``p`` is the chance that the item had been seen all the same, so an
item that would have suited somebody counts little against them; a click was seen for certain (``p = 1``)::

    E:  p_ui = μ_i N(0 | s_ui, 1/λ_y) / ( μ_i N(0 | s_ui, 1/λ_y) + 1 - μ_i ),     s_ui = <θ_u, β_i>
    M:  θ_u = ( λ_y Σ_i p_ui β_i β_iᵀ + λ I )⁻¹ λ_y Σ_i p_ui y_ui β_i             β_i likewise, from people
        μ_i = (α₁ - 1 + Σ_u p_ui) / (α₁ + α₂ - 2 + n_people)

A sweep is E and M for people, then E and M for items and μ, so the posterior never falls (:func:`log_posterior`). Pairs are
gone through in blocks of rows and columns: neither ``p`` nor the products of vectors ever exist whole.

A person's vector is not stored: every request is answered from its own history by ``fold_steps`` rounds of E and M from
``θ = 0``, so known and unseen people are treated alike. Given the last ``p`` the score splits exactly over the history.

Source: D. Liang, L. Charlin, J. McInerney, D. M. Blei, "Modeling User Exposure in Recommendation", WWW 2016, arXiv 1510.07025,
section 3, equations 1 to 8: the variant with one prior of exposure for each item.
Differences: the E step is taken anew before each side, and μ from that of the items; ``rank_by="relevance"`` ranks by
``<θ_u, β_j>``, what is liked once it is seen, in place of the expected click: that is what Rel-MF asks for, and on held-out
clicks it is worse, as it offers what hardly anybody sees. The fold-in is ours. No covariates of exposure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

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
from palate.kernels.rows import sum_rows
from palate.kernels.spans import each_span
from palate.recommend.shares import explain_by_shares, knows_items, one_history
from palate.runtime import single_threaded_blas
from palate.training.stopping import Stopping
from palate.training.validation import validator

#: Rows whose systems are solved at once, and numbers that a piece of the fixed side's products may take.
ROWS, NUMBERS = 256, 2**22
#: Ends that chances are held within, so that every logarithm is finite.
LEAST = 1e-9


class ExpoMFConfig(Config):
    """Settings of ExpoMF."""

    dim: int = Field(64, gt=0, description="width of the vectors")
    epochs: int = Field(20, ge=0, description="sweeps over people and items; with validation, the most")
    patience: int = Field(3, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision_y: float = Field(1.0, gt=0, description="λ_y, how sharply a seen pair tells of relevance")
    reg: float = Field(0.01, gt=0, description="λ, precision of the prior of the vectors")
    exposure: float = Field(0.01, gt=0, lt=1, description="μ at first: the share of pairs without a click taken to be seen")
    alpha1: float = Field(1.0, ge=1, description="α₁ of the prior of exposure")
    alpha2: float = Field(1.0, ge=1, description="α₂ of the prior of exposure")
    fold_steps: int = Field(5, gt=0, description="rounds of E and M that answer a request")
    rank_by: Literal["click", "relevance"] = Field("click", description="the expected click, or what is liked once seen")
    init: float = Field(0.01, gt=0, description="standard deviation of the first vectors")


class ExpoMF(VectorRecommender):
    """Exposure matrix factorisation (see the module's text for the equations)."""

    name: ClassVar[str] = "expo_mf"
    Settings = ExpoMFConfig
    config: ExpoMFConfig

    vectors_: np.ndarray  # float32[n_items, d], β
    exposure_: np.ndarray  # float64[n_items], μ

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        by_item = matrix.T.tocsr()
        people, items = _rows(matrix), _rows(by_item)
        self.vectors_ = fitting.rng("expo_mf").standard_normal((dataset.n_items, c.dim), np.float32) * np.float32(c.init)
        self.exposure_ = np.full(dataset.n_items, c.exposure)
        self.vectors_[dataset.item_counts == 0] = 0
        theta, check, stopping = np.zeros((dataset.n_users, c.dim), np.float32), validator(self, fitting.validation), None
        best = self.vectors_, self.exposure_
        fitting.report("ExpoMF", 0, c.epochs)
        for epoch in range(1, c.epochs + 1):
            theta, _ = exposed_step(people, self.vectors_, theta, self.exposure_[None, :], c.precision_y, c.reg)
            self.vectors_, seen = exposed_step(items, theta, self.vectors_, self.exposure_[:, None], c.precision_y, c.reg)
            share = (c.alpha1 - 1 + seen) / (c.alpha1 + c.alpha2 - 2 + max(1, dataset.n_users))
            self.exposure_ = np.clip(share, LEAST, 1 - LEAST)
            if not np.isfinite(self.vectors_).all():
                raise TrainingError("the vectors are not finite.", value=f"sweep {epoch}", remedy="raise reg")
            if check is None:
                fitting.report("ExpoMF", epoch, c.epochs)
                continue
            stopping = stopping or Stopping(c.patience, check.floor)
            value = check()
            if stopping.look(epoch, value):
                best = self.vectors_, self.exposure_
            fitting.report("ExpoMF", epoch, c.epochs, valid=value)
            if stopping.stop:
                break
        if stopping is not None:
            self.vectors_, self.exposure_ = best
            return {"epochs": epoch, "best_epoch": stopping.best_epoch, "best_value": stopping.best_value}
        return {"log_posterior": log_posterior(people, theta, self.vectors_, self.exposure_, c)}

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``, ``β``, or ``μ β`` where clicks are ranked by."""
        if self.config.rank_by == "relevance":
            return self.vectors_
        return (self.vectors_ * self.exposure_[:, None]).astype(np.float32)

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``: ``θ`` of each history (zero where it holds nothing known)."""
        c, rows = self.config, self._known(requests)
        theta = np.zeros((len(requests), c.dim), np.float32)
        for _ in range(c.fold_steps):
            theta, _ = exposed_step(rows, self.vectors_, theta, self.exposure_[None, :], c.precision_y, c.reg)
        return theta

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history, given which other items count as seen."""
        c, history = self.config, one_history(self, request, item)
        history = history[self.item_counts_[history] > 0]
        before = np.zeros((1, c.dim), np.float32)
        rows = self._known(request)
        for _ in range(c.fold_steps - 1):
            before, _ = exposed_step(rows, self.vectors_, before, self.exposure_[None, :], c.precision_y, c.reg)
        seen = posterior(before @ self.vectors_.T, self.exposure_[None, :], c.precision_y)[0]
        seen[history] = 1
        beta = self.vectors_.astype(np.float64)
        system = c.precision_y * (beta.T * seen) @ beta + c.reg * np.eye(c.dim)
        offered = self.item_vectors[item].astype(np.float64)
        shares = c.precision_y * beta[history] @ np.linalg.solve(system, offered)
        return explain_by_shares(self, request, item, history, shares, "shares of the fold-in")

    def exposures(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, n_items]``: the chance that each item had been seen, 1 for items of the history."""
        self._check_request(requests, 1)
        theta, rows = self.request_vectors(requests), self._known(requests)
        found = posterior(theta @ self.vectors_.T, self.exposure_[None, :], self.config.precision_y)
        found[rows.row_numbers, rows.values] = 1
        return found

    def _known(self, requests: Requests) -> Ragged:
        """Return the distinct items of each history that were seen in training."""
        rows = requests.histories.ragged.distinct
        kept = self.item_counts_[rows.values] > 0
        return Ragged(np.concatenate([[0], np.cumsum(kept)])[rows.offsets].astype(np.int64), rows.values[kept])

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _state(self) -> dict[str, np.ndarray]:
        return {"items": self.vectors_, "exposure": self.exposure_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.vectors_, self.exposure_ = state["items"], state["exposure"]


def posterior(scores: np.ndarray, exposure: np.ndarray, precision: float) -> np.ndarray:
    """Return ``float32``: the chance that pairs without a click had been seen.

    Parameters
    ----------
    scores
        ``float[n, m]``, ``s``.
    exposure
        ``μ``, of a shape that broadcasts to it.
    precision
        ``λ_y``.
    """
    seen = np.square(scores, dtype=np.float32)
    seen *= np.float32(-precision / 2)
    np.exp(seen, out=seen)
    seen *= (exposure * np.sqrt(precision / (2 * np.pi))).astype(np.float32)
    return seen / (seen + (1 - exposure).astype(np.float32))


def exposed_step(
    clicks: Ragged, fixed: np.ndarray, start: np.ndarray, exposure: np.ndarray, precision: float, reg: float
) -> tuple[np.ndarray, np.ndarray]:
    """Take one E step and one M step of the rows of one side, while the other stands still.

    Parameters
    ----------
    clicks
        Distinct columns that each row had.
    fixed, start
        ``float32[m, d]`` of the other side, and ``float32[n, d]`` of this one, with which the E step is taken.
    exposure
        ``float[1, m]`` or ``float[n, 1]``, ``μ``.
    precision, reg
        ``λ_y`` and ``λ``.

    Returns
    -------
    solved, seen
        ``float32[n, d]`` and ``float64[n]``: the vectors, and the sum of ``p`` of each row.
    """
    n, (m, d) = len(clicks), fixed.shape
    wanted = sum_rows(clicks.offsets, clicks.values, fixed).astype(np.float64) * precision
    solved, seen = np.zeros((n, d), np.float32), np.zeros(n)
    spans, step = np.arange(0, n + ROWS, ROWS).clip(max=n), max(1, NUMBERS // (d * (d + 1) // 2 + ROWS))
    upper = np.triu_indices(d)

    def run(first: int, last: int) -> None:
        for low in range(first, last, ROWS):
            part = slice(low, min(low + ROWS, last))
            total = np.zeros((part.stop - low, len(upper[0])), np.float64)
            own, own_rows = clicks.slice(low, part.stop), clicks.slice(low, part.stop).row_numbers
            for left in range(0, m, step):
                columns = slice(left, min(left + step, m))
                chance = exposure[:, columns] if len(exposure) == 1 else exposure[part]
                p = posterior(start[part] @ fixed[columns].T, chance, precision)
                inside = (own.values >= left) & (own.values < columns.stop)
                p[own_rows[inside], own.values[inside] - left] = 1
                seen[part] += p.sum(1, dtype=np.float64)
                total += p @ (fixed[columns][:, upper[0]] * fixed[columns][:, upper[1]])
            system = np.zeros((part.stop - low, d, d))
            system[:, upper[0], upper[1]] = precision * total
            system[:, upper[1], upper[0]] = precision * total
            system[:, np.arange(d), np.arange(d)] += reg
            solved[part] = np.linalg.solve(system, wanted[part][:, :, None])[:, :, 0]

    with single_threaded_blas():
        each_span(run, np.unique(spans), n * m * d * d)
    return solved, seen


def log_posterior(clicks: Ragged, theta: np.ndarray, beta: np.ndarray, exposure: np.ndarray, config: ExpoMFConfig) -> float:
    """Return what the sweeps raise, up to a constant: the log likelihood of all pairs and the log priors.

    Σ_{clicks} ln μ_i + ln N(1 | s, 1/λ_y)  +  Σ_{others} ln( μ_i N(0 | s, 1/λ_y) + 1 - μ_i )
    - λ/2 ( Σ |θ_u|² + Σ |β_i|² ) + Σ_i (α₁ - 1) ln μ_i + (α₂ - 1) ln(1 - μ_i)
    """
    c, scale = config, 0.5 * np.log(config.precision_y / (2 * np.pi))
    total, unseen = 0.0, 1 - exposure
    for low in range(0, len(theta), ROWS):
        rows = clicks.slice(low, min(low + ROWS, len(theta)))
        s = theta[low : low + ROWS].astype(np.float64) @ beta.T
        pairs = np.log(exposure * np.exp(scale - c.precision_y / 2 * s**2) + unseen)
        at = rows.row_numbers, rows.values
        pairs[at] = np.log(exposure[rows.values]) + scale - c.precision_y / 2 * (1 - s[at]) ** 2
        total += float(pairs.sum())
    sizes = float(np.square(theta, dtype=np.float64).sum() + np.square(beta, dtype=np.float64).sum())
    prior = (c.alpha1 - 1) * np.log(exposure).sum() + (c.alpha2 - 1) * np.log(unseen).sum()
    return total - c.reg / 2 * sizes + float(prior)


def _rows(matrix: sparse.csr_matrix) -> Ragged:
    return Ragged(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))
