"""Scores of many contexts with the same few events, by a layer of hidden units: what local activation units do when answering.

For context c, event j and hidden unit u, with a matrix and a start of each event::

    s_u = <M_ju, c> + b_ju        z_u = g(s_u)        score_jo = Σ_u w_ou z_u + a_o

where g is Dice, with running moments that became a scale and a shift, or (P)ReLU::

    Dice     s (α_u + (1 - α_u) σ(scale_u s + shift_u))        (P)ReLU      max(s, 0) + α_u min(s, 0)

16 contexts go side by side (:mod:`palate.kernels.lanes`), and nothing as large as contexts x events x units is ever held.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.lanes import LANES, exp, from_lanes, inverse, larger, load, padded, spread, store, to_lanes
from palate.kernels.spans import each_span, even_rows


class Unit(NamedTuple):
    """What makes scores of sums.

    Attributes
    ----------
    dice
        Whether g is Dice.
    scale, shift, alpha
        ``float32[h]``; scale and shift are Dice's alone.
    last, bias
        ``float32[out, h]`` and ``float32[out]``.
    """

    dice: bool
    scale: np.ndarray
    shift: np.ndarray
    alpha: np.ndarray
    last: np.ndarray
    bias: np.ndarray


def pair_scores_reference(
    contexts: np.ndarray, matrices: np.ndarray, base: np.ndarray, places: np.ndarray, length: int, unit: Unit
) -> np.ndarray:
    """Return ``float32[n, length, out]``: the scores of event j at ``places[j]``, 0 elsewhere.

    Parameters
    ----------
    contexts
        ``float32[n, w]``.
    matrices, base
        ``float32[t, h, w]`` and ``float32[t, h]``.
    places
        ``int64[t]``, below ``length``.
    """
    s = np.einsum("nw,thw->nth", contexts, matrices) + base
    if unit.dice:
        z = s * (unit.alpha + (1 - unit.alpha) / (1 + np.exp(-(unit.scale * s + unit.shift))))
    else:
        z = np.maximum(s, 0) + unit.alpha * np.minimum(s, 0)
    out = np.zeros((len(contexts), length, len(unit.last)), contexts.dtype)
    out[:, places] = z @ unit.last.T + unit.bias
    return out


def pair_scores(
    contexts: np.ndarray, matrices: np.ndarray, base: np.ndarray, places: np.ndarray, length: int, unit: Unit
) -> np.ndarray:
    """As :func:`pair_scores_reference`, fast."""
    n, tiles = len(contexts), -(-len(contexts) // LANES)
    given = padded(contexts).reshape(-1)
    out = np.empty((tiles * LANES, length, len(unit.last)), np.float32)
    plain = unit._replace(last=np.ascontiguousarray(unit.last))
    flat = (given, np.ascontiguousarray(matrices), np.ascontiguousarray(base), places, plain, out.reshape(-1))
    each_span(lambda low, high: _scores(*flat, length, low, high), even_rows(tiles), n * matrices.size)
    return out[:n]


@compiled()
def _scores(contexts, matrices, base, places, unit, out, length, low, high):  # type: ignore[no-untyped-def]
    h, w, wide = matrices.shape[1], matrices.shape[2], len(unit.last)
    x, z = np.empty(w * LANES, np.float32), np.empty(h * LANES, np.float32)
    scores = np.zeros(length * wide * LANES, np.float32)
    for tile in range(low, high):
        to_lanes(contexts, tile * LANES * w, w, w, x, 0)
        for j in range(len(places)):
            _sums(matrices[j], base[j], x, z)
            if unit.dice:
                _dice(z, unit.scale, unit.shift, unit.alpha)
            else:
                _rectify(z, unit.alpha)
            for o in range(wide):
                total = spread(unit.bias[o])
                for u in range(h):
                    total = total + spread(unit.last[o, u]) * load(z, LANES * u)
                store(scores, LANES * (places[j] * wide + o), total)
        from_lanes(scores, 0, length * wide, out, tile * LANES * length * wide, length * wide)


@compiled()
def _sums(matrix, base, x, z):  # type: ignore[no-untyped-def]
    """Put ``<M_u, c> + b_u`` of 16 contexts into ``z``, ``[h, 16]``: four units at a time, for what is read of ``x``."""
    h, u = len(matrix), 0
    while u + 4 <= h:
        first, second, third, fourth = spread(base[u]), spread(base[u + 1]), spread(base[u + 2]), spread(base[u + 3])
        for c in range(matrix.shape[1]):
            own = load(x, LANES * c)
            first = first + spread(matrix[u, c]) * own
            second = second + spread(matrix[u + 1, c]) * own
            third = third + spread(matrix[u + 2, c]) * own
            fourth = fourth + spread(matrix[u + 3, c]) * own
        store(z, LANES * u, first)
        store(z, LANES * (u + 1), second)
        store(z, LANES * (u + 2), third)
        store(z, LANES * (u + 3), fourth)
        u += 4
    for left in range(u, h):
        total = spread(base[left])
        for c in range(matrix.shape[1]):
            total = total + spread(matrix[left, c]) * load(x, LANES * c)
        store(z, LANES * left, total)


@compiled()
def _dice(z, scale, shift, alpha):  # type: ignore[no-untyped-def]
    one, least = spread(np.float32(1)), spread(np.float32(-80))
    for u in range(len(alpha)):
        s = load(z, LANES * u)
        normal = larger(s * spread(scale[u]) + spread(shift[u]), least)
        share = inverse(one + exp(spread(np.float32(0)) - normal))
        store(z, LANES * u, s * (spread(alpha[u]) + spread(np.float32(1) - alpha[u]) * share))


@compiled()
def _rectify(z, alpha):  # type: ignore[no-untyped-def]
    zero = spread(np.float32(0))
    for u in range(len(alpha)):
        s = load(z, LANES * u)
        above = larger(s, zero)
        store(z, LANES * u, above + spread(alpha[u]) * (s - above))
