"""Self-attention among the fields of each row, with what follows it (residual, ReLU, layer normalisation), and its gradient.

Per head h of d numbers, field m and row::

    p_mk = softmax_k( s <q_m, k_k> )        x_m = [ Σ_k p̃_mk v_k ]_h + r_m        y_m = ReLU(x_m), ReLU(N(x_m)) or N(ReLU(x_m))

with p̃ the shares after dropout and N(x) = γ (x - mean) / √(variance + ε) + β over the numbers of a field.

A tile is 16 rows, each of which has a lane (:mod:`palate.kernels.lanes`): fields and heads are too small to fill vectors. All
that a head needs stays in the cache; shares are not kept but made again for the gradient, from the largest score and the sum of
each field. The random bytes of dropout are kept, lane by lane: ``[tiles, heads, f, f, 16]``.

A row's numbers don't depend on its tile or on threads; gradients by γ and β are summed tile by tile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.lanes import (
    LANES,
    exp,
    from_lanes,
    inverse,
    kept,
    larger,
    load,
    padded,
    products,
    root,
    spread,
    store,
    to_lanes,
    where_positive,
)
from palate.kernels.spans import each_span, even_rows

#: Places of layer normalisation.
NONE, BEFORE, AFTER = range(3)
EPS = 1e-5


class Sizes(NamedTuple):
    """Fields, heads, numbers of a head, place of normalisation, bytes below which a share is dropped (0: none are)."""

    fields: int
    heads: int
    size: int
    norm: int
    cut: int


class Attended(NamedTuple):
    """What the gradient needs again.

    Attributes
    ----------
    out
        ``float32[n, f, u]``.
    sums
        ``float32[n, f, u]``: x (without normalisation ``out`` itself, which says as much).
    masses
        ``float32[tiles, heads, f, 2, 16]``: largest score, and 1 over the sum.
    """

    out: np.ndarray
    sums: np.ndarray
    masses: np.ndarray


def random_size(n: int, fields: int, heads: int) -> int:
    """Return how many random bytes dropout takes."""
    return -(-n // LANES) * LANES * heads * fields * fields


def attend_reference(
    qkv: np.ndarray,
    rest: np.ndarray | None,
    gamma: np.ndarray,
    beta: np.ndarray,
    sizes: Sizes,
    scale: float,
    random: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``[n, f, u]`` results and ``[n, heads, f, f]`` shares (after dropout), by the plain definition.

    Parameters
    ----------
    qkv
        ``[n, f, 3u]``: q, k and v side by side, each with its heads side by side.
    rest
        ``[n, f, u]`` or ``None``.
    gamma, beta
        ``[u]`` (empty without normalisation).
    random
        ``uint8``, see the module's text (empty without dropout).
    """
    n, f, units = len(qkv), sizes.fields, sizes.heads * sizes.size
    q, k, v = (part.reshape(n, f, sizes.heads, sizes.size).transpose(0, 2, 1, 3) for part in np.split(qkv, 3, axis=2))
    scores = scale * q @ k.transpose(0, 1, 3, 2)
    shares = np.exp(scores - scores.max(3, keepdims=True))
    shares /= shares.sum(3, keepdims=True)
    if sizes.cut:
        drawn = random.reshape(-1, sizes.heads, f, f, LANES).transpose(0, 4, 1, 2, 3).reshape(-1, sizes.heads, f, f)[:n]
        shares = np.where(drawn >= sizes.cut, shares * _boost(sizes), 0)
    x = (shares @ v).transpose(0, 2, 1, 3).reshape(n, f, units)
    if rest is not None:
        x = x + rest
    if sizes.norm == BEFORE:
        x = _normal(x, gamma, beta)
    x = np.maximum(x, 0)
    return (_normal(x, gamma, beta) if sizes.norm == AFTER else x), shares


def attend(
    qkv: np.ndarray,
    rest: np.ndarray | None,
    gamma: np.ndarray,
    beta: np.ndarray,
    sizes: Sizes,
    scale: float,
    random: np.ndarray,
) -> Attended:
    """As :func:`attend_reference`, fast, of ``float32``; shares are not returned."""
    n, f, units = len(qkv), sizes.fields, sizes.heads * sizes.size
    tiles = -(-n // LANES)
    given, own = padded(qkv), _nothing() if rest is None else padded(rest)
    out = np.empty((tiles * LANES, f, units), np.float32)
    sums = out if sizes.norm == NONE else np.empty_like(out)
    masses = np.empty((tiles, sizes.heads, f, 2, LANES), np.float32)
    flat = (given.reshape(-1), own.reshape(-1), out.reshape(-1), sums.reshape(-1), masses.reshape(-1))
    factors = (np.float32(scale), np.float32(_boost(sizes)), np.float32(EPS))
    work = 2 * qkv.size * f
    each_span(lambda low, high: _attend(*flat, gamma, beta, random, sizes, factors, low, high), even_rows(tiles), work)
    return Attended(out[:n], sums[:n], masses)


def attend_slope(
    qkv: np.ndarray,
    found: Attended,
    slope: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    sizes: Sizes,
    scale: float,
    random: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients by ``qkv``, ``rest``, ``gamma`` and ``beta``, from that by the result (``slope``, ``[n, f, u]``)."""
    n, f, units = len(qkv), sizes.fields, sizes.heads * sizes.size
    tiles = -(-n // LANES)
    by_qkv, by_rest = (np.empty((tiles * LANES, f, width), np.float32) for width in (3 * units, units))
    parts = np.zeros((tiles, 2, len(gamma)), np.float32)
    flat = [padded(a).reshape(-1) for a in (qkv, found.sums, slope)]
    flat += [found.masses.reshape(-1), by_qkv.reshape(-1), by_rest.reshape(-1)]
    factors = (np.float32(scale), np.float32(_boost(sizes)), np.float32(EPS))

    def run(low: int, high: int) -> None:
        _slope(*flat, gamma, beta, parts, random, sizes, factors, low, high)

    each_span(run, even_rows(tiles), 5 * qkv.size * f)
    by_gamma, by_beta = parts.sum(0, dtype=np.float64).astype(np.float32)
    return by_qkv[:n], by_rest[:n], by_gamma, by_beta


def _boost(sizes: Sizes) -> float:
    return 256 / (256 - sizes.cut)


def _nothing() -> np.ndarray:
    return np.empty(0, np.float32)


def _normal(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    found: np.ndarray = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * gamma + beta
    return found


# -- forwards ---------------------------------------------------------------------------------------


@compiled()
def _attend(qkv, rest, out, sums, masses, gamma, beta, random, sizes, factors, low, high):  # type: ignore[no-untyped-def]
    f, heads, size = sizes.fields, sizes.heads, sizes.size
    units = heads * size
    q, k, v = np.empty((3, f * size * LANES), np.float32)
    shares, x = np.empty(f * LANES, np.float32), np.empty(f * units * LANES, np.float32)
    added = np.empty(units * LANES, np.float32)
    for tile in range(low, high):
        for h in range(heads):
            _head(qkv, tile, h, sizes, factors[0], q, k, v)
            for m in range(f):
                at = (tile * heads + h) * f + m
                products(q, m * size, 1, size, k, 1, size, f, shares, 0)
                _softmax(shares, f, masses, 2 * LANES * at)
                if sizes.cut:
                    for j in range(f):
                        factor = kept(random, LANES * (at * f + j), np.uint8(sizes.cut), factors[1])
                        store(shares, LANES * j, load(shares, LANES * j) * factor)
                products(shares, 0, 1, f, v, size, 1, size, x, m * units + h * size)
        for m in range(f):
            own, first = x[LANES * m * units : LANES * (m + 1) * units], (tile * LANES * f + m) * units
            if len(rest):
                to_lanes(rest, first, f * units, units, added, 0)
                for c in range(0, LANES * units, LANES):
                    store(own, c, load(own, c) + load(added, c))
            _finish(own, first, sums, out, gamma, beta, sizes, factors[2])


@compiled()
def _head(qkv, tile, h, sizes, scale, q, k, v):  # type: ignore[no-untyped-def]
    """Put q (scaled), k and v of a head into lanes, ``[f, size, 16]`` each."""
    f, size = sizes.fields, sizes.size
    units, factor = sizes.heads * size, spread(scale)
    for m in range(f):
        first, to = (tile * LANES * f + m) * 3 * units + h * size, LANES * m * size
        to_lanes(qkv, first, 3 * units * f, size, q, to)
        to_lanes(qkv, first + units, 3 * units * f, size, k, to)
        to_lanes(qkv, first + 2 * units, 3 * units * f, size, v, to)
    for at in range(0, LANES * f * size, LANES):
        store(q, at, load(q, at) * factor)


@compiled()
def _softmax(shares, f, masses, at):  # type: ignore[no-untyped-def]
    """Make scores, ``[f, 16]``, shares, lane by lane; write what it takes to ``masses``."""
    top, total = load(shares, 0), spread(np.float32(0))
    for j in range(1, f):
        top = larger(top, load(shares, LANES * j))
    for j in range(f):
        share = exp(load(shares, LANES * j) - top)
        total = total + share
        store(shares, LANES * j, share)
    over = inverse(total)
    for j in range(f):
        store(shares, LANES * j, load(shares, LANES * j) * over)
    store(masses, at, top)
    store(masses, at + LANES, over)


@compiled()
def _finish(x, first, sums, out, gamma, beta, sizes, eps):  # type: ignore[no-untyped-def]
    """Write ReLU and normalisation of a field of 16 rows (``x``, ``[units, 16]``) from element ``first`` on."""
    units, zero = len(x) // LANES, spread(np.float32(0))
    if sizes.norm != NONE:
        from_lanes(x, 0, units, sums, first, sizes.fields * units)
    if sizes.norm != BEFORE:
        for c in range(0, LANES * units, LANES):
            store(x, c, larger(load(x, c), zero))
    if sizes.norm != NONE:
        mean, over = _moments(x, eps)
        for c in range(units):
            y = (load(x, LANES * c) - mean) * over * spread(gamma[c]) + spread(beta[c])
            store(x, LANES * c, larger(y, zero) if sizes.norm == BEFORE else y)
    from_lanes(x, 0, units, out, first, sizes.fields * units)


@compiled()
def _moments(x, eps):  # type: ignore[no-untyped-def]
    """Return the mean and 1 over the root of the variance of ``[units, 16]``, lane by lane."""
    units = len(x) // LANES
    total, squares, share = spread(np.float32(0)), spread(np.float32(0)), spread(np.float32(1 / units))
    for c in range(units):
        total = total + load(x, LANES * c)
    mean = total * share
    for c in range(units):
        centred = load(x, LANES * c) - mean
        squares = squares + centred * centred
    return mean, inverse(root(squares * share + spread(eps)))


# -- backwards --------------------------------------------------------------------------------------


@compiled()
def _slope(  # type: ignore[no-untyped-def]
    qkv, sums, slope, masses, by_qkv, by_rest, gamma, beta, parts, random, sizes, factors, low, high
):
    f, heads, size = sizes.fields, sizes.heads, sizes.size
    units = heads * size
    q, k, v, given = np.empty((4, f * size * LANES), np.float32)
    shares, scores = np.empty((2, f * f * LANES), np.float32)
    by_x, own = np.empty(f * units * LANES, np.float32), np.empty((4, units * LANES), np.float32)
    for tile in range(low, high):
        own[2:] = 0
        for m in range(f):
            first, found = (tile * LANES * f + m) * units, by_x[LANES * m * units : LANES * (m + 1) * units]
            to_lanes(sums, first, f * units, units, own[0], 0)
            to_lanes(slope, first, f * units, units, found, 0)
            _finish_slope(found, own, gamma, beta, sizes, factors[2])
            from_lanes(found, 0, units, by_rest, first, f * units)
        for c in range(len(gamma)):
            parts[tile, 0, c] = own[2, LANES * c : LANES * (c + 1)].sum()
            parts[tile, 1, c] = own[3, LANES * c : LANES * (c + 1)].sum()
        for h in range(heads):
            _head(qkv, tile, h, sizes, factors[0], q, k, v)
            for m in range(f):
                low_, high_ = LANES * (m * units + h * size), LANES * (m * units + (h + 1) * size)
                given[LANES * m * size : LANES * (m + 1) * size] = by_x[low_:high_]
            for m in range(f):
                at = (tile * heads + h) * f + m
                products(q, m * size, 1, size, k, 1, size, f, shares, m * f)
                products(given, m * size, 1, size, v, 1, size, f, scores, m * f)
                _score_slope(shares, scores, m * f, f, masses, at, random, sizes, factors[1])
            _head_slope(q, k, given, shares, scores, tile, h, sizes, factors[0], v, by_qkv)


@compiled()
def _finish_slope(given, own, gamma, beta, sizes, eps):  # type: ignore[no-untyped-def]
    """Make the gradient by y of a field of 16 rows, ``[units, 16]``, that by x, which is in ``own[0]``.

    ``own[1]`` is free; gradients by γ and β are added to ``own[2]`` and ``own[3]``.
    """
    x, normal, by_gamma, by_beta = own
    units, zero, before = len(given) // LANES, spread(np.float32(0)), sizes.norm == BEFORE
    if not before:
        for c in range(0, LANES * units, LANES):
            store(x, c, larger(load(x, c), zero))
    if sizes.norm != NONE:
        mean, over = _moments(x, eps)
        total, inner, share = zero, zero, spread(np.float32(1 / units))
        for c in range(units):
            at, weight = LANES * c, spread(gamma[c])
            value, by_y = (load(x, at) - mean) * over, load(given, at)
            if before:
                by_y = where_positive(by_y, value * weight + spread(beta[c]))
            store(by_gamma, at, load(by_gamma, at) + by_y * value)
            store(by_beta, at, load(by_beta, at) + by_y)
            by_y = by_y * weight
            store(normal, at, value)
            store(given, at, by_y)
            total, inner = total + by_y, inner + by_y * value
        total, inner = total * share, inner * share
        for at in range(0, LANES * units, LANES):
            store(given, at, (load(given, at) - total - load(normal, at) * inner) * over)
    if not before:
        for at in range(0, LANES * units, LANES):
            store(given, at, where_positive(load(given, at), load(x, at)))


@compiled()
def _score_slope(shares, scores, first, f, masses, at, random, sizes, boost):  # type: ignore[no-untyped-def]
    """Make ``shares``, scores still, shares after dropout, and ``scores``, slopes by shares still, slopes by scores."""
    top, over, mean = load(masses, 2 * LANES * at), load(masses, 2 * LANES * at + LANES), spread(np.float32(0))
    for j in range(f):
        place = LANES * (first + j)
        share, inner = exp(load(shares, place) - top) * over, load(scores, place)
        if sizes.cut:
            inner = inner * kept(random, LANES * (at * f + j), np.uint8(sizes.cut), boost)
        mean = mean + share * inner
        store(shares, place, share)
        store(scores, place, inner)
    for j in range(f):
        place = LANES * (first + j)
        share = load(shares, place)
        store(scores, place, share * (load(scores, place) - mean))
        if sizes.cut:
            store(shares, place, share * kept(random, LANES * (at * f + j), np.uint8(sizes.cut), boost))


@compiled()
def _head_slope(q, k, given, shares, scores, tile, h, sizes, scale, free, by_qkv):  # type: ignore[no-untyped-def]
    """Write the gradients by q, k and v of a head; ``free`` is overwritten."""
    f, size = sizes.fields, sizes.size
    units, step, factor = sizes.heads * size, 3 * sizes.heads * size * f, spread(scale)
    for m in range(f):
        first = (tile * LANES * f + m) * 3 * units + h * size
        products(scores, m * f, 1, f, k, size, 1, size, free, 0)
        for at in range(0, LANES * size, LANES):
            store(free, at, load(free, at) * factor)
        from_lanes(free, 0, size, by_qkv, first, step)
        products(scores, m, f, f, q, size, 1, size, free, 0)
        from_lanes(free, 0, size, by_qkv, first + units, step)
        products(shares, m, f, f, given, size, 1, size, free, 0)
        from_lanes(free, 0, size, by_qkv, first + 2 * units, step)
