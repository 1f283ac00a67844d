"""CascadeUCB1 and CascadeKL-UCB: upper confidence bounds of attraction, for people who click the first attractive item.

A person goes down the list ``A`` and clicks the first item that attracts them, so a list is worth::

    f(A, w) = 1 - Π_{i in A} (1 - w_i)

which depends on the set alone: the best list holds the ``k`` most attractive items. What stands above the click was looked at
and refused, the clicked item attracted, what stands below was not seen. With ``T_i`` times looked at and ``ŵ_i`` the share of
clicks among them::

    ucb1       U_i = ŵ_i + √(1.5 ln t / T_i)
    kl-ucb     U_i = max { q in [ŵ_i, 1] : T_i kl(ŵ_i, q) ≤ ln t + 3 ln ln t }

The slate is the ``k`` highest bounds, highest first; propensities are 1. The order doesn't matter for what is earned, but what
stands first is looked at more often. Regret grows like ``(L - k)/Δ · ln t``.

Source: B. Kveton, C. Szepesvári, Z. Wen and A. Ashkan, "Cascading Bandits: Learning to Rank in the Cascade Model", ICML 2015,
algorithm 1. Difference: the paper begins with one observation of each item; here an item that nobody looked at has the highest
bound, so it is shown first of all.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palate.contracts.requests import Requests
from palate.explore.base import CountedPolicy, SlateConfig
from palate.explore.ucb1 import hoeffding
from palate.kernels.kl_bound import kl_upper


class CascadeUCBConfig(SlateConfig):
    """Settings of the cascading bandits with confidence bounds."""

    bound: Literal["ucb1", "kl-ucb"] = Field("kl-ucb", description="kind of confidence bound")
    width: float = Field(1.5, gt=0, description="factor of ln t under the root (ucb1)")


class CascadeUCB(CountedPolicy):
    """Cascading bandits with confidence bounds (see the module's text)."""

    name: ClassVar[str] = "cascade_ucb"
    unit_rewards: ClassVar[bool] = True
    Settings = CascadeUCBConfig
    config: CascadeUCBConfig

    def _values(self, requests: Requests) -> np.ndarray:
        t = np.log(max(1, int(self.rounds_[0])))
        if self.config.bound == "ucb1":
            return hoeffding(self.means, self.trials_, self.config.width * t)[None, None]
        level = t + 3 * np.log(t) if t > 1 else t
        bound = np.where(self.trials_ > 0, kl_upper(self.means, self.trials_, float(level)), np.inf)
        return bound[None, None]
