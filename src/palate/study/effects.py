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
    first, second = (_people(x) for x in (treated, base))
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


#: Values of people, or one such array a seed.
People = np.ndarray | Sequence[np.ndarray]


def gain_difference(
    first: tuple[People, People],
    second: tuple[People, People],
    *,
    rng: np.random.Generator,
    relative: bool = True,
    resamples: int = 2000,
    **details: object,
) -> Effect:
    """Return how much larger one gain is than another of the same people, with a 95% percentile bootstrap interval.

    Gains are those of :func:`paired_gain`; people are resampled, and each keeps all four values.

    Parameters
    ----------
    first, second
        Values of people treated and without, each as for :func:`paired_gain`.

    Raises
    ------
    DataError
        If nobody has all four values, or a base is zero and gains are relative.
    """
    table = np.stack([_people(x) for pair in (first, second) for x in pair])
    table = table[:, ~np.isnan(table).any(axis=0)]
    n = int(table.shape[1])
    if n == 0 or (relative and not table[[1, 3]].mean(axis=1).all()):
        raise DataError("gains need people with values, and bases above zero.", value=n)

    def gains(rows: np.ndarray) -> tuple[float, float]:
        return _gain(table[0, rows], table[1, rows], relative), _gain(table[2, rows], table[3, rows], relative)

    drawn = [np.subtract(*gains(rng.integers(n, size=n))) for _ in range(resamples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    mine, other = gains(np.arange(n))
    return Effect(mine - other, float(low), float(high), {"gain": mine, "other gain": other, "people": n, **details})


def over_seeds(values: np.ndarray | Sequence[float], **details: object) -> Effect:
    """Return the mean of one value a seed, with its t interval (one seed: no interval to speak of)."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Effect(mean, mean - half, mean + half, details)


def gain_beyond(
    treated: People,
    base: People,
    some: np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    **details: object,
) -> Effect:
    """Return how much larger the gain (in points of the metric) is for some people than for the others.

    Each group is resampled apart, so both keep their sizes; within a person, seeds are averaged first.

    Parameters
    ----------
    treated, base
        As for :func:`paired_gain`.
    some
        ``bool[n]``: the people whose gain is said to be larger.

    Raises
    ------
    DataError
        If one of the groups is empty.
    """
    first, second = (_people(x) for x in (treated, base))
    gains = first - second
    groups = [gains[rows & ~np.isnan(gains)] for rows in (some, ~some)]
    if not all(map(len, groups)):
        raise DataError("a difference of gains needs people with values in both groups.", value=[len(g) for g in groups])
    drawn = [np.subtract(*(g[rng.integers(len(g), size=len(g))].mean() for g in groups)) for _ in range(resamples)]
    mine, theirs = (float(g.mean()) for g in groups)
    low, high = np.percentile(drawn, [2.5, 97.5])
    sizes = {"people": len(groups[0]), "other people": len(groups[1])}
    return Effect(mine - theirs, float(low), float(high), {"gain": mine, "gain of the others": theirs, **sizes, **details})


def smaller_fall(
    ours: tuple[People, People],
    theirs: tuple[People, People],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    **details: object,
) -> Effect:
    """Return how much less one system loses than another by the same harm, as a share of what each had before.

    ``(1 - after/before) of theirs - (1 - after/before) of ours``: the difference of two (negative) relative gains.

    Parameters
    ----------
    ours, theirs
        Values of people before and after, each as for :func:`paired_gain`.
    """
    return gain_difference(ours[::-1], theirs[::-1], rng=rng, relative=True, resamples=resamples, **details)


def _people(values: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return a value a person: the mean over seeds."""
    found: np.ndarray = np.mean(np.atleast_2d(np.asarray(values, float)), axis=0)
    return found


def _gain(treated: np.ndarray, base: np.ndarray, relative: bool) -> float:
    mean = base.mean()
    if relative:
        return float(treated.mean() / mean - 1) if mean > 0 else float("nan")
    return float(treated.mean() - mean)
