"""SASRec: a causal transformer over a person's history, whose last state is asked for the next item.

    h = Transformer(E[x_{T-L+1}], …, E[x_T])_T        score(j) = <h, e_j>   or   cos(h, e_j)

Training asks every position for its next item. Losses: ``sampled_softmax`` (negatives shared by the whole batch, one matrix
product; logQ correction where they are not uniform), ``full_softmax``, ``gbce`` (gSASRec: shared negatives, positives weakened
by β), ``bce`` (the paper's: own negatives for each position). Layers:
``sasrec`` (the paper's), ``prenorm``, ``ligr`` (eSASRec).

Sources: W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; A. Petrov, C. Macdonald, "gSASRec",
RecSys 2023, equations 9 to 12; the eSASRec study, RecSys 2025.
Differences: several short histories share a row (no padding), long ones are cut into windows so that every position trains;
attention weights themselves are not dropped out, and keys and values have no bias; the item table is the output table too, also
in gSASRec's loss, whose negatives are shared by the batch; negatives may be items of the history, though never the target
itself; the default loss is sampled softmax on cosines (``loss=bce n_negatives=1 similarity=dot temperature=1`` is the paper's).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.nn import losses
from palate.nn.attention import packed_mask
from palate.nn.dropout import Dropout
from palate.nn.transformer import CausalTransformer, Layer, Positions
from palate.training.encoding import Piece
from palate.training.next_item import NextItemConfig, NextItemRecommender, Sampled, Sampling
from palate.training.sequences import PackedBatch, PackedSequences


class SASRecConfig(NextItemConfig):
    """Settings of SASRec."""

    counts_with: ClassVar[Mapping[str, With]] = {"calibration": With("loss", ("gbce",))}

    epochs: int = Field(20, ge=0, description="passes over all positions; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="positions (targets) a step, about")
    lr: float = Field(3e-3, gt=0, description="step size of Adam")
    blocks: int = Field(2, gt=0, description="transformer blocks")
    heads: int = Field(2, gt=0, description="attention heads of a block; must divide dim")
    layer: Layer = Field("sasrec", description="kind of block")
    positions: Positions = Field("end", description="learnt positions count from the most recent event, the oldest, or none")
    loss: Literal["sampled_softmax", "full_softmax", "gbce", "bce"] = Field("sampled_softmax", description="training loss")
    calibration: float = Field(0.75, ge=0, le=1, description="t of gBCE: 0 is plain BCE, 1 gives calibrated scores")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dim ({self.dim})")
        return self


class SASRec(NextItemRecommender):
    """Self-attentive sequential recommendation (see the module's text)."""

    name: ClassVar[str] = "sasrec"
    Settings = SASRecConfig
    config: SASRecConfig
    module_: CausalTransformer

    def _build(self, n_items: int) -> CausalTransformer:
        c = self.config
        return CausalTransformer(
            n_items, c.dim, c.max_len, blocks=c.blocks, heads=c.heads, layer=c.layer, positions=c.positions
        )

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        sequences = PackedSequences(dataset.histories, c.max_len, c.batch_size)
        sampling: dict[str, Sampling] = {"full_softmax": "none", "bce": "each"}
        return self._learn(dataset, fitting, sequences, "SASRec", sampling.get(c.loss, "shared"))

    def _loss(self, step: Sampled[PackedBatch], generator: torch.Generator) -> Tensor:
        batch, device = step.batch, self.table.device
        inputs, rows = self._rows(batch.items, step)
        places = torch.from_numpy(batch.age if self.config.positions == "end" else batch.place).to(device)
        mask = packed_mask(torch.from_numpy(batch.segments).to(device))
        drop = Dropout(self.config.dropout, generator)
        states = self.module_(inputs.view(*batch.items.shape, -1), places, mask, drop)
        real = states.reshape(-1, self.config.dim).index_select(0, torch.from_numpy(batch.at).to(device))
        return self._objective(real, step, rows)

    def _sampled_loss(self, queries: Tensor, own: Tensor, negative: Tensor, step: Sampled[Any]) -> Tensor:
        kind = self.config.loss
        if kind == "sampled_softmax":
            return super()._sampled_loss(queries, own, negative, step)
        if kind == "bce":
            others = torch.einsum("pd,pnd->pn", queries, negative.view(len(queries), -1, queries.shape[1]))
            hit = torch.from_numpy(step.drawn.reshape(len(queries), -1) == step.targets[:, None]).to(queries.device)
            return losses.bce(own, others.masked_fill(hit, float("-inf")))
        others = self._shared_scores(queries, negative, step)
        rate = min(1.0, len(step.drawn) / max(1, self.n_items - 1))
        return losses.gbce(own, others, self.config.calibration, rate)

    def _last_states(self, piece: Piece) -> Tensor:
        device = self.table.device
        lengths = torch.from_numpy(piece.lengths).to(device)
        order = torch.arange(piece.items.shape[1], device=device).expand(piece.items.shape)
        places = (lengths[:, None] - 1 - order).clamp(min=0) if self.config.positions == "end" else order
        states = self.module_(self.table[torch.from_numpy(piece.items).to(device)], places)
        last: Tensor = states[torch.arange(len(states), device=device), lengths - 1]
        return last
