"""Dropout by random bytes on the output of a ReLU, in place, and its gradient: one pass through memory each."""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows


def mask_reference(values: np.ndarray, random: np.ndarray, cut: int, scale: float) -> None:
    """Set values (``float32[n]``, changed in place) whose random byte is below ``cut`` to zero, and scale the others.

    Parameters
    ----------
    random
        ``uint8[n]``.
    """
    values *= np.where(random >= cut, np.float32(scale), np.float32(0))


def mask(values: np.ndarray, random: np.ndarray, cut: int, scale: float) -> None:
    """As :func:`mask_reference`, fast."""
    least, factor = np.uint8(cut), np.float32(scale)
    each_span(lambda low, high: _mask(values, random, least, factor, low, high), even_rows(len(values), 8), len(values))


def mask_slope_reference(slope: np.ndarray, values: np.ndarray, out: np.ndarray, scale: float) -> None:
    """Write ``scale`` times the gradient (``float32[n]``) where the value is positive, and 0 elsewhere, into ``out``."""
    out[:] = np.where(values > 0, np.float32(scale) * slope, np.float32(0))


def mask_slope(slope: np.ndarray, values: np.ndarray, out: np.ndarray, scale: float) -> None:
    """As :func:`mask_slope_reference`, fast."""
    factor = np.float32(scale)
    each_span(lambda low, high: _mask_slope(slope, values, out, factor, low, high), even_rows(len(values), 8), len(values))


@compiled()
def _mask(values, random, cut, scale, low, high):  # type: ignore[no-untyped-def]
    part, bytes_ = values[low:high], random[low:high]
    for at in range(len(part)):
        part[at] *= scale if bytes_[at] >= cut else np.float32(0)


@compiled()
def _mask_slope(slope, values, out, scale, low, high):  # type: ignore[no-untyped-def]
    given, found, into = slope[low:high], values[low:high], out[low:high]
    for at in range(len(given)):
        into[at] = scale * given[at] if found[at] > 0 else np.float32(0)
