"""Noise of a fixed length that never changes a sign: the augmentation of SimGCL and XSimGCL.

    out_r = x_r + ε sign(x_r) ∘ u_r / |u_r|,    u_r ~ U[0, 1)^d

The numbers of a row are a hash of (seed, row), so they depend neither on other rows nor on threads.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.draws import uniform_reference
from palate.kernels.spans import each_span, even_rows

_ROW, _FIRST, _SECOND = (np.uint64(c) for c in (0xD1B54A32D192ED03, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)
#: Multiplications that one number costs, about.
_WORK = 8


def row_keys(seed: int, n: int) -> np.ndarray:
    """Return ``uint64[n]``: the key of each row's random numbers (:func:`palate.kernels.draws.uniform_reference`)."""
    x = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * _ROW
    x = (x ^ (x >> np.uint64(32))) * _FIRST
    mixed: np.ndarray = x ^ (x >> np.uint64(29))
    return mixed


def perturb_reference(x: np.ndarray, seed: int, eps: float, needed: np.ndarray | None = None) -> np.ndarray:
    """Return ``float32[n, d]``: ``x`` with noise; rows that are not ``needed`` (``uint8[n]``) stay as they are."""
    noise = uniform_reference(row_keys(seed, len(x)), x.shape[1])
    noise /= np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), np.float32(1e-12))
    out: np.ndarray = x + np.float32(eps) * np.sign(x) * noise
    if needed is not None:
        out[needed == 0] = x[needed == 0]
    return out


def perturb(
    x: np.ndarray, seed: int, eps: float, needed: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """As :func:`perturb_reference`, fast; into ``out`` where given, which may be ``x`` itself."""
    target = np.empty_like(x) if out is None else out
    keys, marked = row_keys(seed, len(x)), np.empty(0, np.uint8) if needed is None else needed

    def run(low: int, high: int) -> None:
        _perturb(x, keys, np.float32(eps), marked, target, low, high)

    each_span(run, even_rows(len(x)), _WORK * x.size)
    return target


@compiled()
def _perturb(x, keys, eps, needed, out, low, high):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    drawn = np.empty(width, np.float32)
    for row in range(low, high):
        if len(needed) and needed[row] == 0:
            for c in range(width):
                out[row, c] = x[row, c]
            continue
        size = np.float32(0.0)
        for c in range(width):
            z = keys[row] + np.uint64(c + 1) * _STEP
            z = (z ^ (z >> np.uint64(30))) * _FIRST
            z = (z ^ (z >> np.uint64(27))) * _SECOND
            z ^= z >> np.uint64(31)
            drawn[c] = np.float32(z >> np.uint64(40)) * np.float32(2.0**-24)
        for c in range(width):
            size += drawn[c] * drawn[c]
        scale = eps / max(np.sqrt(size), np.float32(1e-12))
        for c in range(width):
            v = x[row, c]
            step = scale * drawn[c]
            out[row, c] = v + (step if v > 0 else (-step if v < 0 else np.float32(0.0)))
