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
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.nn.graph import Adjacency, graph_bpr, propagate
from palate.nn.graph_softmax import graph_softmax
from palate.nn.softmax import shared_softmax
from palate.recommend.graph_base import FreeVectors, GraphRecommender, PositivesConfig, Setting
from palate.training.personal_loss import Pools
from palate.training.triples import Triples


class LightGCNConfig(PositivesConfig):
    """Settings of LightGCN."""

    counts_with: ClassVar[Mapping[str, With]] = {
        "n_negatives": With("loss", ("sampled_softmax",)),
        "temperature": With("loss", ("softmax", "sampled_softmax")),
    }

    layers: int = Field(3, ge=0, description="K, propagation steps (0: matrix factorisation on the same batches)")
    loss: Literal["bpr", "softmax", "sampled_softmax"] = Field("bpr", description="training loss")
    n_negatives: int = Field(1024, gt=0, description="items drawn for each batch, shared by its pairs")
    temperature: float = Field(0.15, gt=0, description="cosines are divided by this")

    @model_validator(mode="after")
    def _pairs_that_can_be_drawn(self) -> LightGCNConfig:
        if self.loss == "softmax" and self.draw == "people":
            raise ValueError('draw="people" draws pairs, but with loss="softmax" a batch holds all pairs of its people')
        if self.loss != "bpr" and self.positives != "uniform":
            raise ValueError('positives="personal_loss" compares with one item not had, which loss="bpr" alone draws')
        return self


class LightGCN(GraphRecommender):
    """Light graph convolution (see the module's text)."""

    name: ClassVar[str] = "lightgcn"
    title: ClassVar[str] = "LightGCN"
    Settings = LightGCNConfig
    config: LightGCNConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        setting = Setting.of(dataset, fitting)
        table = self._table(setting)
        pairs, pools = setting.pairs(c), setting.pools(c, table)
        steps = _Steps(c, table, setting.graph, dataset.n_users)

        def batches(epoch: int, rng: np.random.Generator) -> Any:
            if pools is not None:
                return pools.epoch(epoch, c.batch_size, rng)
            if c.loss == "softmax":
                return pairs.epoch_of_people(rng)
            return pairs.epoch(rng, negatives=c.loss == "bpr")

        return self._descend(setting, table, getattr(steps, c.loss), batches)

    def _offered(self, items: np.ndarray) -> np.ndarray:
        """Return the item vectors, of length one where the loss is on cosines."""
        if self.config.loss != "bpr":
            items = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        return super()._offered(items)


class _Steps:
    """The objectives of a batch."""

    def __init__(self, config: LightGCNConfig, table: FreeVectors, graph: Adjacency, n_users: int) -> None:
        self.config, self.table, self.graph, self.n_users = config, table, graph, n_users

    def bpr(self, batch: Triples | Pools, generator: torch.Generator) -> Tensor:
        if isinstance(batch, Pools):
            assert self.table.sampler is not None
            with torch.no_grad():
                whole = propagate(self.table.free, self.graph, self.config.layers)
            batch = self.table.sampler.triples(batch, whole, self.n_users)
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
