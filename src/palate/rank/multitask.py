"""Several tasks at once: their losses weighed by fixed numbers, or by uncertainties that are learnt.

    fixed           L = Σ_t w_t L_t
    uncertainty     L = Σ_t w_t [ L_t / (2 σ_t²) + ln σ_t ],   s_t = ln σ_t² learnt from 0 on

Source: A. Kendall, Y. Gal, R. Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
Semantics", CVPR 2018, equation 7. For binary tasks the paper has L_t/σ_t² (equation 10); the factor only shifts σ.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.data.row_encoder import RowLayout
from palate.errors import ConfigError, nearest
from palate.rank.deepfm import DeepConfig
from palate.rank.neural import NeuralRanker, RowNet


class TaskConfig(DeepConfig):
    """Settings of rankers of several tasks."""

    hidden: tuple[int, ...] = Field((128, 64), min_length=1, description="widths of the layers of an expert")
    tower: tuple[int, ...] = Field((32,), description="widths of the dense layers of a task of its own")
    task_weights: dict[str, float] = Field({}, description="weight of a task's loss, by name (not named: 1)")
    weighting: Literal["fixed", "uncertainty"] = Field("fixed", description="whether learnt uncertainties weigh losses too")


class TaskNet(RowNet):
    """Base of networks of several tasks, with what weighs their losses."""

    def __init__(self, config: TaskConfig, tasks: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(tasks)) if config.weighting == "uncertainty" else None

    def vectors(self) -> set[int]:
        """Return the ids of parameters that ``net_reg`` does not hold down."""
        return super().vectors() | ({id(self.log_variance)} if self.log_variance is not None else set())


class MultiTaskRanker(NeuralRanker):
    """Base of rankers of several tasks (see the module's text)."""

    Settings = TaskConfig
    config: TaskConfig
    net_: TaskNet

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        for name, weight in self.config.task_weights.items():
            if name not in self.tasks_:
                raise ConfigError("there is no such task.", where="task_weights", value=name, remedy=nearest(name, self.tasks_))
            if not 0 <= weight < np.inf:
                raise ConfigError("a weight is at least 0.", where=f"task_weights, {name!r}", value=weight)
        return self._task_network(layout, tasks, rng)

    def _task_network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> TaskNet:
        raise NotImplementedError

    def _loss(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        losses = self._task_losses(outputs, labels, weights)
        if self.net_.log_variance is not None:
            s = self.net_.log_variance
            losses = 0.5 * (losses * torch.exp(-s) + s)
        share = [self.config.task_weights.get(name, 1.0) for name in self.tasks_]
        return (losses * losses.new_tensor(share)).sum()
