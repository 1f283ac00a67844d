"""Effects of claims: paired gains over the same people, with bootstrap intervals over people and seeds.

Each resample draws people, who keep all their values, and training seeds, the same for all sides with equally many. With ``k``
seeds of which each is drawn ``c_s`` times, seed ``s`` has the weight::

    1/k + (c_s/k - 1/k) √(k / (k - 1))

as drawing from ``k`` seeds alone would show ``(k - 1)/k`` of their variance. A side with one seed says nothing of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from palate.errors import DataError
from palate.study.claims import Effect

#: Values of people, or one such array a seed.
People = np.ndarray | Sequence[np.ndarray]


def paired_gain(
    treated: People,
    base: People,
    *,
    rng: np.random.Generator,
    relative: bool = True,
    resamples: int = 2000,
    **details: object,
) -> Effect:
    """Return how much better one system does than another for the same people, with a 95% percentile bootstrap interval.

    ``relative``: ``mean(treated) / mean(base) - 1``; else ``mean(treated) - mean(base)``. People are resampled, and each keeps
    both values; seeds likewise (see the module's text).

    Parameters
    ----------
    treated, base
        ``float64[n]`` values of people, or one such array a seed. People with NaN in either are left out.

    Raises
    ------
    DataError
        If nobody has both values, or the base is zero and the gain relative.
    """
    tables = _common(treated, base)
    n = int(tables[0].shape[1])
    if n == 0 or (relative and tables[1].mean() == 0):
        raise DataError("a gain needs people with values, and a base above zero.", value=n)

    def gain(first: float, second: float) -> float:
        return _gain(first, second, relative)

    drawn = [gain(*_means(tables, rng.integers(n, size=n), shares)) for shares in _shares(tables, rng, resamples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    facts = {"treated": float(tables[0].mean()), "base": float(tables[1].mean()), "people": n, **_by_seed(tables, gain)}
    return Effect(gain(tables[0].mean(), tables[1].mean()), float(low), float(high), {**facts, **details})


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
    tables = _common(*first, *second)
    n = int(tables[0].shape[1])
    if n == 0 or (relative and not (tables[1].mean() and tables[3].mean())):
        raise DataError("gains need people with values, and bases above zero.", value=n)

    def difference(*means: float) -> float:
        return _gain(means[0], means[1], relative) - _gain(means[2], means[3], relative)

    drawn = [difference(*_means(tables, rng.integers(n, size=n), shares)) for shares in _shares(tables, rng, resamples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    means = [float(table.mean()) for table in tables]
    mine, other = _gain(means[0], means[1], relative), _gain(means[2], means[3], relative)
    facts = {"gain": mine, "other gain": other, "people": n, **_by_seed(tables, difference)}
    return Effect(mine - other, float(low), float(high), {**facts, **details})


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

    Each group is resampled apart, so both keep their sizes; seeds are drawn for both at once.

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
    tables = [np.atleast_2d(np.asarray(side, float)) for side in (treated, base)]
    known = ~np.any([np.isnan(table).any(axis=0) for table in tables], axis=0)
    groups = [np.flatnonzero(rows & known) for rows in (some, ~some)]
    sizes = [len(group) for group in groups]
    if not all(sizes):
        raise DataError("a difference of gains needs people with values in both groups.", value=sizes)

    def gain(rows: np.ndarray, shares: Mapping[int, np.ndarray] | None) -> float:
        first, second = _means(tables, rows, shares)
        return first - second

    def again(group: np.ndarray) -> np.ndarray:
        return group[rng.integers(len(group), size=len(group))]

    drawn = [gain(again(groups[0]), shares) - gain(again(groups[1]), shares) for shares in _shares(tables, rng, resamples)]
    mine, theirs = (gain(rows, None) for rows in groups)
    low, high = np.percentile(drawn, [2.5, 97.5])
    facts = {"gain": mine, "gain of the others": theirs, "people": sizes[0], "other people": sizes[1]}
    return Effect(mine - theirs, float(low), float(high), {**facts, **details})


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


def seed_shares(k: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``float64[resamples, k]``, the weight of each of ``k`` seeds in each resample (see the module's text)."""
    if k == 1:
        return np.ones((resamples, 1))
    times = rng.multinomial(k, np.full(k, 1 / k), size=resamples)
    found: np.ndarray = 1 / k + (times / k - 1 / k) * np.sqrt(k / (k - 1))
    return found


def _common(*sides: People) -> list[np.ndarray]:
    """Return ``float64[seeds, people]`` of each side, of the people who have all values."""
    tables = [np.atleast_2d(np.asarray(side, float)) for side in sides]
    known = ~np.any([np.isnan(table).any(axis=0) for table in tables], axis=0)
    return [table[:, known] for table in tables]


def _shares(tables: Sequence[np.ndarray], rng: np.random.Generator, resamples: int) -> Iterator[Mapping[int, np.ndarray]]:
    """Yield the weights of seeds by their number, for each resample."""
    found = {k: seed_shares(k, resamples, rng) for k in sorted({len(table) for table in tables})}
    for at in range(resamples):
        yield {k: shares[at] for k, shares in found.items()}


def _means(tables: Sequence[np.ndarray], rows: np.ndarray, shares: Mapping[int, np.ndarray] | None) -> list[float]:
    """Return each side's mean over drawn people and seeds; ``None``: all seeds alike."""
    each = [table[:, rows].mean(axis=1) for table in tables]
    return [float(own.mean() if shares is None else shares[len(own)] @ own) for own in each]


def _by_seed(tables: Sequence[np.ndarray], effect: Callable[..., float]) -> dict[str, list[float]]:
    """Return the effect of each seed, where all sides have equally many and more than one."""
    k = len(tables[0])
    if k == 1 or any(len(table) != k for table in tables):
        return {}
    return {"by seed": [effect(*(float(table[at].mean()) for table in tables)) for at in range(k)]}


def _gain(treated: float, base: float, relative: bool) -> float:
    if relative:
        return float(treated / base - 1) if base > 0 else float("nan")
    return float(treated - base)
