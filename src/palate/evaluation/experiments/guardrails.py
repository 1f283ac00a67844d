"""Guardrails: metrics that must not get worse by more than a margin, judged so that looking is free.

With ``s = 1`` where more is better and ``s = -1`` where less is, a variant's value ``v`` beside the control's ``c`` is

    safe      if the lower end of  s (v - f c)  is above 0
    harmed    if the upper end of  s (v - f c)  is below 0,       f = 1 - s m sign(c)  for a relative margin m
    not yet known                                                 else

and with ``v - c + s m`` in place of ``v - f c`` for an absolute margin. Ends are those of one-sided confidence sequences, so
that each wrong word has probability at most ``1 - confidence`` over all looks together; only one of the two words can be
wrong. All guardrails being safe needs no correction for their number (each must hold); that some one of ``m`` is called
harmed without being so has probability up to ``m`` times that. A relative margin needs a control that is clear of 0.

Source: one-sided sequences as in :mod:`palate.evaluation.experiments.sequential`; non-inferiority as in S. Wellek, "Testing
statistical hypotheses of equivalence and noninferiority", 2010, chapter 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import ConfigError
from palate.evaluation.experiments.contrast import contrast, lift, lift_interval
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.experiments.sequential import START, begun, clock, multiplier, steadied

#: Words of a verdict, by its sign.
VERDICTS = {1: "safe", -1: "harmed", 0: "not yet known"}


@dataclass(frozen=True)
class Guardrail:
    """How much worse a metric may get.

    Parameters
    ----------
    margin
        Not below 0: a share of the control's value (0.02 for 2 %), or an amount in the metric's unit.
    relative
        Whether the margin is a share.
    better
        Which way is better.
    """

    margin: float
    relative: bool = True
    better: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.margin) and self.margin >= 0):
            raise ConfigError("a margin is a number from 0.", where="margin", value=self.margin)
        if self.better not in ("higher", "lower"):
            raise ConfigError("better is higher or lower.", where="better", value=self.better)

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.better == "higher" else -1


class Guarded(NamedTuple):
    """A guardrail's state; arrays of the totals' shape.

    Attributes
    ----------
    change, low, high
        Variant against control in the unit of the margin (a share, or an amount), above 0 where it is better, and its ends;
        each end alone holds at all looks with the confidence asked for.
    verdict
        1 safe, -1 harmed, 0 not yet known (``VERDICTS`` has the words).
    """

    change: np.ndarray
    low: np.ndarray
    high: np.ndarray
    verdict: np.ndarray


def guard(
    control: Moments,
    variant: Moments,
    rule: Guardrail,
    *,
    target: float,
    confidence: float = 0.95,
    start: int = START,
    common: ArrayLike = 0.0,
) -> Guarded:
    """Judge a guardrail, or arrays of looks at it.

    Parameters
    ----------
    rule
        The margin, and which way is better.
    target
        Units of both arms together at which the ends are narrowest: the planned size.
    confidence
        One minus the probability of each wrong word, over all looks.
    start
        Units that each arm needs.
    common
        Variance that both arms share after a regression adjustment.
    """
    control, variant = steadied(control, variant)
    scale = clock(control, variant, target=target, confidence=confidence, sides=1)
    k = multiplier(scale, confidence=confidence, sides=1)
    plain, error = contrast(control, variant)
    ready = begun(control, variant, error, start)
    if rule.relative:
        side = np.sign(control.value)
        ready = ready & (np.abs(control.value) > k * np.sqrt(control.error2 + np.asarray(common, np.float64)))
        moved, spread = contrast(control, variant, 1 - rule.sign * rule.margin * side, common)
        change = rule.sign * lift(control, variant)
        ends = [rule.sign * end for end in lift_interval(control, variant, k, common=common)]
    else:
        moved, spread = plain + rule.sign * rule.margin, error
        change = rule.sign * plain
        ends = [change - k * error, change + k * error]
    room = rule.sign * moved
    safe, harmed = ready & (room > k * spread), ready & (room < -k * spread)
    low, high = np.minimum(*ends), np.maximum(*ends)
    return Guarded(
        change,
        np.where(ready, low, -np.inf),
        np.where(ready, high, np.inf),
        np.where(safe, 1, np.where(harmed, -1, 0)),
    )
