"""CascadeLinUCB and CascadeLinTS: attraction that is linear in features, for people who click the first attractive item.

    w_ri ≈ θᵀx_ri,     M = I + σ⁻² Σ x xᵀ,     θ̂ = σ⁻² M⁻¹ Σ click · x       over the items that were looked at

    CascadeLinUCB      U_ri = min(1, θ̂ᵀx + c √(xᵀM⁻¹x)),     the k highest, highest first; propensities are 1
    CascadeLinTS       θ ~ N(θ̂, M⁻¹),     the k highest θᵀx of one draw, highest first

What is learnt of one item helps all like it, so regret doesn't grow with the number of items. With ``A = σ² M`` these are the
regressions of :mod:`palate.explore.linear`: ``λ = σ²``, ``M⁻¹ = σ² A⁻¹``. Of the ``D`` draws of CascadeLinTS between two
updates each is as likely; propensities are the shares of draws (:mod:`palate.explore.cascade_ts`).

Source: S. Zong, H. Ni, K. Sung, N. R. Ke, Z. Wen and B. Kveton, "Cascading Bandits for Large-Scale Recommendation Problems",
UAI 2016, algorithms 1 and 2. Differences: features may hold the request's context, ``x = (1, c) ⊗ (1, z)``; draws are kept from
one update to the next.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.explore.features import FeatureConfig
from palate.explore.lin_ts import LinearDraws
from palate.explore.linear import Among
from palate.explore.linucb import LinearPolicy
from palate.explore.thompson import DrawnConfig


class CascadeLinUCBConfig(FeatureConfig):
    """Settings of CascadeLinUCB."""

    sigma: float = Field(1.0, gt=0, description="σ, how fast the learning goes: standard deviation of the noise of clicks")
    c: float = Field(1.0, ge=0, description="widths that are added to the mean")


class CascadeLinUCB(LinearPolicy):
    """Linear confidence bounds for cascading clicks (see the module's text)."""

    name: ClassVar[str] = "cascade_linucb"
    unit_rewards: ClassVar[bool] = True
    Settings = CascadeLinUCBConfig
    config: CascadeLinUCBConfig

    @property
    def _reg(self) -> float:
        return self.config.sigma**2

    def _valued(self, x: np.ndarray, among: Among) -> np.ndarray:
        mean, width = self.learner_.estimates(x, among)
        return np.minimum(1.0, mean + self.config.c * self.config.sigma * width)[:, None]


class CascadeLinTSConfig(FeatureConfig, DrawnConfig):
    """Settings of CascadeLinTS."""

    draws: int = Field(16, gt=0, description="joint draws of the weights between two updates")
    smoothing: float = Field(0.0, ge=0, description="draws that count as even over what is left")
    sigma: float = Field(1.0, gt=0, description="σ, how fast the learning goes: standard deviation of the noise of clicks")


class CascadeLinTS(LinearDraws):
    """Linear Thompson sampling with one draw a slate (see the module's text)."""

    name: ClassVar[str] = "cascade_lin_ts"
    unit_rewards: ClassVar[bool] = True
    joint: ClassVar[bool] = True
    Settings = CascadeLinTSConfig
    config: CascadeLinTSConfig

    @property
    def _reg(self) -> float:
        return self.config.sigma**2

    @property
    def _spread(self) -> float:
        return self.config.sigma
