"""Upper confidence bounds of Bernoulli means by the Kullback-Leibler divergence.

    U = max { q in [ŵ, 1] : T kl(ŵ, q) ≤ level },     kl(p, q) = p ln(p/q) + (1 - p) ln((1 - p)/(1 - q))

``kl(ŵ, ·)`` rises from ŵ on, so the bound is found by halving.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled

#: Halvings of [ŵ, 1]: the bound is exact to 2^-40.
STEPS = 40


def kl_upper_reference(mean: np.ndarray, trials: np.ndarray, level: float) -> np.ndarray:
    """Return ``float64[n]`` bounds of means ``float64[n]`` of so many trials each; 1 where there were none."""
    low, high = mean.astype(float), np.ones(len(mean))
    for _ in range(STEPS):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            hits = np.where(mean > 0, mean * np.log(mean / middle), 0.0)
            misses = np.where(mean < 1, (1 - mean) * np.log((1 - mean) / (1 - middle)), 0.0)
        inside = trials * (hits + misses) <= level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.where(trials > 0, low, 1.0)


def kl_upper(mean: np.ndarray, trials: np.ndarray, level: float) -> np.ndarray:
    """As :func:`kl_upper_reference`, fast."""
    out = np.empty(len(mean))
    _kl_upper(np.ascontiguousarray(mean, np.float64), np.ascontiguousarray(trials, np.float64), level, out)
    return out


@compiled()
def _kl_upper(mean, trials, level, out):  # type: ignore[no-untyped-def]
    for at in range(len(mean)):
        p = mean[at]
        low, high = p, 1.0
        if trials[at] <= 0.0 or p >= 1.0:
            out[at] = 1.0
            continue
        bound = level / trials[at]
        for _ in range(STEPS):
            middle = (low + high) / 2
            gap = (1.0 - p) * np.log((1.0 - p) / (1.0 - middle))
            if p > 0.0:
                gap += p * np.log(p / middle)
            if gap <= bound:
                low = middle
            else:
                high = middle
        out[at] = low
