"""AutoInt: fields attend to each other, layer upon layer, so that values are combined to ever higher orders.

    e_m        a row of the table; the mean of the rows of a bag; v_m·x of a number x
    layer      α_mk = softmax_k <W_Q e_m, W_K e_k>,   e'_m = ReLU( [Σ_k α_mk W_V e_k]_heads + W_Res e_m )       (L of them)
    ŷ          b + w · [e'_1; …; e'_M]

**AutoInt+** adds dense layers on the same vectors, trained together: ``ŷ + MLP([e_1; …; e_M])``; ``wide`` adds main effects,
``Σ_i w_i``. With no layers, ŷ is a logistic regression on the vectors.

Attention says which fields were looked at together; it is no part of a prediction. It counts a field itself, and varies from
row to row: :meth:`AutoInt.attention` gives its mean over many rows, by layer and head, with or without the field itself.

Source: W. Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019,
arXiv 1810.11921, equations 3 to 10; AutoInt+ is section 5.5 of it.
Differences: the paper, its code and the FuxiCTR library differ in bias and ReLU of projections, scaling, residual and
normalisation; each is a setting, and ``form`` is a preset of all of them (:mod:`palate.nn.field_attention`), by default the
library's, which learnt best where it was tried. Numbers are standardised unless a field says otherwise (the paper: log²). The
penalty is on the vectors that a batch looks up. Vectors start and are dropped out before attention as in the authors' code;
the library starts them at a spread of 1e-4 and leaves them whole (``start=1e-4, vector_dropout=0``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowLayout
from palate.errors import DataError
from palate.nn.dropout import Dropout
from palate.nn.field_attention import FORMS, FieldAttention, Form, Interaction, Norm, Residual
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP, dense
from palate.rank.linear import MainEffects
from palate.rank.neural import BLOCK, NeuralRanker, RankConfig, RowNet
from palate.rank.reasons import one_row, spoken, task_number
from palate.retrieval.tokens import tokens

#: Pairs of fields that an explanation names.
NAMED = 10


class AutoIntConfig(RankConfig):
    """Settings of AutoInt."""

    layers: int = Field(3, ge=0, description="interacting layers (0: logistic regression on the vectors)")
    heads: int = Field(2, gt=0, description="attention heads of a layer")
    units: int = Field(64, gt=0, description="length of a field's vector after a layer, all heads together")
    form: Form = Field("fuxictr", description="preset of a layer: as the paper, the authors' code or FuxiCTR has it")
    relu: bool | None = Field(None, description="projections have a bias and a ReLU (none: as the form)")
    scale: bool | None = Field(None, description="scores are divided by the root of a head's size (none: as the form)")
    residual: Residual | None = Field(None, description="kind of residual (none given: as the form)")
    norm: Norm | None = Field(None, description="place of layer normalisation (none given: as the form)")
    start: float = Field(
        0.01, gt=0, description="spread of vectors at the start: attention works on products, so not next to nothing"
    )
    vector_dropout: float | None = Field(
        None, ge=0, lt=1, description="share of numbers of vectors set to zero before attention in training (none: as dropout)"
    )
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="share of attention weights set to zero in training")
    wide: bool = Field(False, description="add main effects of values")
    hidden: tuple[int, ...] = Field((), description="widths of dense layers beside attention (AutoInt+); none: no such layers")
    batch_norm: bool = Field(False, description="normalise dense layers over the batch")

    @model_validator(mode="after")
    def _heads_fit(self) -> AutoIntConfig:
        if self.units % self.heads:
            raise ValueError(f"units ({self.units}) must divide by heads ({self.heads})")
        return self

    @property
    def interaction(self) -> Interaction:
        """How a layer is made: the form, but for what is set."""
        own: dict[str, Any] = {"relu": self.relu, "scale": self.scale, "residual": self.residual, "norm": self.norm}
        return replace(FORMS[self.form], **{name: value for name, value in own.items() if value is not None})


class AutoIntPlusConfig(AutoIntConfig):
    """Settings of AutoInt+."""

    hidden: tuple[int, ...] = Field((400, 400), min_length=1, description="widths of the dense layers beside attention")


@dataclass(frozen=True)
class AttentionMap:
    """Mean attention of rows.

    Attributes
    ----------
    fields
        Names of the fields, in order.
    weights
        ``float32[layers, heads, f, f]``: how much a field (row) attends to another (column); rows sum to 1.
    """

    fields: tuple[str, ...]
    weights: np.ndarray

    def mean(self, *, itself: bool = False) -> np.ndarray:
        """Return ``float32[f, f]``, the mean over layers and heads.

        Parameters
        ----------
        itself
            Whether a field's attention to itself is counted. Where it is not, the diagonal is 0 and the rest of a row is scaled
            to 1: shares of the attention that goes to others.
        """
        found: np.ndarray = self.weights.mean((0, 1))
        if itself or len(found) == 1:
            return found
        others = found * (1 - np.eye(len(found), dtype=np.float32))
        return np.asarray(others / np.maximum(others.sum(1, keepdims=True), 1e-30), np.float32)

    def strongest(self, n: int = NAMED, *, itself: bool = False) -> list[tuple[str, str, float]]:
        """Return the ``n`` strongest (field, attended field, weight), strongest first."""
        table = self.mean(itself=itself)
        shown = np.ones_like(table, bool) if itself or len(table) == 1 else ~np.eye(len(table), dtype=bool)
        pairs = [(self.fields[m], self.fields[k], float(table[m, k])) for m, k in np.argwhere(shown)]
        return sorted(pairs, key=lambda pair: -pair[2])[:n]


class AutoInt(NeuralRanker):
    """Feature interaction by self-attention over fields (see the module's text)."""

    name: ClassVar[str] = "autoint"
    title: ClassVar[str] = "AutoInt"
    background_rows: ClassVar[int] = 0
    Settings = AutoIntConfig
    config: AutoIntConfig
    net_: AutoIntNet

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return AutoIntNet(self.config, layout, tasks, rng)

    def attention(self, rows: Rows) -> AttentionMap:
        """Return the mean attention over rows, by layer and head.

        Raises
        ------
        UnsupportedError
            If there are no layers.
        DataError
            If there are no rows.
        """
        self._check_fitted()
        if not self.config.layers:
            raise self._refuse("show attention without layers", "fit it with layers=1 or more")
        if not len(rows):
            raise DataError("there are no rows whose attention could be shown.", where="rows")
        encoded = self.encoder_.encode(rows.features, tokens)
        total: Any = sum(self.net_.attention_sum(part) for part in _parts(encoded))
        return AttentionMap(self.net_.table.names, (total / len(rows)).astype(np.float32))

    def explain_row(self, row: Rows, task: str | None = None, *, itself: bool = False) -> Explanation:
        """Say which fields of one row attend to which, on average over heads and layers.

        Weights are shares of attention, no parts of the score. ``itself`` shows a field's attention to itself too.
        """
        score = float(self.predict(one_row(row)).values[0, task_number(self, task)])
        evidence = tuple(
            Evidence("feature", " with ".join(spoken(self.encoder_, row, name) for name in (m, k)), weight, {"fields": [m, k]})
            for m, k, weight in self.attention(row).strongest(itself=itself)
        )
        method = "shares of a field's attention to another (second), mean of layers and heads; no parts of the score"
        return Explanation(0, score, evidence, False, method)


class AutoIntPlus(AutoInt):
    """AutoInt with dense layers beside attention (see the module's text)."""

    name: ClassVar[str] = "autoint_plus"
    title: ClassVar[str] = "AutoInt+"
    Settings = AutoIntPlusConfig
    config: AutoIntPlusConfig


class AutoIntNet(RowNet):
    """The network."""

    deep: MLP | None

    def __init__(self, config: AutoIntConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.config = config
        self.table = FieldVectors(layout, config.dim, rng, scale=config.start)
        widths = [config.dim, *[config.units] * config.layers]
        self.layers = nn.ModuleList(
            FieldAttention(width, config.units, config.heads, rng, config.interaction) for width in widths[:-1]
        )
        fields = len(self.table.names)
        self.last = dense(fields * widths[-1], tasks, rng)
        self.main = MainEffects(layout, tasks, rng) if config.wide else None
        self.deep = MLP(fields * config.dim, config.hidden, tasks, rng, batch_norm=config.batch_norm) if config.hidden else None

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        c, size = self.config, vectors.size
        before = drop if c.vector_dropout is None else Dropout(c.vector_dropout, drop.generator)
        rare, fields = Dropout(c.attention_dropout, drop.generator), before(vectors.fields)
        for layer in self.layers:
            fields = layer(fields, rare)
        logits = self.last(fields.flatten(1))
        if self.deep is not None:
            logits = logits + self.deep(vectors.flat, drop)
        if self.main is not None:
            own, weights = self.main(rows)
            logits, size = logits + own, size + weights
        return logits, size

    @torch.no_grad()
    def attention_sum(self, rows: Encoded) -> np.ndarray:
        """Return ``float64[layers, heads, f, f]``: attention summed over rows."""
        fields, found = self.table(rows).fields, []
        for layer in self.layers:
            assert isinstance(layer, FieldAttention)
            fields, weights = layer.attend(fields)
            found.append(weights.sum(0, dtype=torch.float64).numpy())
        return np.stack(found)


def _parts(rows: Encoded) -> Iterator[Encoded]:
    for at in range(0, len(rows), BLOCK):
        yield rows.take(slice(at, at + BLOCK))
