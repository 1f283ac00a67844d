"""Bootstrap intervals over people, vectorised, in blocks of bounded memory (their size changes no more than rounding)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from palate.errors import ConfigError, DataError
from palate.runtime import generator, single_threaded_blas

#: Bytes that a block of resamples may take.
BLOCK_BYTES = 2**26


class Interval(NamedTuple):
    """An estimate and its interval; arrays where several columns were given.

    Attributes
    ----------
    value
        The statistic of all people.
    low, high
        Ends of the interval; NaN where nobody has a value.
    error
        Standard error: the standard deviation of the resampled statistic.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray


def bootstrap_ci(
    values: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    statistic: Literal["mean", "median"] = "mean",
    method: Literal["percentile", "bca"] = "percentile",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a mean (weighted or not) or a median over people.

    Parameters
    ----------
    values
        ``float[n]``, or ``float[n, m]`` for ``m`` columns that share their resamples. NaN means no value, and is left out.
    weights
        Of the shape of ``values``: the statistic is ``Σ w v / Σ w``.
    clusters
        ``int[n]`` group of each row; whole groups are drawn, for rows that belong together. For means only.
    method
        ``"percentile"``: quantiles of the resampled statistic. ``"bca"``: corrected for bias and acceleration (jackknife); for
        means only.
    confidence
        Between 0 and 1.
    resamples
        How many; each draws as many people, with replacement, as there are.
    seed
        Fixes the resamples, for any size of block.

    Raises
    ------
    ConfigError
        If an option is out of range, or doesn't go with the median.

    Notes
    -----
    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 14.
    """
    if not 0 < confidence < 1:
        raise ConfigError("confidence lies between 0 and 1.", where="confidence", value=confidence)
    if resamples < 1:
        raise ConfigError("there must be a resample.", where="resamples", value=resamples)
    if statistic == "median" and (method == "bca" or weights is not None or clusters is not None):
        raise ConfigError(
            "the median has no weights, no clusters and no BCa interval here.", where="statistic", remedy="method=percentile"
        )
    table, flat = as_table(values)
    if not len(table):
        nothing = np.full(table.shape[1], np.nan)
        return _shaped(Interval(nothing, nothing, nothing, nothing), flat)
    rng = generator(seed, "bootstrap")
    if statistic == "median":
        value, drawn = _medians(table, resamples, rng)
        sides = np.broadcast_to([[(1 - confidence) / 2], [(1 + confidence) / 2]], (2, len(value)))
    else:
        above, below = _fractions(table, weights, clusters)
        value = _divide(above.sum(0), below.sum(0))
        drawn = _means(above, below, resamples, rng)
        sides = _sides(value, drawn, above, below, method, confidence)
    ends = [_quantiles(drawn[:, at], sides[:, at]) for at in range(len(value))]
    low, high = np.array(ends).T
    return _shaped(Interval(value, low, high, np.array([_spread(column) for column in drawn.T])), flat)


def _fractions(table: np.ndarray, weights: np.ndarray | None, clusters: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return numerators and denominators of each unit that is drawn; the mean is the ratio of their sums."""
    below = (~np.isnan(table)).astype(np.float64)
    if weights is not None:
        given = np.asarray(weights, np.float64).reshape(len(table), -1)
        below = below * given
    above = np.nan_to_num(table, nan=0.0) * below
    if clusters is None:
        return above, below
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if len(numbers) != len(table):
        raise DataError("clusters need one number a row.", where="clusters", value=len(numbers))
    joined = [np.stack([np.bincount(numbers, column) for column in part.T], axis=1) for part in (above, below)]
    return joined[0], joined[1]


def _means(above: np.ndarray, below: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``float64[resamples, m]``; one thread of BLAS, so that the bits are those of any machine setting."""
    if (below == below[:, :1]).all():
        below = below[:, :1]  # the usual case: everybody has every value, and weighs the same
    with single_threaded_blas():
        return np.concatenate([_divide(counts @ above, counts @ below) for counts in _counts(len(above), resamples, rng)])


def _counts(n: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield ``float64[b, n]``: how often each unit is drawn in a resample."""
    rows = max(1, BLOCK_BYTES // (24 * n))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, n, (size, n), dtype=np.int64)
        drawn += np.arange(size)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _medians(table: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.full((resamples, table.shape[1]), np.nan)
    for column, values in enumerate(table.T):
        known = values[~np.isnan(values)]
        rows = max(1, BLOCK_BYTES // (24 * max(1, len(known))))
        for start in range(0, resamples if len(known) else 0, rows):
            stop = min(start + rows, resamples)
            drawn[start:stop, column] = np.median(known[rng.integers(0, len(known), (stop - start, len(known)))], axis=1)
    medians = [np.median(v[~np.isnan(v)]) if not np.isnan(v).all() else np.nan for v in table.T]
    return np.array(medians), drawn


def _sides(
    value: np.ndarray, drawn: np.ndarray, above: np.ndarray, below: np.ndarray, method: str, confidence: float
) -> np.ndarray:
    """Return ``float64[2, m]``: which quantiles of the resamples end the interval."""
    tail = (1 - confidence) / 2
    plain = np.broadcast_to([[tail], [1 - tail]], (2, len(value)))
    if method == "percentile":
        return plain
    less, same = (drawn < value).mean(0), (drawn == value).mean(0)
    bias = special.ndtri(np.clip(less + same / 2, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    left_out = _divide(above.sum(0) - above, below.sum(0) - below)
    gap = np.nanmean(left_out, axis=0) - left_out if len(left_out) > 1 else np.zeros_like(left_out)
    acceleration = _divide(np.nansum(gap**3, axis=0), 6 * np.nansum(gap**2, axis=0) ** 1.5)
    shifted = bias + special.ndtri(plain)
    return np.where(np.isnan(acceleration), plain, special.ndtr(bias + shifted / (1 - acceleration * shifted)))


def _quantiles(drawn: np.ndarray, sides: np.ndarray) -> np.ndarray:
    known = drawn[~np.isnan(drawn)]
    return np.quantile(known, sides) if len(known) else np.full(2, np.nan)


def _spread(drawn: np.ndarray) -> float:
    known = drawn[~np.isnan(drawn)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def as_table(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return ``float64[n, m]`` and whether one flat column was given; infinity is refused."""
    table = np.asarray(values, np.float64)
    if table.ndim not in (1, 2):
        raise DataError("values are one column, or a table of columns.", value=list(table.shape))
    if np.isinf(table).any():
        raise DataError("values hold infinity.", remedy="leave it out, or mark it as NaN")
    return (table[:, None], True) if table.ndim == 1 else (table, False)


def _shaped(interval: Interval, flat: bool) -> Interval:
    return Interval(*(part[0] for part in interval)) if flat else interval


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
