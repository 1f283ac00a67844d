"""Choosing λ and τ: by a bound on the error, or by SLOPE; never by which value favours the policy.

With ``e`` what is weighted, ``w`` the weight and ``ω`` the weight used, for ``n`` rows::

    mse      least  error² + bias²,   bias = mean((w - ω) e)
    slope    the most biased i with |v_i - v_j| ≤ c_i + (√6 - 1) c_j for every less biased j,   c = error · z_{1 - δ/2m}

The measured ``bias²`` exceeds the true one by the variance of the measurement, in expectation, so ``mse`` is a bound that errs
towards less clipping. The values tried come from quantiles of the weights alone. Both rules are symmetric: with all rewards'
signs turned they choose the same value.

Sources: Su, Dimakopoulou, Krishnamurthy and Dudík 2020 (error bound); Su, Srinath and Krishnamurthy 2020 (SLOPE); Tucker and
Lee 2021 (its constant).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from palate.errors import ConfigError
from palate.evaluation.offpolicy.estimators import Estimator
from palate.evaluation.offpolicy.log import Log
from palate.evaluation.offpolicy.spread import Units, standard_error

Rule = Literal["mse", "slope"]
#: Chance that SLOPE's intervals fail.
DELTA = 0.05


@dataclass(frozen=True)
class Tuned:
    """What was chosen, and among what.

    Attributes
    ----------
    value
        The value of λ or τ.
    rule
        ``"mse"`` or ``"slope"``.
    tried
        Values tried, the least biased first.
    estimates
        The estimate of each.
    errors
        Standard error of each.
    biases
        Measured bias of each (the weighted rewards that clipping or shrinking left out).
    """

    value: float
    rule: Rule
    tried: tuple[float, ...]
    estimates: tuple[float, ...]
    errors: tuple[float, ...]
    biases: tuple[float, ...]


def tune(estimator: Estimator, log: Log, rule: Rule = "mse", *, grid: Sequence[float] | None = None) -> Tuned:
    """Choose an estimator's setting on a log.

    Parameters
    ----------
    estimator
        One with a setting.
    grid
        Values to try, the least biased first; by default from the weights.

    Raises
    ------
    ConfigError
        If the estimator has no setting, the rule is unknown or the grid empty.
    """
    if estimator.knob is None:
        raise ConfigError(f"{estimator.name} has no setting to tune.", where="estimator", value=estimator.name)
    if rule not in ("mse", "slope"):
        raise ConfigError("there is no such rule.", where="tuning", value=rule, remedy="mse or slope")
    tried = np.asarray(estimator.knob.grid(log.weight) if grid is None else grid, np.float64)
    if not len(tried):
        raise ConfigError("there is nothing to try.", where="grid")
    units = Units.of(log.unit, len(log))
    values, errors, biases = np.array([_measure(estimator, log, units, float(knob)) for knob in tried]).T
    at = int(np.argmin(errors**2 + biases**2)) if rule == "mse" else _slope(values, errors)
    columns = [tuple(column.tolist()) for column in (tried, values, errors, biases)]
    return Tuned(float(tried[at]), rule, columns[0], columns[1], columns[2], columns[3])


def _measure(estimator: Estimator, log: Log, units: Units, knob: float) -> tuple[float, float, float]:
    """Return the estimate, its standard error and its measured bias."""
    rows = estimator.rows(log, knob)
    terms = rows.terms()
    lost = (rows.importance - rows.weight) * rows.rest
    return float(terms.mean()), standard_error(terms, units), float(lost.mean())


def _slope(values: np.ndarray, errors: np.ndarray) -> int:
    """Return how far down the list all values still agree with every less biased one."""
    width = errors * float(special.ndtri(1 - DELTA / (2 * len(values))))
    for at in range(1, len(values)):
        apart = np.abs(values[at] - values[:at])
        if (apart > width[at] + (np.sqrt(6) - 1) * width[:at]).any():
            return at - 1
    return len(values) - 1
