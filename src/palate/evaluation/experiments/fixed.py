"""Comparison at a fixed size: Welch's interval and test, and the sizes that a plan needs.

    d = v - c,   e² = s_v² / n_v + s_c² / n_c,   d ± t(1 - α/2; ν) e
    ν = e⁴ / ((s_v² / n_v)² / (n_v - 1) + (s_c² / n_c)² / (n_c - 1))                                       Welch, 1947

for means and for ratios of sums (:mod:`palate.evaluation.experiments.moments`). All of this holds for one reading at a size
that was fixed beforehand. Whoever reads again and again until it says "significant" will be told so sooner or later even if
nothing differs: for that there is :mod:`palate.evaluation.experiments.sequential`.

Sizes by the normal approximation: a difference ``δ`` is found with the probability

    power = Φ(δ / e - z) + Φ(-δ / e - z),   e² = σ² (1 / n_c + 1 / n_v),   z = Φ⁻¹(1 - α / 2)

and ``n_c = (z + Φ⁻¹(power))² (1 + 1/r) σ² / δ²``, ``n_v = r n_c`` (near ``16 σ² / δ²`` an arm for 80 % at 95 % and r = 1).
With ``m`` comparisons ``α / m`` stands for ``α``: what Holm's first step demands, so that the power of each is at least what
is stated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from palate.errors import ConfigError
from palate.evaluation.experiments.contrast import LiftMethod, contrast, lift, lift_interval
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.significance import holm


class Compared(NamedTuple):
    """A variant against the control at a fixed size; arrays of the totals' shape.

    Attributes
    ----------
    difference, low, high
        Variant minus control, and its interval.
    lift, lift_low, lift_high
        The same as a part of the control's value.
    p
        Two-sided p-value.
    error, freedom
        Standard error of the difference, and Welch's degrees of freedom.
    """

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lift: np.ndarray
    lift_low: np.ndarray
    lift_high: np.ndarray
    p: np.ndarray
    error: np.ndarray
    freedom: np.ndarray


def compare_fixed(
    control: Moments, variant: Moments, *, confidence: float = 0.95, method: LiftMethod = "fieller", common: ArrayLike = 0.0
) -> Compared:
    """Compare two arms, or arrays of them, at a fixed size.

    Parameters
    ----------
    confidence
        Of the intervals, between 0 and 1.
    method
        Interval of the lift: ``"fieller"`` or ``"delta"``.
    common
        Variance that both arms share after a regression adjustment.

    Notes
    -----
    NaN where an arm has fewer than two units. Where no unit differs from another in its arm, p is 1 for equal arms and else 0.
    """
    check_share(confidence, "confidence")
    difference, error = contrast(control, variant)
    one, two = control.error2, variant.error2
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (one + two) ** 2 / (one**2 / (control.n - 1) + two**2 / (variant.n - 1))
        p = 2 * special.stdtr(freedom, -np.abs(difference) / error)
    flat = error == 0
    p = np.where(flat, np.where(difference == 0, 1.0, 0.0), p)
    critical = np.where(flat, 0.0, special.stdtrit(np.where(flat, 1.0, freedom), (1 + confidence) / 2))
    reach = critical * error
    low, high = lift_interval(control, variant, critical, method=method, common=common)
    return Compared(difference, difference - reach, difference + reach, lift(control, variant), low, high, p, error, freedom)


def interval(arm: Moments, *, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Student's interval of an arm's value; NaN below two units."""
    check_share(confidence, "confidence")
    reach = special.stdtrit(np.maximum(arm.n - 1, 1), (1 + confidence) / 2) * np.sqrt(arm.error2)
    return arm.value - reach, arm.value + reach


def adjust_p(p: np.ndarray) -> np.ndarray:
    """Adjust p-values of any shape by Holm's rule as one family; NaN stays, and doesn't count."""
    table = np.asarray(p, np.float64)
    out, known = table.copy(), ~np.isnan(table)
    out[known] = holm(table[known])
    return out


def power(
    effect: float, deviation: float, n_control: float, n_variant: float, *, confidence: float = 0.95, comparisons: int = 1
) -> float:
    """Return the probability that a difference is found.

    Parameters
    ----------
    effect
        The difference of values (not relative).
    deviation
        Standard deviation of a unit: ``sqrt(moments.variance)``, also for a ratio.
    n_control, n_variant
        Units an arm.
    comparisons
        Variants times metrics that are tested together.
    """
    z = _critical(confidence, comparisons)
    _check_plan(deviation, n_control, n_variant)
    error = deviation * np.sqrt(1 / n_control + 1 / n_variant)
    moved = abs(effect) / error if error else (np.inf if effect else 0.0)
    return float(special.ndtr(moved - z) + special.ndtr(-moved - z))


def sample_size(
    effect: float,
    deviation: float,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    ratio: float = 1.0,
    comparisons: int = 1,
) -> tuple[int, int]:
    """Return the units that control and variant need so that a difference of ``effect`` is found with probability ``power``.

    ``ratio`` is the size of the variant beside that of the control. For a minimum detectable lift ``l`` give
    ``effect = l · value of the control``.
    """
    check_share(power, "power")
    _check_plan(deviation, ratio, 1.0)
    if effect == 0 or not np.isfinite(effect):
        raise ConfigError("an effect of 0 can't be found at any size.", where="effect", value=effect)
    reach = _critical(confidence, comparisons) + special.ndtri(power)
    control = max(reach, 0.0) ** 2 * (1 + 1 / ratio) * deviation**2 / effect**2
    return max(2, int(np.ceil(control))), max(2, int(np.ceil(ratio * control)))


def detectable_effect(
    deviation: float,
    n_control: float,
    n_variant: float,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    comparisons: int = 1,
) -> float:
    """Return the smallest difference that is found with probability ``power`` (the inverse of :func:`sample_size`)."""
    check_share(power, "power")
    _check_plan(deviation, n_control, n_variant)
    reach = _critical(confidence, comparisons) + special.ndtri(power)
    return float(max(reach, 0.0) * deviation * np.sqrt(1 / n_control + 1 / n_variant))


def check_share(value: float, where: str) -> None:
    """Refuse what doesn't lie between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{where} lies between 0 and 1.", where=where, value=value)


def _critical(confidence: float, comparisons: int) -> float:
    check_share(confidence, "confidence")
    if comparisons < 1:
        raise ConfigError("there must be a comparison.", where="comparisons", value=comparisons)
    return float(-special.ndtri((1 - confidence) / 2 / comparisons))


def _check_plan(deviation: float, *sizes: float) -> None:
    if not (np.isfinite(deviation) and deviation >= 0):
        raise ConfigError("a standard deviation is a number from 0.", where="deviation", value=deviation)
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        raise ConfigError("sizes are numbers above 0.", value=list(sizes))
