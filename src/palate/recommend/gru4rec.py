"""GRU4Rec: a recurrent network over a session (or a person's history), whose state is asked for the next item.

    h_t = GRU(drop(E[x_t]), h_{t-1}),  h_0 = 0 at the start of every sequence        score(j) = <W h_T, e_j>

Losses, with ``s`` the score of the target, ``s_j`` those of negatives shared by the batch, ``w`` the softmax over negatives::

    bpr_max           -log Σ_j w_j σ(s - s_j) + reg Σ_j w_j s_j²
    top1_max           Σ_j w_j ( σ(s_j - s) + σ(s_j²) )
    sampled_softmax   -log( e^s / (e^s + Σ_j e^{s_j - log π_j}) ),    full_softmax over all items

Sources: B. Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; B. Hidasi, A. Karatzoglou,
"Recurrent Neural Networks with Top-k Gains", CIKM 2018, equations 10 and 11. Mistakes of other versions that B. Hidasi and
Á. Czapp name (RecSys 2023) are kept out: a state never crosses into another sequence, negatives are drawn beside those of the
batch, a row's own target is never its negative, and the weights ``w`` run over negatives alone.
Differences: whole sequences of a batch side by side in time order, with neither padding nor a state kept from batch to batch
(so gradients reach back over the whole window); states are dropped out as well as inputs; Adam instead of Adagrad; by default
sampled softmax on cosines (``loss=bpr_max similarity=dot temperature=1`` is the later paper's).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import offsets_of
from palate.nn.dropout import Dropout
from palate.nn.recurrent import RecurrentEncoder
from palate.nn.topgain import bpr_max, top1_max
from palate.training.encoding import Piece
from palate.training.next_item import Negatives, NextItemConfig, NextItemRecommender, Sampled
from palate.training.sequences import TimeMajorBatch, TimeMajorSequences


class GRU4RecConfig(NextItemConfig):
    """Settings of GRU4Rec."""

    counts_with: ClassVar[Mapping[str, With]] = {"reg": With("loss", ("bpr_max",))}

    epochs: int = Field(20, ge=0, description="passes over all positions; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="positions (targets) a step, about")
    lr: float = Field(3e-3, gt=0, description="step size of Adam")
    hidden: int = Field(128, gt=0, description="width of the recurrent state")
    layers: int = Field(1, gt=0, description="recurrent layers")
    negatives: Negatives = Field("mixed", description="where negatives come from; in_batch: the targets of the batch")
    loss: Literal["sampled_softmax", "full_softmax", "bpr_max", "top1_max"] = Field(
        "sampled_softmax", description="training loss"
    )
    reg: float = Field(0.01, ge=0, description="weight of the score penalty of bpr_max (scores are divided by temperature)")
    unit: Literal["auto", "user", "session"] = Field(
        "auto", description="what a training sequence is; auto: sessions where the data have them"
    )


class GRU4Rec(NextItemRecommender):
    """Recurrent next-item model (see the module's text)."""

    name: ClassVar[str] = "gru4rec"
    Settings = GRU4RecConfig
    config: GRU4RecConfig
    module_: RecurrentEncoder

    def _build(self, n_items: int) -> RecurrentEncoder:
        return RecurrentEncoder(n_items, self.config.dim, self.config.hidden, layers=self.config.layers)

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        sequences = TimeMajorSequences(training_sequences(dataset, c.unit), c.max_len, c.batch_size)
        return self._learn(dataset, fitting, sequences, "GRU4Rec", "none" if c.loss == "full_softmax" else "shared")

    def _loss(self, step: Sampled[TimeMajorBatch], generator: torch.Generator) -> Tensor:
        inputs, rows = self._rows(step.batch.items, step)
        drop = Dropout(self.config.dropout, generator)
        return self._objective(self.module_(inputs, torch.from_numpy(step.batch.active), drop), step, rows)

    def _sampled_loss(self, queries: Tensor, own: Tensor, negative: Tensor, step: Sampled[Any]) -> Tensor:
        if self.config.loss == "sampled_softmax":
            return super()._sampled_loss(queries, own, negative, step)
        others = self._shared_scores(queries, negative, step)
        return bpr_max(own, others, self.config.reg) if self.config.loss == "bpr_max" else top1_max(own, others)

    def _last_states(self, piece: Piece) -> Tensor:
        device = self.table.device
        vectors = self.table[torch.from_numpy(piece.items).to(device)]
        return self.module_.last(vectors, torch.from_numpy(piece.lengths).to(device))


def training_sequences(dataset: Dataset, unit: Literal["auto", "user", "session"] = "auto") -> Histories:
    """Return what a state may run over: each person's history, or each session of it where the data have sessions."""
    events = dataset.interactions
    if events.session is None or unit == "user":
        return dataset.histories
    order = np.lexsort((np.arange(len(events)), events.session, events.user))
    user, session, item = events.user[order], events.session[order], events.item[order]
    first = np.ones(len(order), bool)
    first[1:] = (user[1:] != user[:-1]) | (session[1:] != session[:-1])
    return Histories(offsets_of(np.diff(np.append(np.flatnonzero(first), len(order)))), item)
