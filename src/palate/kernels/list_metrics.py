"""Beyond accuracy: likeness inside lists, surprise, topics and popularity of what is recommended.

Formulas are in :mod:`palate.evaluation.metrics.beyond`. Lists are ``int32[n, k]``, best first, -1 ends a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from palate.kernels.compile import compiled

#: Exposure is counted in whole units of 2⁻³², so that sums are exact in any order.
EXPOSURE_UNIT = 2.0**-32


class Likeness(NamedTuple):
    """How alike two items are: by dense vectors (mode 0), by sets (mode 1) or by counts of pairs (mode 2).

    Attributes
    ----------
    mode
        0: dot product of ``dense`` rows (unit length); 1: ``|A ∩ B| / sqrt(|A| |B|)`` of the rows of ``members``; 2:
        ``values[a, b] / (norms[a] norms[b])`` of a sparse matrix with sorted rows.
    dense
        ``float32[N, dim]``.
    offsets, members, values
        Sorted ragged rows, with values in mode 2.
    norms
        ``float64[N]`` divisor of each item (0 makes it unlike everything).
    bits, slots
        For mode 1, where sets are large: bitmaps ``uint64[h, words]`` of the largest sets, and ``int32[N]`` the bitmap of each
        item or -1 (see :func:`with_bitmaps`).
    """

    mode: int
    dense: np.ndarray
    offsets: np.ndarray
    members: np.ndarray
    values: np.ndarray
    norms: np.ndarray
    bits: np.ndarray = np.zeros((0, 0), np.uint64)
    slots: np.ndarray = np.zeros(0, np.int32)


def with_bitmaps(like: Likeness, n_members: int) -> Likeness:
    """Give the sets of mode 1 that are larger than ``n_members / 32`` bitmaps, which take no more memory than they do.

    Any two sets are then compared in the time of ``n_members / 16`` steps or less, with the same result.
    """
    lengths = np.diff(like.offsets)
    large = np.flatnonzero(lengths > n_members / 32)
    slots = np.full(len(lengths), -1, np.int32)
    slots[large] = np.arange(len(large))
    bits = np.zeros((len(large), -(-n_members // 64)), np.uint64)
    for row, item in enumerate(large):
        own = like.members[like.offsets[item] : like.offsets[item + 1]]
        np.bitwise_or.at(bits[row], own >> 6, np.uint64(1) << (own & 63).astype(np.uint64))
    return like._replace(bits=bits, slots=slots)


def count_slots_reference(items: np.ndarray, k: int, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``int64[n_items]`` slots of each item in the first ``k`` ranks, and its exposure in units of 2⁻³².

    The exposure of one slot is ``1 / log2(1 + rank)``.
    """
    top = items[:, :k]
    weights = np.round(1 / np.log2(np.arange(2, top.shape[1] + 2)) / EXPOSURE_UNIT).astype(np.int64)
    counts, exposure = np.zeros(n_items, np.int64), np.zeros(n_items, np.int64)
    for place in range(top.shape[1]):
        listed = top[:, place][top[:, place] >= 0]
        np.add.at(counts, listed, 1)
        np.add.at(exposure, listed, weights[place])
    return counts, exposure


def count_slots(items: np.ndarray, k: int, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`count_slots_reference`, fast."""
    counts, exposure = np.zeros(n_items, np.int64), np.zeros(n_items, np.int64)
    width = min(k, items.shape[1])
    weights = np.round(1 / np.log2(np.arange(2, width + 2)) / EXPOSURE_UNIT).astype(np.int64)
    _count_slots(items, width, weights, counts, exposure)
    return counts, exposure


def slot_means_reference(items: np.ndarray, k: int, table: np.ndarray, discounts: np.ndarray) -> np.ndarray:
    """Return ``float64[n]``: ``Σ_j d_j table[i_j] / Σ_j d_j`` over the first ``k`` slots; NaN for an empty list."""
    out = np.full(len(items), np.nan)
    for row, line in enumerate(items[:, :k]):
        listed = line[line >= 0]
        if len(listed):
            weight = discounts[: len(listed)]
            out[row] = (weight * table[listed]).sum() / weight.sum()
    return out


def slot_means(items: np.ndarray, k: int, table: np.ndarray, discounts: np.ndarray) -> np.ndarray:
    """As :func:`slot_means_reference`, fast."""
    out = np.empty(len(items))
    _slot_means(items, min(k, items.shape[1]), np.asarray(table, np.float64), discounts, out)
    return out


def similarity_reference(like: Likeness, a: int, b: int) -> float:
    """Return the likeness of two items."""
    if like.mode == 0:
        return float(np.clip(like.dense[a].astype(np.float64) @ like.dense[b].astype(np.float64), -1, 1))
    norm = like.norms[a] * like.norms[b]
    if norm == 0:
        return 0.0
    low, high = like.offsets[a], like.offsets[a + 1]
    if like.mode == 1:
        return len(np.intersect1d(like.members[low:high], like.members[like.offsets[b] : like.offsets[b + 1]])) / norm
    at = np.flatnonzero(like.members[low:high] == b)
    return float(like.values[low + at[0]] / norm) if len(at) else 0.0


def pair_means_reference(items: np.ndarray, k: int, like: Likeness, discounts: np.ndarray) -> np.ndarray:
    """Return ``float64[n]``: ``Σ_{a<b} d_a d_b s(i_a, i_b) / Σ_{a<b} d_a d_b`` over the first ``k``; NaN below two items."""
    out = np.full(len(items), np.nan)
    for row, line in enumerate(items[:, :k]):
        listed = line[line >= 0]
        pairs = [(a, b) for a in range(len(listed)) for b in range(a + 1, len(listed))]
        weights = [discounts[a] * discounts[b] for a, b in pairs]
        if pairs:
            alike = [similarity_reference(like, listed[a], listed[b]) for a, b in pairs]
            out[row] = np.dot(weights, alike) / np.sum(weights)
    return out


def pair_means(items: np.ndarray, k: int, like: Likeness, discounts: np.ndarray) -> np.ndarray:
    """As :func:`pair_means_reference`, fast."""
    out = np.empty(len(items))
    _pair_means(items, min(k, items.shape[1]), *like, discounts, out)
    return out


def history_likeness_reference(items: np.ndarray, rows: np.ndarray, offsets: np.ndarray, history: np.ndarray, like: Likeness):  # type: ignore[no-untyped-def]
    """Return ``float64[m]``: mean likeness of ``items[q]`` to the events of history row ``rows[q]``; NaN where it is empty."""
    out = np.full(len(items), np.nan)
    for q, (item, row) in enumerate(zip(items, rows, strict=True)):
        own = history[offsets[row] : offsets[row + 1]]
        if len(own):
            out[q] = np.mean([similarity_reference(like, item, other) for other in own])
    return out


def history_likeness(
    items: np.ndarray, rows: np.ndarray, offsets: np.ndarray, history: np.ndarray, like: Likeness
) -> np.ndarray:
    """As :func:`history_likeness_reference`, fast."""
    out = np.empty(len(items))
    _history_likeness(items, rows, offsets, history, *like, out)
    return out


def in_primitive_reference(
    items: np.ndarray, k: int, popular: np.ndarray, offsets: np.ndarray, history: np.ndarray
) -> np.ndarray:
    """Say which of the first ``k`` slots hold an item of the primitive list (``bool[n, k]``).

    The primitive list of a row is the first ``k`` of ``popular`` that are not in its history.
    """
    top = items[:, :k]
    out = np.zeros(top.shape, bool)
    for row, line in enumerate(top):
        fresh = popular[~np.isin(popular, history[offsets[row] : offsets[row + 1]])][:k]
        out[row] = np.isin(line, fresh) & (line >= 0)
    return out


def in_primitive(items: np.ndarray, k: int, popular: np.ndarray, offsets: np.ndarray, history: np.ndarray) -> np.ndarray:
    """As :func:`in_primitive_reference`, fast."""
    out = np.zeros((len(items), min(k, items.shape[1])), np.bool_)
    place = np.empty(len(popular), np.int64)
    place[popular] = np.arange(len(popular))
    _in_primitive(items, k, place, offsets, history, out)
    return out


@compiled()
def _count_slots(items, width, weights, counts, exposure):  # type: ignore[no-untyped-def]
    for row in range(items.shape[0]):
        for at in range(width):
            item = items[row, at]
            if item < 0:
                break
            counts[item] += 1
            exposure[item] += weights[at]


@compiled(parallel=True)
def _slot_means(items, width, table, discounts, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(items.shape[0]):
        total, weight = 0.0, 0.0
        for at in range(width):
            item = items[row, at]
            if item < 0:
                break
            total += discounts[at] * table[item]
            weight += discounts[at]
        out[row] = total / weight if weight > 0 else np.nan


@compiled()
def _shared(members, low, high, start, stop):  # type: ignore[no-untyped-def]
    count = 0
    while low < high and start < stop:
        if members[low] == members[start]:
            count, low, start = count + 1, low + 1, start + 1
        elif members[low] < members[start]:
            low += 1
        else:
            start += 1
    return count


@compiled()
def _shared_bits(a, b):  # type: ignore[no-untyped-def]
    """Count the bits set in both of two bitmaps."""
    count = np.uint64(0)
    for at in range(a.shape[0]):
        x = a[at] & b[at]
        x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        count += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return np.int64(count)


@compiled()
def _held(own, bits):  # type: ignore[no-untyped-def]
    """Count the members whose bit is set."""
    count = np.int64(0)
    for member in own:
        count += np.int64((bits[member >> 6] >> np.uint64(member & 63)) & np.uint64(1))
    return count


@compiled()
def _overlap(a, b, offsets, members, bits, slots):  # type: ignore[no-untyped-def]
    low, high, start, stop = offsets[a], offsets[a + 1], offsets[b], offsets[b + 1]
    one = slots[a] if slots.shape[0] else -1
    two = slots[b] if slots.shape[0] else -1
    if one >= 0 and two >= 0:
        return _shared_bits(bits[one], bits[two])
    if one >= 0:
        return _held(members[start:stop], bits[one])
    if two >= 0:
        return _held(members[low:high], bits[two])
    return _shared(members, low, high, start, stop)


@compiled()
def _similarity(a, b, mode, dense, offsets, members, values, norms, bits, slots):  # type: ignore[no-untyped-def]
    if mode == 0:
        total = 0.0
        for at in range(dense.shape[1]):
            total += np.float64(dense[a, at]) * np.float64(dense[b, at])
        return min(1.0, max(-1.0, total))
    norm = norms[a] * norms[b]
    if norm == 0:
        return 0.0
    low, high = offsets[a], offsets[a + 1]
    if mode == 1:
        return _overlap(a, b, offsets, members, bits, slots) / norm
    at = low + np.searchsorted(members[low:high], b)
    return values[at] / norm if at < high and members[at] == b else 0.0


@compiled(parallel=True)
def _pair_means(items, width, mode, dense, offsets, members, values, norms, bits, slots, discounts, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(items.shape[0]):
        total, weight = 0.0, 0.0
        for b in range(width):
            if items[row, b] < 0:
                break
            for a in range(b):
                both = discounts[a] * discounts[b]
                first, second = items[row, a], items[row, b]
                total += both * _similarity(first, second, mode, dense, offsets, members, values, norms, bits, slots)
                weight += both
        out[row] = total / weight if weight > 0 else np.nan


@compiled(parallel=True)
def _history_likeness(items, rows, starts, history, mode, dense, offsets, members, values, norms, bits, slots, out):  # type: ignore[no-untyped-def]
    for q in nb.prange(items.shape[0]):
        low, high = starts[rows[q]], starts[rows[q] + 1]
        total = 0.0
        for at in range(low, high):
            total += _similarity(items[q], history[at], mode, dense, offsets, members, values, norms, bits, slots)
        out[q] = total / (high - low) if high > low else np.nan


@compiled(parallel=True)
def _in_primitive(items, k, place, offsets, history, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(items.shape[0]):
        own = np.sort(place[history[offsets[row] : offsets[row + 1]]])
        limit, last = k, -1
        for at in range(own.shape[0]):
            if own[at] >= limit:
                break
            if own[at] != last:
                limit += 1
            last = own[at]
        for at in range(out.shape[1]):
            item = items[row, at]
            if item < 0:
                break
            rank = place[item]
            spot = np.searchsorted(own, rank)
            out[row, at] = rank < limit and not (spot < own.shape[0] and own[spot] == rank)
