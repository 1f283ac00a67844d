"""Ridge regressions that learn row by row: the inverse follows by the Sherman-Morrison formula.

    A ← A + w x xᵀ          A⁻¹ ← A⁻¹ - w (A⁻¹x)(A⁻¹x)ᵀ / (1 + w xᵀA⁻¹x)          b ← b + r x

Source: J. Sherman and W. Morrison, Annals of Mathematical Statistics 1950.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled


def ridge_updates_reference(
    inverses: np.ndarray, moments: np.ndarray, arms: np.ndarray, x: np.ndarray, rewards: np.ndarray
) -> None:
    """Add rows to the regressions, each inverted anew: the plain definition.

    Parameters
    ----------
    inverses, moments
        ``float64[m, d, d]`` and ``float64[m, d]``: ``A⁻¹`` and ``b`` of each regression; written into.
    arms
        ``int64[n]``: the regression that a row belongs to.
    x, rewards
        ``float64[n, d]`` and ``float64[n]``.
    """
    for arm in np.unique(arms):
        own = x[arms == arm]
        inverses[arm] = np.linalg.inv(np.linalg.inv(inverses[arm]) + own.T @ own)
        moments[arm] += rewards[arms == arm] @ own


def ridge_updates(inverses: np.ndarray, moments: np.ndarray, arms: np.ndarray, x: np.ndarray, rewards: np.ndarray) -> None:
    """As :func:`ridge_updates_reference`, fast: ``d²`` steps a row, in the order of the rows."""
    _updates(inverses, moments, np.ascontiguousarray(arms, np.int64), np.ascontiguousarray(x, np.float64), rewards)


def sherman_morrison(inverse: np.ndarray, x: np.ndarray, weight: float = 1.0) -> None:
    """Turn ``A⁻¹`` (``float64[d, d]``, symmetric) into the inverse of ``A + weight x xᵀ``, in place."""
    _add(inverse, np.ascontiguousarray(x, np.float64), weight, np.empty(len(x)))


@compiled()
def _add(inverse, x, weight, product):  # type: ignore[no-untyped-def]
    width = len(x)
    scale = 1.0
    for a in range(width):
        total = 0.0
        for b in range(width):
            total += inverse[a, b] * x[b]
        product[a] = total
        scale += weight * x[a] * total
    scale = weight / scale
    for a in range(width):
        for b in range(a + 1):
            value = inverse[a, b] - scale * product[a] * product[b]
            inverse[a, b] = value
            inverse[b, a] = value


@compiled()
def _updates(inverses, moments, arms, x, rewards):  # type: ignore[no-untyped-def]
    product = np.empty(x.shape[1])
    for row in range(len(arms)):
        arm = arms[row]
        _add(inverses[arm], x[row], 1.0, product)
        for a in range(x.shape[1]):
            moments[arm, a] += rewards[row] * x[row, a]
