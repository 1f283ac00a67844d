"""DIN: what a person did, weighed anew for each item asked about by how much it has to do with it.

With the target's vector t and events h_1 … h_T (item, category … side by side)::

    a_j = MLP_a([t; h_j; t - h_j; t ⊙ h_j])        v = Σ_j a_j h_j        ŷ = MLP([v_1; …; v_m; v])

without softmax, so v grows with how strong an interest is (``softmax`` makes the weights of a row sum to 1). Activations are
Dice. Which columns are history and target: :mod:`palate.rank.history`. Without a history it is an MLP over fields. Many
candidates of one person are scored with one pass over the history (:mod:`palate.nn.target_attention`).

Source: G. Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, equations 3 and 6, figure 2.
Differences: a score starts about 1, so training begins with the sum of the events (the paper's base model) and gradients
reach the vectors at once. The mini-batch aware penalty (equation 4) divides by how often a value stands in all rows; here
``embedding_reg`` weighs what a batch looks up, so a value is held down as often as it is used.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP
from palate.nn.target_attention import Activation, TargetAttention, activation_of
from palate.rank.history import HistoryConfig, HistoryRanker, history_of, read_history
from palate.rank.neural import RowNet


class DINConfig(HistoryConfig):
    """Settings of DIN."""

    hidden: tuple[int, ...] = Field((200, 80), description="widths of the dense layers")
    attention_hidden: tuple[int, ...] = Field((36,), min_length=1, description="widths of the layers that score events")
    activation: Activation = Field("dice", description="activation of all layers")
    softmax: bool = Field(False, description="make the weights of a row's events sum to 1")


class DIN(HistoryRanker):
    """Deep interest network (see the module's text)."""

    name: ClassVar[str] = "din"
    title: ClassVar[str] = "DIN"
    Settings = DINConfig
    config: DINConfig

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return DINNet(self.config, layout, tasks, rng)


class DINNet(RowNet):
    """The network."""

    def __init__(self, config: DINConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.history = history_of(layout, config)
        self.table = FieldVectors(layout, config.dim, rng, whole=self.history.sequences if self.history else ())
        width = len(self.table.names) * config.dim
        self.attention = None
        if self.history:
            own = len(self.history.sequences) * config.dim
            how = {"activation": config.activation, "softmax": config.softmax}
            self.attention = TargetAttention(own, config.attention_hidden, rng, **how)  # type: ignore[arg-type]
            width += own
        made = activation_of(config.activation)
        self.deep = MLP(width, config.hidden, tasks, rng, batch_norm=config.batch_norm, activation=made)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        x = vectors.flat
        if self.attention is not None and self.history is not None:
            x = torch.cat([x, self.attention(*read_history(self.table, vectors, self.history))], 1)
        return self.deep(x, drop), vectors.size
