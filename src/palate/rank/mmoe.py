"""MMoE: experts that all tasks share, mixed for each task by a gate of its own.

With x the vectors of the fields side by side::

    f^t = Σ_e softmax(G^t x)_e · Expert_e(x)        ŷ^t = Tower^t(f^t)

With one expert it is a shared bottom with a tower a task. With one task it is a plain mixture of experts.

Source: J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018,
equations 5 to 7. Differences: none but training (Adam, early stopping); weights of tasks: :mod:`palate.rank.multitask`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.experts import Experts, Gate
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP
from palate.rank.multitask import MultiTaskRanker, TaskConfig, TaskNet


class MMoEConfig(TaskConfig):
    """Settings of MMoE."""

    experts: int = Field(4, gt=0, description="how many experts")


class MMoE(MultiTaskRanker):
    """Multi-gate mixture of experts (see the module's text)."""

    name: ClassVar[str] = "mmoe"
    title: ClassVar[str] = "MMoE"
    Settings = MMoEConfig
    config: MMoEConfig

    def _task_network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> TaskNet:
        return MMoENet(self.config, layout, tasks, rng)


class MMoENet(TaskNet):
    """The network."""

    def __init__(self, config: MMoEConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__(config, tasks)
        self.table = FieldVectors(layout, config.dim, rng)
        width = len(self.table.names) * config.dim
        self.experts = Experts(config.experts, width, config.hidden, rng, batch_norm=config.batch_norm)
        self.gates = nn.ModuleList(Gate(width, config.experts, rng) for _ in range(tasks))
        self.towers = nn.ModuleList(MLP(self.experts.width, config.tower, 1, rng) for _ in range(tasks))

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        x, found = vectors.flat, self.experts(vectors.flat, drop)
        outputs = [tower(gate(x, found), drop) for gate, tower in zip(self.gates, self.towers, strict=True)]
        return torch.cat(outputs, 1), vectors.size
