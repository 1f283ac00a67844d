"""CUPED: less variance by regression on what was known of the units before the experiment.

    z_i = R_a + (y_i - R_a x_i) / x̄_a                    a unit's part in the metric of its arm a (for a mean: y_i itself)
    θ = S_cc⁻¹ S_cz, pooled within arms,   adjusted_i = z_i - θ' (c_i - c̄)

``c̄`` is the mean over all arms. Assignment is random, hence covariates from before it differ between arms by chance only,
and what is taken away is 0 in expectation for any fixed θ: the estimate stays unbiased (up to terms of order 1/n, as θ is
estimated), and with the best θ its variance falls by the share ``ρ²`` that covariates explain. θ is the same in all arms, and
pooled within them, so that the effect itself can't leak into it. With arms of very unequal size and effects that vary with
the covariates, a pooled θ is not the best one, and may even lose: the variance that is reported is the true one, not a
hoped-for one.

Missing covariates (new users) get the mean of those known. With ``missing="indicator"`` a column says that they were missing,
which also takes away what new users have in common. Both leave the estimate unbiased, as long as what is missing was so
before assignment. A covariate measured after it began is not a covariate: it carries the effect away.

Source: A. Deng, Y. Xu, R. Kohavi and T. Walker, "Improving the sensitivity of online controlled experiments by utilizing
pre-experiment data", WSDM 2013; for ratios A. Deng et al., KDD 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments.moments import Moments

Missing = Literal["indicator", "mean"]


@dataclass(frozen=True, eq=False)
class Adjusted:
    """A metric after regression adjustment.

    Attributes
    ----------
    values
        ``float64[n]``: a value a unit, whose mean in an arm is the adjusted metric.
    moments
        Their totals, of the shape ``[arms]``.
    theta
        Coefficient of each column, in units of the metric per unit of the covariate.
    reduction
        Share of the variance within arms that is gone, from 0 to 1.
    common
        Variance of the centre that the arms share: it cancels in differences, not in lifts.
    missing
        Units without a value, by covariate.
    """

    values: np.ndarray
    moments: Moments
    theta: dict[str, float]
    reduction: float
    common: float
    missing: dict[str, int]


def adjust(
    values: ArrayLike,
    variant: ArrayLike,
    covariates: Mapping[str, ArrayLike],
    *,
    base: ArrayLike | None = None,
    missing: Missing = "indicator",
) -> Adjusted:
    """Adjust a metric for covariates.

    Parameters
    ----------
    values
        ``float[n]`` metric of the units.
    variant
        ``int[n]`` arm of each, from 0.
    covariates
        Name to ``float[n]``, known before the experiment; NaN where missing.
    base
        ``float[n]`` denominators of a ratio metric.
    missing
        ``"indicator"`` or ``"mean"``.
    """
    y, arm = np.asarray(values, np.float64), np.asarray(variant)
    if missing not in ("indicator", "mean"):
        raise ConfigError("there is no such way.", where="missing", value=missing, remedy="choose indicator or mean")
    if y.ndim != 1 or arm.shape != y.shape or not covariates or not len(y):
        raise DataError("one value and one variant a unit are needed, and a covariate.", value=[y.shape, arm.shape])
    size = int(arm.max()) + 1
    plain = Moments.by_variant(y, arm, size, base)
    parts = y if base is None else _parts(y, np.asarray(base, np.float64), arm, plain)
    columns, absent = _columns(covariates, len(y), missing)
    table = np.stack(list(columns.values()), axis=1)
    within = table - _arm_means(table, arm, size)[arm]
    own = parts - plain.value[arm]
    theta = _solve(within, own)
    centred = table - table.mean(0)
    out = parts - centred @ theta
    left, whole = float(((own - within @ theta) ** 2).sum()), float((own**2).sum())
    explained = float(((centred @ theta) ** 2).sum())
    return Adjusted(
        out,
        Moments.by_variant(out, arm, size),
        dict(zip(columns, theta.tolist(), strict=True)),
        1 - left / whole if whole > 0 else 0.0,
        explained / len(y) / max(1, len(y) - 1),
        absent,
    )


def _parts(y: np.ndarray, base: np.ndarray, arm: np.ndarray, plain: Moments) -> np.ndarray:
    """Return each unit's part in the ratio of its arm: their mean is the ratio, their spread that of the delta method."""
    ratio = plain.value
    if np.isnan(ratio[np.unique(arm)]).any():
        raise DataError("a denominator sums to 0 in an arm.", where="base", remedy="wait for data, or leave the metric out")
    return ratio[arm] + (y - ratio[arm] * base) / plain.base[arm]


def _columns(covariates: Mapping[str, ArrayLike], n: int, missing: Missing) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    columns, absent = {}, {}
    for name, given in covariates.items():
        column = np.asarray(given, np.float64)
        if column.shape != (n,) or np.isinf(column).any():
            remedy = "NaN where it isn't known"
            raise DataError("a covariate is one finite number a unit.", where=name, value=list(column.shape), remedy=remedy)
        gone = np.isnan(column)
        absent[name] = int(gone.sum())
        known = column[~gone]
        columns[name] = np.where(gone, known.mean() if len(known) else 0.0, column)
        if missing == "indicator" and gone.any():
            columns[f"{name} is missing"] = gone.astype(np.float64)
    return columns, absent


def _arm_means(table: np.ndarray, arm: np.ndarray, size: int) -> np.ndarray:
    sums = np.stack([np.bincount(arm, column, size) for column in table.T], axis=1)
    return sums / np.maximum(np.bincount(arm, minlength=size), 1)[:, None]


def _solve(within: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return least squares; the shortest one where columns depend on each other, 0 for a column that is constant."""
    scale = np.sqrt((within**2).sum(0))
    kept = scale > 1e-9 * max(float(scale.max()), 1e-300)
    theta = np.zeros(within.shape[1])
    if kept.any():
        unit = within[:, kept] / scale[kept]
        theta[kept] = np.linalg.lstsq(unit.T @ unit, unit.T @ own, rcond=1e-10)[0] / scale[kept]
    return theta
