"""UBPR: pairwise ranking by relevance, from clicks that are missing not at random.

    L = Σ_{clicks (u,i)} E_j max( 1/θ_i (1 - Y_uj/θ_j) softplus(s_uj - s_ui), -β ) + reg (mean |p_u|² + mean |q_i|²)

with ``j`` uniform over all items but ``i``, clicked ones too, and ``θ ← max(θ, M)``. As ``E[Y_ui/θ_i (1 - Y_uj/θ_j)] =
γ_ui (1 - γ_uj)`` for independent pairs, the mean of ``L`` over draws of exposure is, for ``β = ∞``, the loss of preferring what
is relevant to what is not; BPR (θ = 1, ``j`` without a click) prefers what was clicked. Where ``j`` was clicked too its weight
is negative, and the loss has no minimum: ``β`` stops it.

People unknown in training are folded in (:mod:`palate.recommend.pair_factors`). Validation is the same loss, unbiased, over
pairs without a training click (see :mod:`palate.recommend.rel_mf` for the chance of being held out).

Source: Y. Saito, "Unbiased Pairwise Learning from Biased Implicit Feedback", ICTIR 2020.
Differences: Adam over one pass of all clicks an epoch; the limit β is on each pair's own term, as published; biases of items by
option; the fold-in and the validation loss are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.data.propensities import by_popularity
from palate.data.split import HeldOut
from palate.nn.adam import Adam
from palate.recommend.exposure import ExposureConfig
from palate.recommend.pair_factors import PairFactorsRecommender
from palate.training.all_pairs import Factors, FactorsConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module


class UBPRConfig(FactorsConfig, ExposureConfig):
    """Settings of UBPR."""

    epochs: int = Field(100, ge=0, description="passes over all clicks; with validation, the most")
    batch_size: int = Field(1024, gt=0, description="clicks a batch")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    patience: int = Field(10, ge=0, description="validation looks without improvement before stopping (0 = never)")
    beta: float = Field(0.1, ge=0, description="β, the most that a term may take away from the loss")


class UBPR(PairFactorsRecommender):
    """Unbiased Bayesian personalised ranking (see the module's text)."""

    name: ClassVar[str] = "ubpr"
    Settings = UBPRConfig
    config: UBPRConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        self.theta_ = by_popularity(dataset.item_counts, c.eta)
        weights = 1 / np.maximum(self.theta_, c.clip)
        factors = Factors(dataset.n_users, dataset.n_items, c, fitting.rng("ubpr", "weights"))
        factors.to(usable_device(fitting.device))
        kind = Adam if factors.people.device.type == "cpu" else torch.optim.AdamW
        judged = self._judge(fitting.validation, dataset.histories, weights)
        record = fit_module(
            factors,
            batches=lambda epoch, rng: _Epoch(matrix, weights, c.batch_size, rng),
            loss=lambda batch, generator: batch.loss(factors, c),
            config=c,
            fitting=fitting,
            title="UBPR",
            evaluate=None if judged is None else lambda: judged(factors),
            optimizer=kind(factors.parameters(), lr=c.lr, weight_decay=c.weight_decay),
            metric="valid_-loss",
        )
        self._take(factors, dataset.histories, weights)
        return record.notes

    def _held_out_loss(self, held_out: HeldOut, theta: np.ndarray | None = None) -> float:
        vectors, asked, weights = self._weigh_held_out(held_out, theta)
        known, total, pairs = asked.histories.ragged.distinct, 0.0, 0
        for row in range(len(asked)):
            free = np.ones(self.n_items, bool)
            free[known[row]] = False
            wanted = asked.truth[row][free[asked.truth[row]]]
            scores = self.item_vectors_ @ vectors[row]
            preferred = np.zeros(self.n_items)
            preferred[wanted] = weights[wanted]
            other = np.where(free, 1 - preferred, 0.0)
            terms = np.logaddexp(0, scores[None, :] - scores[wanted][:, None]) * other
            terms[np.arange(len(wanted)), wanted] = 0.0  # an item is no pair with itself
            total += float((weights[wanted][:, None] * terms).sum())
            pairs += int(free.sum()) * (int(free.sum()) - 1)
        return total / max(1, pairs)


def pair_weights(weights: np.ndarray, clicked: np.ndarray, items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return ``1/θ_i (1 - Y_uj/θ_j)`` of pairs of items; ``weights`` are ``1/θ`` by item, ``clicked`` says ``Y_uj``."""
    found: np.ndarray = weights[items] * (1 - np.where(clicked, weights[others], 0.0))
    return found


@dataclass(frozen=True, eq=False)
class _Batch:
    users: np.ndarray
    items: np.ndarray
    others: np.ndarray
    weights: np.ndarray

    def loss(self, factors: Factors, config: UBPRConfig) -> Tensor:
        device = factors.people.device
        u, i, j = (torch.from_numpy(a.astype(np.int64)).to(device) for a in (self.users, self.items, self.others))
        weights = torch.from_numpy(self.weights.astype(np.float32)).to(device)
        terms = weights * functional.softplus(factors.cells(u, j) - factors.cells(u, i))
        return terms.clamp(min=-config.beta).mean() + config.reg * factors.size(u, torch.cat([i, j]))


class _Epoch:
    """The clicks in a new order, each with one item drawn uniformly from all others."""

    def __init__(self, matrix: sparse.csr_matrix, weights: np.ndarray, size: int, rng: np.random.Generator) -> None:
        users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        items, n = matrix.indices.astype(np.int64), matrix.shape[1]
        others = (items + 1 + rng.integers(max(1, n - 1), size=len(items))) % n
        known = np.sort(users * n + items)
        at = np.minimum(np.searchsorted(known, users * n + others), len(known) - 1)
        clicked = known[at] == users * n + others
        rated = pair_weights(weights, clicked, items, others)
        order = rng.permutation(len(items))
        self.whole, self.size = _Batch(users[order], items[order], others[order], rated[order]), size

    def __len__(self) -> int:
        return -(-len(self.whole.users) // self.size)

    def __iter__(self) -> Iterator[_Batch]:
        whole = self.whole
        for start in range(0, len(whole.users), self.size):
            part = slice(start, start + self.size)
            yield _Batch(whole.users[part], whole.items[part], whole.others[part], whole.weights[part])
