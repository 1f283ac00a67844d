"""LR: main effects of the values of fields alone: logistic regression.

    ŷ = b + Σ_i w_i

over the fields of a row; a number x has ``w·x``, a bag the mean of its values.

Source: the baseline of every click model; e.g. M. Richardson et al., "Predicting Clicks", WWW 2007, equation 2.
Differences: trained by Adam on batches, with early stopping.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.rank.neural import NeuralRanker, RowNet


class LR(NeuralRanker):
    """Logistic regression (see the module's text)."""

    name: ClassVar[str] = "lr"
    title: ClassVar[str] = "LR"

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return LRNet(layout, tasks, rng)


class MainEffects(nn.Module):
    """A bias, and a weight a value and task."""

    def __init__(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.weights = FieldVectors(layout, tasks, rng, scale=0.0)
        self.bias = nn.Parameter(torch.zeros(tasks))

    def forward(self, rows: Encoded) -> tuple[Tensor, Tensor]:
        """Return ``float32[n, t]``, and the size of the weights that were looked up."""
        found = self.weights(rows)
        return self.bias + found.fields.sum(1), found.size


class LRNet(RowNet):
    """The network."""

    def __init__(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.main = MainEffects(layout, tasks, rng)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the weights."""
        found: tuple[Tensor, Tensor] = self.main(rows)
        return found
