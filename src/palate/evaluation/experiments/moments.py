"""Running totals of a metric over units: count, means, and centred sums of squares and products.

A metric is a ratio of sums over units, ``R = Σ y / Σ x``; a mean is the case where every ``x`` is 1. For both

    value = ȳ / x̄,   s² = (S_yy - 2 R S_xy + R² S_xx) / ((n - 1) x̄²),   Var(value) = s² / n

with ``S_ab = Σ (a - ā)(b - b̄)``: the delta method, in which the unit that was randomised is the unit that is counted. Totals
of two batches of units add up (T. Chan, G. Golub and R. LeVeque, 1979), so that a look costs no more than its new units. They
are kept centred because ``Σ y² - n ȳ²`` loses all digits where the mean is large beside the spread.

Source of the ratio: A. Deng, U. Knoblich and J. Lu, "Applying the delta method in metric analytics", KDD 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import DataError


@dataclass(frozen=True, eq=False)
class Moments:
    """Totals of one metric in one arm, or arrays of them (any shape, the same for all).

    Attributes
    ----------
    n
        Units.
    mean, base
        Means of numerators ``y`` and denominators ``x``.
    yy, xy, xx
        Centred sums of squares and products.
    """

    n: np.ndarray
    mean: np.ndarray
    yy: np.ndarray
    base: np.ndarray
    xy: np.ndarray
    xx: np.ndarray

    @classmethod
    def of(cls, values: ArrayLike, base: ArrayLike | None = None) -> Moments:
        """Total the last axis of ``float[..., n]``, with denominators of the same shape for a ratio."""
        y = np.asarray(values, np.float64)
        n = np.full(y.shape[:-1], float(y.shape[-1]))
        mean = y.mean(-1) if y.shape[-1] else np.zeros(n.shape)
        off = y - mean[..., None]
        if base is None:
            zero = np.zeros(n.shape)
            return cls(n, mean, (off**2).sum(-1), np.ones(n.shape), zero, zero)
        x = np.broadcast_to(np.asarray(base, np.float64), y.shape)
        mean_x = x.mean(-1) if x.shape[-1] else np.zeros(n.shape)
        off_x = x - mean_x[..., None]
        return cls(n, mean, (off**2).sum(-1), mean_x, (off * off_x).sum(-1), (off_x**2).sum(-1))

    @classmethod
    def by_variant(cls, values: ArrayLike, variant: ArrayLike, size: int, base: ArrayLike | None = None) -> Moments:
        """Total ``float[n]`` by variant ``int[n]`` from 0 to ``size - 1``; the result has the shape ``[size]``."""
        y, arm = np.asarray(values, np.float64), np.asarray(variant)
        n = np.bincount(arm, minlength=size).astype(np.float64)
        filled = np.maximum(n, 1)

        def centred(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mean = np.bincount(arm, column, size) / filled
            return mean, column - mean[arm]

        mean, off = centred(y)
        yy = np.bincount(arm, off**2, size)
        if base is None:
            return cls(n, mean, yy, np.ones(size), np.zeros(size), np.zeros(size))
        mean_x, off_x = centred(np.asarray(base, np.float64))
        return cls(n, mean, yy, mean_x, np.bincount(arm, off * off_x, size), np.bincount(arm, off_x**2, size))

    @classmethod
    def from_sums(
        cls,
        n: ArrayLike,
        y: ArrayLike,
        y2: ArrayLike,
        x: ArrayLike | None = None,
        xy: ArrayLike | None = None,
        x2: ArrayLike | None = None,
    ) -> Moments:
        """Read plain sums over units: ``n``, ``Σ y``, ``Σ y²``, and for a ratio ``Σ x``, ``Σ x y``, ``Σ x²`` as well.

        Exact for counts and amounts; for numbers far from zero beside their spread (times of day in seconds since 1970) add
        up batches of :meth:`of` instead.
        """
        count, total, squares = (np.asarray(part, np.float64) for part in (n, y, y2))
        mean = np.divide(total, count, out=np.zeros(np.broadcast(total, count).shape), where=count > 0)
        yy = np.maximum(squares - count * mean**2, 0.0)
        if x is None or xy is None or x2 is None:
            if not (x is None and xy is None and x2 is None):
                raise DataError("a ratio needs all three sums of its denominator.", remedy="give x, xy and x2")
            zero = np.zeros(mean.shape)
            return cls(count, mean, yy, np.ones(mean.shape), zero, zero)
        total_x, products, squares_x = (np.asarray(part, np.float64) for part in (x, xy, x2))
        base = np.divide(total_x, count, out=np.zeros(mean.shape), where=count > 0)
        return cls(count, mean, yy, base, products - count * mean * base, np.maximum(squares_x - count * base**2, 0.0))

    def __add__(self, other: Moments) -> Moments:
        """Return the totals of both sets of units together."""
        n = self.n + other.n
        part = np.divide(other.n, n, out=np.zeros(np.shape(n)), where=n > 0)
        gap, gap_x, both = other.mean - self.mean, other.base - self.base, self.n * part
        return Moments(
            n,
            self.mean + part * gap,
            self.yy + other.yy + both * gap**2,
            self.base + part * gap_x,
            self.xy + other.xy + both * gap * gap_x,
            self.xx + other.xx + both * gap_x**2,
        )

    def __getitem__(self, at: object) -> Moments:
        """Return some of the arms or looks."""
        return Moments(*(getattr(self, part.name)[at] for part in fields(self)))

    @property
    def value(self) -> np.ndarray:
        """The metric; NaN where there is nothing to divide by."""
        known = (self.n > 0) & (self.base != 0)
        return np.divide(self.mean, self.base, out=np.full(np.shape(self.mean), np.nan), where=known)

    @property
    def variance(self) -> np.ndarray:
        """The variance ``s²`` of a unit's part in the metric; NaN below two units."""
        ratio = self.value
        centred = np.maximum(self.yy - 2 * ratio * self.xy + ratio**2 * self.xx, 0.0)
        below = (self.n - 1) * self.base**2
        return np.divide(centred, below, out=np.full(np.shape(centred), np.nan), where=below > 0)

    @property
    def error2(self) -> np.ndarray:
        """The squared standard error of the metric, ``s² / n``."""
        return np.divide(self.variance, self.n, out=np.full(np.shape(self.mean), np.nan), where=self.n > 0)
