"""Where each relevant item stands in its list, and what is wrong with lists and truths, in one pass over the rows."""

from __future__ import annotations

import numba as nb
import numpy as np

from palate.kernels.compile import compiled
from palate.runtime import threads

#: What may be wrong with a row, by the number that :func:`find_ranks` gives it.
FAULTS = {
    1: "an item stands twice in a list.",
    2: "an item number lies outside the catalogue.",
    3: "an item follows the padding (-1) of a list.",
    4: "an item stands twice in the truth.",
    5: "an item number of the truth lies outside the catalogue.",
}


def find_ranks_reference(
    items: np.ndarray, offsets: np.ndarray, truth: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rank of every relevant item in its row's list.

    Parameters
    ----------
    items
        ``int32[n, k]`` lists, best first; -1 ends a row.
    offsets, truth
        Ragged relevant items, ``n`` rows.
    n_items
        Size of the catalogue.

    Returns
    -------
    ranks, lengths, faults
        ``int32[len(truth)]`` rank from 1, or 0 where the item is not listed; ``int32[n]`` items in each list; ``int8[n]``
        what is wrong with the row (a key of :data:`FAULTS`), or 0.
    """
    ranks = np.zeros(len(truth), np.int32)
    lengths, faults = np.zeros(len(items), np.int32), np.zeros(len(items), np.int8)
    for row, line in enumerate(items):
        ends = np.flatnonzero(line < 0)
        length = int(ends[0]) if len(ends) else len(line)
        listed, own = line[:length], truth[offsets[row] : offsets[row + 1]]
        lengths[row] = length
        checks = {
            2: (listed >= n_items).any(),
            1: len(np.unique(listed)) < length,
            3: (line[length:] >= 0).any(),
            5: ((own < 0) | (own >= n_items)).any(),
            4: len(np.unique(own)) < len(own),
        }
        faults[row] = next((fault for fault, found in checks.items() if found), 0)
        if not faults[row]:
            place = {int(item): rank for rank, item in enumerate(listed, start=1)}
            ranks[offsets[row] : offsets[row + 1]] = [place.get(int(item), 0) for item in own]
    return ranks, lengths, faults


def find_ranks(
    items: np.ndarray, offsets: np.ndarray, truth: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`find_ranks_reference`, fast: one table of the catalogue for each thread, never cleared."""
    n, width = items.shape
    ranks = np.zeros(len(truth), np.int32)
    lengths, faults = np.zeros(n, np.int32), np.zeros(n, np.int8)
    chunks = max(min(n, threads()), -(-n * (width + 1) // 2**30), 1)
    bounds = np.linspace(0, n, chunks + 1).astype(np.int64)
    _find_ranks(np.ascontiguousarray(items, np.int32), offsets, truth, n_items, bounds, ranks, lengths, faults)
    return ranks, lengths, faults


@compiled(parallel=True)
def _find_ranks(items, offsets, truth, n_items, bounds, ranks, lengths, faults):  # type: ignore[no-untyped-def]
    width = items.shape[1]
    for chunk in nb.prange(bounds.shape[0] - 1):
        mark = np.zeros(n_items, np.int32)
        for row in range(bounds[chunk], bounds[chunk + 1]):
            base = (row - bounds[chunk]) * width
            lengths[row], faults[row] = _mark_list(items[row], base, mark)
            low, high = offsets[row], offsets[row + 1]
            fault = _read_truth(truth[low:high], base, -1 - (row - bounds[chunk]), mark, ranks[low:high])
            faults[row] = faults[row] if faults[row] else fault


@compiled()
def _mark_list(line, base, mark):  # type: ignore[no-untyped-def]
    """Write ``base + rank`` at each item; anything above ``base`` was written in this row."""
    for at in range(line.shape[0]):
        item = line[at]
        if item < 0:
            for later in range(at + 1, line.shape[0]):
                if line[later] >= 0:
                    return at, 3
            return at, 0
        if item >= mark.shape[0]:
            return at, 2
        if mark[item] > base:
            return at, 1
        mark[item] = base + at + 1
    return line.shape[0], 0


@compiled()
def _read_truth(own, base, stamp, mark, ranks):  # type: ignore[no-untyped-def]
    for at in range(own.shape[0]):
        item = own[at]
        if item < 0 or item >= mark.shape[0]:
            return 5
        if mark[item] == stamp:
            return 4
        ranks[at] = mark[item] - base if mark[item] > base else 0
        mark[item] = stamp
    return 0
