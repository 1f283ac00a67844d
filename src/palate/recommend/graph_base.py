"""What recommenders on the graph of people and items share, and how a system adds to it.

    E^(0) = free vectors,   E^(k) = Â E^(k-1),   E = mean of layers l..K        score(u, j) = <e_u, e_j>
    L = 1/B Σ softplus(<e_u, e_j> - <e_u, e_i>) + reg/(2B) Σ (|e_u⁰|² + |e_i⁰|² + |e_j⁰|²) + Σ losses of the parts

``l`` is 0 (LightGCN) or 1 (SimGCL). Nodes are numbered people first: item ``i`` is node ``n_users + i``.

**Adding to it.** A system derives from :class:`GraphRecommender` and gives a list of :class:`Part`; each may

- add a loss: ``loss(step)`` returns a scalar with gradient, made of ``step.vectors`` (the final vectors: ``users(numbers)``,
  ``items(numbers)``) and ``step.batch``. Only rows of the batch are there, unless ``rows(batch)`` asks for more (reading a row
  that is not there is an error);
- alter layer 0: ``layer0(free, step)``, with gradient: text vectors through a network, a mask, a knowledge graph;
- alter the graph, by epoch or step: ``graph(graph, step)``, one for all layers or one for each;
- ask for further readouts of noisy or single layers: ``passes(step)`` (:mod:`palate.nn.graph_views`); the first readout is what
  BPR ranks by, the others are ``step.views``;
- draw what lasts an epoch: ``begin(epoch, rng)``;
- propagate once more inside its loss: ``step.propagate(layer0=…, graph=…)``.

A part is a torch module, so what it learns (projections, a mask token) trains, is checkpointed and stops early with the rest.
To answer, ``layer0`` and ``graph`` are called once more with ``step=None`` and without gradient. All randomness comes from
``rng``, ``step.generator`` or ``step.seed()``, so a fit that was killed goes on to the bit. For example::

    class Aligned(Part):
        def __init__(self, texts: Tensor, dim: int, weight: float) -> None:
            super().__init__()
            self.map, self.weight = nn.Linear(texts.shape[1], dim), weight
            self.register_buffer("texts", texts, persistent=False)

        def loss(self, step: Step) -> Tensor:
            items = np.unique(step.batch.positives)
            return self.weight * contrast(step.vectors.items(items), self.map(self.texts[items]), 0.2)

**Positives.** With ``positives="personal_loss"`` the pairs of a batch come from pools: of a few items that a person had, one is
taken that costs little (:mod:`palate.training.personal_loss`), judged by the vectors that would answer now, without noise,
masks or dropped links. That costs one propagation without gradient a step; parts see triples as ever, drawn with people alike.
Patience counts after the warm-up.

**Answers.** Layers above 0 of a person depend on their items only, so with ``n = K + 1 - l`` layers in the mean::

    e_u(H) = [l = 0] e_u⁰/n + 1/√|H| Σ_{i in H} f_i,     f_i = 1/(n √d_i) Σ_{k=0..K-1} e_i^(k)    for l = 0 and l = 1

as ``e_u^(k) = 1/√|H| Σ_i e_i^(k-1)/√d_i`` for ``k >= 1``. With the training history this is exactly the trained ``e_u``;
with ``l = 1`` nothing is left that belongs to the person alone, so somebody unseen with that history gets the very same vector.
Where a part has altered the graph for answers, ``e_u - 1/√|H_u| Σ f_i`` takes the place of ``e_u⁰/n``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.kernels.rows import sum_rows
from palate.nn.adam import Adam
from palate.nn.graph import Adjacency
from palate.nn.graph_views import Graphs, Passes, Readout, views
from palate.recommend.folded import FoldedRecommender
from palate.recommend.graph_parts import (
    Against,
    FreeVectors,
    GraphConfig,
    Objective,
    Part,
    PoolConfig,
    PositivesConfig,
    Setting,
    Step,
    Vectors,
    contrast_of_batch,
)
from palate.training.loop import fit_module
from palate.training.validation import validator

__all__ = [
    "Against",
    "FreeVectors",
    "GraphConfig",
    "GraphRecommender",
    "Objective",
    "Part",
    "PoolConfig",
    "PositivesConfig",
    "Setting",
    "Step",
    "Vectors",
    "contrast_of_batch",
]


class GraphRecommender(FoldedRecommender):
    """Base of recommenders on the graph of people and items (see the module's text)."""

    #: How progress and errors call it; names its random streams.
    title: ClassVar[str]
    config: GraphConfig

    @property
    def _lowest(self) -> int:
        """Lowest layer of the mean: 0 or 1."""
        return 0

    def _parts(self, setting: Setting) -> Sequence[Part]:
        """Return what the system adds; they are moved to the device of the fit."""
        return ()

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        setting = Setting.of(dataset, fitting)
        table = self._table(setting, self._parts(setting))
        objective = Objective(table, setting, self.config, self._lowest)
        return self._descend(setting, table, objective.loss, objective.batches)

    def _table(self, setting: Setting, parts: Sequence[Part] = ()) -> FreeVectors:
        """Return what is learnt, as it is at first."""
        rng = setting.fitting.rng(self.name, "weights")
        return FreeVectors(len(setting.graph), self.config.dim, self.config.init, rng, parts).to(setting.device)

    def _descend(
        self,
        setting: Setting,
        table: FreeVectors,
        loss: Callable[[Any, torch.Generator], Tensor],
        batches: Callable[[int, np.random.Generator], Any],
    ) -> Mapping[str, Any]:
        """Train, and set the arrays that answer; return the notes of the fit."""
        c, n = self.config, setting.n_users
        kind = Adam if setting.device.type == "cpu" else torch.optim.AdamW

        record = fit_module(
            table,
            batches=batches,
            loss=loss,
            config=c,
            fitting=setting.fitting,
            title=self.title,
            evaluate=validator(self, setting.fitting.validation, before=lambda: self._finish(table, setting.graph, n)),
            optimizer=kind(list(table.parameters()), lr=c.lr, weight_decay=c.weight_decay),
            warmup=0 if table.sampler is None else table.sampler.warmup,
        )
        self._finish(table, setting.graph, n)
        return record.notes

    @torch.no_grad()
    def _finish(self, table: FreeVectors, graph: Adjacency, n_users: int) -> None:
        """Set the arrays that answer."""
        table.eval()
        layers, count = self.config.layers, self.config.layers + 1 - self._lowest
        free = table.layer0(None).detach().cpu().numpy().copy()
        degree = np.diff(graph.offsets)
        free[degree == 0] = 0
        used = table.graph(graph, None)
        if layers == 0:
            below, whole = np.zeros_like(free), free
        elif used is graph:
            below = graph.horner(free, layers - 1)
            whole = graph.product(below, free if self._lowest == 0 else None) / count
        else:
            below, whole = (v.numpy() for v in _below_and_whole(torch.from_numpy(free), used, layers, self._lowest))
        roots = np.sqrt(np.maximum(degree[n_users:], 1)).astype(np.float32)
        self.item_vectors_ = self._offered(whole[n_users:])
        self.shares_ = np.ascontiguousarray(below[n_users:] / (roots[:, None] * count), np.float32)
        if used is not graph:
            self.own_ = _rest(graph, whole, self.shares_, n_users)
        elif self._lowest == 0:
            self.own_ = free[:n_users] / np.float32(count)
        else:
            self.own_ = np.zeros((n_users, self.config.dim), np.float32)
        self.common_ = np.zeros(self.config.dim, np.float32)
        self._keep(below, n_users)

    def _keep(self, below: np.ndarray, n_users: int) -> None:
        """Keep what else answers need of ``Σ_{k<K} E^(k)`` (nothing here)."""

    def _offered(self, items: np.ndarray) -> np.ndarray:
        """Return the item vectors that answer, from the final ones."""
        return np.ascontiguousarray(items, np.float32)


def _below_and_whole(x: Tensor, graphs: Graphs, layers: int, lowest: int) -> tuple[Tensor, Tensor]:
    """Return ``Σ_{k<K} E^(k)`` and the mean of layers ``lowest..K``."""
    below = Readout((1.0,) * layers + (0.0,))
    found = views(x, graphs, Passes((below, Readout.mean(layers, lowest))))
    return found[0], found[1]


def _rest(graph: Adjacency, whole: np.ndarray, shares: np.ndarray, n_users: int) -> np.ndarray:
    """Return what a person's vector has beyond the shares of their history (zero without one)."""
    offsets = graph.offsets[: n_users + 1]
    counts = np.diff(offsets)
    items = graph.columns[: offsets[-1]] - np.int32(n_users)
    told = sum_rows(offsets, items, shares) / np.sqrt(np.maximum(counts, 1))[:, None]
    rest = whole[:n_users] - told
    rest[counts == 0] = 0
    return np.ascontiguousarray(rest, np.float32)
