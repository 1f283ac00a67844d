"""Random numbers by place: each is a hash of a key and a position, so any part can be drawn alone."""

from __future__ import annotations

import numba as nb
import numpy as np

from palate.kernels.compile import compiled

_STEP, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniform_reference(keys: np.ndarray, width: int) -> np.ndarray:
    """Return ``float32[n, width]`` in [0, 1): row ``r`` belongs to ``keys[r]`` (``uint64``), column ``c`` to position ``c``.

    Source: the finalizer of SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014).
    """
    x = keys[:, None] + np.arange(1, width + 1, dtype=np.uint64) * _STEP
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def uniform(keys: np.ndarray, width: int) -> np.ndarray:
    """As :func:`uniform_reference`, fast."""
    out = np.empty((len(keys), width), np.float32)
    _uniform(np.ascontiguousarray(keys, np.uint64), out)
    return out


@compiled(parallel=True)
def _uniform(keys, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(out.shape[0]):
        for column in range(out.shape[1]):
            x = keys[row] + np.uint64(column + 1) * _STEP
            x = (x ^ (x >> np.uint64(30))) * _FIRST
            x = (x ^ (x >> np.uint64(27))) * _SECOND
            x ^= x >> np.uint64(31)
            out[row, column] = np.float32(x >> np.uint64(40)) * np.float32(2.0**-24)
