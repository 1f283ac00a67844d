"""LR: main effects of the values of fields alone: logistic regression.

    ŷ = b + Σ_i w_i

over the fields of a row; a number x has ``w·x``, a bag the mean of its values. A prediction is the sum of its fields' parts,
and is explained by them exactly.

Source: the baseline of every click model; e.g. M. Richardson et al., "Predicting Clicks", WWW 2007, equation 2.
Differences: trained by Adam on batches, with early stopping.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from palate.contracts.explanation import Explanation
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.rank.neural import NeuralRanker, RowNet
from palate.rank.reasons import additive, one_row, task_number
from palate.retrieval.tokens import tokens


class LR(NeuralRanker):
    """Logistic regression (see the module's text)."""

    name: ClassVar[str] = "lr"
    title: ClassVar[str] = "LR"
    background_rows: ClassVar[int] = 0

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return LRNet(layout, tasks, rng)

    @torch.no_grad()
    def explain_row(self, row: Rows, task: str | None = None) -> Explanation:
        """Return the part of each field, exactly: they add up to the logit (to the value, of a task that is not binary).

        ``rest`` is the bias. Calibration comes after, and is not explained.
        """
        self._check_fitted()
        at = task_number(self, task)
        main = self.net_.get_submodule("main")
        assert isinstance(main, MainEffects)
        found = main.weights(self.encoder_.encode(one_row(row).features, tokens)).fields[0, :, at]
        unit, zero = self.kinds_[at].unit
        parts = [((name,), unit * part) for name, part in zip(main.weights.names, found.tolist(), strict=True)]
        return additive(self.encoder_, row, parts, zero + unit * float(main.bias[at]), "the weight of each field's value")


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
