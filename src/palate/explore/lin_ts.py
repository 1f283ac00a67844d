"""Linear Thompson sampling: weights drawn from the posterior of a linear model of rewards.

    θ ~ N(A⁻¹b, v² A⁻¹),     A = λI + Σ x xᵀ,     value_ri = θᵀx_ri

with one regression for all items (``shared``) or one for each (``disjoint``), see :mod:`palate.explore.linear`. ``D`` draws are
made after each update; a position goes to item ``i`` with the smoothed share of draws in which it has the highest value of what
is left, so propensities are exact given the draws (:mod:`palate.explore.thompson`).

Source: S. Agrawal and N. Goyal, "Thompson Sampling for Contextual Bandits with Linear Payoffs", ICML 2013, algorithm 1.
Differences: ``v`` is a setting, not the (much larger) value of the proof; draws are kept from one update to the next; slates of
several items are drawn position by position.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palate.explore.features import FeatureConfig
from palate.explore.linear import Among, Form
from palate.explore.linucb import LinearPolicy
from palate.explore.thompson import DrawnConfig


class LinTSConfig(FeatureConfig, DrawnConfig):
    """Settings of linear Thompson sampling."""

    form: Literal["shared", "disjoint"] = Field("shared", description="weights: shared by all items, or of each item")
    spread: float = Field(0.5, gt=0, description="v, standard deviation of the noise of rewards")
    reg: float = Field(1.0, gt=0, description="λ of the ridge regression")


class LinearDraws(LinearPolicy):
    """Base of policies that draw the weights of a linear model."""

    config: FeatureConfig

    @property
    def _drawn_config(self) -> DrawnConfig:
        assert isinstance(self.config, DrawnConfig)
        return self.config

    @property
    def _spread(self) -> float:
        return 1.0

    @property
    def _epsilon(self) -> float:
        return self._drawn_config.epsilon

    @property
    def _numbers(self) -> int:
        return self.n_items * self._drawn_config.draws

    def _valued(self, x: np.ndarray, among: Among) -> np.ndarray:
        return self.learner_.sampled(x, self._drawn_once(), among)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return self.learner_.weights(rng, self._drawn_config.draws, self._spread)


class LinTS(LinearDraws):
    """Linear Thompson sampling (see the module's text)."""

    name: ClassVar[str] = "lin_ts"
    Settings = LinTSConfig
    config: LinTSConfig

    @property
    def _form(self) -> Form:
        return self.config.form

    @property
    def _reg(self) -> float:
        return self.config.reg

    @property
    def _spread(self) -> float:
        return self.config.spread
