"""Factorisation of a weighted sum over all pairs of people and items: the sum is exact, or estimated by uniform draws.

    L = 1/|D| [ w Σ_{all pairs} d0(s) + Σ_entries a d1(s) + c d0(s) ] + reg (mean |p_u|² + mean |q_i|²)
    s_ui = <p_u, q_i> + b_u + b_i + b

``d1, d0`` are losses of a relevant and an irrelevant pair (:mod:`palate.nn.unbiased`). Plain clicks are ``a = 1, c = -w``;
clicks weighted by propensity ``a = 1/θ, c = 1 - 1/θ - w``; pairs left out ``a = 0, c = -w``. With ``pairs="all"`` a batch holds
some people with all items (memory: ``batch_size`` x items), with ``"sampled"`` entries and as many pairs of any people and
items, so the cost of an epoch no longer depends on the size of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.data.ragged import take_rows
from palate.nn.adam import Adam
from palate.nn.unbiased import PointLoss, irrelevant, relevant
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import TrainingRecord, fit_module


class FactorsConfig(TrainConfig):
    """Settings of vectors and biases."""

    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(32, gt=0, description="width of the vectors")
    bias: bool = Field(True, description="whether people, items and the whole have biases")
    reg: float = Field(0.003, ge=0, description="weight of the mean squared size of the vectors and biases")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors")


class PairsConfig(FactorsConfig):
    """Settings of a fit over all pairs."""

    epochs: int = Field(100, ge=0, description="passes over all people (or all clicks); with validation, the most")
    batch_size: int = Field(128, gt=0, description="people a batch; with pairs=sampled, clicks a batch")
    lr: float = Field(0.02, gt=0, description="step size of Adam")
    patience: int = Field(10, ge=0, description="validation looks without improvement before stopping (0 = never)")
    loss: PointLoss = Field("ce", description="loss of a probability: ce (cross-entropy) or square")
    pairs: Literal["all", "sampled"] = Field("all", description="the sum over all pairs: exact, or by uniform draws")


@dataclass(frozen=True, eq=False)
class PairTerms:
    """A weighted sum over all pairs, ``Σ_all w d0 + Σ_entries a d1 + c d0``.

    Attributes
    ----------
    offsets, columns
        CSR of the entries, people by row: ``int64[n + 1]``, ``int32[m]``.
    positive, negative
        ``float32[m]``, ``a`` and ``c``.
    base
        ``w``.
    n_items
        Columns in all.
    """

    offsets: np.ndarray
    columns: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    base: float
    n_items: int

    @classmethod
    def of_clicks(cls, matrix: sparse.csr_matrix, weights: np.ndarray, unlabelled: float = 1.0) -> PairTerms:
        """Clicks with weights ``1/θ`` (``d1/θ + (1 - 1/θ) d0``), all other pairs irrelevant with the weight ``unlabelled``."""
        rest = (1 - weights - unlabelled).astype(np.float32)
        offsets, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return cls(offsets, columns, weights.astype(np.float32), rest, unlabelled, matrix.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1


def fit_factors(
    terms: PairTerms,
    config: PairsConfig,
    fitting: Fitting,
    *,
    people: np.ndarray | None = None,
    evaluate: Callable[[Factors], float] | None = None,
    title: str = "all pairs",
) -> tuple[Factors, TrainingRecord]:
    """Lower ``1/|D|`` of a weighted sum over all pairs plus the ridge; return the factors of the best epoch.

    Parameters
    ----------
    terms
        The weights of pairs.
    people
        Rows whose pairs make ``D``; all by default.
    evaluate
        Gives the validation value of factors, higher is better; ``None`` trains all epochs.
    title
        Shown in progress; names the random streams.
    """
    rows = np.arange(len(terms)) if people is None else people
    factors = Factors(len(terms), terms.n_items, config, fitting.rng(title, "weights"))
    factors.to(usable_device(fitting.device))
    kind = Adam if factors.people.device.type == "cpu" else torch.optim.AdamW
    epoch = _whole_rows if config.pairs == "all" else _draws
    record = fit_module(
        factors,
        batches=lambda number, rng: epoch(terms, rows, config.batch_size, rng),
        loss=lambda batch, generator: batch.loss(factors, config),
        config=config,
        fitting=fitting,
        title=title,
        evaluate=None if evaluate is None else lambda: evaluate(factors),
        optimizer=kind(factors.parameters(), lr=config.lr, weight_decay=config.weight_decay),
        metric="valid_-loss",
    )
    return factors, record


class Factors(nn.Module):
    """Vectors and biases of people and items, and of the whole."""

    def __init__(self, n_users: int, n_items: int, config: FactorsConfig, rng: np.random.Generator) -> None:
        super().__init__()
        scale = np.float32(config.init)
        self.people = nn.Parameter(torch.from_numpy(rng.standard_normal((n_users, config.dim), np.float32) * scale))
        self.items = nn.Parameter(torch.from_numpy(rng.standard_normal((n_items, config.dim), np.float32) * scale))
        self.by_person = nn.Parameter(torch.zeros(n_users), requires_grad=config.bias)
        self.by_item = nn.Parameter(torch.zeros(n_items), requires_grad=config.bias)
        self.whole = nn.Parameter(torch.zeros(1), requires_grad=config.bias)

    def rows(self, users: Tensor) -> Tensor:
        """Return ``[n, n_items]`` scores of people."""
        return self.people[users] @ self.items.T + self.by_person[users][:, None] + (self.by_item + self.whole)

    def cells(self, users: Tensor, items: Tensor) -> Tensor:
        """Return ``[m]`` scores of pairs."""
        inner = (self.people[users] * self.items[items]).sum(1)
        return inner + self.by_person[users] + self.by_item[items] + self.whole

    def size(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """Return the mean squared size of the people, plus that of the items (all by default), biases included."""
        q, b = (self.items, self.by_item) if items is None else (self.items[items], self.by_item[items])
        own = self.people[users].square().sum(1) + self.by_person[users].square()
        return own.mean() + (q.square().sum(1) + b.square()).mean()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        """Return vectors of people and items, their biases, and that of the whole."""
        parts = [t.detach().cpu().numpy() for t in (self.people, self.items, self.by_person, self.by_item)]
        return (*parts, self.whole.item())  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some people with the whole catalogue; ``rows`` and ``columns`` are the entries among their pairs."""

    users: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    base: float

    def loss(self, factors: Factors, config: PairsConfig) -> Tensor:
        device = factors.people.device
        users, rows, columns = (torch.from_numpy(a.astype(np.int64)).to(device) for a in (self.users, self.rows, self.columns))
        a, c = (torch.from_numpy(w).to(device) for w in (self.positive, self.negative))
        scores = factors.rows(users)
        own = scores[rows, columns]
        total = self.base * irrelevant(scores, config.loss).sum()
        total = total + (a * relevant(own, config.loss) + c * irrelevant(own, config.loss)).sum()
        return total / scores.numel() + config.reg * factors.size(users)


@dataclass(frozen=True, eq=False)
class _Draws:
    """Some entries, and as many pairs drawn uniformly from all; ``share`` is the entries of all pairs."""

    users: np.ndarray
    items: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    any_users: np.ndarray
    any_items: np.ndarray
    base: float
    share: float

    def loss(self, factors: Factors, config: PairsConfig) -> Tensor:
        device = factors.people.device
        names = (self.users, self.items, self.any_users, self.any_items)
        u, i, v, j = (torch.from_numpy(a.astype(np.int64)).to(device) for a in names)
        a, c = (torch.from_numpy(w).to(device) for w in (self.positive, self.negative))
        own, others = factors.cells(u, i), factors.cells(v, j)
        entries = (a * relevant(own, config.loss) + c * irrelevant(own, config.loss)).mean()
        total = self.base * irrelevant(others, config.loss).mean() + self.share * entries
        return total + config.reg * factors.size(v, j)


class _Batches:
    """Batches of an epoch, made one at a time."""

    def __init__(self, cuts: list[np.ndarray], make: Callable[[np.ndarray], Any]) -> None:
        self.cuts, self.make = cuts, make

    def __len__(self) -> int:
        return len(self.cuts)

    def __iter__(self) -> Iterator[Any]:
        return (self.make(cut) for cut in self.cuts)


def _whole_rows(terms: PairTerms, people: np.ndarray, size: int, rng: np.random.Generator) -> _Batches:
    def make(users: np.ndarray) -> _Rows:
        offsets, at = take_rows(terms.offsets, users, np.arange(len(terms.columns)))
        rows = np.repeat(np.arange(len(users)), np.diff(offsets))
        return _Rows(users, rows, terms.columns[at], terms.positive[at], terms.negative[at], terms.base)

    return _Batches(_cut(rng.permutation(people), size), make)


def _draws(terms: PairTerms, people: np.ndarray, size: int, rng: np.random.Generator) -> _Batches:
    users = np.repeat(np.arange(len(terms)), np.diff(terms.offsets))
    share = len(users) / max(1, len(people) * terms.n_items)

    def make(at: np.ndarray) -> _Draws:
        v, j = people[rng.integers(len(people), size=len(at))], rng.integers(terms.n_items, size=len(at))
        own = users[at], terms.columns[at], terms.positive[at], terms.negative[at]
        return _Draws(*own, v, j, terms.base, share)

    return _Batches(_cut(rng.permutation(len(users)), size), make)


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
