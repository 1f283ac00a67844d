"""Effects of claims: paired gains over the same people, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from palate.errors import DataError
from palate.study.claims import Effect


def paired_gain(
    treated: np.ndarray | Sequence[np.ndarray],
    base: np.ndarray | Sequence[np.ndarray],
    *,
    rng: np.random.Generator,
    relative: bool = True,
    resamples: int = 2000,
    **details: object,
) -> Effect:
    """Return how much better one system does than another for the same people, with a 95% percentile bootstrap interval.

    ``relative``: ``mean(treated) / mean(base) - 1``; else ``mean(treated) - mean(base)``. People are resampled, and each keeps
    both values. With several seeds a person's value is the mean over seeds, so seeds don't count as more people.

    Parameters
    ----------
    treated, base
        ``float64[n]`` values of people, or one such array a seed. People with NaN in either are left out.

    Raises
    ------
    DataError
        If nobody has both values, or the base is zero and the gain relative.
    """
    first, second = (np.mean(np.atleast_2d(np.asarray(x, float)), axis=0) for x in (treated, base))
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    n = len(first)
    if n == 0 or (relative and second.mean() == 0):
        raise DataError("a gain needs people with values, and a base above zero.", value=n)
    drawn = np.empty(resamples)
    for at in range(resamples):
        rows = rng.integers(n, size=n)
        drawn[at] = _gain(first[rows], second[rows], relative)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    facts = {"treated": float(first.mean()), "base": float(second.mean()), "people": n, **details}
    return Effect(float(_gain(first, second, relative)), float(low), float(high), facts)


def over_seeds(values: np.ndarray | Sequence[float], **details: object) -> Effect:
    """Return the mean of one value a seed, with its t interval (one seed: no interval to speak of)."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Effect(mean, mean - half, mean + half, details)


def _gain(treated: np.ndarray, base: np.ndarray, relative: bool) -> float:
    mean = base.mean()
    if relative:
        return float(treated.mean() / mean - 1) if mean > 0 else float("nan")
    return float(treated.mean() - mean)
