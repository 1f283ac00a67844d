"""LightGCN: vectors of people and items, smoothed over the graph of who had what.

    E^(k+1) = Â E^(k),   Â = D^-1/2 A D^-1/2        E = 1/(K+1) Σ_{k=0..K} E^(k)        score(u, j) = <e_u, e_j>

trained with BPR on ``E`` and ``reg/(2B) Σ |e⁰|²`` over the rows of each batch.

A person's vector is computed from the history of the request. Layers above 0 of a person depend only on their items, so::

    e_u(H) = e_u⁰/(K+1) + 1/√|H| Σ_{i in H} f_i,     f_i = 1/((K+1) √d_i) Σ_{k=0..K-1} e_i^(k)

With the training history this is exactly the trained ``e_u``; with another it is what propagation from that history gives;
for an unseen person the free part ``e_u⁰`` is zero.

Source: X. He et al., "LightGCN", SIGIR 2020, equations 3 to 8 and 15.
Differences: beside BPR there are two losses on cosines: ``softmax`` over the whole catalogue (a batch holds all pairs of its
people, whose row of scores is shared) and ``sampled_softmax`` (uniform negatives shared by a batch of pairs); the default step
size is 5e-3 (the paper's is 1e-3); repeated events of a pair count once; people and items without training events have zero
vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.nn.adam import Adam
from palate.nn.graph import Adjacency, graph_bpr, propagate
from palate.nn.graph_softmax import graph_softmax
from palate.nn.softmax import shared_softmax
from palate.recommend.folded import FoldedRecommender
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.triples import Pairs, Triples
from palate.training.validation import validator


class LightGCNConfig(TrainConfig):
    """Settings of LightGCN."""

    epochs: int = Field(100, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="pairs a batch")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    patience: int = Field(10, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    layers: int = Field(3, gt=0, description="K, propagation steps")
    reg: float = Field(1e-4, ge=0, description="weight of the squared size of the free vectors")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors")
    loss: Literal["bpr", "softmax", "sampled_softmax"] = Field("bpr", description="training loss")
    n_negatives: int = Field(1024, gt=0, description="items drawn for each batch, shared by its pairs (sampled_softmax)")
    temperature: float = Field(0.15, gt=0, description="cosines are divided by this (softmax losses)")


class LightGCN(FoldedRecommender):
    """Light graph convolution (see the module's text)."""

    name: ClassVar[str] = "lightgcn"
    Settings = LightGCNConfig
    config: LightGCNConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        graph = Adjacency.of_matrix(matrix)
        table = _Table(len(graph), c.dim, c.init, fitting.rng("lightgcn", "weights"))
        table.to(usable_device(fitting.device))
        pairs = Pairs(matrix, c.batch_size)
        steps = _Steps(self.config, table, graph, dataset.n_users)
        check = validator(self, fitting.validation)
        kind = Adam if table.free.device.type == "cpu" else torch.optim.AdamW

        def look() -> float:
            assert check is not None
            self._finish(table, graph, dataset.n_users)
            return check()

        def batches(epoch: int, rng: np.random.Generator) -> Any:
            if c.loss == "softmax":
                return pairs.epoch_of_people(rng)
            return pairs.epoch(rng, negatives=c.loss == "bpr")

        record = fit_module(
            table,
            batches=batches,
            loss=getattr(steps, c.loss),
            config=c,
            fitting=fitting,
            title="LightGCN",
            evaluate=None if check is None else look,
            optimizer=kind([table.free], lr=c.lr, weight_decay=c.weight_decay),
        )
        self._finish(table, graph, dataset.n_users)
        return record.notes

    def _finish(self, table: _Table, graph: Adjacency, n_users: int) -> None:
        """Set the arrays that answer, from the free vectors."""
        layers = self.config.layers
        free = table.free.detach().cpu().numpy().copy()
        degree = np.diff(graph.offsets)
        free[degree == 0] = 0
        below = graph.horner(free, layers - 1)
        whole = graph.product(below, free)[n_users:] / (layers + 1)
        if self.config.loss != "bpr":
            whole /= np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
        roots = np.sqrt(np.maximum(degree[n_users:], 1)).astype(np.float32)
        self.item_vectors_ = np.ascontiguousarray(whole, np.float32)
        self.shares_ = np.ascontiguousarray(below[n_users:] / (roots[:, None] * (layers + 1)), np.float32)
        self.own_ = free[:n_users] / np.float32(layers + 1)
        self.common_ = np.zeros(self.config.dim, np.float32)


class _Table(nn.Module):
    """The free vectors: people first, then items."""

    def __init__(self, rows: int, dim: int, scale: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.from_numpy(rng.standard_normal((rows, dim), np.float32) * np.float32(scale)))


class _Steps:
    """The objectives of a batch."""

    def __init__(self, config: LightGCNConfig, table: _Table, graph: Adjacency, n_users: int) -> None:
        self.config, self.table, self.graph, self.n_users = config, table, graph, n_users

    def bpr(self, batch: Triples, generator: torch.Generator) -> Tensor:
        positives = batch.positives + np.int32(self.n_users)
        negatives = np.where(batch.negatives < 0, -1, batch.negatives + self.n_users).astype(np.int32)
        c = self.config
        return graph_bpr(self.table.free, self.graph, c.layers, batch.users, positives, negatives, c.reg)

    def softmax(self, batch: Triples, generator: torch.Generator) -> Tensor:
        c, n = self.config, self.n_users
        positives = batch.positives + np.int32(n)
        return graph_softmax(self.table.free, self.graph, c.layers, batch.users, positives, n, c.temperature, c.reg)

    def sampled_softmax(self, batch: Triples, generator: torch.Generator) -> Tensor:
        c, device = self.config, self.table.free.device
        drawn = torch.randint(self.graph_items, (c.n_negatives,), generator=generator, device=device)
        drawn = torch.unique(drawn)
        u, i = _index(batch.users, device), _index(batch.positives, device)
        whole = propagate(self.table.free, self.graph, c.layers)
        wanted = torch.cat([u, i + self.n_users, drawn + self.n_users])
        rows = functional.normalize(whole.index_select(0, wanted), dim=1)
        queries, own, others = torch.split(rows, [len(u), len(i), len(drawn)])
        queries = queries / c.temperature
        at = torch.searchsorted(drawn, i).clamp(max=len(drawn) - 1)
        hits = torch.where(drawn[at] == i, at, -1)
        return shared_softmax(queries, (queries * own).sum(1), others, hits=hits) + self._penalty(batch)

    @property
    def graph_items(self) -> int:
        return len(self.graph) - self.n_users

    def _penalty(self, batch: Triples) -> Tensor:
        """Return ``reg/(2B) Σ |e⁰|²`` over the pairs of a batch."""
        rows = np.concatenate([batch.users, batch.positives + np.int32(self.n_users)])
        counts = np.bincount(rows, minlength=len(self.graph)).astype(np.float32)
        sizes = self.table.free.square().sum(1)
        return self.config.reg / (2 * len(batch)) * (sizes * torch.from_numpy(counts).to(sizes.device)).sum()


def _index(numbers: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int64)).to(device)
