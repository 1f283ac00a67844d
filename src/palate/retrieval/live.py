"""Vectors that come and go while others search: an exact index with a short list behind it.

Most vectors stand in an :class:`~palate.retrieval.exact.ExactIndex`, which never changes. What was put since stands behind it
and is looked at one by one; what was replaced or removed is marked. When the list behind has grown to an eighth of the whole,
or half of what stands in the index is gone, one new index is made of all that exists: so a vector is copied a bounded number of
times for each doubling. A state is never changed but replaced, so a search sees one moment.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.errors import DataError
from palate.kernels.quantised import topk_among
from palate.kernels.topk import tie_key
from palate.retrieval.exact import ExactIndex
from palate.retrieval.index import as_queries, as_vectors, check_k

#: Vectors behind the index: at least so many may be, and at most this share of those in it.
BEHIND, SHARE = 1_024, 1 / 8


@dataclass(frozen=True)
class _State:
    """One moment. A slot is a place in the index, or (after those) in the list behind it."""

    index: ExactIndex | None
    behind: np.ndarray  # float32[room, dim]; rows from `slots - indexed` on are not in use yet
    items: np.ndarray  # int32[slots]
    live: np.ndarray  # bool[slots]
    slot_of: np.ndarray  # int32[items], -1 where there is none
    total: np.ndarray  # float64[dim], the sum of all vectors that exist

    @property
    def indexed(self) -> int:
        return 0 if self.index is None else len(self.index)

    def take(self, slots: np.ndarray) -> np.ndarray:
        """Return ``float32[m, dim]``, the vectors in slots."""
        out = np.empty((len(slots), self.behind.shape[1]), np.float32)
        first = slots < self.indexed
        if self.index is not None:
            out[first] = self.index.vectors[slots[first]]
        out[~first] = self.behind[slots[~first] - self.indexed]
        return out


class LiveVectors:
    """Exact search among vectors of items that come and go.

    Any number of threads may search and change it at once.

    Parameters
    ----------
    dim
        Length of a vector.

    Examples
    --------
    >>> live = LiveVectors(2)
    >>> live.put([7, 3], np.eye(2, dtype=np.float32))
    >>> live.search(np.array([0.1, 0.9]), k=2)[0].tolist()
    [3, 7]
    >>> live.remove([3])
    1
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._lock = threading.Lock()
        none = np.empty(0, np.int32)
        self._state = _State(None, np.empty((0, dim), np.float32), none, none.astype(bool), none, np.zeros(dim))

    def __len__(self) -> int:
        return int(np.count_nonzero(self._state.live))

    @property
    def mean(self) -> np.ndarray:
        """``float32[dim]``: the mean of all vectors (zero where there is none)."""
        state = self._state
        return np.asarray(state.total / max(1, np.count_nonzero(state.live)), np.float32)

    def put(self, items: Sequence[int] | np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors; an item that is there already has its vector replaced.

        Parameters
        ----------
        items
            ``int32[m]``: distinct numbers from 0.
        vectors
            ``float32[m, dim]``, finite.

        Raises
        ------
        DataError
            If a shape is wrong, an item is named twice, or a vector is not finite; nothing is changed then.
        """
        numbers = _checked(items)
        table = as_vectors(np.reshape(vectors, (-1, self.dim)))
        if len(table) != len(numbers):
            raise DataError("there is one vector for each item.", value=len(table), remedy=f"give {len(numbers)}")
        if not len(numbers):
            return
        with self._lock:
            self._state = _tidied(_with(_without(self._state, numbers)[0], numbers, table))

    def remove(self, items: Sequence[int] | np.ndarray) -> int:
        """Forget items; return how many of them were there."""
        numbers = _checked(items)
        with self._lock:
            state, count = _without(self._state, numbers)
            self._state = _tidied(state)
        return count

    def take(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``float32[m, dim]`` and ``bool[m]``: the vectors of items, and which of them exist (others are zero)."""
        state, numbers = self._state, np.asarray(items, np.int64)
        inside = (numbers >= 0) & (numbers < len(state.slot_of))
        slots = np.where(inside, state.slot_of[np.where(inside, numbers, 0)] if len(state.slot_of) else -1, -1)
        out = np.zeros((len(numbers), self.dim), np.float32)
        out[slots >= 0] = state.take(slots[slots >= 0])
        return out, slots >= 0

    def search(self, query: np.ndarray, k: int = 10, *, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the items of highest inner product with one query.

        Parameters
        ----------
        query
            ``float32[dim]``.
        k
            How many.
        allowed
            ``bool``: whether each item may be returned; items beyond its end may not. ``None`` allows all.

        Returns
        -------
        items, scores
            ``int32[m]`` and ``float32[m]``, best first, ``m`` at most ``k``. Equal scores rank by
            :func:`palate.kernels.topk.tie_key`, those at the cut by where they stand.
        """
        check_k(k)
        state, asked = self._state, as_queries(query, self.dim)
        good = state.live if allowed is None else state.live & _mask(allowed, state.items)
        m, slots, scores = state.indexed, [], []
        if state.index is not None:
            found, values = state.index.search(asked, k, allowed=None if good[:m].all() else good[:m])
            slots.append(found[0][found[0] >= 0])
            scores.append(values[0][found[0] >= 0])
        few = np.flatnonzero(good[m:]).astype(np.int32)
        if len(few):
            found, values = topk_among(asked, state.behind, few[None, :], min(k, len(few)))
            slots.append(found[0] + m)
            scores.append(values[0])
        if not slots:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        items, best = state.items[np.concatenate(slots)], np.concatenate(scores)
        order = np.lexsort((tie_key(items), -best))[:k]
        return items[order], best[order]


def _checked(items: Sequence[int] | np.ndarray) -> np.ndarray:
    numbers = np.asarray(items)
    if numbers.ndim != 1 or (len(numbers) and (numbers.dtype.kind not in "iu" or numbers.min() < 0)):
        raise DataError("items are whole numbers from 0.", where="items", value=numbers.tolist())
    if len(np.unique(numbers)) != len(numbers):
        raise DataError("an item is named twice.", where="items", remedy="give its last vector alone")
    return numbers.astype(np.int32)


def _mask(allowed: np.ndarray, items: np.ndarray) -> np.ndarray:
    inside = items < len(allowed)
    return inside & np.asarray(allowed, bool)[np.where(inside, items, 0)] if len(allowed) else np.zeros(len(items), bool)


def _without(state: _State, items: np.ndarray) -> tuple[_State, int]:
    """Return the state without some items, and how many of them were there."""
    known = items[items < len(state.slot_of)]
    known = known[state.slot_of[known] >= 0]
    if not len(known):
        return state, 0
    slots, live, slot_of = state.slot_of[known], state.live.copy(), state.slot_of.copy()
    total = state.total - state.take(slots).sum(axis=0, dtype=np.float64)
    live[slots], slot_of[known] = False, -1
    return replace(state, live=live, slot_of=slot_of, total=total), len(known)


def _with(state: _State, items: np.ndarray, vectors: np.ndarray) -> _State:
    """Return the state with items that it lacks. Rows of the list that no state has used yet are written in place."""
    used, count = len(state.items) - state.indexed, len(items)
    behind = state.behind
    if used + count > len(behind):
        behind = np.empty((max(used + count, 2 * len(behind), 16), vectors.shape[1]), np.float32)
        behind[:used] = state.behind[:used]
    behind[used : used + count] = vectors
    slot_of = np.full(max(len(state.slot_of), int(items.max()) + 1), -1, np.int32)
    slot_of[: len(state.slot_of)] = state.slot_of
    slot_of[items] = np.arange(len(state.items), len(state.items) + count)
    return replace(
        state,
        behind=behind,
        items=np.concatenate([state.items, items]),
        live=np.concatenate([state.live, np.ones(count, bool)]),
        slot_of=slot_of,
        total=state.total + vectors.sum(axis=0, dtype=np.float64),
    )


def _tidied(state: _State) -> _State:
    """Make one index of all that exists, where too much stands behind the old one or too much of it is gone."""
    m = state.indexed
    if len(state.items) - m <= max(BEHIND, SHARE * m) and 2 * np.count_nonzero(state.live[:m]) >= m:
        return state
    slots = np.flatnonzero(state.live)
    slots = slots[np.argsort(state.items[slots])]
    items, vectors = state.items[slots], state.take(slots)
    slot_of = np.full(len(state.slot_of), -1, np.int32)
    slot_of[items] = np.arange(len(items))
    index = ExactIndex(vectors) if len(items) else None
    none = np.empty((0, vectors.shape[1]), np.float32)
    return _State(index, none, items, np.ones(len(items), bool), slot_of, vectors.sum(axis=0, dtype=np.float64))
