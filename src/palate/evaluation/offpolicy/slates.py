"""Off-policy estimators of slates: how far a position's reward may depend on the others decides its weight.

For positions ``k = 1 … K`` with ratios ``w_k = target_k / propensity_k``::

    SIPS          Σ_k (w_1 ⋯ w_K) r_k                             any dependence            conditional chances
    RIPS          Σ_k (w_1 ⋯ w_k) r_k                             on earlier positions      conditional chances
    IIPS          Σ_k w_k r_k                                     on none                   marginal chances
    cascade-DR    Σ_k (w_1 ⋯ w_{k-1}) q̄_k + (w_1 ⋯ w_k)(r_k - q_k)     on earlier positions      conditional chances

Each is unbiased when rewards depend on other positions no more than it says, and needs longer logs the more it allows. In
cascade-DR, ``q_k`` may be any function of the person and the first ``k`` actions, and ``q̄_k`` is its mean over the candidate's
action at ``k`` after the logged earlier ones; the best is what is still to be earned from ``k`` on. Self-normalised forms
divide each position's mean by its mean weight.

Sources: Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen 2018 (IIPS); McInerney, Brost, Chandar, Mehrotra and
Carterette 2020 (RIPS); Kiyohara, Saito, Matsuhiro, Narita, Shimizu and Yamamoto 2022 (cascade-DR).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from palate.errors import ConfigError, UnsupportedError, nearest
from palate.evaluation.offpolicy.estimators import Knob, Rows
from palate.evaluation.offpolicy.log import SlateLog


@dataclass(frozen=True)
class SlateEstimator:
    """A line of the table; see :class:`palate.evaluation.offpolicy.estimators.Estimator`.

    Attributes
    ----------
    chances
        Kind of chances that its weights are made of.
    weigh
        ``ratios float64[n, K] -> weights float64[n, K]``.
    """

    name: str
    title: str
    chances: Literal["conditional", "marginal"]
    weigh: Callable[[np.ndarray], np.ndarray]
    model: bool = False
    normalised: bool = False
    text: str = ""
    weighted: ClassVar[bool] = True
    knob: ClassVar[Knob | None] = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the columns of a log that it reads."""
        return ("reward", "propensity", "target", *(("q_logged", "q_target") if self.model else ()))

    def rows(self, log: SlateLog, knob: float | None = None) -> Rows:
        """Return what the estimator makes of each slate.

        Raises
        ------
        UnsupportedError
            If the log's chances are of another kind, or a reward model is needed and absent.
        """
        if knob is not None:
            raise ConfigError(f"{self.name} has no setting.", where="knob", value=knob)
        log.require(self.chances, self.name)
        weight = self.weigh(log.ratio)
        if not self.model:
            return Rows(np.zeros_like(weight), weight, log.reward, weight, self.normalised)
        if log.q_logged is None or log.q_target is None:
            raise UnsupportedError(f"{self.name} needs a reward model.", where="q_logged, q_target", remedy="see crossfit")
        before = np.concatenate([np.ones((len(log), 1)), weight[:, :-1]], axis=1)
        return Rows(before * log.q_target, weight, log.reward - log.q_logged, weight, self.normalised)

    def ceilings(self, bound: float, width: int, knob: float | None = None) -> np.ndarray:
        """Return ``float64[width]``: the largest weight of each position when no position's ratio is above ``bound``."""
        return self.weigh(np.full((1, width), bound))[0]


def whole(ratio: np.ndarray) -> np.ndarray:
    """Return the product over the slate, at every position."""
    return np.broadcast_to(ratio.prod(axis=1, keepdims=True), ratio.shape)


def so_far(ratio: np.ndarray) -> np.ndarray:
    """Return the product up to each position."""
    return np.cumprod(ratio, axis=1)


def alone(ratio: np.ndarray) -> np.ndarray:
    """Return each position's own ratio."""
    return ratio


_TABLE = (
    SlateEstimator("sips", "Slate IPS", "conditional", whole, text="any dependence between positions; very wide"),
    SlateEstimator("rips", "Reward-interaction IPS", "conditional", so_far, text="a reward depends on earlier positions only"),
    SlateEstimator("iips", "Independent IPS", "marginal", alone, text="a reward depends on its own position only"),
    SlateEstimator("cascade_dr", "Cascade-DR", "conditional", so_far, model=True, text="RIPS with a reward model"),
    SlateEstimator("snsips", "Self-normalised slate IPS", "conditional", whole, normalised=True, text="SIPS over mean weights"),
    SlateEstimator(
        "snrips",
        "Self-normalised reward-interaction IPS",
        "conditional",
        so_far,
        normalised=True,
        text="RIPS over mean weights",
    ),
    SlateEstimator(
        "sniips", "Self-normalised independent IPS", "marginal", alone, normalised=True, text="IIPS over mean weights"
    ),
)
#: Every estimator of slates, by name.
SLATE_ESTIMATORS: Mapping[str, SlateEstimator] = {estimator.name: estimator for estimator in _TABLE}


def find_slate(name: str) -> SlateEstimator:
    """Return an estimator of slates by name.

    Raises
    ------
    ConfigError
        If there is none; the nearest name is given.
    """
    if name not in SLATE_ESTIMATORS:
        raise ConfigError(
            "there is no such estimator of slates.", where="names", value=name, remedy=nearest(name, SLATE_ESTIMATORS)
        )
    return SLATE_ESTIMATORS[name]
