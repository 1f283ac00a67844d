"""AW-MoE: experts that score an item, weighed by a gate that reads what a person did; a contrast teaches it short histories.

One dense layer a source gives h_j of events, h_t of the target, h_q of the request (a search query, where ``query`` names its
columns) and h_o of all other fields. With c = h_q, or h_t where there is no query::

    interest       v_u = Σ_j MLP_a([h_t; h_j; h_t - h_j; h_t ⊙ h_j]) h_j
    experts        s_k = MLP_k([v_u; h_t; h_q; h_o])
    gate           g = g_0 + Σ_j w_j G_j,   w_j = MLP_w([c; h_j; c ⊙ h_j]),   G_j = MLP_g([c; h_j]) ∈ R^K
    answer         ŷ = Σ_k g_k s_k                                    (log-odds of a click)
    loss           L + λ L_cl
    contrast       L_cl = -mean_u ln [ e^{cos(g_u, g'_u)/τ} / Σ_v e^{cos(g_u, g'_v)/τ} ]

g' is the gate of a history of which events are left out at random, one at least kept; u and v are different people of the
batch. Only the gate's history is thinned, not that of v_u. With a query the gate depends on person and query alone, and is
made once for all candidates of a request. Without a history, or with ``gate="input"``, g is a softmax of the experts' input:
a plain mixture. With ``gate="category"`` it is that of :mod:`palate.rank.category_gate`, which knows the category alone.

Source: "Attention Weighted Mixture of Experts with Contrastive Learning for Personalized Ranking in E-commerce", ICDE 2023,
arXiv 2306.05011. In the style of it: what is sure is that events feed both experts and gate, that gate and activation units
make the gate, and that random masking and a contrast work on the gate's output alone. Chosen here: all sizes, τ and λ; the
cosine (an inner product could be lowered by shrinking g and growing s); g_0, which is all that an empty history has;
negatives are the thinned gates of other people, one row a person (``person`` names the column; else the same history is the
same person), some at a time; g is signed (``gate_norm`` makes it a softmax). A sum of w_j G_j, as above, grows with the
history; ``pool`` says which mean is taken instead (by default: Σ_j w_j G_j / T), as in trials a sum was clearly worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowLayout
from palate.errors import ConfigError, UnsupportedError, nearest
from palate.nn.contrast import contrast
from palate.nn.dropout import Dropout
from palate.nn.experts import Gate
from palate.nn.fields import FieldVectors, RowVectors
from palate.nn.mlp import MLP, dense
from palate.nn.take import take
from palate.nn.target_attention import PairNet, TargetAttention, masked_softmax, one_history
from palate.rank.category_gate import CategoryGate
from palate.rank.history import History, HistoryConfig, HistoryRanker, SideNet, history_of, read_history
from palate.rank.neural import BLOCK, RowNet
from palate.retrieval.tokens import tokens

Pool = Literal["sum", "mean", "softmax"]


class AWMoEConfig(HistoryConfig):
    """Settings of AW-MoE."""

    hidden: tuple[int, ...] = Field((64, 32), description="widths of the dense layers of an expert")
    experts: int = Field(4, gt=0, description="how many experts")
    source: int = Field(32, gt=0, description="width of the layer of each source: events, target, request, other fields")
    attention_hidden: tuple[int, ...] = Field((32,), min_length=1, description="widths of the layers that weigh events")
    gate_hidden: tuple[int, ...] = Field((32,), min_length=1, description="widths of the layers that an event asks experts by")
    query: tuple[str, ...] = Field((), description="fields of the request by which the gate weighs events (none: the target)")
    gate: Literal["events", "input", "category"] = Field(
        "events", description="what the gate reads: events, what the experts read, or the category"
    )
    category: tuple[str, ...] = Field((), description="fields of the category, for a gate of categories")
    top_category: tuple[str, ...] = Field((), description="fields of the top category, which holds that gate (none: nothing)")
    kept: int = Field(2, gt=0, description="experts that a gate of categories keeps")
    hierarchy: float = Field(0.01, ge=0, description="weight of the distance from the gate of the top category")
    disagreement: float = Field(0.01, ge=0, description="weight of the distance between experts kept and not kept")
    pool: Pool = Field("mean", description="how events make the gate: mean or sum of w·G, or w by a softmax")
    gate_norm: Literal["none", "softmax"] = Field("none", description="whether the gate is a softmax")
    contrast: float = Field(0.02, ge=0, description="weight λ of the contrast of gates")
    temperature: float = Field(0.2, gt=0, description="τ of the contrast")
    drop_events: float = Field(0.3, ge=0, lt=1, description="share of events that are left out of the second view")
    people: int = Field(64, gt=1, description="people that are told apart at a time")
    person: str = Field("", description="field that tells people apart, not read otherwise (none named: user, which is)")


class AWMoE(HistoryRanker):
    """Attention-weighted mixture of experts (see the module's text)."""

    name: ClassVar[str] = "aw_moe"
    title: ClassVar[str] = "AW-MoE"
    Settings = AWMoEConfig
    config: AWMoEConfig
    net_: AWMoENet

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        if self.config.gate != "events" and self.config.contrast:
            raise ConfigError(
                "only a gate of events has a contrast.", where="contrast", value=self.config.contrast, remedy="contrast=0"
            )
        if self.config.gate == "category" and not self.config.category:
            raise ConfigError("a gate of categories needs their fields.", where="category", remedy="category=('brand',)")
        return AWMoENet(self.config, layout, tasks, rng)

    def _loss(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        own, aside = super()._loss(outputs, labels, weights), self.net_.take_aside()
        return own if aside is None else own + aside

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        notes = super()._fit(blocks, validation, fitting)
        found = self._gates(self.encoder_.encode(next(iter(blocks())).features.slice(0, BLOCK), tokens))
        return {**notes, "gate": {"mean": found.mean(0).tolist(), "sd": found.std(0).tolist()}}

    def gates(self, rows: Rows) -> np.ndarray:
        """Return ``float32[n, k]``: the weights of the experts for each row, which tell groups of people apart.

        Raises
        ------
        UnsupportedError
            If the model has no history, and no gate of categories either.
        """
        self._check_fitted()
        if self.net_.history is None and self.net_.category_gate is None:
            raise UnsupportedError("without a history there are no gates of people.", remedy="fit it on rows with a history")
        return self._gates(self.encoder_.encode(rows.features, tokens))

    @torch.no_grad()
    def _gates(self, rows: Encoded) -> np.ndarray:
        net = self.net_.eval()
        parts = [net.read(rows.take(slice(at, at + BLOCK))).gate for at in range(0, len(rows), BLOCK)]
        return torch.cat(parts).numpy() if parts else np.empty((0, self.config.experts), np.float32)


@dataclass(frozen=True)
class Read:
    """What a network read of rows: the experts' input, the gate, and what it was made of.

    Attributes
    ----------
    x
        ``float32[n, width]``.
    gate
        ``float32[n, k]``.
    size
        Of the vectors that were looked up.
    parts
        Scores ``float32[n, t]``, wishes ``float32[n, t, k]`` and mask ``bool[n, t]`` of events, where the gate reads them.
    categories
        Vectors of the own and of the top category, where the gate reads those.
    """

    x: Tensor
    gate: Tensor
    size: Tensor
    parts: tuple[Tensor, Tensor, Tensor] | None
    categories: tuple[Tensor, Tensor] | None = None


class AWMoENet(SideNet):
    """The network; what it puts aside is what its gate adds to the loss."""

    def __init__(self, config: AWMoEConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.config, self.history = config, history_of(layout, config)
        self.table = FieldVectors(layout, config.dim, rng, whole=self.history.sequences if self.history else ())
        names = self.table.names
        apart = {config.person, *config.query, *(self.history.targets if self.history else ())}
        self.query = _places(names, config.query, "query")
        self.category = _places(names, config.category, "category")
        self.top = _places(names, config.top_category, "top_category")
        self.others = [at for at, name in enumerate(names) if name not in apart]
        self.person = _who(config, layout)
        self.events: tuple[int, int] | None = None
        sources = bool(self.query) + bool(self.others)
        if self.query:
            self.of_query = dense(len(self.query) * config.dim, config.source, rng)
        if self.others:
            self.of_others = dense(len(self.others) * config.dim, config.source, rng)
        if self.history:
            self._read_events(self.history, layout, rng)
            sources += 2
        width = sources * config.source
        self.experts = nn.ModuleList(MLP(width, config.hidden, tasks, rng) for _ in range(config.experts))
        plain = not self.reads_events and config.gate != "category"
        self.plain_gate = Gate(width, config.experts, rng) if plain else None
        self.category_gate: CategoryGate | None = None
        if config.gate == "category":
            own, top = len(self.category) * config.dim, len(self.top) * config.dim
            self.category_gate = CategoryGate(own, top, config.experts, config.kept, rng)

    @property
    def reads_events(self) -> bool:
        """Whether the gate is made of events."""
        return self.history is not None and self.config.gate == "events"

    def _read_events(self, history: History, layout: RowLayout, rng: np.random.Generator) -> None:
        """Make the parts that read a history."""
        c, own = self.config, len(history.sequences) * self.config.dim
        self.events = layout.sequences[history.sequences[0]]
        self.of_event, self.of_target = dense(own, c.source, rng), dense(own, c.source, rng)
        self.interest = TargetAttention(c.source, c.attention_hidden, rng, activation="relu")
        if c.gate == "events":
            how: dict[str, Any] = {"difference": False, "activation": "relu"}
            self.activation_unit = PairNet(c.source, c.source, c.attention_hidden, 1, rng, product=True, **how)
            self.gate_unit = PairNet(c.source, c.source, c.gate_hidden, c.experts, rng, product=False, **how)
            self.default_gate = nn.Parameter(torch.full((c.experts,), 1 / c.experts))
            assert isinstance(self.activation_unit.rest.last, nn.Linear)
            with torch.no_grad():  # weights of events start about 1, so gradients reach the gate unit at once
                self.activation_unit.rest.last.bias.fill_(1.0)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors; what the gate adds to the loss is put aside."""
        found = self.read(rows)
        self.aside = None
        if self.training and self.config.contrast and found.parts is not None:
            self.aside = self.config.contrast * self._contrast(rows, found, drop)
        scores = torch.stack([expert(found.x, drop) for expert in self.experts], 1)
        if self.training and self.category_gate is not None and found.categories is not None:
            away = self.category_gate.disagreement(scores, found.gate, drop.generator)
            self.aside = self.config.hierarchy * self.category_gate.hierarchy(*found.categories)
            self.aside = self.aside - self.config.disagreement * away
        return (found.gate[:, :, None] * scores).sum(1), found.size

    def read(self, rows: Encoded) -> Read:
        """Return what is read of rows."""
        vectors = self.table(rows)
        sources = []
        query = self._source(vectors, self.query, "of_query")
        if query is not None:
            sources.append(query)
        others = self._source(vectors, self.others, "of_others")
        if others is not None:
            sources.append(others)
        if self.history is None:
            return self._plain(torch.cat(sources, 1), vectors)
        target, history, mask = read_history(self.table, vectors, self.history)
        h_t, events = torch.relu(self.of_target(target)), self._events(history, mask)
        x = torch.cat([*sources, h_t, self.interest(h_t, events, mask)], 1)
        if not self.reads_events:
            return self._plain(x, vectors)
        parts = self._asked(h_t if query is None else query, events, mask)
        return Read(x, self._gate(*parts).expand(len(rows), -1), vectors.size, parts)

    def _plain(self, x: Tensor, vectors: RowVectors) -> Read:
        """Return what is read by a gate that doesn't look at events."""
        if self.category_gate is None:
            assert self.plain_gate is not None
            return Read(x, self.plain_gate.weights(x), vectors.size, None)
        own, top = (vectors.fields[:, places].flatten(1) for places in (self.category, self.top))
        return Read(x, self.category_gate(own), vectors.size, None, (own, top))

    def _source(self, vectors: RowVectors, places: list[int], layer: str) -> Tensor | None:
        if not places:
            return None
        return torch.relu(self.get_submodule(layer)(vectors.fields[:, places].flatten(1)))

    def _events(self, history: Tensor, mask: Tensor) -> Tensor:
        """Return ``float32[n, t, source]`` of events, 0 where there is none."""
        if one_history(history):
            found = torch.relu(self.of_event(history[0])) * mask[0][:, None]
            return found.expand(len(history), -1, -1)
        n, t, own = history.shape
        places = np.flatnonzero(mask.cpu().numpy())
        found = torch.relu(self.of_event(take(history.reshape(n * t, own), places)))
        spread = found.new_zeros(n * t, found.shape[1])
        return spread.index_copy(0, torch.from_numpy(places).to(found.device), found).view(n, t, -1)

    def _asked(self, context: Tensor, events: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, wishes and mask of events; of the first row alone where all rows are one request."""
        if self.query and one_history(events) and bool((context == context[:1]).all()):
            context, events, mask = context[:1], events[:1], mask[:1]
        return self.activation_unit(context, events, mask)[:, :, 0], self.gate_unit(context, events, mask), mask

    def _gate(self, scores: Tensor, wishes: Tensor, mask: Tensor) -> Tensor:
        """Return ``float32[n, k]`` of the events in ``mask``."""
        weights = scores * mask
        if self.config.pool == "mean":
            weights = weights / mask.sum(1, keepdim=True).clamp(min=1)
        elif self.config.pool == "softmax":
            weights = masked_softmax(scores, mask)
        gate = self.default_gate + torch.bmm(weights[:, None], wishes)[:, 0]
        return gate.softmax(1) if self.config.gate_norm == "softmax" else gate

    def _contrast(self, rows: Encoded, found: Read, drop: Dropout) -> Tensor:
        """Return the contrast between the gates of people, of one row each that has events."""
        assert found.parts is not None
        scores, wishes, mask = found.parts
        own = self._people(rows, np.flatnonzero(mask.any(1).cpu().numpy()))
        chosen = torch.from_numpy(own).to(mask.device)
        thin = thinned(mask[chosen], self.config.drop_events, drop.generator)
        second = self._gate(scores[chosen], wishes[chosen], thin)
        return contrast(found.gate[chosen], second, self.config.temperature, group=self.config.people)

    def _people(self, rows: Encoded, usable: np.ndarray) -> np.ndarray:
        """Return the first of the usable rows of each person, in the order of rows."""
        assert self.events is not None
        span = slice(*self.events) if self.person is None else slice(self.person, self.person + 1)
        return usable[np.sort(np.unique(rows.codes[usable, span], axis=0, return_index=True)[1])]


def thinned(mask: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Return ``bool[n, t]``: the mask with events left out by chance ``share``; of a row with events, one at least is kept."""
    drawn = torch.rand(mask.shape, generator=generator, device=mask.device)
    kept = mask & (drawn >= share)
    last = torch.zeros_like(mask)
    last[torch.arange(len(mask)), drawn.masked_fill(~mask, -1.0).argmax(1)] = True
    return kept | (last & mask)


def _places(names: Sequence[str], wanted: Sequence[str], where: str) -> list[int]:
    """Return the places of fields among the vectors of a row."""
    for name in wanted:
        if name not in names:
            raise ConfigError("there is no such field.", where=where, value=name, remedy=nearest(name, list(names)))
    return [names.index(name) for name in wanted]


def _who(config: AWMoEConfig, layout: RowLayout) -> int | None:
    """Return the column of codes that tells people apart, or ``None`` where there is none."""
    if config.person and config.person not in layout.single:
        raise ConfigError(
            "there is no such field with one code.",
            where="person",
            value=config.person,
            remedy=nearest(config.person, layout.single),
        )
    name = config.person or "user"
    return layout.single.index(name) if name in layout.single else None
