"""PLE: experts of each task beside shared ones, in levels, so that tasks which disagree don't spoil each other.

Level l, with inputs x^t of each task and x^s of the shared part (all of them the fields' vectors at the first level)::

    E^t = experts of task t on x^t            E^s = shared experts on x^s
    task t     x^t  <-  Σ_e softmax(G^t x^t)_e [E^t; E^s]_e
    shared     x^s  <-  Σ_e softmax(G^s x^s)_e [E^1; …; E^T; E^s]_e          (not at the last level)
    answer     ŷ^t = Tower^t(x^t)

Without experts of its own for a task, one level is MMoE.

Source: H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
Recommendations", RecSys 2020, equations 1 to 8.
Differences: the shared gate sees the experts of all tasks, as in the paper (a widespread implementation mixes shared ones
alone). Weights of tasks are fixed or by uncertainty (:mod:`palate.rank.multitask`), not decaying over training.
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


class PLEConfig(TaskConfig):
    """Settings of PLE."""

    specific: int = Field(2, ge=0, description="experts of each task alone, a level")
    shared: int = Field(2, gt=0, description="experts that all tasks share, a level")
    levels: int = Field(1, gt=0, description="levels of experts and gates")


class PLE(MultiTaskRanker):
    """Progressive layered extraction (see the module's text)."""

    name: ClassVar[str] = "ple"
    title: ClassVar[str] = "PLE"
    Settings = PLEConfig
    config: PLEConfig

    def _task_network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> TaskNet:
        return PLENet(self.config, layout, tasks, rng)


class Level(nn.Module):
    """One level of experts and gates.

    Parameters
    ----------
    config
        How many experts, and their layers.
    width, tasks
        Length of the inputs, and how many tasks.
    last
        Whether there is no level after it (then nothing reads what is shared).
    rng
        Draws the start.
    """

    def __init__(self, config: PLEConfig, width: int, tasks: int, rng: np.random.Generator, *, last: bool) -> None:
        super().__init__()
        how = {"batch_norm": config.batch_norm}
        self.own = nn.ModuleList(Experts(config.specific, width, config.hidden, rng, **how) for _ in range(tasks))
        self.shared = Experts(config.shared, width, config.hidden, rng, **how)
        self.gates = nn.ModuleList(Gate(width, config.specific + config.shared, rng) for _ in range(tasks))
        self.shared_gate = None if last else Gate(width, tasks * config.specific + config.shared, rng)
        self.width = self.shared.width

    def forward(self, inputs: list[Tensor], drop: Dropout) -> list[Tensor]:
        """Return the outputs of the tasks and, but for the last level, of the shared part, of their inputs in this order."""
        shared = self.shared(inputs[-1], drop)
        own = [experts(x, drop) for experts, x in zip(self.own, inputs, strict=False)]
        outputs = [gate(x, torch.cat([mine, shared], 1)) for gate, x, mine in zip(self.gates, inputs, own, strict=False)]
        if self.shared_gate is not None:
            outputs.append(self.shared_gate(inputs[-1], torch.cat([*own, shared], 1)))
        return outputs


class PLENet(TaskNet):
    """The network."""

    def __init__(self, config: PLEConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__(config, tasks)
        self.table = FieldVectors(layout, config.dim, rng)
        width, levels = len(self.table.names) * config.dim, []
        for at in range(config.levels):
            levels.append(Level(config, width, tasks, rng, last=at == config.levels - 1))
            width = levels[-1].width
        self.levels = nn.ModuleList(levels)
        self.towers = nn.ModuleList(MLP(width, config.tower, 1, rng) for _ in range(tasks))

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        parts = [vectors.flat] * (len(self.towers) + 1)
        for level in self.levels:
            parts = level(parts, drop)
        outputs = [tower(x, drop) for tower, x in zip(self.towers, parts, strict=True)]
        return torch.cat(outputs, 1), vectors.size
