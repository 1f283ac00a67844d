"""Reliability: predicted probabilities against what happened, bin by bin, with intervals. What a calibration plot shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy import stats

from palate.errors import ConfigError
from palate.evaluation.metrics.predictive import log_loss


@dataclass(frozen=True, eq=False)
class Reliability:
    """Bins of predictions that hold rows, in rising order.

    Attributes
    ----------
    low, high
        Ends of each bin (``float64[b]``).
    mean
        Mean prediction of its rows.
    rate
        Share of its rows that happened.
    rate_low, rate_high
        Wilson's interval of the rate.
    count
        Rows (``int64[b]``).
    confidence
        Of the interval.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    rate: np.ndarray
    rate_low: np.ndarray
    rate_high: np.ndarray
    count: np.ndarray
    confidence: float = 0.95

    @property
    def error(self) -> float:
        """Expected calibration error over these bins: ``Σ_b |B_b|/n · |rate - mean|``."""
        return float((self.count * np.abs(self.rate - self.mean)).sum() / self.count.sum())

    @property
    def largest_error(self) -> float:
        """Largest ``|rate - mean|`` of a bin."""
        return float(np.abs(self.rate - self.mean).max())

    @property
    def covered(self) -> float:
        """Share of bins whose interval holds their mean prediction: about ``confidence`` for a calibrated model."""
        return float(((self.rate_low <= self.mean) & (self.mean <= self.rate_high)).mean())

    def table(self) -> pa.Table:
        """Return one row a bin: the data of a reliability plot (``mean`` across, ``rate`` up, with its interval)."""
        names = ("low", "high", "mean", "rate", "rate_low", "rate_high", "count")
        return pa.table({name: getattr(self, name) for name in names})


def reliability(
    truth: ArrayLike,
    probability: ArrayLike,
    *,
    bins: int = 10,
    by: Literal["width", "count"] = "width",
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> Reliability:
    """Return the reliability of predicted probabilities.

    Parameters
    ----------
    truth, probability
        Labels 0 and 1, and probabilities.
    bins
        Most bins.
    by
        ``"width"``: equal parts of [0, 1] (1 falls in the last), as of
        :func:`palate.evaluation.metrics.predictive.expected_calibration_error`. ``"count"``: about as many rows each; equal
        predictions stay together.
    confidence
        Of Wilson's interval (E. Wilson, JASA 1927).
    groups
        ``[n]`` the request or person of each row, or ``None``. Rows of a group say less than as many rows of their own:
        Wilson's interval is then that of :func:`effective_rows`.

    Raises
    ------
    ConfigError
        If an option is out of range.
    DataError
        If labels are not 0 and 1, or probabilities not between them.
    """
    if bins < 1:
        raise ConfigError("there must be at least one bin.", where="bins", value=bins)
    if not 0 < confidence < 1:
        raise ConfigError("confidence lies between 0 and 1.", where="confidence", value=confidence)
    log_loss(truth, probability)  # checks both
    y, p = np.asarray(truth, np.float64).ravel(), np.asarray(probability, np.float64).ravel()
    if by == "width":
        edges = np.arange(bins + 1) / bins
        code = np.minimum((p * bins).astype(np.int64), bins - 1)
    else:
        inner = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="inverted_cdf"))
        edges = np.concatenate([[p.min()], inner, [p.max()]])
        code = np.searchsorted(inner, p, side="left")
    count = np.bincount(code, minlength=len(edges) - 1)
    held = np.flatnonzero(count)
    n = count[held].astype(np.float64)
    rate, mean = (np.bincount(code, x, len(count))[held] / n for x in (y, p))
    told = n if groups is None else effective_rows(y, np.searchsorted(held, code), rate, np.asarray(groups))
    low, high = wilson(rate, told, confidence)
    return Reliability(edges[held], edges[held + 1], mean, rate, low, high, count[held], confidence)


def wilson(rate: np.ndarray, n: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's interval of a share ``rate`` of ``n``: ``(r + z²/2n ± z √(r(1-r)/n + z²/4n²)) / (1 + z²/n)``."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle, half = rate + z**2 / (2 * n), z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def effective_rows(truth: np.ndarray, code: np.ndarray, rate: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return ``float64[b]``: as many rows drawn one by one as say of each bin's rate what its rows say, drawn by group.

    This is ``n* = r(1-r) / V``, at most n, with the variance of the rate over groups drawn whole, linearised::

        V = 1/n² Σ_g ( Σ_{i in g} (y_i - r) )²

    Where all rows of a bin are alike, or of one group, ``n*`` is the number of its groups.

    Parameters
    ----------
    truth
        ``float64[n]`` of 0 and 1.
    code
        ``int64[n]``: the bin of each row.
    rate
        ``float64[b]``: share of 1 in each bin.
    groups
        ``[n]``.

    Notes
    -----
    Source: L. Kish, "Survey Sampling", 1965, section 8.2 (``n / n*`` is the design effect).
    """
    own = np.unique(groups, return_inverse=True)[1].reshape(-1)
    pairs, place = np.unique(code * (own.max() + 1) + own, return_inverse=True)
    whose = pairs // (own.max() + 1)
    squares = np.bincount(place, truth - rate[code]) ** 2
    n, several = (np.bincount(x, minlength=len(rate)).astype(np.float64) for x in (code, whose))
    spread, alone = np.bincount(whose, squares, len(rate)), rate * (1 - rate) * n**2
    known = (several > 1) & (alone > 0)
    return np.where(known, np.minimum(n, alone / np.where(known, np.maximum(spread, 1e-12), 1)), several)
