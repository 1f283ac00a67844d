"""Two arms compared: a linear contrast and a relative lift, for any critical value (of one reading, or of any number)::

    contrast  d = v - f c,        Var d = Var v + f² Var c + (1 - f)² q
    lift      l = (v - c) / |c|

for the metric's values ``v`` in the variant and ``c`` in the control. ``q`` is a variance that both share: 0 for plain
totals; that of the centre in a regression adjustment (see :mod:`palate.evaluation.experiments.cuped`), which cancels where
``f = 1``.

The interval of the lift by Fieller holds the ratios ``r`` for which the contrast with ``f = r`` is not distinguishable from
0: the roots of ``r² (c² - k² V_cc) - 2 r (v c - k² q) + v² - k² V_vv`` for a critical value ``k``. It is exact for normal
means, leans as the ratio does, and is unbounded where the control itself isn't clear of 0. The delta method takes ``Var(v /
c) = (V_vv - 2 r q + r² V_cc) / c²`` instead.

Source: E. Fieller, "Some problems in interval estimation", JRSS B 1954.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import ConfigError
from palate.evaluation.experiments.moments import Moments

LiftMethod = Literal["fieller", "delta"]


def contrast(
    control: Moments, variant: Moments, factor: ArrayLike = 1.0, common: ArrayLike = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``variant - factor · control`` and its standard error; ``common`` is the variance that both share."""
    f = np.asarray(factor, np.float64)
    spread = variant.error2 + f**2 * control.error2 + (1 - f) ** 2 * np.asarray(common, np.float64)
    return variant.value - f * control.value, np.sqrt(spread)


def lift(control: Moments, variant: Moments) -> np.ndarray:
    """Return the difference as a part of the control's size; NaN where that is 0."""
    c, v = np.broadcast_arrays(control.value, variant.value)
    return np.divide(v - c, np.abs(c), out=np.full(c.shape, np.nan), where=c != 0)


def lift_interval(
    control: Moments, variant: Moments, critical: ArrayLike, *, method: LiftMethod = "fieller", common: ArrayLike = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the relative lift's interval.

    Parameters
    ----------
    critical
        How many standard errors the interval reaches; of the shape of the totals, or one for all.
    method
        ``"fieller"`` (may be unbounded: both ends infinite) or ``"delta"``.
    common
        Variance that both arms share.
    """
    if method not in ("fieller", "delta"):
        raise ConfigError(
            "there is no such interval of a lift.", where="method", value=method, remedy="choose fieller or delta"
        )
    k2, shared = np.asarray(critical, np.float64) ** 2, np.asarray(common, np.float64)
    c, v = control.value, variant.value
    c_spread, v_spread = control.error2 + shared, variant.error2 + shared
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "delta":
            ratio = v / c
            reach = np.sqrt(k2 * np.maximum(v_spread - 2 * ratio * shared + ratio**2 * c_spread, 0.0)) / np.abs(c)
            low, high = ratio - reach, ratio + reach
        else:
            leading, middle = c**2 - k2 * c_spread, v * c - k2 * shared
            root = np.sqrt(np.maximum(middle**2 - leading * (v**2 - k2 * v_spread), 0.0))
            clear = leading > 0
            low = np.where(clear, (middle - root) / leading, -np.inf)
            high = np.where(clear, (middle + root) / leading, np.inf)
        known = ~np.isnan(c_spread + v_spread) & (c != 0)
        low, high = (np.where(known, np.sign(c) * (end - 1), end * np.nan) for end in (low, high))
    return np.minimum(low, high), np.maximum(low, high)
