"""R-GCN on people, items and what is known of items: every kind of link speaks through a matrix of its own.

    x_i^k = φ( W₀ x_i^{k-1} + Σ_r mean_{j in N_r(i)} W_r x_j^{k-1} + b ),   W_r = Σ_b a_rb V_b,   φ of the last: none
    score(u, j) = <x_u^K, x_j^K>        L = 1/B Σ softplus(score(u, j) - score(u, i)) + reg/(2B) Σ |e|²

Interactions are one relation, its inverse another; every relation of the triples and its inverse follow. A training step sees a
neighbourhood that is drawn anew (at most ``fanout`` neighbours of a node for each relation and layer), from which the pairs
that are to be predicted are left out: otherwise a person's own item would tell the answer. Answers take all neighbours.

A person is answered from the history of the request, as in :mod:`palate.recommend.layered`.

Source: M. Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", ESWC 2018, equations 2 and 3.
Differences: trained to rank pairs by BPR (the paper predicts triples with DistMult); neighbours are sampled (the paper takes
all); rows without edges have zero vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.kernels.spmm import spmm
from palate.nn.hetero import Block, RGCNLayer
from palate.nn.knowledge import Edges, Knowledge
from palate.nn.triples import triple_bpr
from palate.recommend.layered import LayeredRecommender
from palate.runtime import single_threaded_blas
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.neighbours import NeighbourSampler
from palate.training.triples import Pairs, Triples


class RGCNConfig(TrainConfig):
    """Settings of R-GCN."""

    epochs: int = Field(40, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="pairs a batch")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    patience: int = Field(5, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    layers: int = Field(2, gt=0, description="K")
    bases: int = Field(4, ge=0, description="matrices that those of the relations are made of (0 = one for each relation)")
    fanout: int = Field(20, gt=0, description="most neighbours of a node for each relation in a layer of a step")
    reg: float = Field(1e-4, ge=0, description="weight of the squared size of the free vectors of a batch")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors")
    hide: bool = Field(True, description="leave the pairs of a batch out of its neighbourhood")
    require_graph: bool = Field(True, description="refuse data without a knowledge graph (else learn from interactions alone)")


class RGCN(LayeredRecommender):
    """Relational graph convolution (see the module's text)."""

    name: ClassVar[str] = "rgcn"
    title: ClassVar[str] = "R-GCN"
    Settings = RGCNConfig
    config: RGCNConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        knowledge = Knowledge.of(dataset, required=c.require_graph)
        network = _Network(knowledge.with_people(matrix), c, fitting.rng("rgcn", "weights"))
        network.to(usable_device(fitting.device))
        pairs, steps = Pairs(matrix, c.batch_size), _Steps(c, network, dataset.n_users)
        record = self._descend(network, dataset, fitting, lambda epoch, rng: pairs.epoch(rng), steps)
        return {**record.notes, "knowledge": knowledge.notes}

    @torch.no_grad()
    def _finish(self, network: _Network, dataset: Dataset) -> None:
        """Set the arrays that answer."""
        n, linked = dataset.n_users, network.edges.degrees > 0
        items = slice(n, n + dataset.n_items)
        x = torch.where(torch.from_numpy(linked[:, None]).to(network.free.device), network.free, 0.0)
        found = [x]
        for layer in network.stack:
            found.append(layer(found[-1], network.block))
        arrays = [np.where(linked[items, None], f[items].cpu().numpy(), 0).astype(np.float32) for f in found]
        self.item_vectors_, self.below_ = arrays[-1], arrays[:-1]
        # What a person needs of a layer: W₀, b, and the matrix of relation 0, which leads to items.
        parts = [w for layer in network.stack for w in (layer.own, layer.bias, layer.matrices[0])]
        self.weights_ = [w.cpu().numpy().copy() for w in parts]
        self._fold(dataset, x[:n].cpu().numpy(), arrays[0])

    def _climb(self, x: np.ndarray, offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
        counts = np.diff(offsets)
        means = np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32)
        depth = len(self.below_)
        for k, below in enumerate(self.below_):
            own, bias, link = self.weights_[3 * k : 3 * k + 3]
            near = spmm(offsets, items, means, below)
            with single_threaded_blas():
                x = x @ own + near @ link + bias
            if k < depth - 1:
                np.maximum(x, 0, out=x)
        return x


class _Network(nn.Module):
    """Free vectors of people, items and entities, and the layers."""

    def __init__(self, edges: Edges, config: RGCNConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.edges, self.block, d = edges, Block.whole(edges), config.dim
        self.free = nn.Parameter(torch.from_numpy(rng.standard_normal((edges.rows, d), np.float32) * np.float32(config.init)))
        made = [RGCNLayer(d, d, edges.n_relations, config.bases, rng, act=k < config.layers - 1) for k in range(config.layers)]
        self.layers = nn.ModuleList(made)

    @property
    def stack(self) -> list[RGCNLayer]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, RGCNLayer)]


class _Steps:
    """The objective of a batch, on its neighbourhood."""

    def __init__(self, config: RGCNConfig, network: _Network, n_users: int) -> None:
        self.config, self.network, self.n_users = config, network, n_users
        self.sampler = NeighbourSampler(network.edges, [config.fanout] * config.layers)

    def __call__(self, batch: Triples, generator: torch.Generator) -> Tensor:
        c, network = self.config, self.network
        kept = batch.negatives >= 0
        ends = [batch.users[kept], batch.positives[kept] + self.n_users, batch.negatives[kept] + self.n_users]
        rows, places, counts = np.unique(np.concatenate(ends), return_inverse=True, return_counts=True)
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        blocks = self.sampler.blocks(rows, seed, hidden=(ends[0], ends[1]) if c.hide else None)
        x = nn.functional.embedding(torch.from_numpy(blocks[0].rows).to(network.free.device), network.free)
        weights = torch.from_numpy(counts.astype(np.float32)).to(x.device)
        penalty = c.reg / (2 * max(1, len(batch))) * (weights * x[: len(rows)].square().sum(1)).sum()
        for layer, block in zip(network.stack, blocks, strict=True):
            x = layer(x, block)
        fit = triple_bpr(x, *np.split(places.astype(np.int32), 3))
        return fit * (len(ends[0]) / max(1, len(batch))) + penalty
