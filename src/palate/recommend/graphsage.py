"""GraphSAGE on people, items and what is known of items: vectors are made from features and sampled neighbours, not looked up.

    x_i⁰ = P t_i + e_i  (items: text and a free vector)     x_u⁰ = c  (people: one vector for all)     x_v⁰ = e_v  (entities)
    x_v^k = φ( W_k x_v^{k-1} + Σ_r pool_{w in N_r(v)} relu(W_kr x_w^{k-1} + b_kr) )      z_v = x_v^K / |x_v^K|
    score(u, j) = <z_u, z_j>,    pool = mean or max,    φ = relu, of the last layer: none

    softmax:  L = -1/B Σ ln( e^{<z_u, z_i>/τ} / ( e^{<z_u, z_i>/τ} + Σ_n e^{<z_u, z_n>/τ} ) )       n: items shared by a batch
    bpr:      L = 1/B Σ softplus( (<z_u, z_j> - <z_u, z_i>) / τ )                               j: one unseen item for each pair

plus ``reg/(2B) Σ |e_i|²`` over the distinct items of a batch. Interactions are one relation, their inverse another; where the
data has a knowledge graph, its relations and their inverses follow. A step sees a neighbourhood that is drawn anew (at most
``fanout`` neighbours of a node for each relation and layer), from which the pairs to be predicted are left out. Answers take
all neighbours.

*Induction.* A person has no vector of their own: the same history gives the same answer to somebody known and to a stranger,
and the layers are applied to the history of the request as it is. An item that nobody had is placed by its text (and its
triples), among the others: of the items of a batch a share (``alone``) is made from the text alone, so that the layers learn to
do without neighbours; and only items that somebody had are drawn as negatives, or the loss would push new ones away. An item of
which nothing at all is known has the zero vector.

Source: W. Hamilton et al., "Inductive Representation Learning on Large Graphs", NeurIPS 2017, algorithms 1 and 2 and equations
2 and 3, with a matrix for each relation as in M. Schlichtkrull et al., ESWC 2018.
Differences: the node itself and its relations are added up, each with a matrix of its own (the paper concatenates); trained on
pairs that happened, not on random walks, with a softmax or BPR in place of the paper's equation 1; items have free vectors
beside their features (``free_items``), without which data that has no texts would say nothing; all neighbours in answers.
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
from palate.kernels.edge_samples import segment_max
from palate.kernels.spmm import spmm
from palate.language.encoder import encoder
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.texts import ItemTexts, item_texts
from palate.nn.hetero import Block, Pool, SAGELayer
from palate.nn.knowledge import Edges, Knowledge
from palate.nn.softmax import shared_softmax
from palate.nn.triples import triple_bpr
from palate.nn.unit import Unit
from palate.recommend.layered import LayeredRecommender
from palate.runtime import single_threaded_blas
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.neighbours import NeighbourSampler
from palate.training.triples import Pairs, Triples


class GraphSAGEConfig(TrainConfig):
    """Settings of GraphSAGE."""

    epochs: int = Field(40, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(1024, gt=0, description="pairs a batch")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    patience: int = Field(5, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of all layers and vectors")
    layers: int = Field(2, gt=0, description="K")
    pool: Pool = Field("mean", description="how neighbours are summed up")
    fanout: int = Field(10, gt=0, description="most neighbours of a node for each relation in a layer of a step")
    loss: Literal["softmax", "bpr"] = Field("softmax", description="training loss")
    n_negatives: int = Field(512, gt=0, description="items drawn for each batch, that all its pairs are told from (softmax)")
    temperature: float = Field(0.15, gt=0, description="τ, cosines are divided by this")
    reg: float = Field(1e-4, ge=0, description="weight of the squared size of the free vectors of a batch")
    init: float = Field(0.1, gt=0, description="standard deviation of the first free vectors")
    hide: bool = Field(True, description="leave the pairs of a batch out of its neighbourhood")
    free_items: bool = Field(True, description="whether items have free vectors beside their texts")
    alone: float = Field(0.2, ge=0, le=1, description="chance that an item of a batch is made from its text alone")
    use_text: bool = Field(True, description="whether texts of items are read (else nothing places new ones but triples)")
    encoder: str = Field("tfidf", description="text encoder: tfidf, another by name (minilm), or a folder")
    text_dim: int = Field(64, gt=0, description="width of TF-IDF vectors")
    use_graph: bool = Field(True, description="whether a knowledge graph, where the data has one, takes part")


class GraphSAGE(LayeredRecommender):
    """Heterogeneous GraphSAGE (see the module's text)."""

    name: ClassVar[str] = "graphsage"
    title: ClassVar[str] = "GraphSAGE"
    Settings = GraphSAGEConfig
    config: GraphSAGEConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        graph = dataset if c.use_graph else dataset.derive({"step": "no graphs"}, graphs={})
        knowledge = Knowledge.of(graph, required=False)
        network = _Network(
            knowledge.with_people(matrix),
            dataset.n_users,
            text_vectors(dataset, c, fitting),
            c,
            fitting.rng("graphsage", "weights"),
        )
        network.to(usable_device(fitting.device))
        pairs, steps = Pairs(matrix, c.batch_size), _Steps(c, network, np.flatnonzero(dataset.item_counts > 0))
        record = self._descend(network, dataset, fitting, lambda epoch, rng: pairs.epoch(rng, negatives=c.loss == "bpr"), steps)
        told = int(network.texts.any(dim=1).sum())
        return {**record.notes, "knowledge": knowledge.notes, "items_with_text": told}

    @torch.no_grad()
    def _finish(self, network: _Network, dataset: Dataset) -> None:
        """Set the arrays that answer: what items tell people in each layer, and what people need of the layers."""
        n, items = dataset.n_users, slice(dataset.n_users, dataset.n_users + dataset.n_items)
        x, below = network.inputs(np.arange(network.edges.rows)), []
        for layer in network.stack:
            # Relation 0 leads from people to items.
            below.append(functional.relu(x[items] @ layer.matrices[0] + layer.biases[0]))
            x = layer(x, network.block)
        something = network.texts.any(dim=1).cpu().numpy() | (network.edges.degrees[items] > 0)
        arrays = [np.where(something[:, None], f.cpu().numpy(), 0).astype(np.float32) for f in (*below, x[items])]
        self.item_vectors_, self.below_ = arrays[-1], arrays[:-1]
        self.weights_ = [w.cpu().numpy().copy() for w in (network.person, *(layer.own for layer in network.stack))]
        # Nothing belongs to a person alone.
        self.shares_, self.own_ = np.zeros((dataset.n_items, 0), np.float32), np.zeros((n, 0), np.float32)
        self._prepare()

    def _climb(self, x: np.ndarray, offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
        counts = np.diff(offsets)
        means = np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32)
        person, *own = self.weights_
        x = np.broadcast_to(person, (len(counts), len(person)))
        for k, (weights, told) in enumerate(zip(own, self.below_, strict=True)):
            near = spmm(offsets, items, means, told) if self.config.pool == "mean" else segment_max(offsets, items, told)[0]
            with single_threaded_blas():
                x = x @ weights + near
            if k < len(own) - 1:
                np.maximum(x, 0, out=x)
        return Unit(x).rows


def text_vectors(dataset: Dataset, config: GraphSAGEConfig, fitting: Fitting) -> np.ndarray:
    """Return ``float32[n_items, w]`` of length one, zero where there is no text; TF-IDF learns from items that somebody had."""
    texts = item_texts(dataset, ItemTexts(labels=False)) if config.use_text else [""] * dataset.n_items
    old = [text for text, count in zip(texts, dataset.item_counts, strict=True) if count and any(s.isalnum() for s in text)]
    if not old:
        return np.zeros((dataset.n_items, config.text_dim), np.float32)
    if config.encoder == "tfidf":
        return TfidfEncoder(dim=config.text_dim, seed=fitting.seed).fit(old).encode(texts)
    return encoder(config.encoder).encode(texts, progress=fitting.progress)


class _Network(nn.Module):
    """What is learnt: free vectors of items and entities, the common one of people, the map of texts, and the layers."""

    texts: Tensor

    def __init__(
        self, edges: Edges, n_users: int, texts: np.ndarray, config: GraphSAGEConfig, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.edges, self.block, self.n_users, self.n_items = edges, Block.whole(edges), n_users, len(texts)
        d, wide = config.dim, texts.shape[1]
        free = rng.standard_normal((edges.rows - n_users, d), np.float32) * np.float32(config.init)
        # A free vector that nothing trains would be noise.
        free[edges.degrees[n_users:] == 0] = 0
        if not config.free_items:
            free[: self.n_items] = 0
        self.free_items = config.free_items
        self.free, self.person = nn.Parameter(torch.from_numpy(free)), nn.Parameter(torch.zeros(d))
        self.map = nn.Parameter(torch.from_numpy(rng.standard_normal((wide, d), np.float32) * np.float32(1 / np.sqrt(d))))
        self.register_buffer("texts", torch.from_numpy(texts), persistent=False)
        self.layers = nn.ModuleList(
            SAGELayer(
                d, d, edges.n_relations, rng, pool=config.pool, act=k < config.layers - 1, normalise=k == config.layers - 1
            )
            for k in range(config.layers)
        )

    @property
    def stack(self) -> list[SAGELayer]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, SAGELayer)]

    def inputs(self, rows: np.ndarray) -> Tensor:
        """Return ``float32[m, d]``: layer 0 of rows of the graph."""
        at = torch.from_numpy(np.asarray(rows, np.int64) - self.n_users).to(self.free.device)
        item, person = ((at >= 0) & (at < self.n_items))[:, None], (at < 0)[:, None]
        x = functional.embedding(at.clamp(min=0), self.free)
        if not self.free_items:
            x = torch.where(item, 0.0, x)
        told = self.texts[at.clamp(0, self.n_items - 1)] @ self.map
        return torch.where(person, self.person, x + torch.where(item, told, 0.0))

    def forward(self, blocks: list[Block]) -> Tensor:
        """Return ``float32[n_out, d]`` of length one."""
        x = self.inputs(blocks[0].rows)
        for layer, block in zip(self.stack, blocks, strict=True):
            x = layer(x, block)
        return x

    def alone(self, items: np.ndarray) -> Tensor:
        """Return the vectors of items made from their texts alone."""
        x = self.texts[torch.from_numpy(items.astype(np.int64)).to(self.free.device)] @ self.map
        none = Block(np.arange(len(items), dtype=np.int64), len(items), {})
        for layer in self.stack:
            x = layer(x, none)
        return x


class _Steps:
    """The objective of a batch, on its neighbourhood.

    Parameters
    ----------
    had
        ``int64``: items that somebody had, from which negatives are drawn.
    """

    def __init__(self, config: GraphSAGEConfig, network: _Network, had: np.ndarray) -> None:
        self.config, self.network, self.had = config, network, had
        self.sampler = NeighbourSampler(network.edges, [config.fanout] * config.layers)
        self.known = np.zeros(network.n_items, bool)
        self.known[had] = True

    def __call__(self, batch: Triples, generator: torch.Generator) -> Tensor:
        c = self.config
        people, positives = batch.users.astype(np.int64), batch.positives.astype(np.int64)
        if c.loss == "softmax":
            drawn = torch.randint(len(self.had), (c.n_negatives,), generator=generator, device=generator.device)
            negatives = np.unique(self.had[drawn.cpu().numpy()])
        else:
            kept = np.flatnonzero((batch.negatives >= 0) & self.known[batch.negatives])
            people, positives, negatives = people[kept], positives[kept], batch.negatives[kept].astype(np.int64)
        n = self.network.n_users
        rows, places = np.unique(np.concatenate([people, positives + n, negatives + n]), return_inverse=True)
        z, penalty = self._vectors(rows, (people, positives + n), generator)
        u, i, j = np.split(places, [len(people), 2 * len(people)])
        share = len(people) / max(1, len(batch))
        penalty = c.reg / (2 * max(1, len(batch))) * penalty
        if c.loss == "bpr":
            return share * triple_bpr(z / np.sqrt(c.temperature), *(at.astype(np.int32) for at in (u, i, j))) + penalty
        at = np.minimum(np.searchsorted(negatives, positives), len(negatives) - 1)
        hits = torch.from_numpy(np.where(negatives[at] == positives, at, -1)).to(z.device)
        queries, own, others = (z[torch.from_numpy(at).to(z.device)] for at in (u, i, j))
        queries = queries / c.temperature
        return shared_softmax(queries, (queries * own).sum(1), others, hits=hits) + penalty

    def _vectors(
        self, rows: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the vectors of rows, some items made from their texts alone, and the size of the free vectors behind them."""
        c, network = self.config, self.network
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        blocks = self.sampler.blocks(rows, seed, hidden=pairs if c.hide else None)
        z = network(blocks)
        items = rows[rows >= network.n_users] - network.n_users
        penalty = functional.embedding(torch.from_numpy(items).to(z.device), network.free).square().sum()
        if c.alone and len(items):
            texts = network.texts[torch.from_numpy(items).to(z.device)]
            lone = (torch.rand(len(items), generator=generator, device=z.device) < c.alone) & texts.any(dim=1)
            first = len(rows) - len(items)
            z = torch.cat([z[:first], torch.where(lone[:, None], network.alone(items), z[first:])])
        return z, penalty
