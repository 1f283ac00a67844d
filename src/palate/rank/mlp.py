"""MLP: a stack of dense layers on the vectors of fields, side by side. The deep baseline of every click model.

    ŷ = MLP([v_1; …; v_m])

Source: the deep part of P. Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016 (section 4),
called DNN in comparisons of click models. When tuned, it lies within a few thousandths of AUC of all that came after.
Differences: no powers of features; batch normalisation is an option; the penalty is on what a batch looks up.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP
from palate.rank.deepfm import DeepConfig
from palate.rank.neural import NeuralRanker, RowNet


class MLPRanker(NeuralRanker):
    """Dense layers over fields (see the module's text)."""

    name: ClassVar[str] = "mlp"
    title: ClassVar[str] = "MLP"
    Settings = DeepConfig
    config: DeepConfig

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return MLPNet(self.config, layout, tasks, rng)


class MLPNet(RowNet):
    """The network."""

    def __init__(self, config: DeepConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.table = FieldVectors(layout, config.dim, rng)
        self.deep = MLP(len(self.table.names) * config.dim, config.hidden, tasks, rng, batch_norm=config.batch_norm)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        return self.deep(vectors.flat, drop), vectors.size
