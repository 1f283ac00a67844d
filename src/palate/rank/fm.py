"""FM: main effects of values, and products of their vectors.

    ŷ = b + Σ_i w_i + Σ_{i<j} <v_i, v_j>,      Σ_{i<j} <v_i, v_j> = ½ Σ_f [ (Σ_i v_if)² - Σ_i v_if² ]

over the fields of a row; a number x has ``w·x`` and ``v·x``, a bag the mean of its values.

Source: S. Rendle, "Factorization Machines", ICDM 2010, equations 1 and lemma 3.1.
Differences: trained by Adam on batches, with early stopping; the penalty is on what a batch looks up.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors, pair_products
from palate.rank.linear import MainEffects
from palate.rank.neural import NeuralRanker, RowNet


class FM(NeuralRanker):
    """Factorisation machine (see the module's text)."""

    name: ClassVar[str] = "fm"
    title: ClassVar[str] = "FM"

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return FMNet(layout, self.config.dim, tasks, rng)


class FMNet(RowNet):
    """The network; vectors are shared by tasks, each of which weighs their products dimension by dimension."""

    def __init__(self, layout: RowLayout, dim: int, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.main, self.table = MainEffects(layout, tasks, rng), FieldVectors(layout, dim, rng)
        self.weights = nn.Parameter(torch.ones(dim, tasks), requires_grad=tasks > 1)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        main, size = self.main(rows)
        vectors = self.table(rows)
        return main + pair_products(vectors.fields) @ self.weights, size + vectors.size
