"""Thompson sampling with Beta posteriors of click rates.

    w_i ~ Beta(a + clicks_i, b + refusals_i),     clicks and refusals of those who looked

``D`` joint draws of all rates are made after each update. A position goes to item ``i`` with the smoothed share of draws in
which it is the best of what is left::

    p(i | positions before) = (n_i + s/|left|) / (D + s)

so the propensity is exact given the draws. With ``s > 0`` it is never zero within the candidates, which makes inverse weighting
unbiased, and costs a share ``s/(D + s)`` of even choice for ever; with ``s = 0`` only items that win in some draw can come, and
regret is that of Thompson sampling. Rewards between 0 and 1 count as parts of a click.

Source: W. Thompson, Biometrika 1933; O. Chapelle and L. Li, "An Empirical Evaluation of Thompson Sampling", NIPS 2011,
algorithm 2. Differences: draws are kept from one update to the next (see :mod:`palate.explore.base`), and positions of a slate
are drawn one by one (:mod:`palate.explore.cascade_ts` takes one draw for a whole slate).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.contracts.requests import Requests
from palate.explore.base import CountedPolicy, SlateConfig


class DrawnConfig(SlateConfig):
    """Settings of policies that draw from a posterior."""

    draws: int = Field(64, gt=0, description="joint draws of all values between two updates")
    smoothing: float = Field(1.0, ge=0, description="s, draws that count as even over what is left")

    @property
    def epsilon(self) -> float:
        """Share of even choice, ``s/(D + s)``."""
        return self.smoothing / (self.draws + self.smoothing)


class ThompsonConfig(DrawnConfig):
    """Settings of Thompson sampling."""

    prior_clicks: float = Field(1.0, gt=0, description="a of the Beta prior")
    prior_refusals: float = Field(1.0, gt=0, description="b of the Beta prior")


class Thompson(CountedPolicy):
    """Beta-Bernoulli Thompson sampling (see the module's text)."""

    name: ClassVar[str] = "thompson"
    unit_rewards: ClassVar[bool] = True
    Settings = ThompsonConfig
    config: ThompsonConfig

    @property
    def _epsilon(self) -> float:
        return self.config.epsilon

    @property
    def _numbers(self) -> int:
        return self.n_items * self.config.draws

    def _values(self, requests: Requests) -> np.ndarray:
        return self._drawn_once()

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        c = self.config
        good, bad = c.prior_clicks + self.gains_, c.prior_refusals + (self.trials_ - self.gains_)
        return rng.beta(good, bad, size=(1, c.draws, self.n_items))
