"""DiffKG: of all that is known of items, what matters for recommending, found by diffusion over the knowledge graph.

*Encoder.* Items are rows of the knowledge graph, whose attention speaks through relations; what comes out is layer 0 of a
LightGCN with the people::

    a(h, r, t) = φ( Σ_dims ([x_h ‖ x_t] W) ∘ r )        p = softmax of a over all edges that leave h
    x' = drop(x + Σ p x_t),  x' ← x'/|x'|        out ← λ out + x',  out = x at first

*Diffusion.* The row of each item and entity in the adjacency ``Z`` is noised and denoised (:mod:`palate.nn.graph_diffusion`).
The network learns to restore rows, and to predict links that shared people explain (U and x are constant here)::

    L = (1 - λ₀) ELBO + λ₀ mean (c_h - x_h)²,     c_h = (ẑ_items Rᵀ) U

*Generation.* Every row is walked back from its clean state, its k highest entries are taken, both ways; of the links that the
knowledge graph has, those are kept, and each survives with probability ``keep``. That is the generated graph G'.

*Training.* BPR, and InfoNCE between the vectors of people (items) with the whole graph and those with G'. An epoch trains the
denoiser on all rows, generates G', then walks all pairs. Answers come from the main view, by default G'.

``views`` says what the second graph is: ``diffusion``, or for comparison ``random`` (k random links of each row instead of the
k highest, else the same), ``dropout`` (the whole graph twice, told apart by dropout alone), ``off`` (no knowledge and no
contrast).

A person is answered from the history of the request, as in :mod:`palate.recommend.graph_base`: exactly the trained vector with
the training history. An item that nobody had is placed by its triples: its vector is layer 0 made from its links in the main
graph (in the whole one, if that kept none), as its own row is zero and no person passes it anything on.

Source: Y. Jiang et al., "DiffKG: Knowledge Graph Diffusion Model for Recommendation", WSDM 2024 (arXiv 2312.16890), equations 1
to 16.
Differences: G' reaches training and answers, as the paper says; in the code published last it doesn't, and both views are the
whole graph (here ``views="dropout"``). LightGCN has no self-loops and takes the mean of its layers. A pair of rows that
several relations link keeps all of them, and the whole graph all links of a row (the published code keeps the first relation
of a pair and, unless told otherwise, ten links of a row, drawn once). Rows without links take no part in diffusion, nor do
entities with fewer than ``min_links``: its cost grows with the square of the rows, and most entities of a large graph have one
link (data sets of other papers leave out those with fewer than ten). The penalty is on layer 0 of the batch's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.nn.affine import affine
from palate.nn.dropout import OFF, Dropout
from palate.nn.generated_links import adjacency, random_entries, survivors, taken, taking_part
from palate.nn.graph_diffusion import DROP, Denoiser, Schedule, Walk, elbo, noisy
from palate.nn.knowledge import Edges, Knowledge
from palate.nn.segments import edge_softmax, edge_sum
from palate.recommend.graph_base import (
    Against,
    FreeVectors,
    GraphRecommender,
    Objective,
    Part,
    PositivesConfig,
    Setting,
    Step,
    contrast_of_batch,
)
from palate.training.personal_loss import Pools
from palate.training.triples import Triples

#: Slope of the attention's activation below zero.
LEAK = 0.2
#: Least and most noise, before ``noise``.
NOISE = (1e-4, 0.02)
#: Bytes that a block of dense rows may take where rows are generated.
BLOCK_BYTES = 32 * 2**20

Views = Literal["diffusion", "random", "dropout", "off"]


class DiffKGConfig(PositivesConfig):
    """Settings of DiffKG."""

    counts_with: ClassVar[Mapping[str, With]] = {
        **dict.fromkeys(("steps", "noise", "guidance", "hidden", "rows"), With("views", ("diffusion",))),
        **dict.fromkeys(("k", "keep", "min_links", "main"), With("views", ("diffusion", "random"))),
        **dict.fromkeys(("cl_weight", "temperature", "against"), With("views", unless=("off",))),
    }

    epochs: int = Field(30, ge=0, description="passes over all rows and pairs; with validation, the most")
    lr: float = Field(1e-3, gt=0, description="step size of Adam, for both networks")
    patience: int = Field(5, ge=0, description="validation looks without improvement before stopping (0 = never)")
    layers: int = Field(2, gt=0, description="K, propagation steps among people and items")
    reg: float = Field(1e-5, ge=0, description="weight of the squared size of layer 0")
    kg_layers: int = Field(1, gt=0, description="attention steps in the knowledge graph")
    residual: float = Field(0.5, ge=0, description="λ, what a layer's input counts beside its output")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of an attention layer's output that a step drops")
    views: Views = Field("diffusion", description="what the second graph is")
    main: Literal["generated", "whole"] = Field("generated", description="the graph that ranks; the other one is contrasted")
    cl_weight: float = Field(0.1, ge=0, description="weight of the contrast")
    temperature: float = Field(0.1, gt=0, description="cosines are divided by this")
    against: Against = Field("all", description="whom a node is told apart from")
    steps: int = Field(5, gt=0, description="T, diffusion steps")
    noise: float = Field(0.1, gt=0, le=40, description="scale of the noise")
    guidance: float = Field(0.5, ge=0, le=1, description="λ₀, weight of what shared people explain")
    hidden: int = Field(256, gt=0, description="width of the denoiser")
    rows: int = Field(1024, gt=0, description="rows of a batch of the denoiser")
    min_links: int = Field(1, ge=1, description="entities with fewer links take no part in diffusion (10 for large graphs)")
    k: int = Field(1, gt=0, description="highest entries of a row that are taken")
    keep: float = Field(0.5, gt=0, le=1, description="probability that a taken link survives an epoch")
    require_graph: bool = Field(True, description="refuse data without a knowledge graph (else learn from interactions alone)")


class DiffKG(GraphRecommender):
    """LightGCN on items whose knowledge graph was denoised (see the module's text).

    Attributes
    ----------
    generated_
        ``int32[m, 3]``: head, relation and tail of the generated graph that answers (rows of
        :class:`palate.nn.knowledge.Knowledge`), each link once.
    """

    name: ClassVar[str] = "diffkg"
    title: ClassVar[str] = "DiffKG"
    Settings = DiffKGConfig
    config: DiffKGConfig
    generated_: np.ndarray

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        setting, c = Setting.of(dataset, fitting), self.config
        knowledge = Knowledge.of(dataset, required=c.require_graph)
        part = KnowledgeViews(c, knowledge, setting)
        table = self._table(setting, (part,))
        objective = Objective(table, setting, c, self._lowest)
        plan = _Plan(part, table, objective)
        record = self._descend(setting, table, plan.loss, plan.batches)
        return {**record, "knowledge": knowledge.notes}

    def _finish(self, table: FreeVectors, graph: Any, n_users: int) -> None:
        super()._finish(table, graph, n_users)
        part = next(p for p in table.additions if isinstance(p, KnowledgeViews))
        items = part.placed(table.free, self.item_counts_ == 0)
        if items is not None:
            self.item_vectors_ = np.where(items.any(axis=1, keepdims=True), items, self.item_vectors_)
        edges = part.second
        forward = edges.relations % 2 == 0
        parts = (edges.heads[forward], edges.relations[forward] // 2, edges.tails[forward])
        self.generated_ = np.stack(parts, axis=1).astype(np.int32)

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "generated": self.generated_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.generated_ = state["generated"]


@dataclass(frozen=True)
class Rows:
    """A batch of the denoiser: numbers of linked rows."""

    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class _Epoch:
    """Rows for the denoiser, then a new graph, then pairs."""

    plan: _Plan
    rows: list[np.ndarray]
    pairs: Any
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.rows) + len(self.pairs)

    def __iter__(self) -> Iterator[Rows | Triples | Pools]:
        for numbers in self.rows:
            yield Rows(numbers)
        self.plan.part.renew(self.rng)
        yield from self.pairs


class _Plan:
    """The two objectives of an epoch."""

    def __init__(self, part: KnowledgeViews, table: FreeVectors, objective: Objective) -> None:
        self.part, self.table, self.objective = part, table, objective

    def batches(self, epoch: int, rng: np.random.Generator) -> _Epoch:
        pairs = self.objective.batches(epoch, rng)
        part, rows = self.part, []
        if part.denoiser is not None:
            part.fix(self.table.free)
            order = rng.permutation(len(part.linked))
            rows = [order[low : low + part.c.rows] for low in range(0, len(order), part.c.rows)]
        return _Epoch(self, rows, pairs, rng)

    def loss(self, batch: Rows | Triples | Pools, generator: torch.Generator) -> Tensor:
        if isinstance(batch, Rows):
            return self.part.denoising(batch.numbers, generator)
        return self.objective.loss(batch, generator)


class KnowledgeViews(Part):
    """The encoder, the denoiser, and the graph that was generated last (``kept`` marks its edges)."""

    kept: Tensor

    def __init__(self, config: DiffKGConfig, knowledge: Knowledge, setting: Setting) -> None:
        super().__init__()
        rng = setting.fitting.rng("diffkg", "knowledge")
        self.c, self.whole, self.n_users, self.n_items = config, knowledge.edges, setting.n_users, knowledge.n_items
        d, extra = config.dim, knowledge.n_rows - knowledge.n_items
        self.entities = nn.Parameter(_normal(rng, config.init, extra, d))
        self.relations = nn.Parameter(_normal(rng, 1.0, self.whole.n_relations, d))
        self.mixing = nn.Parameter(_normal(rng, 1 / np.sqrt(2 * d), 2, d, d))
        self.register_buffer("kept", torch.ones(len(self.whole), dtype=torch.uint8))
        self.linked = taking_part(self.whole, self.n_items, config.min_links)
        if len(self.whole) and not len(self.linked) and config.views in ("diffusion", "random"):
            most = int(self.whole.degrees[self.n_items :].max())
            remedy = f"lower it: no entity has more than {most}"
            raise DataError("no entity has so many links.", where="min_links", value=config.min_links, remedy=remedy)
        self.matrix = setting.matrix
        self.rows_ = adjacency(self.whole, self.linked)
        diffuse = config.views == "diffusion" and len(self.linked) > 0
        self.denoiser = Denoiser(len(self.linked), config.hidden, rng) if diffuse else None
        low, high = (config.noise * bound for bound in NOISE)
        self.schedule = Schedule.linear(config.steps, low, high)
        self._second: tuple[bytes, Edges] | None = None
        self._free: list[Tensor] = []

    # -- the two graphs -------------------------------------------------------------------------

    @property
    def second(self) -> Edges:
        """The generated graph."""
        marks = self.kept.cpu().numpy()
        key = marks.tobytes()
        if self._second is None or self._second[0] != key:
            self._second = key, self.whole.kept(marks.astype(bool))
        return self._second[1]

    @property
    def graphs(self) -> tuple[Edges, Edges]:
        """The main graph, and the one that is contrasted."""
        return (self.second, self.whole) if self.c.main == "generated" else (self.whole, self.second)

    @torch.no_grad()
    def renew(self, rng: np.random.Generator) -> None:
        """Generate the graph of an epoch."""
        if self.c.views not in ("diffusion", "random") or not len(self.linked):
            return
        best = self.highest() if self.c.views == "diffusion" else random_entries(self.rows_, self.c.k, rng)
        marks = taken(self.whole, self.linked, best)
        self.kept.copy_(torch.from_numpy(survivors(self.whole, marks, self.c.keep, rng).astype(np.uint8)))

    def highest(self) -> np.ndarray:
        """Return ``int64[linked, k]``: the highest entries of each row after the walk back."""
        assert self.denoiser is not None
        width = len(self.linked)
        height, k = max(1, BLOCK_BYTES // (4 * width)), min(self.c.k, width)
        found = []
        walk = Walk(self.denoiser, self.schedule)
        for low in range(0, width, height):
            z = walk(self.rows_[low : min(low + height, width)])
            found.append((z.argmax(1, keepdim=True) if k == 1 else torch.topk(z, k, dim=1).indices).cpu().numpy())
        return np.concatenate(found)

    def _dense(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(self.rows_[numbers].toarray()).to(self.entities.device)

    # -- the denoiser ---------------------------------------------------------------------------

    @torch.no_grad()
    def fix(self, free: Tensor) -> None:
        """Take vectors of people and rows as constants for the denoising of an epoch."""
        points = torch.cat([free.detach()[self.n_users :], self.entities.detach()])
        self.points = points[torch.from_numpy(self.linked)]
        items = self.linked[self.linked < self.n_items]
        people = free.detach()[: self.n_users].cpu().numpy()
        self.audience = torch.from_numpy(np.asarray(self.matrix[:, items].T @ people, np.float32)).to(free.device)

    def denoising(self, numbers: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return the loss of the denoiser on some rows."""
        assert self.denoiser is not None
        z, device = self._dense(numbers), self.entities.device
        steps = torch.randint(len(self.schedule), (len(z),), generator=generator, device=device)
        predicted = self.denoiser(noisy(z, steps, self.schedule, generator), steps, Dropout(DROP, generator))
        loss = (1 - self.c.guidance) * elbo(z, predicted, steps, self.schedule)
        if self.c.guidance > 0:
            loss = loss + self.c.guidance * guidance(predicted, self.audience, self.points[torch.from_numpy(numbers)])
        return loss

    # -- the encoder ----------------------------------------------------------------------------

    def encode(self, free: Tensor, edges: Edges, drop: Dropout = OFF) -> Tensor:
        """Return layer 0: people as they are, items as the knowledge graph makes them."""
        x = torch.cat([free[self.n_users :], self.entities])
        out = x
        asks, offers = (torch.from_numpy(a).to(x.device) for a in (edges.asks, edges.offers))
        for _ in range(self.c.kg_layers):
            asked, offered = (affine(x, self.relations @ w.T).reshape(-1) for w in self.mixing)
            scores = asked.index_select(0, asks) + offered.index_select(0, offers)
            shares = edge_softmax(functional.leaky_relu(scores, LEAK), edges)
            x = functional.normalize(drop(x + edge_sum(shares, x, edges)), dim=1)
            out = self.c.residual * out + x
        return torch.cat([free[: self.n_users], out[: self.n_items]])

    @torch.no_grad()
    def placed(self, free: Tensor, silent: np.ndarray) -> np.ndarray | None:
        """Return ``float32[n_items, d]``: silent items by their triples alone, zero elsewhere (``None``: no such).

        Parameters
        ----------
        silent
            ``bool[n_items]``: nobody had them, so their own vectors have only learnt to be negatives, and stand at zero here.
        """
        main = self.graphs[0]
        told = silent & (self.whole.degrees[: self.n_items] > 0)
        if self.c.views == "off" or not told.any():
            return None
        own, n = free.detach().clone(), self.n_users
        own[n:][torch.from_numpy(told).to(own.device)] = 0
        linked = main.degrees[: self.n_items] > 0
        vectors = [self.encode(own, edges)[n:].cpu().numpy() for edges in (main, self.whole)]
        return np.where(told[:, None], np.where(linked[:, None], *vectors), np.float32(0))

    def layer0(self, free: Tensor, step: Step | None) -> Tensor:
        """Return the main view's layer 0."""
        if self.c.views == "off":
            return free
        self._free = [free]
        return self.encode(free, self.graphs[0], OFF if step is None else Dropout(self.c.dropout, step.generator))

    def loss(self, step: Step) -> Tensor | None:
        """Return the contrast of the two views."""
        if self.c.views == "off" or self.c.cl_weight == 0:
            return None
        other = self.encode(self._free[0], self.graphs[1], Dropout(self.c.dropout, step.generator))
        rows = None
        if self.c.against == "batch":
            rows = np.unique(np.concatenate([step.batch.users, step.batch.positives + np.int64(self.n_users)]))
        (second,) = step.propagate(layer0=other, rows=rows)
        pull = contrast_of_batch(step, step.vectors, second, self.c.temperature, self.c.against)
        return self.c.cl_weight * pull


def guidance(predicted: Tensor, audience: Tensor, points: Tensor) -> Tensor:
    """Return ``mean (c_h - x_h)²``, where ``c_h`` sums the people behind the items that row ``h`` is predicted to link.

    Parameters
    ----------
    predicted
        ``float32[B, n]``, ``ẑ``; items come first.
    audience
        ``float32[items, d]``, ``Rᵀ U``.
    points
        ``float32[B, d]``, ``x``.
    """
    return (affine(predicted[:, : len(audience)], audience.T) - points).square().mean()


def _normal(rng: np.random.Generator, scale: float, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(scale))
