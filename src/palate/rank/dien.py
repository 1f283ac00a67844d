"""DIEN: interests that change: one recurrent layer reads what a person did, another follows what concerns the item asked about.

With the target's vector t and events e_1 … e_T (item, category … side by side)::

    interest      h_j = GRU(e_j, h_{j-1})
    attention     a_j = softmax_j( h_jᵀ W t )
    evolution     s_j = AUGRU(h_j, s_{j-1}, a_j)           (:mod:`palate.nn.attention_gru`)
    answer        ŷ = MLP([v_1; …; v_m; s_T])
    loss          L + α · L_aux,   L_aux = -mean_j [ ln σ(h_j·e_{j+1}) + ln σ(-h_j·e'_{j+1}) ]

The auxiliary loss teaches each state to tell the next event from one of another person. Which columns are history and target:
:mod:`palate.rank.history`. Without a history it is an MLP over fields. Many candidates of one person share the first layer, the
inputs' part of the second, and the events' part of the attention.

Source: G. Zhou et al., "Deep Interest Evolution Network for Click-Through Rate Prediction", AAAI 2019, equations 1 to 17.
Differences: other events e' are drawn from the batch (so by how often they happen), not from all items alike, which gives
them all their facts; those of the same item don't count. The first recurrence has the width of an event, as h·e needs.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.attention_gru import AttentionGRU, TimeOrder, next_event_loss, start_recurrent
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP, dense
from palate.nn.take import take
from palate.nn.target_attention import Activation, activation_of, masked_softmax, one_history
from palate.rank.history import HistoryConfig, HistoryRanker, SideNet, history_of, read_history
from palate.rank.neural import RowNet


class DIENConfig(HistoryConfig):
    """Settings of DIEN."""

    hidden: tuple[int, ...] = Field((200, 80), description="widths of the dense layers")
    activation: Activation = Field("dice", description="activation of the dense layers")
    auxiliary: float = Field(1.0, ge=0, description="weight α of the loss that tells next events from others")


class DIEN(HistoryRanker):
    """Deep interest evolution network (see the module's text)."""

    name: ClassVar[str] = "dien"
    title: ClassVar[str] = "DIEN"
    Settings = DIENConfig
    config: DIENConfig
    net_: DIENNet

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return DIENNet(self.config, layout, tasks, rng)

    def _loss(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        own, aside = super()._loss(outputs, labels, weights), self.net_.take_aside()
        return own if aside is None else own + self.config.auxiliary * aside


class DIENNet(SideNet):
    """The network; what it puts aside is the auxiliary loss."""

    def __init__(self, config: DIENConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.auxiliary = config.auxiliary
        self.history = history_of(layout, config)
        self.table = FieldVectors(layout, config.dim, rng, whole=self.history.sequences if self.history else ())
        width = len(self.table.names) * config.dim
        if self.history:
            own = len(self.history.sequences) * config.dim
            self.events = layout.sequences[self.history.sequences[0]]
            self.interest = nn.GRU(own, own)
            parts = [self.interest.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            start_recurrent(parts[:1], parts[1:2], parts[2:], rng)
            self.attention = dense(own, own, rng, bias=False)
            self.evolution = AttentionGRU(own, own, rng)
            width += own
        made = activation_of(config.activation)
        self.deep = MLP(width, config.hidden, tasks, rng, batch_norm=config.batch_norm, activation=made)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors; the auxiliary loss is put aside."""
        vectors = self.table(rows)
        self.aside = None
        x = vectors.flat
        if self.history:
            target, history, mask = read_history(self.table, vectors, self.history)
            if one_history(history):
                found = self._one(target, history[0][mask[0]])
            else:
                found = self._evolved(rows, target, history, mask, drop)
            x = torch.cat([x, found], 1)
        return self.deep(x, drop), vectors.size

    def _evolved(self, rows: Encoded, target: Tensor, history: Tensor, mask: Tensor, drop: Dropout) -> Tensor:
        """Return ``float32[n, w]``: the last states, 0 for a row without events."""
        n, width, own = history.shape
        order = TimeOrder.of(mask.cpu().numpy())
        if not len(order):
            return target.new_zeros(n, own)
        events = take(history.reshape(n * width, own), order.places)
        states: Tensor = self.interest(PackedSequence(events, torch.from_numpy(order.active)))[0].data
        if self.training and self.auxiliary:
            self.aside = self._next_events(rows, events, states, order, drop)
        scores = (states * take(self.attention(target), order.places // width)).sum(1)
        places = torch.from_numpy(order.places).to(scores.device)
        spread = scores.new_zeros(n * width).index_copy(0, places, scores).view(n, width)
        shares = masked_softmax(spread, mask).reshape(-1)[places]
        last = self.evolution(states, shares, order)
        return last.new_zeros(n, own).index_copy(0, torch.from_numpy(order.rows).to(last.device), last)

    def _one(self, target: Tensor, events: Tensor) -> Tensor:
        """Return ``float32[n, w]`` of targets with one history ``float32[t, w]``."""
        if not len(events):
            return torch.zeros_like(target)
        states = self.interest(events)[0]
        return self.evolution.one(states, (self.attention(target) @ states.T).softmax(1))

    def _next_events(self, rows: Encoded, events: Tensor, states: Tensor, order: TimeOrder, drop: Dropout) -> Tensor:
        """Return the auxiliary loss."""
        p, first = len(order), int(order.active[0])
        drawn = torch.randint(p, (p - first,), generator=drop.generator, device=events.device).cpu().numpy()
        codes = np.ascontiguousarray(rows.codes[:, slice(*self.events)]).reshape(-1)[order.places]
        other = torch.from_numpy(codes[drawn] != codes[first:]).to(events.device)
        return next_event_loss(take(states, order.followed), events[first:], take(events, drawn), other)
