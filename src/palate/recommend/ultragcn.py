"""UltraGCN: the limit of endless graph convolution as weights of a loss, without convolution.

    β_ui = 1/d_u √((d_u + 1)/(d_i + 1))        ω_ij = G_ij/(g_i - G_ii) √(g_i/g_j),   G = RᵀR,  g_i = Σ_k G_ik

    L = mean_{(u,i)} [ (μ + λ β_ui) softplus(-s_ui)  +  η mean_{j not had by u} (μ + λ β_uj) softplus(s_uj)
                       + γ Σ_{j in S(i)} ω_ij softplus(-s_uj) ]  +  reg/2 |Θ|²        s_uj = <e_u, e_j>

over the pairs (u, i) that happened. ``S(i)`` are the ``k`` items with the largest ``ω_ij``, ``R`` the users x items matrix of
ones, ``d`` its sums. The first and third terms are one sparse matrix of weights, ``T = (μ + λβ) ∘ R + γ R Ω``, made once. A
batch holds whole people and one draw of negatives that they share, so scores are matrix products
(:mod:`palate.kernels.logistic`).

A person's vector follows the history of the request as in BPR-MF: ``e_u - F(H_u) + F(H)``, and ``F(H)`` alone for somebody
unseen, where ``F(H) = 1/√|H| Σ_{i in H} W e_i/√(d_i + 1)`` has the form of the paper's fixed point ``e_u = Σ_i β_ui e_i``, and
``W`` is the ridge regression of the trained vectors on it.

Source: K. Mao et al., "UltraGCN: Ultra Simplification of Graph Convolutional Networks for Recommendation", CIKM 2021,
arXiv 2110.15114, equations 8 to 15.
Differences: negatives are shared by a batch and drawn without replacement from what each person has not had (0 takes the whole
catalogue, which is the exact expectation); the published program draws each pair's own from the whole catalogue. An item is
not its own neighbour (it is in the published program, whose ``ω`` is ``G_ij √(g_i + 1)/(g_i √(g_j + 1))``). The published
weight of the penalty, 1e-4 beside the summed loss of 512 pairs, is ``reg`` = 2e-7 here. The fold-in is ours. People and items
without training events have zero vectors. Training begins where all scores have the best constant (by the first column):
from zero, the many negatives first drive all vectors into one direction, where learning is slow for many epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import take_rows
from palate.kernels.logistic import Weighted, logistic_pass
from palate.kernels.neighbours import nearest
from palate.nn.adam import Adam
from palate.recommend.folded import FoldedRecommender, fold, ridge
from palate.recommend.item_weights import by_source
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.triples import Pairs, Triples
from palate.training.validation import validator

#: Without a setting, a pair's negatives weigh this share of the number of items: the published 300 on Gowalla's 40,981.
SHARE = 300 / 40_981


class UltraGCNConfig(TrainConfig):
    """Settings of UltraGCN."""

    epochs: int = Field(30, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(8192, gt=0, description="pairs a batch, about: people are not divided")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    plain: float = Field(1e-6, ge=0, description="μ, weight of every pair alike")
    constraint: float = Field(1.0, ge=0, description="λ, weight of β")
    n_negatives: int = Field(4096, ge=0, description="items drawn for each batch, shared by its people (0 = all items)")
    negative_weight: float | None = Field(
        None, ge=0, description=f"η, weight of a pair's negatives together; none: {SHARE:.2%} of the number of items"
    )
    k: int = Field(10, ge=0, description="neighbours of each item in the item-item loss")
    item_weight: float = Field(5e-4, ge=0, description="γ, weight of the item-item loss")
    reg: float = Field(2e-7, ge=0, description="weight of the squared size of all vectors beside the mean loss of a pair")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors")


class UltraGCN(FoldedRecommender):
    """Ultra-simplified graph convolution (see the module's text)."""

    name: ClassVar[str] = "ultragcn"
    Settings = UltraGCNConfig
    config: UltraGCNConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        tables = _Tables(dataset.n_users, dataset.n_items, c, fitting.rng("ultragcn", "weights"))
        device = usable_device(fitting.device)
        tables.to(device)
        pairs = Pairs(matrix, c.batch_size)
        steps = _Steps(c, tables, matrix)
        tables.begin_at(steps.level())
        kind = Adam if device.type == "cpu" else torch.optim.AdamW

        record = fit_module(
            tables,
            batches=lambda epoch, rng: pairs.epoch_of_people(rng),
            loss=steps.loss,
            config=c,
            fitting=fitting,
            title="UltraGCN",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(tables, dataset.histories)),
            optimizer=kind(tables.parameters(), lr=c.lr, weight_decay=c.weight_decay),
        )
        self._finish(tables, dataset.histories)
        return record.notes

    def _finish(self, tables: _Tables, histories: Histories) -> None:
        """Set the arrays that answer."""
        people, items = (t.detach().cpu().numpy() for t in (tables.people, tables.items))
        active, counts = histories.lengths > 0, _degrees(histories, len(items))
        items = np.where(counts[:, None] > 0, items, 0)
        inputs = items / np.sqrt(counts + 1)[:, None]
        weights = ridge(fold(histories, inputs.astype(np.float32))[active], people[active])
        self.item_vectors_ = np.ascontiguousarray(items, np.float32)
        self.shares_ = (inputs @ weights).astype(np.float32)
        self.own_ = np.where(active[:, None], people - fold(histories, self.shares_), 0).astype(np.float32)
        self.common_ = np.zeros(self.config.dim, np.float32)


class _Tables(nn.Module):
    """The vectors of people and of items."""

    def __init__(self, n_users: int, n_items: int, config: UltraGCNConfig, rng: np.random.Generator) -> None:
        super().__init__()
        scale = np.float32(config.init)
        self.people = nn.Parameter(torch.from_numpy(rng.standard_normal((n_users, config.dim), np.float32) * scale))
        self.items = nn.Parameter(torch.from_numpy(rng.standard_normal((n_items, config.dim), np.float32) * scale))

    @torch.no_grad()
    def begin_at(self, level: float) -> None:
        """Give all scores this value, up to the random part, by the first column."""
        self.people[:, 0] = abs(level) ** 0.5
        self.items[:, 0] = float(np.copysign(abs(level) ** 0.5, level))


class _Steps:
    """The objective of a batch, an estimate of ``L``."""

    def __init__(self, config: UltraGCNConfig, tables: _Tables, matrix: sparse.csr_matrix) -> None:
        self.config, self.tables = config, tables
        self.eta = SHARE * matrix.shape[1] if config.negative_weight is None else config.negative_weight
        self.offsets, self.columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.people, self.items = beta(matrix)
        self.targets = targets(matrix, config)
        self.starts = self.targets.indptr.astype(np.int64)

    def level(self) -> float:
        """Return the one score that would be best if all people and items had it: ``ln(Σ t / Σ w)``."""
        lengths = np.diff(self.offsets).astype(np.float64)
        pushed = self.config.plain + self.config.constraint * self.people.astype(np.float64) * float(self.items.mean())
        drawn, pulled = self.eta * float(lengths @ pushed), float(self.targets.data.sum(dtype=np.float64))
        return float(np.log(pulled / drawn)) if min(pulled, drawn) > 0 else 0.0

    def loss(self, batch: Triples, generator: torch.Generator) -> Tensor:
        people = np.unique(batch.users)
        weights = self.weights(people, self.draw(generator))
        fit = logistic(self.tables.people, self.tables.items, people, weights) / max(1, len(batch))
        size = self.tables.people.square().sum() + self.tables.items.square().sum()
        return fit + self.config.reg / 2 * size

    def draw(self, generator: torch.Generator) -> np.ndarray:
        """Return distinct items, ascending: the negatives of a batch."""
        wanted, n = self.config.n_negatives, len(self.items)
        if wanted == 0 or wanted >= n:
            return np.arange(n)
        drawn = torch.randperm(n, generator=generator, device=generator.device)[:wanted]
        return np.sort(drawn.cpu().numpy())

    def weights(self, people: np.ndarray, negatives: np.ndarray) -> Weighted:
        """Return the weights of some people: each of their pairs has the mean over the negatives that they have not had."""
        offsets, had = take_rows(self.offsets, people, self.columns)
        drawn = np.zeros(len(self.items), bool)
        drawn[negatives] = True
        hits = np.concatenate([[0], np.cumsum(drawn[had])])
        left = len(negatives) - (hits[offsets[1:]] - hits[offsets[:-1]])
        scale = self.eta * np.diff(offsets) / np.maximum(left, 1)
        starts, columns = take_rows(self.starts, people, self.targets.indices)
        values = take_rows(self.starts, people, self.targets.data)[1]
        a = (self.config.plain * scale).astype(np.float32)
        b = (self.config.constraint * scale * self.people[people]).astype(np.float32)
        return Weighted(starts, columns, values, negatives, offsets, had, a, b, self.items)


def beta(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors of ``β``: ``√(d_u + 1)/d_u``, ``float32[n_users]``, and ``1/√(d_i + 1)``, ``float32[n_items]``."""
    people = np.diff(matrix.indptr).astype(np.float64)
    items = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float64)
    left = np.divide(np.sqrt(people + 1), people, out=np.zeros_like(people), where=people > 0)
    return left.astype(np.float32), (1 / np.sqrt(items + 1)).astype(np.float32)


def omega(matrix: sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` neighbours of each item, ``int32[n_items, k]`` (-1 is none), and ``ω``, ``float32`` (0 there)."""
    items = matrix.T.tocsr()
    own = np.diff(items.indptr).astype(np.float64)  # G_ii
    sums = items @ np.diff(matrix.indptr).astype(np.float64)  # g_i
    # With rows scaled by 1/√g_j the inner product is the part of ω that ranks neighbours.
    scaled = sparse.diags(1 / np.sqrt(np.maximum(sums, 1))).astype(np.float32) @ items
    numbers = np.arange(len(own), dtype=np.int32)
    found, products = nearest(items, scaled.tocsr(), k, similarity="dot", own=numbers)
    weights = products * (np.sqrt(sums) / np.maximum(sums - own, 1))[:, None]
    return found, weights.astype(np.float32)


def targets(matrix: sparse.csr_matrix, config: UltraGCNConfig) -> sparse.csr_matrix:
    """Return ``T``, the weight of ``softplus(-s)`` for each person and item, ``float32`` CSR."""
    people, items = beta(matrix)
    weights = np.float32(config.plain) + np.float32(config.constraint) * (
        np.repeat(people, np.diff(matrix.indptr)) * items[matrix.indices]
    )
    whole = sparse.csr_matrix((weights, matrix.indices, matrix.indptr), matrix.shape)
    if config.k and config.item_weight:
        found, others = omega(matrix, config.k)
        # by_source turns rows of neighbours into their transpose; Ω has the neighbours of i in row i.
        whole = whole + np.float32(config.item_weight) * (matrix @ by_source(found, others).T.tocsr())
    whole = whole.tocsr()
    whole.sort_indices()
    return whole


def _degrees(histories: Histories, n_items: int) -> np.ndarray:
    """Return ``float64[n_items]``: distinct people of each item."""
    return np.bincount(histories.ragged.distinct.values, minlength=n_items).astype(np.float64)


def logistic(people: Tensor, items: Tensor, rows: np.ndarray, weights: Weighted) -> Tensor:
    """Return the weighted logistic loss of some ``rows`` of the people, with its gradient."""
    if people.device.type != "cpu":
        return logistic_torch(people, items, rows, weights)
    loss: Tensor = _Logistic.apply(people, items, rows, weights)  # type: ignore[no-untyped-call]
    return loss


def logistic_torch(people: Tensor, items: Tensor, rows: np.ndarray, weights: Weighted) -> Tensor:
    """As :func:`logistic`, in plain torch, on any device."""
    w, device = weights, people.device
    index = {n: torch.from_numpy(getattr(w, n).astype(np.int64)).to(device) for n in ("columns", "negatives", "had")}
    own = torch.from_numpy(np.repeat(rows, np.diff(w.offsets)).astype(np.int64)).to(device)
    positive = (people[own] * items[index["columns"]]).sum(1)
    t, a, b, c = (torch.from_numpy(x).to(device) for x in (w.weights, w.a, w.b, w.c))
    scores = people[torch.from_numpy(rows.astype(np.int64)).to(device)] @ items[index["negatives"]].T
    place = torch.full((len(items),), -1, dtype=torch.int64, device=device)
    place[index["negatives"]] = torch.arange(len(index["negatives"]), device=device)
    line = torch.from_numpy(np.repeat(np.arange(len(rows)), np.diff(w.had_offsets))).to(device)
    column = place[index["had"]]
    weight = a[:, None] + b[:, None] * c[index["negatives"]]
    weight[line[column >= 0], column[column >= 0]] = 0
    softplus = nn.functional.softplus
    return (t * softplus(-positive)).sum() + (weight * softplus(scores)).sum()


class _Logistic(Function):
    @staticmethod
    def forward(ctx: Any, people: Tensor, items: Tensor, rows: np.ndarray, weights: Weighted) -> Tensor:
        loss, d_p, d_q = logistic_pass(people.detach().numpy()[rows], items.detach().numpy(), weights)
        whole = torch.zeros_like(people)
        whole[torch.from_numpy(rows.astype(np.int64))] = torch.from_numpy(d_p)
        ctx.save_for_backward(whole, torch.from_numpy(d_q))
        return torch.tensor(loss, dtype=people.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_people, d_items = ctx.saved_tensors
        return d_people * grad, d_items * grad, None, None
