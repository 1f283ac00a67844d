"""Sort events by user, time and file order in little more memory than they take."""

from __future__ import annotations

import numpy as np

from palate.data.interactions import Interactions
from palate.data.ragged import offsets_of
from palate.data.readers.times import seconds

#: Rows handled at once.
BLOCK = 1 << 16


def assemble(columns: dict[str, np.ndarray], n_users: int, ticks: int = 1, *, rank: bool = True) -> Interactions:
    """Sort columns and freeze them; ``columns`` is emptied on the way, so that no column is held twice for long.

    Parameters
    ----------
    columns
        ``user`` and ``item`` (``int32``), and optional columns by name; ``time`` in ticks.
    n_users
        Size of the user vocabulary.
    ticks
        Ticks of time a second. Finer times order events before they are cut to seconds.
    rank
        As later steps see only seconds, let the ``row`` column number events by (exact time, file order) where times are
        finer; else it always is the row of the file.
    """
    user, time = columns["user"], columns.get("time")
    order = None if _sorted(user, time) else _by_user(user, n_users)
    fine = rank and ticks > 1 and time is not None and _has_fractions(time, ticks)
    if order is not None:
        counts = _counts(user, n_users)
        del user, columns["user"]
        if time is not None:
            for half in (0, 1):  # one half of the bits after the other: half the memory of a copy
                column = columns["time"].view(np.int32).reshape(-1, 2)[:, half]
                column[:] = _taken(column, order)
            _by_time(columns["time"], order, offsets_of(counts))
        for name in [n for n in columns if n != "time"]:
            columns[name] = _taken(columns[name], order)
        columns["user"] = np.repeat(np.arange(n_users, dtype=np.int32), counts)
    if fine:
        order = _world_order(columns["time"], order)
    if "time" in columns:
        columns["time"] = seconds(columns["time"], ticks)
    if order is not None:
        columns["row"] = order
    for column in columns.values():
        column.flags.writeable = False
    return Interactions(**columns)


def _sorted(user: np.ndarray, time: np.ndarray | None) -> bool:
    for start in range(0, max(0, len(user) - 1), BLOCK):
        u = user[start : start + BLOCK + 1]
        if (u[1:] < u[:-1]).any():
            return False
        if time is not None:
            t = time[start : start + BLOCK + 1]
            if ((u[1:] == u[:-1]) & (t[1:] < t[:-1])).any():
                return False
    return True


def _by_user(user: np.ndarray, n_users: int) -> np.ndarray:
    """Return the stable order by user (a counting sort, block by block)."""
    order = np.empty(len(user), np.int32)
    free = offsets_of(_counts(user, n_users))[:-1].copy()
    for start in range(0, len(user), BLOCK):
        block = user[start : start + BLOCK]
        local = np.argsort(block, kind="stable")
        people, first, counts = np.unique(block[local], return_index=True, return_counts=True)
        within = np.arange(len(block)) - np.repeat(first, counts)
        order[np.repeat(free[people], counts) + within] = start + local
        free[people] += counts
    return order


def _taken(column: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return ``column[order]``, block by block (numpy widens 32-bit positions to 64)."""
    out = np.empty(len(order), column.dtype)
    for start in range(0, len(order), BLOCK):
        out[start : start + BLOCK] = column[order[start : start + BLOCK]]
    return out


def _counts(user: np.ndarray, n_users: int) -> np.ndarray:
    counts = np.zeros(n_users, np.int64)
    for start in range(0, len(user), 4 * BLOCK):
        counts += np.bincount(user[start : start + 4 * BLOCK], minlength=n_users)
    return counts


def _by_time(time: np.ndarray, order: np.ndarray, offsets: np.ndarray) -> None:
    """Sort each user's times, and the order with them, in place and stably."""
    first = 0
    while first < len(offsets) - 1:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + BLOCK, side="right")) - 1)
        low, high = offsets[first], offsets[last]
        users = np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
        if not _sorted(users, time[low:high]):
            local = np.lexsort((time[low:high], users))
            time[low:high] = time[low:high][local]
            order[low:high] = order[low:high][local]
        first = last


def _has_fractions(time: np.ndarray, ticks: int) -> bool:
    return any((time[start : start + BLOCK] % ticks).any() for start in range(0, len(time), BLOCK))


def _world_order(time: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    rows = np.arange(len(time), dtype=np.int32) if order is None else order
    ranks = np.empty(len(time), np.int32)
    ranks[np.lexsort((rows, time))] = np.arange(len(time), dtype=np.int32)
    return ranks
