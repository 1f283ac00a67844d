"""Sampled candidates: what a metric over a few negatives can say of the whole catalogue."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import DataError

__all__ = ["sampled_hit_probability"]


def sampled_hit_probability(
    rank: ArrayLike, n_candidates: int, n_negatives: int, k: int, *, draws: Literal["independent", "distinct"] = "independent"
) -> np.ndarray:
    """Chance that an item of true ``rank`` stands within ``k`` among ``n_negatives`` uniform negatives.

    ``P(Binomial(m, (r - 1) / (n - 1)) < k)`` for independent draws; for distinct negatives the hypergeometric chance to draw
    fewer than ``k`` of the ``r - 1`` items above. Its mean over people is the hit rate that sampling gives on average, which
    may order systems otherwise than their true hit rates. Source: Krichene and Rendle, KDD 2020.
    """
    from scipy import stats

    ranks = np.asarray(rank, np.float64)
    if n_candidates < 2 or n_negatives < 1 or k < 1 or (ranks < 1).any() or (ranks > n_candidates).any():
        raise DataError("ranks run from 1 to the number of candidates (2 or more).", value=[n_candidates, n_negatives, k])
    if draws == "distinct":
        drawn = min(n_negatives, n_candidates - 1)
        return np.asarray(stats.hypergeom.cdf(k - 1, n_candidates - 1, ranks - 1, drawn))
    return np.asarray(stats.binom.cdf(k - 1, n_negatives, (ranks - 1) / (n_candidates - 1)))
