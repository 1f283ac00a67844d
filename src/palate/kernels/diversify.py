"""Greedy orders of a few hundred candidates: marginal relevance, determinantal, and calibrated. Each twice.

Equations and sources stand in :mod:`palate.retrieval.diversify`. The plain forms compute every step anew from the definition.
Of equal candidates the earlier one is taken. One thread, no GIL.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled

#: Volume under which candidates add nothing that float64 can tell from rounding.
FLAT = 1e-9


def similarity(rows: np.ndarray, sizes: np.ndarray | None, a: int, b: int) -> float:
    """Return the inner product of two rows, or their Jaccard index where ``sizes`` of sets are given."""
    inner = float(rows[a].astype(np.float64) @ rows[b].astype(np.float64))
    if sizes is None:
        return inner
    union = float(sizes[a]) + float(sizes[b]) - inner
    return inner / union if union > 0 else 0.0


def marginal_reference(
    relevance: np.ndarray, rows: np.ndarray, sizes: np.ndarray | None, k: int, trade: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order ``int32[k]``, and for each candidate its likeness to what stands above it and which that is.

    Parameters
    ----------
    relevance, rows, sizes
        ``float64[m]``, ``float32[m, d]``, and sizes of sets ``float32[m]`` or ``None``.
    k, trade
        How many, and the weight of relevance.
    """
    m = len(relevance)
    order: list[int] = []
    likeness, nearest = np.zeros(m), np.full(m, -1, np.int32)
    for _ in range(k):
        left = [i for i in range(m) if i not in order]
        for i in left:
            if order:
                alike = [similarity(rows, sizes, i, j) for j in order]
                likeness[i], nearest[i] = max(alike), order[int(np.argmax(alike))]
        gains = [trade * relevance[i] - (1 - trade) * likeness[i] for i in left]
        order.append(left[int(np.argmax(gains))])
    for i in set(range(m)) - set(order):
        alike = [similarity(rows, sizes, i, j) for j in order]
        likeness[i], nearest[i] = max(alike), order[int(np.argmax(alike))]
    return np.array(order, np.int32), likeness, nearest


def marginal(
    relevance: np.ndarray, rows: np.ndarray, sizes: np.ndarray | None, k: int, trade: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`marginal_reference`, fast."""
    m = len(relevance)
    order, likeness, nearest = np.empty(k, np.int32), np.zeros(m), np.full(m, -1, np.int32)
    none = np.empty(0, np.float32)
    _marginal(
        relevance, np.ascontiguousarray(rows, np.float32), none if sizes is None else sizes, trade, order, likeness, nearest
    )
    return order, likeness, nearest


def determinantal_reference(relevance: np.ndarray, rows: np.ndarray, k: int, trade: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the greedy order ``int32[k]`` and each candidate's volume beside what stands above it: determinants as such."""
    m = len(relevance)
    kernel = rows.astype(np.float64) @ rows.astype(np.float64).T
    order: list[int] = []
    volume, base = np.zeros(m), 1.0
    while len(order) < k:
        left = [i for i in range(m) if i not in order]
        for i in left:
            volume[i] = np.linalg.det(kernel[np.ix_([*order, i], [*order, i])]) / base
        open_ = [i for i in left if volume[i] > FLAT]
        if not open_:
            order += sorted(left, key=lambda i: -relevance[i])[: k - len(order)]
            break
        best = max(open_, key=lambda i: trade * relevance[i] + (1 - trade) * np.log(volume[i]))
        base *= volume[best]
        order.append(best)
    return np.array(order, np.int32), volume


def determinantal(relevance: np.ndarray, rows: np.ndarray, k: int, trade: float) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`determinantal_reference`, fast: an incremental Cholesky factor."""
    m = len(relevance)
    order, volume = np.empty(k, np.int32), np.empty(m)
    _determinantal(relevance, np.ascontiguousarray(rows, np.float32), trade, order, volume)
    return order, volume


def divergence(wanted: np.ndarray, held: np.ndarray, smoothing: float) -> float:
    """Return ``sum_g p log(p / ((1 - a) q + a p))`` of two mixes ``float64[c]`` over categories."""
    some = wanted > 0
    p, q = wanted[some], held[some]
    return float((p * np.log(p / ((1 - smoothing) * q + smoothing * p))).sum())


def calibrated_reference(
    relevance: np.ndarray,
    offsets: np.ndarray,
    categories: np.ndarray,
    wanted: np.ndarray,
    k: int,
    trade: float,
    smoothing: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order ``int32[k]``, and for each of it how far the divergence falls and the category that moves it most.

    Parameters
    ----------
    relevance
        ``float64[m]``.
    offsets, categories
        Ragged rows: the distinct categories of each candidate, which share it evenly.
    wanted
        ``float64[c]``: the mix asked for.
    k, trade, smoothing
        How many, the weight of relevance, and ``a``.
    """
    m, c = len(relevance), len(wanted)
    mix = np.zeros((m, c))
    for i in range(m):
        own = categories[offsets[i] : offsets[i + 1]]
        mix[i, own] = 1 / max(len(own), 1)
    order: list[int] = []
    falls, moved = np.zeros(k), np.full(k, -1, np.int32)
    total, before = np.zeros(c), divergence(wanted, np.zeros(c), smoothing)
    for at in range(k):
        left = [i for i in range(m) if i not in order]
        after = [divergence(wanted, (total + mix[i]) / (at + 1), smoothing) for i in left]
        best = int(np.argmax([trade * relevance[i] - (1 - trade) * d for i, d in zip(left, after, strict=True)]))
        order.append(left[best])
        own = categories[offsets[left[best]] : offsets[left[best] + 1]]
        if len(own):
            old, new = ((1 - smoothing) * t[own] / (at + 1) + smoothing * wanted[own] for t in (total, total + mix[left[best]]))
            safe = np.where(wanted[own] > 0, new / np.where(old > 0, old, 1), 1.0)
            moved[at] = own[int(np.argmax(wanted[own] * np.log(safe)))]
        total += mix[left[best]]
        falls[at], before = before - after[best], after[best]
    return np.array(order, np.int32), falls, moved


def calibrated(
    relevance: np.ndarray,
    offsets: np.ndarray,
    categories: np.ndarray,
    wanted: np.ndarray,
    k: int,
    trade: float,
    smoothing: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`calibrated_reference`, fast: a candidate changes only its own categories' terms."""
    order, falls, moved = np.empty(k, np.int32), np.empty(k), np.full(k, -1, np.int32)
    _calibrated(relevance, offsets, categories, wanted, trade, smoothing, order, falls, moved)
    return order, falls, moved


@compiled(fast_math=True)
def _inner(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for at in range(a.shape[0]):
        total += np.float64(a[at]) * np.float64(b[at])
    return total


@compiled()
def _marginal(relevance, rows, sizes, trade, order, likeness, nearest):  # type: ignore[no-untyped-def]
    m = relevance.shape[0]
    chosen = np.zeros(m, np.bool_)
    for at in range(order.shape[0]):
        best, value = -1, -np.inf
        for i in range(m):
            gain = trade * relevance[i] - (1 - trade) * likeness[i]
            if not chosen[i] and gain > value:
                best, value = i, gain
        order[at], chosen[best] = best, True
        for i in range(m):
            if not chosen[i]:
                alike = _inner(rows[i], rows[best])
                if sizes.shape[0]:
                    union = sizes[i] + sizes[best] - alike
                    alike = alike / union if union > 0 else 0.0
                if nearest[i] < 0 or alike > likeness[i]:
                    likeness[i], nearest[i] = alike, best


@compiled()
def _determinantal(relevance, rows, trade, order, volume):  # type: ignore[no-untyped-def]
    m, k = relevance.shape[0], order.shape[0]
    factor = np.zeros((m, k))
    chosen = np.zeros(m, np.bool_)
    for i in range(m):
        volume[i] = _inner(rows[i], rows[i])
    for at in range(k):
        best, value = -1, -np.inf
        for i in range(m):
            if not chosen[i] and volume[i] > FLAT:
                gain = trade * relevance[i] + (1 - trade) * np.log(volume[i])
                if gain > value:
                    best, value = i, gain
        if best < 0:
            _fill(relevance, chosen, order, at)
            return
        order[at], chosen[best] = best, True
        root = np.sqrt(volume[best])
        for i in range(m):
            if not chosen[i]:
                part = (_inner(rows[i], rows[best]) - _inner(factor[i, :at], factor[best, :at])) / root
                factor[i, at] = part
                volume[i] = max(volume[i] - part * part, 0.0)


@compiled()
def _fill(relevance, chosen, order, at):  # type: ignore[no-untyped-def]
    """Fill the rest of an order by relevance."""
    for place in range(at, order.shape[0]):
        best, value = -1, -np.inf
        for i in range(relevance.shape[0]):
            if not chosen[i] and relevance[i] > value:
                best, value = i, relevance[i]
        order[place], chosen[best] = best, True


@compiled()
def _calibrated(relevance, offsets, categories, wanted, trade, smoothing, order, falls, moved):  # type: ignore[no-untyped-def]
    m, c = relevance.shape[0], wanted.shape[0]
    total, logs = np.zeros(c), np.empty(c)
    chosen = np.zeros(m, np.bool_)
    before = 0.0
    for g in range(c):
        if wanted[g] > 0:
            before -= wanted[g] * np.log(smoothing)
    for at in range(order.shape[0]):
        held = (1 - smoothing) / (at + 1)
        base = 0.0
        for g in range(c):
            if wanted[g] > 0:
                logs[g] = np.log(held * total[g] + smoothing * wanted[g])
                base += wanted[g] * (np.log(wanted[g]) - logs[g])
        best, value, lowest = -1, -np.inf, 0.0
        for i in range(m):
            if not chosen[i]:
                after, _ = _with(i, base, offsets, categories, wanted, total, logs, held, smoothing)
                gain = trade * relevance[i] - (1 - trade) * after
                if gain > value:
                    best, value, lowest = i, gain, after
        _, moved[at] = _with(best, base, offsets, categories, wanted, total, logs, held, smoothing)
        for place in range(offsets[best], offsets[best + 1]):
            total[categories[place]] += 1.0 / (offsets[best + 1] - offsets[best])
        order[at], chosen[best] = best, True
        falls[at], before = before - lowest, lowest


@compiled()
def _with(i, base, offsets, categories, wanted, total, logs, held, smoothing):  # type: ignore[no-untyped-def]
    """Return the divergence with one more candidate, and the category that moves it most."""
    low, high = offsets[i], offsets[i + 1]
    most, moved = -np.inf, -1
    for place in range(low, high):
        g = categories[place]
        fall = 0.0
        if wanted[g] > 0:
            fall = wanted[g] * (np.log(held * (total[g] + 1.0 / (high - low)) + smoothing * wanted[g]) - logs[g])
        base -= fall
        if fall > most:
            most, moved = fall, g
    return base, moved
