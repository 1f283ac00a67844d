"""DeepFM: a factorisation machine and a stack of dense layers on the same vectors.

    ŷ = b + Σ_i w_i + Σ_{i<j} <v_i, v_j> + MLP([v_1; …; v_m])

Source: H. Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017, equations 1 to 4.
Differences: batch normalisation is an option; the penalty is on what a batch looks up.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors, pair_products
from palate.nn.mlp import MLP
from palate.rank.linear import MainEffects
from palate.rank.neural import NeuralRanker, RankConfig, RowNet


class DeepConfig(RankConfig):
    """Settings of rankers with dense layers."""

    hidden: tuple[int, ...] = Field((256, 128), description="widths of the dense layers")
    batch_norm: bool = Field(False, description="normalise dense layers over the batch")


class DeepFM(NeuralRanker):
    """DeepFM (see the module's text)."""

    name: ClassVar[str] = "deepfm"
    title: ClassVar[str] = "DeepFM"
    Settings = DeepConfig
    config: DeepConfig

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return DeepFMNet(self.config, layout, tasks, rng)


class DeepFMNet(RowNet):
    """The network."""

    def __init__(self, config: DeepConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.main, self.table = MainEffects(layout, tasks, rng), FieldVectors(layout, config.dim, rng)
        width = len(self.table.names) * config.dim
        self.deep = MLP(width, config.hidden, tasks, rng, batch_norm=config.batch_norm)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        main, size = self.main(rows)
        vectors = self.table(rows)
        pairs = pair_products(vectors.fields).sum(1, keepdim=True)
        return main + pairs + self.deep(vectors.flat, drop), size + vectors.size
