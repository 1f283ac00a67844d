"""Sampled candidates: what a metric over a few negatives can say of the whole catalogue."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import DataError

__all__ = ["sampled_hit_probability"]


def sampled_hit_probability(rank: ArrayLike, n_candidates: int, n_negatives: int, k: int) -> np.ndarray:
    """Chance that an item of true ``rank`` stands within ``k`` among ``n_negatives`` uniform negatives.

    ``P(Binomial(m, (r - 1) / (n - 1)) < k)``, negatives drawn with replacement. Source: Krichene and Rendle, KDD 2020.
    """
    from scipy import stats

    ranks = np.asarray(rank, np.float64)
    if n_candidates < 2 or n_negatives < 1 or k < 1 or (ranks < 1).any() or (ranks > n_candidates).any():
        raise DataError("ranks run from 1 to the number of candidates (2 or more).", value=[n_candidates, n_negatives, k])
    return np.asarray(stats.binom.cdf(k - 1, n_negatives, (ranks - 1) / (n_candidates - 1)))
