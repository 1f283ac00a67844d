"""Settings of systems that weigh a click by the inverse of the chance that it came to be seen."""

from __future__ import annotations

from pydantic import Field

from palate.contracts.config import Config


class ExposureConfig(Config):
    """Settings of propensities taken from popularity (:mod:`palate.data.propensities`)."""

    eta: float = Field(0.5, ge=0, description="η, power of the popularity that stands for θ (0 = no correction)")
    clip: float = Field(0.1, ge=0, le=1, description="M: smaller propensities are raised to it (0 = unbiased, 1 = plain)")
