"""How sure a mean of terms is: standard errors and intervals over units that are independent of each other.

With unit totals ``S_c`` of ``m_c`` rows, ``n = Σ m_c`` and ``v = Σ S_c / n``::

    error²       C / (C - 1) · Σ_c (S_c - m_c v)² / n²
    normal       v ± t_{C-1} · error
    bootstrap    quantiles of the resampled mean (whole units are drawn)
    bernstein    v ± sqrt(2 s² ln(4/δ) / C) + 7 b ln(4/δ) / (3 (C - 1))       s² variance of the C values S_c C / n
    hoeffding    v ± sqrt(ln(2/δ) Σ_c b_c² / (2 C²))                           b_c their ranges, b the largest

The last two hold for every length of log, but need limits of the rewards and the weights that are known beforehand.

Sources: Maurer and Pontil 2009 (empirical Bernstein, for independent values); Hoeffding 1963; Thomas, Theocharous and
Ghavamzadeh 2015 (their use for policies).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from palate.errors import ConfigError, DataError
from palate.evaluation.bootstrap import bootstrap_ci

How = Literal["normal", "bootstrap", "bernstein", "hoeffding"]
#: Intervals that hold for every length of log.
GUARANTEED: tuple[How, ...] = ("bernstein", "hoeffding")


class Ends(NamedTuple):
    """Ends of an interval."""

    low: float
    high: float


class Units(NamedTuple):
    """Rows grouped into units.

    Attributes
    ----------
    number
        ``int64[n]`` unit of each row, from 0; ``None`` where every row is its own.
    sizes
        ``float64[C]`` rows of each unit.
    """

    number: np.ndarray | None
    sizes: np.ndarray

    @classmethod
    def of(cls, unit: np.ndarray | None, n: int) -> Units:
        """Group ``n`` rows by their unit."""
        if unit is None:
            return cls(None, np.ones(n))
        number = np.unique(unit, return_inverse=True)[1]
        return cls(number, np.bincount(number).astype(np.float64))

    def __len__(self) -> int:
        return len(self.sizes)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Return ``float64[C]``: sums of ``float64[n]`` over units."""
        return values if self.number is None else np.bincount(self.number, values, minlength=len(self))


def standard_error(terms: np.ndarray, units: Units) -> float:
    """Return the standard error of the mean of ``float64[n]``; NaN for a single unit."""
    count = len(units)
    if count < 2:
        return float("nan")
    gaps = units.totals(terms) - units.sizes * terms.mean()
    return float(np.sqrt(count / (count - 1) * (gaps**2).sum()) / len(terms))


def effective_size(weight: np.ndarray, units: Units) -> float:
    """Return Kish's effective number of units, ``(Σ W)² / Σ W²`` of the units' total weights; 0 where all are zero."""
    totals = units.totals(weight)
    squares = float((totals**2).sum())
    return float(totals.sum() ** 2 / squares) if squares > 0 else 0.0


def interval(
    terms: np.ndarray,
    units: Units,
    how: How,
    *,
    confidence: float = 0.95,
    limits: tuple[float, float] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Ends:
    """Return an interval of the mean of terms (see the module's text).

    Parameters
    ----------
    terms
        ``float64[n]``.
    limits
        Least and largest value that a term can take, for the guaranteed intervals.
    resamples, seed
        Of the bootstrap.

    Raises
    ------
    ConfigError
        If the confidence is not between 0 and 1, the kind is unknown, or a guaranteed interval has no limits.
    DataError
        If a term lies outside the limits; the row is named.
    """
    if not 0 < confidence < 1:
        raise ConfigError("confidence lies between 0 and 1.", where="confidence", value=confidence, remedy="such as 0.95")
    if how == "normal":
        half = float(special.stdtrit(max(len(units) - 1, 1), (1 + confidence) / 2)) * standard_error(terms, units)
        return Ends(float(terms.mean()) - half, float(terms.mean()) + half)
    if how == "bootstrap":
        drawn = bootstrap_ci(terms, clusters=units.number, confidence=confidence, resamples=resamples, seed=seed)
        return Ends(float(drawn.low), float(drawn.high))
    if how not in GUARANTEED:
        raise ConfigError(
            "there is no such interval.", where="interval", value=how, remedy="normal, bootstrap, bernstein or hoeffding"
        )
    if limits is None:
        raise ConfigError("this interval needs the limits of the terms.", where="limits", value=how)
    return _guaranteed(terms, units, how, confidence, limits)


def _guaranteed(terms: np.ndarray, units: Units, how: How, confidence: float, limits: tuple[float, float]) -> Ends:
    least, most = limits
    slack = 1e-9 * max(1.0, abs(least), abs(most))
    outside = np.flatnonzero((terms < least - slack) | (terms > most + slack))
    if len(outside):
        raise DataError(
            "a term lies outside the limits that were given.",
            where=f"row {outside[0]}",
            value=float(terms[outside[0]]),
            remedy="check reward_range and weight_bound",
        )
    count, miss = len(units), 1 - confidence
    ranges = (most - least) * units.sizes * count / len(terms)
    if how == "hoeffding":
        half = float(np.sqrt(np.log(2 / miss) * (ranges**2).sum() / 2) / count)
    elif count < 2:
        half = float("inf")
    else:
        values = units.totals(terms) * count / len(terms)
        depth = np.log(4 / miss)
        half = float(np.sqrt(2 * values.var(ddof=1) * depth / count) + 7 * ranges.max() * depth / (3 * (count - 1)))
    return Ends(max(float(terms.mean()) - half, least), min(float(terms.mean()) + half, most))
