"""Significance: paired tests over people, corrections for many tests, effect sizes.

The unit is the person. Seeds are averaged before people are paired: how training varies is a second question, answered by
the spread over seeds. Everything is deterministic under a seed. Intervals are in :mod:`palate.evaluation.bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from palate.errors import DataError
from palate.evaluation.bootstrap import Interval, as_table, bootstrap_ci
from palate.runtime import generator, single_threaded_blas

__all__ = [
    "Interval",
    "TestName",
    "Tested",
    "benjamini_hochberg",
    "bootstrap_ci",
    "effect_size_dz",
    "holm",
    "paired_permutation",
    "paired_permutations",
    "paired_t",
    "wilcoxon",
]

#: Bytes that a block of flipped signs may take.
BLOCK_BYTES = 2**26
#: Up to so many differences that are not zero, all flips of signs are counted instead of drawn.
EXACT_UP_TO = 14

TestName = Literal["permutation", "t", "wilcoxon"]


@dataclass(frozen=True)
class Tested:
    """The outcome of a paired test, two-sided.

    Attributes
    ----------
    p
        Probability of a difference at least as large if both systems were alike.
    statistic
        Mean difference (permutation), t, or the smaller rank sum (Wilcoxon).
    n
        Pairs used.
    method
        How it was found, in a few words.
    """

    p: float
    statistic: float
    n: int
    method: str


def paired_permutation(differences: np.ndarray, *, flips: int = 10_000, seed: int = 0) -> Tested:
    """Sign-flip test of paired differences ``float[n]``; NaN is left out.

    Were both systems alike, each person's difference could as well have the other sign. With at most ``EXACT_UP_TO``
    differences other than zero all flips are counted and the p-value is exact; else ``flips`` are drawn and
    ``p = (1 + #{|mean of a flip| >= |mean|}) / (1 + flips)``, which is never zero.
    """
    if np.ndim(differences) != 1:
        raise DataError("differences are one column.", value=list(np.shape(differences)), remedy="use paired_permutations")
    return paired_permutations(np.asarray(differences)[:, None], flips=flips, seed=seed)[0]


def paired_permutations(differences: np.ndarray, *, flips: int = 10_000, seed: int = 0) -> list[Tested]:
    """As :func:`paired_permutation`, for ``float[n, m]``: ``m`` comparisons that share their flips."""
    table, _ = as_table(differences)
    known = np.nan_to_num(table, nan=0.0)
    sizes = (~np.isnan(table)).sum(0)
    observed = known.sum(0)
    at_least = np.abs(observed) - 1e-12 * np.abs(known).sum(0)
    exact = np.count_nonzero(known, axis=0) <= EXACT_UP_TO
    p = np.empty(table.shape[1])
    for at in np.flatnonzero(exact):
        p[at] = _exact_flips(known[:, at], at_least[at])
    if not exact.all():
        hits = _drawn_flips(known[:, ~exact], at_least[~exact], flips, generator(seed, "flips"))
        p[~exact] = (1 + hits) / (1 + flips)
    methods = np.where(exact, "permutation, all flips", f"permutation, {flips:,} flips")
    columns = zip(p, observed, sizes, methods, strict=True)
    return [Tested(float(v), _mean(total, n), int(n), str(how)) for v, total, n, how in columns]


def paired_t(differences: np.ndarray) -> Tested:
    """Student's t-test of paired differences ``float[n]`` (NaN is left out)."""
    known = _known(differences)
    spread = known.std(ddof=1) if len(known) > 1 else 0.0
    if spread == 0:
        certain = len(known) > 1 and known[0] != 0
        return Tested(0.0 if certain else 1.0, float("inf") * np.sign(known[0]) if certain else 0.0, len(known), "paired t")
    t = float(known.mean() / (spread / np.sqrt(len(known))))
    return Tested(float(2 * special.stdtr(len(known) - 1, -abs(t))), t, len(known), "paired t")


def wilcoxon(differences: np.ndarray, *, zeros: Literal["wilcox", "pratt"] = "wilcox") -> Tested:
    """Wilcoxon's signed-rank test of paired differences ``float[n]`` (NaN is left out).

    Parameters
    ----------
    zeros
        ``"wilcox"`` leaves differences of zero out; ``"pratt"`` ranks them and then leaves their ranks out.
    """
    known = _known(differences)
    if not np.any(known):
        return Tested(1.0, 0.0, len(known), "Wilcoxon signed rank")
    from scipy import stats  # half a second to import

    found = stats.wilcoxon(known, zero_method=zeros)
    return Tested(float(found.pvalue), float(found.statistic), len(known), "Wilcoxon signed rank")


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted by Holm's step-down rule: the chance of any false discovery stays below the level.

    ``adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))`` with p ascending. Source: S. Holm, 1979.
    """
    values = _probabilities(p)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, values[order] * np.arange(len(values), 0, -1))
    out = np.empty_like(values)
    out[order] = np.maximum.accumulate(steps)
    return out


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted by Benjamini and Hochberg's step-up rule: bounds the share of false discoveries.

    ``adjusted_(i) = min_{j >= i} min(1, m p_(j) / j)`` with p ascending. Source: Y. Benjamini and Y. Hochberg, 1995.
    """
    values = _probabilities(p)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, values[order] * len(values) / np.arange(1, len(values) + 1))
    out = np.empty_like(values)
    out[order] = np.minimum.accumulate(steps[::-1])[::-1]
    return out


def effect_size_dz(differences: np.ndarray) -> float:
    """Return Cohen's d_z: the mean difference in units of the standard deviation of differences.

    0 where all differences are zero, infinite where all are the same other number, NaN without any.
    """
    known = _known(differences)
    if not len(known):
        return float("nan")
    mean, spread = float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else 0.0
    if spread == 0:
        return float(np.sign(mean) * np.inf) if mean else 0.0
    return mean / spread


def _exact_flips(differences: np.ndarray, at_least: float) -> float:
    moved = differences[differences != 0]
    signs = 1.0 - 2.0 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
    return float((np.abs(signs @ moved) >= at_least).mean())


def _drawn_flips(table: np.ndarray, at_least: np.ndarray, flips: int, rng: np.random.Generator) -> np.ndarray:
    """Count, for each column, the flips whose sum is at least as far from zero (one product for all columns)."""
    n, total = len(table), table.sum(0)
    width = -(-n // 32) * 4  # whole words of the generator, so that blocks don't matter
    rows = max(1, BLOCK_BYTES // (9 * n))
    hits = np.zeros(table.shape[1], np.int64)
    for start in range(0, flips, rows):
        size = min(rows, flips - start)
        packed = np.frombuffer(rng.bytes(size * width), np.uint8).reshape(size, width)
        kept = np.unpackbits(packed, axis=1, count=n).astype(np.float64)
        with single_threaded_blas():
            hits += (np.abs(2 * (kept @ table) - total) >= at_least).sum(0)
    return hits


def _known(values: np.ndarray) -> np.ndarray:
    table = np.asarray(values, np.float64)
    if table.ndim != 1:
        raise DataError("differences are one column.", value=list(table.shape))
    return table[~np.isnan(table)]


def _probabilities(p: np.ndarray) -> np.ndarray:
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError("p-values are one column of numbers from 0 to 1.", value=values.tolist())
    return values


def _mean(total: float, n: int) -> float:
    return float(total / n) if n else 0.0
