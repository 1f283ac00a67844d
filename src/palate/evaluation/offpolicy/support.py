"""Support: whether the log could ever have held what the candidate would do.

A row of a log shows only an action that was taken, so whole distributions are needed to see what is missing::

    missing_i = Σ_a π(a | x_i) 1[π_b(a | x_i) = 0]

Without them only a hint is left: the mean weight is ``1 - mean(missing)`` in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.errors import DataError
from palate.evaluation.offpolicy.log import check_bounds

#: How far the chances of a row may be from adding up to 1 (float32 over many actions).
SUM_TOLERANCE = 1e-4
#: Missing chance below which a row counts as supported.
NOTHING = 1e-9


@dataclass(frozen=True, eq=False)
class Support:
    """What a candidate would do that the log can't show.

    Attributes
    ----------
    missing
        ``float64[n]``: the candidate's chance of actions that the logging policy never takes (of slates: at the worst
        position).
    largest_weight
        Largest ``π(a | x) / π_b(a | x)`` over all rows and supported actions: a bound on weights that is known beforehand.
    """

    missing: np.ndarray
    largest_weight: float

    @property
    def outside(self) -> float:
        """Share of rows with missing support."""
        return float((self.missing > NOTHING).mean())

    @property
    def mass(self) -> float:
        """Mean missing chance."""
        return float(self.missing.mean())

    @property
    def worst(self) -> int:
        """The row with the most missing."""
        return int(np.argmax(self.missing))


def check_support(logging_probabilities: np.ndarray, target_probabilities: np.ndarray) -> Support:
    """Compare whole distributions over actions.

    Parameters
    ----------
    logging_probabilities, target_probabilities
        ``float[n, A]`` chances of all actions for each row, ``float[n, K, A]`` for slates, or ``float[A]`` where all rows
        share them; both are broadcast to one shape.

    Raises
    ------
    DataError
        If shapes don't go together, a chance is negative or not a number, or a row doesn't add up to 1; the row is named.
    """
    logged = distributions("logging_probabilities", logging_probabilities)
    target = distributions("target_probabilities", target_probabilities)
    try:
        logged, target = np.broadcast_arrays(logged, target)
    except ValueError:
        shapes = [list(logged.shape), list(target.shape)]
        raise DataError("the distributions differ in shape.", where="target_probabilities", value=shapes) from None
    open_ = logged > 0
    missing = np.where(open_, 0.0, target).sum(axis=-1).reshape(len(logged), -1).max(axis=1)
    ratio = np.divide(target, logged, out=np.zeros(logged.shape), where=open_)
    return Support(missing, float(ratio.max()))


def distributions(name: str, given: np.ndarray) -> np.ndarray:
    """Return chances as ``float64[n, A]`` or ``float64[n, K, A]``; a row that is no distribution is refused by number."""
    table = np.asarray(given, np.float64)
    if table.ndim not in (1, 2, 3) or table.size == 0:
        raise DataError("chances have the shape [A], [n, A] or [n, K, A].", where=name, value=list(table.shape))
    table = table[None] if table.ndim == 1 else table
    check_bounds(name, table, ~np.isfinite(table), "is missing or not a number")
    check_bounds(name, table, table < 0, "is negative")
    total = table.sum(axis=-1)
    check_bounds(f"the sum of {name}", total, np.abs(total - 1) > SUM_TOLERANCE, "is not 1")
    return table
