"""Epsilon-greedy: mostly the best so far, at times an item by lot.

    p(i | positions before) = ε/|left| + (1 - ε) [i has the highest mean of those left],     ŵ_i = Σ rewards_i / T_i

Position by position, without return. Items that nobody looked at count as ``prior`` (with ``prior = 1`` each is tried once
before its mean is believed). With ``decay`` the share of chance falls with the number ``t`` of slates learnt from, ``ε_t =
min(1, decay / t)``: a constant share costs regret that grows in line with time, this one need not.

Source: R. Sutton and A. Barto, Reinforcement Learning (1998); the falling share is that of P. Auer, N. Cesa-Bianchi and
P. Fischer, Machine Learning 2002, section 4 (ε_n-greedy).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.contracts.requests import Requests
from palate.explore.base import CountedPolicy, SlateConfig


class EpsilonGreedyConfig(SlateConfig):
    """Settings of epsilon-greedy."""

    epsilon: float = Field(0.1, ge=0, le=1, description="share of even choice at each position")
    decay: float | None = Field(None, gt=0, description="c of ε_t = min(1, c/t), in place of epsilon")
    prior: float = Field(1.0, description="mean reward of an item that nobody looked at")


class EpsilonGreedy(CountedPolicy):
    """Epsilon-greedy (see the module's text)."""

    name: ClassVar[str] = "epsilon_greedy"
    Settings = EpsilonGreedyConfig
    config: EpsilonGreedyConfig

    @property
    def _epsilon(self) -> float:
        c = self.config
        return c.epsilon if c.decay is None else min(1.0, c.decay / max(1, int(self.rounds_[0])))

    def _values(self, requests: Requests) -> np.ndarray:
        return np.where(self.trials_ > 0, self.means, self.config.prior)[None, None]
