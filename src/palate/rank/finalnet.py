"""FINAL: layers that multiply what they compute, so that a stack of them holds interactions of ever higher degree.

A factorised interaction layer, half of whose outputs are products::

    [a; b] = W x + c,    f(x) = norm([a; a ⊙ b])                                         same width as a dense layer

L layers give products of up to 2^L inputs, without any activation; what a layer gives is held within ±10³, so that numbers far
beyond those of training stay finite. The input of the first block is gated by field, and kept
beside it::

    g = A v + 1bᵀ over fields (each dimension alike),    x = [v; v ⊙ g]                  A = 0, b = 1 at the start
    ŷ_1 = w_1·block_1([v; v ⊙ g]) + b_1,   ŷ_2 = w_2·block_2(v) + b_2,   ŷ = (ŷ_1 + ŷ_2)/2

Two blocks teach each other (self-distillation), binary tasks by cross-entropy and others by squares::

    loss = ℓ(ŷ, y) + λ [ℓ(ŷ_1, σ(ŷ)) + ℓ(ŷ_2, σ(ŷ))],    σ(ŷ) held fixed

Source: J. Zhu et al., "FINAL: Factorized Interaction Layer for CTR Prediction", SIGIR 2023.
Differences and doubts: written without the paper's equation numbers at hand, after its abstract and published settings. There
λ = 1; here it is a setting. Whether the paper gates both blocks is not certain; here, as in published code, only the first. The
bound of ±10³ is ours.
"""

from __future__ import annotations

import itertools
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.batch_norm import BatchNorm
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import dense
from palate.rank.neural import NeuralRanker, RankConfig, RowNet

#: What a layer gives stays within this distance of 0.
BOUND = 1e3


class FinalNetConfig(RankConfig):
    """Settings of FINAL."""

    hidden: tuple[int, ...] = Field((128, 128), min_length=1, description="widths of the first block; even numbers")
    hidden_2: tuple[int, ...] = Field((128,), description="widths of the second block (none: one block)")
    batch_norm: bool = Field(True, description="normalise each layer over the batch")
    gate: bool = Field(True, description="whether the first block sees its fields gated too")
    distil: float = Field(1.0, ge=0, description="weight of what two blocks learn from their mean")

    @model_validator(mode="after")
    def _even(self) -> Self:
        odd = [width for width in (*self.hidden, *self.hidden_2) if width < 2 or width % 2]
        if odd:
            raise ValueError(f"widths must be even, not {odd[0]}")
        return self


class FinalNet(NeuralRanker):
    """Factorised interaction layers (see the module's text)."""

    name: ClassVar[str] = "finalnet"
    title: ClassVar[str] = "FINAL"
    Settings = FinalNetConfig
    config: FinalNetConfig

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return FinalNetNet(self.config, layout, tasks, rng)

    def _loss(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of ``float32[n, b, t]`` outputs of the blocks, distillation included."""
        whole = outputs.mean(1)
        total = super()._loss(whole, labels, weights)
        if outputs.shape[1] == 1 or not self.config.distil:
            return total
        taught = self._taught(whole.detach(), labels)
        for block in outputs.unbind(1):
            total = total + self.config.distil * super()._loss(block, taught, weights)
        return total

    def _taught(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return what the blocks should say, in the units of labels; NaN where there is no label."""
        columns = [
            torch.sigmoid(outputs[:, at]) if task.binary else outputs[:, at] * task.spread + task.mean
            for at, task in enumerate(self.kinds_)
        ]
        return torch.where(torch.isnan(labels), labels, torch.stack(columns, dim=1))


class FinalNetNet(RowNet):
    """The network."""

    def __init__(self, config: FinalNetConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.table = FieldVectors(layout, config.dim, rng)
        fields = len(self.table.names)
        self.gate = FieldGate(fields) if config.gate else None
        blocks = [Block((fields * config.dim * (2 if config.gate else 1), *config.hidden), tasks, config.batch_norm, rng)]
        if config.hidden_2:
            blocks.append(Block((fields * config.dim, *config.hidden_2), tasks, config.batch_norm, rng))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors; in training ``float32[n, b, t]``, the logits of each block."""
        vectors = self.table(rows)
        fields = vectors.fields
        inputs = [fields if self.gate is None else torch.cat([fields, self.gate(fields)], dim=1), fields]
        found = torch.stack([block(x.flatten(1), drop) for block, x in zip(self.blocks, inputs, strict=False)], dim=1)
        return found if self.training else found.mean(1), vectors.size


class FieldGate(nn.Module):
    """The vectors of fields, each dimension weighed by a line of that dimension of all fields; at the start as they are."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.line = nn.Linear(fields, fields)
        nn.init.zeros_(self.line.weight)
        nn.init.ones_(self.line.bias)

    def forward(self, fields: Tensor) -> Tensor:
        """Return ``float32[n, f, d]``."""
        return fields * self.line(fields.transpose(1, 2)).transpose(1, 2)


class Block(nn.Module):
    """Factorised interaction layers and a plain one."""

    def __init__(self, sizes: tuple[int, ...], tasks: int, batch_norm: bool, rng: np.random.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList(dense(a, b, rng) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(BatchNorm(b) for b in sizes[1:]) if batch_norm else None
        self.last = dense(sizes[-1], tasks, rng)

    def forward(self, x: Tensor, drop: Dropout) -> Tensor:
        """Return ``float32[n, t]``."""
        for at, layer in enumerate(self.layers):
            plain, other = layer(x).chunk(2, dim=1)
            x = torch.cat([plain, plain * other], dim=1)
            if self.norms is not None:
                x = self.norms[at](x)
            x = drop(x.clamp(-BOUND, BOUND))
        return self.last(x)
