"""Likeness of vectors, sets and lists. Plain arrays in, one number out.

Vectors ``x`` and ``y`` have one length above 0 and finite numbers; otherwise :class:`DataError`. A measure that has no
value (a vector without length or spread) is 0 for similarities, as is usual for items that nothing is known of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import ConfigError, DataError

__all__ = [
    "adjusted_cosine",
    "chebyshev",
    "cosine",
    "dice",
    "euclidean",
    "hamming",
    "jaccard",
    "kendall",
    "lift",
    "list_overlap",
    "manhattan",
    "overlap",
    "pearson",
    "pmi",
    "rank_biased_overlap",
    "significance_weight",
    "similarity_of_distance",
    "spearman",
    "temporal_diversity",
]


def cosine(x: ArrayLike, y: ArrayLike) -> float:
    """Cosine: ``x·y / (‖x‖ ‖y‖)``; 0 where a vector is 0."""
    a, b = _vectors(x, y)
    return _cosine(a, b)


def adjusted_cosine(matrix: ArrayLike, first: int, second: int) -> float:
    """Adjusted cosine of two items (columns) of a users x items table of ratings, NaN where not rated.

    ``Σ_u (r_ui - r̄_u)(r_uj - r̄_u) / sqrt(Σ (r_ui - r̄_u)² · Σ (r_uj - r̄_u)²)`` over users who rated both; ``r̄_u`` is
    the mean of all ratings of the user. 0 where nobody rated both. It is not Pearson's, which takes off the means of the
    items.
    """
    table = np.asarray(matrix, np.float64)
    if table.ndim != 2:
        raise DataError("ratings are a table of users x items.", where="matrix", value=list(table.shape))
    both = ~np.isnan(table[:, first]) & ~np.isnan(table[:, second])
    if not both.any():
        return 0.0
    means = np.nanmean(table[both], axis=1)
    return _cosine(table[both, first] - means, table[both, second] - means)


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation: the cosine of ``x - x̄`` and ``y - ȳ``; 0 where a vector is constant."""
    a, b = _vectors(x, y)
    return _centred(a, b)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the ranks, ties at their average rank; 0 where a vector is constant."""
    from scipy.stats import rankdata

    a, b = _vectors(x, y)
    return _centred(rankdata(a), rankdata(b))


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's τ_b: ``(C - D) / sqrt((C + D + T_x)(C + D + T_y))`` over pairs; 0 where a vector is constant."""
    from scipy.stats import kendalltau

    a, b = _vectors(x, y)
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(kendalltau(a, b).statistic)


def jaccard(a: Collection[int], b: Collection[int]) -> float:
    """Jaccard: ``|A ∩ B| / |A ∪ B|``; 0 for two empty sets."""
    one, two = set(a), set(b)
    return len(one & two) / max(len(one | two), 1)


def dice(a: Collection[int], b: Collection[int]) -> float:
    """Dice: ``2 |A ∩ B| / (|A| + |B|)``; 0 for two empty sets."""
    one, two = set(a), set(b)
    return 2 * len(one & two) / max(len(one) + len(two), 1)


def overlap(a: Collection[int], b: Collection[int]) -> float:
    """Overlap: ``|A ∩ B| / min(|A|, |B|)``; 0 where a set is empty."""
    one, two = set(a), set(b)
    return len(one & two) / max(min(len(one), len(two)), 1)


def hamming(x: ArrayLike, y: ArrayLike, *, normalised: bool = False) -> float:
    """Hamming distance: ``Σ 1[x_i ≠ y_i]``, over ``d`` where ``normalised``."""
    a, b = _vectors(x, y)
    return float((a != b).mean() if normalised else (a != b).sum())


def euclidean(x: ArrayLike, y: ArrayLike) -> float:
    """Euclidean distance: ``sqrt(Σ (x_i - y_i)²)``."""
    a, b = _vectors(x, y)
    return float(np.sqrt(((a - b) ** 2).sum()))


def manhattan(x: ArrayLike, y: ArrayLike) -> float:
    """Manhattan distance: ``Σ |x_i - y_i|``."""
    a, b = _vectors(x, y)
    return float(np.abs(a - b).sum())


def chebyshev(x: ArrayLike, y: ArrayLike) -> float:
    """Chebyshev distance: ``max |x_i - y_i|``."""
    a, b = _vectors(x, y)
    return float(np.abs(a - b).max())


def similarity_of_distance(distance: float, form: Literal["inverse", "negative"] = "inverse") -> float:
    """Turn a distance ``d`` into a similarity: ``1 / (1 + d)``, or ``-d``; a distance itself ranks the wrong way."""
    if not distance >= 0:
        raise DataError("a distance is not below 0.", where="distance", value=distance)
    if form not in ("inverse", "negative"):
        raise ConfigError("unknown form.", where="form", value=form, remedy="choose inverse or negative")
    return 1 / (1 + distance) if form == "inverse" else -distance


def lift(both: int, first: int, second: int, whole: int) -> float:
    """Lift: ``P(a, b) / (P(a) P(b)) = n_ab n / (n_a n_b)`` from counts; 0 where ``n_a`` or ``n_b`` is 0."""
    if not 0 <= both <= min(first, second) <= max(first, second) <= whole:
        raise DataError("counts contradict each other.", value=[both, first, second, whole])
    return both * whole / (first * second) if first and second else 0.0


def pmi(both: int, first: int, second: int, whole: int) -> float:
    """Pointwise mutual information: ``log2 lift``; ``-inf`` where the two never met."""
    value = lift(both, first, second, whole)
    return float(np.log2(value)) if value > 0 else float("-inf")


def significance_weight(common: int, gamma: int = 50) -> float:
    """Significance weighting: ``min(n_common, γ) / γ``, the factor that shrinks likeness of few common events."""
    if gamma < 1 or common < 0:
        raise DataError("counts are not below 0, and gamma is at least 1.", value=[common, gamma])
    return min(common, gamma) / gamma


def list_overlap(a: Sequence[int], b: Sequence[int], k: int) -> float:
    """Overlap of two lists at ``k``: ``|A_k ∩ B_k| / k``."""
    _check_lists(a, b, k)
    return len(set(a[:k]) & set(b[:k])) / k


def temporal_diversity(before: Sequence[int], now: Sequence[int], k: int) -> float:
    """Temporal diversity of two consecutive lists of one person: ``|L_now - L_before| / k``, of the first ``k``.

    Source: Lathia et al., SIGIR 2010.
    """
    _check_lists(before, now, k)
    return len(set(now[:k]) - set(before[:k])) / k


def rank_biased_overlap(a: Sequence[int], b: Sequence[int], p: float = 0.9) -> float:
    """Rank-biased overlap of two lists without repeats, extrapolated: ``RBO_ext``.

    ``(1-p)/p · (Σ_{d<=l} (X_d/d) p^d + Σ_{s<d<=l} X_s (d-s)/(s d) p^d) + ((X_l - X_s)/l + X_s/s) p^l``, with ``X_d`` the
    overlap of the first ``d``, ``s <= l`` the lengths. 1 for equal lists, 0 for lists without a common item, and where one
    is empty. Source: Webber, Moffat and Zobel, TOIS 2010, equation 32.
    """
    if not 0 < p < 1:
        raise ConfigError("p lies between 0 and 1.", where="p", value=p)
    _check_lists(a, b, 1)
    short, long = sorted((list(a), list(b)), key=len)
    s, end = len(short), len(long)
    if s == 0:
        return 0.0
    common = np.array([len(set(short[:d]) & set(long[:d])) for d in range(1, end + 1)], np.float64)
    depth = np.arange(1, end + 1)
    at_short, at_end = common[s - 1], common[-1]
    total = (common / depth * p**depth).sum()
    beyond = depth[s:]
    total += (at_short * (beyond - s) / (s * beyond) * p**beyond).sum()
    return float((1 - p) / p * total + ((at_end - at_short) / end + at_short / s) * p**end)


def _check_lists(a: Sequence[int], b: Sequence[int], k: int) -> None:
    if k < 1:
        raise ConfigError("a cut is at least 1.", where="k", value=k)
    for line in (a, b):
        if len(set(line)) < len(line):
            raise DataError("an item stands twice in a list.", value=list(line)[:20])


def _vectors(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise DataError("two vectors of one length above 0 are needed.", value=[list(a.shape), list(b.shape)])
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("vectors must be finite.", remedy="look for NaN and infinity before measuring")
    return a, b


def _centred(a: np.ndarray, b: np.ndarray) -> float:
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else _cosine(a - a.mean(), b - b.mean())


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    scales = np.abs(a).max(), np.abs(b).max()
    if 0 in scales:
        return 0.0
    a, b = a / scales[0], b / scales[1]
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))
