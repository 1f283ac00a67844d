"""KGAT: people, items and what is known of items in one graph, propagated over by attention.

    s(h, r, t) = (W_r e_t)ᵀ tanh(W_r e_h + e_r)        p = softmax of s over all edges that leave h
    n_h = Σ p(h, r, t) x_t        x' = φ(W₁(x + n)) + φ(W₂(x ∘ n)),  x⁰ = e
    e* = x⁰ ‖ x¹/|x¹| ‖ … ‖ x^K/|x^K|        score(u, j) = <e*_u, e*_j>

An epoch takes turns: all pairs of people and items by BPR on ``e*`` plus ``reg/(2B) Σ |e|²`` of the batch, then all links
(interactions and inverses are links too) by TransR, ``softplus(|W_r e_h + e_r - W_r e_t|² - |W_r e_h + e_r - W_r e_t'|²)``
with a random tail ``t'`` that the head has not. Then the attention is computed again; between these moments it is
constant and has no gradient.

A person is answered from the history of the request, as in :mod:`palate.recommend.layered`: with the training history
exactly by the trained ``e*_u``. Items without events take part as far as there are triples.

Source: X. Wang et al., "KGAT: Knowledge Graph Attention Network for Recommendation", KDD 2019, equations 1 to 13.
Differences: the penalty is on ``e`` (the paper's code has it on ``e*``, whose other parts have length 1); each turn has its own
moments of Adam, as in the paper's code. Rows without edges have zero vectors. Vectors of people and items begin random, like
those of entities; with ``start="bpr_mf"`` from BPR-MF, as the paper's do. That is far better for items with events, from the
first pass on, and worse for those without (their vectors fit the others' less).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.kernels.segments import edge_inner, segment_softmax
from palate.kernels.spmm import spmm
from palate.nn.bi_interaction import Attention, BiInteraction, mix_rows
from palate.nn.dropout import Dropout
from palate.nn.knowledge import Edges, Knowledge
from palate.nn.transr import attention_scores, transr_loss
from palate.nn.triples import triple_bpr
from palate.nn.unit import Unit
from palate.recommend.bpr_mf import BPRMF
from palate.recommend.layered import LayeredRecommender
from palate.runtime import single_threaded_blas
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.knowledge import AlternatingAdam, Chain, Links, link_epoch
from palate.training.loop import fit_module
from palate.training.triples import Pairs, Triples
from palate.training.validation import validator


class KGATConfig(TrainConfig):
    """Settings of KGAT."""

    epochs: int = Field(60, ge=0, description="passes over all pairs and links; with validation, the most")
    batch_size: int = Field(1024, gt=0, description="pairs a batch")
    lr: float = Field(1e-3, gt=0, description="step size of Adam")
    patience: int = Field(10, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the free vectors, and of the relations' spaces")
    layers: tuple[int, ...] = Field((64, 32, 16), min_length=1, description="width of each propagation layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of a layer's numbers that a training step drops")
    reg: float = Field(1e-5, ge=0, description="weight of the squared size of the vectors of a batch")
    init: float = Field(0.01, gt=0, description="standard deviation of the first vectors")
    start: Literal["random", "bpr_mf"] = Field("random", description="what vectors of people and items begin from")
    kg_batch_size: int = Field(2048, gt=0, description="links a batch")
    kg_batches: int = Field(0, ge=0, description="most batches of links an epoch, drawn at random (0 = all links)")
    require_graph: bool = Field(True, description="refuse data without a knowledge graph (else learn from interactions alone)")


class KGAT(LayeredRecommender):
    """Knowledge graph attention network (see the module's text)."""

    name: ClassVar[str] = "kgat"
    Settings = KGATConfig
    config: KGATConfig

    asks_: np.ndarray
    move_: np.ndarray
    offers_: np.ndarray

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        knowledge = Knowledge.of(dataset, required=c.require_graph)
        edges = knowledge.with_people(matrix)
        network = _Network(edges, c, fitting.rng("kgat", "weights"))
        if c.start == "bpr_mf":
            network.begin(factors(dataset, fitting, c.dim))
        network.to(usable_device(fitting.device))
        pairs, steps = Pairs(matrix, c.batch_size), _Steps(c, network, dataset.n_users)

        def batches(epoch: int, rng: np.random.Generator) -> Chain:
            network.attend()
            return Chain((pairs.epoch(rng), link_epoch(edges, rng, c.kg_batch_size, c.kg_batches)))

        on_cpu = network.free.device.type == "cpu"
        record = fit_module(
            network,
            batches=batches,
            loss=steps,
            config=c,
            fitting=fitting,
            title="KGAT",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(network, dataset)),
            optimizer=AlternatingAdam(network, network.moves, c.lr, c.weight_decay) if on_cpu else None,
        )
        self._finish(network, dataset)
        return {**record.notes, "knowledge": knowledge.notes}

    def _finish(self, network: _Network, dataset: Dataset) -> None:
        """Set the arrays that answer."""
        n, items = dataset.n_users, slice(dataset.n_users, dataset.n_users + dataset.n_items)
        linked = network.edges.degrees > 0
        free = np.where(linked[:, None], network.array("free"), 0)
        found = network.mixing.layers(free, network.attend(free))
        below = [np.where(linked[items, None], layer[items], 0).astype(np.float32) for layer in found]
        self.item_vectors_ = _joined(below)
        self.below_ = below[:-1]
        self.weights_ = [w.detach().cpu().numpy().copy() for w in network.mixing.weights]
        self.asks_, self.move_ = network.array("matrices")[0].copy(), network.array("moves")[0].copy()
        self._fold(dataset, free[:n], below[0])

    def _climb(self, x: np.ndarray, offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
        with single_threaded_blas():
            asked = np.tanh(x @ self.asks_.T + self.move_)
        attention = segment_softmax(offsets, edge_inner(offsets, items, asked, self.offers_))
        layers = [x]
        for k, below in enumerate(self.below_):
            near = spmm(offsets, items, attention, below)
            layers.append(mix_rows(layers[-1], near, self.weights_[4 * k : 4 * k + 4]))
        return _joined(layers)

    def _prepare(self) -> None:
        super()._prepare()
        with single_threaded_blas():
            self.offers_ = self.below_[0] @ self.asks_.T

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "asks": self.asks_, "move": self.move_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.asks_, self.move_ = state["asks"], state["move"]
        super()._restore(state)


def _joined(layers: list[np.ndarray]) -> np.ndarray:
    """Return ``x⁰ ‖ x¹/|x¹| ‖ …``."""
    return np.concatenate([layers[0], *(Unit(layer).rows for layer in layers[1:])], axis=1)


class _Network(nn.Module):
    """Free vectors of people, items and entities; relations; layers. Holds the attention, which is no weight."""

    def __init__(self, edges: Edges, config: KGATConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.edges, d = edges, config.dim
        self.free = nn.Parameter(_normal(rng, config.init, edges.rows, d))
        self.moves = nn.Parameter(_normal(rng, config.init, edges.n_relations, d))
        self.matrices = nn.Parameter(_normal(rng, 1 / np.sqrt(d), edges.n_relations, d, d))
        self.mixing = BiInteraction((d, *config.layers), rng)
        self.attention: Attention | None = None

    @torch.no_grad()
    def begin(self, known: np.ndarray) -> None:
        """Have people and items begin from vectors ``float32[n_users + n_items, d]``, but for those that are zero."""
        rows = np.flatnonzero(known.any(axis=1))
        self.free[torch.from_numpy(rows)] = torch.from_numpy(known[rows])

    def array(self, name: str) -> np.ndarray:
        """Return a weight as an array."""
        found: np.ndarray = getattr(self, name).detach().cpu().numpy()
        return found

    def attend(self, free: np.ndarray | None = None) -> Attention:
        """Compute the attention from the weights as they stand, and keep it."""
        points = self.array("free") if free is None else free
        scores = attention_scores(points, self.array("moves"), self.array("matrices"), self.edges)
        self.attention = Attention(self.edges, segment_softmax(self.edges.offsets, scores))
        return self.attention


class _Steps:
    """The two objectives."""

    def __init__(self, config: KGATConfig, network: _Network, n_users: int) -> None:
        self.config, self.network, self.n_users = config, network, n_users

    def __call__(self, batch: Triples | Links, generator: torch.Generator) -> Tensor:
        return self.links(batch) if isinstance(batch, Links) else self.pairs(batch, generator)

    def pairs(self, batch: Triples, generator: torch.Generator) -> Tensor:
        n, c = self.network, self.config
        kept = batch.negatives >= 0
        columns = [batch.users[kept], batch.positives[kept] + self.n_users, batch.negatives[kept] + self.n_users]
        rows, places, counts = np.unique(np.concatenate(columns), return_inverse=True, return_counts=True)
        assert n.attention is not None
        out = n.mixing(n.free, n.attention, rows, Dropout(c.dropout, generator))
        weight = torch.from_numpy(counts.astype(np.float32)).to(out.device)
        penalty = c.reg / (2 * max(1, len(batch))) * (weight * out[:, : c.dim].square().sum(1)).sum()
        return triple_bpr(out, *np.split(places.astype(np.int32), 3)) + penalty

    def links(self, batch: Links) -> Tensor:
        n = self.network
        columns = (batch.heads, batch.relations, batch.tails, batch.others)
        return transr_loss(n.free, n.moves, n.matrices, *columns, self.config.reg)


def factors(dataset: Dataset, fitting: Fitting, dim: int) -> np.ndarray:
    """Return ``float32[n_users + n_items, dim]``: what BPR-MF learns from the same data (zero where there are no events)."""
    model = BPRMF(dim=dim, bias=False).fit(dataset, fitting.validation, seed=fitting.seed, progress=fitting.progress)
    asked = Requests.of_users(dataset, np.arange(dataset.n_users, dtype=np.int32))
    return np.concatenate([model.request_vectors(asked)[:, :dim], model.item_vectors[:, :dim]])


def _normal(rng: np.random.Generator, scale: float, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(scale))
