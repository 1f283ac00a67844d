"""CascadeTS: Thompson sampling for people who click the first attractive item.

    θ_i ~ Beta(1 + clicks_i, 1 + refusals_i),     the slate is the k highest θ, highest first

One draw makes a whole slate. Of the ``D`` draws that stand between two updates each is as likely, so a slate is drawn with the
share of draws that rank it so, and position by position::

    p(i | positions before) = share of the draws that agree with the positions before, in which i is the best left

These propensities are exact given the draws. ``smoothing`` (off by default) adds draws that are even over what is left, for
logs that any other policy shall be judged by.

Source: W. C. Cheung, V. Y. F. Tan and Z. Zhong, "A Thompson Sampling Algorithm for Cascading Bandits", AISTATS 2019; Z. Zhong,
W. C. Cheung and V. Y. F. Tan, "Thompson Sampling Algorithms for Cascading Bandits", JMLR 2021 (the form with Beta posteriors).
Difference: draws are kept from one update to the next; feedback that comes slate by slate makes this the paper's algorithm.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from palate.explore.thompson import Thompson, ThompsonConfig


class CascadeTSConfig(ThompsonConfig):
    """Settings of CascadeTS."""

    draws: int = Field(16, gt=0, description="joint draws of all attractions between two updates")
    smoothing: float = Field(0.0, ge=0, description="draws that count as even over what is left")


class CascadeTS(Thompson):
    """Thompson sampling with one draw a slate (see the module's text)."""

    name: ClassVar[str] = "cascade_ts"
    joint: ClassVar[bool] = True
    Settings = CascadeTSConfig
    config: CascadeTSConfig
