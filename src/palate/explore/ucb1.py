"""UCB1: the items with the highest upper confidence bounds, by Hoeffding's inequality.

    U_i = ŵ_i + √(width · ln t / T_i)          width = 2 in the paper, t = slates learnt from, T_i = times looked at

Items that nobody looked at come first. The slate is the ``k`` highest bounds, in their order; propensities are 1. Rewards lie
from 0 to 1.

Source: P. Auer, N. Cesa-Bianchi and P. Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", Machine Learning 2002,
figure 1. Difference: a slate of several items counts as one step of time.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.contracts.requests import Requests
from palate.explore.base import CountedPolicy, SlateConfig


class UCB1Config(SlateConfig):
    """Settings of UCB1."""

    width: float = Field(2.0, gt=0, description="factor of ln t under the root of the bound")


class UCB1(CountedPolicy):
    """Upper confidence bounds by counts (see the module's text)."""

    name: ClassVar[str] = "ucb1"
    unit_rewards: ClassVar[bool] = True
    Settings = UCB1Config
    config: UCB1Config

    def _values(self, requests: Requests) -> np.ndarray:
        return hoeffding(self.means, self.trials_, self.config.width * np.log(max(1, int(self.rounds_[0]))))[None, None]


def hoeffding(mean: np.ndarray, trials: np.ndarray, level: float) -> np.ndarray:
    """Return ``mean + √(level / trials)``, infinite where there were no trials."""
    bound: np.ndarray = np.where(trials > 0, mean + np.sqrt(level / np.maximum(trials, 1.0)), np.inf)
    return bound
