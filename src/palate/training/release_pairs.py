"""Pairs of a person and an item with what the person had had before, and negatives that were on offer at the time.

An item counts once for a person, at its first event (:func:`first_events`). The history beside a pair never holds the pair's
own item, and (``before``) nothing of its moment or later: a mean that held the answer would give it away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from palate.data.histories import Histories
from palate.data.ragged import Ragged, offsets_of
from palate.errors import ConfigError
from palate.kernels.negatives import held

Form = Literal["before", "others"]
DAY = 86_400
#: Rounds in which draws that a person had are drawn again.
_ROUNDS = 8


def first_events(histories: Histories) -> Histories:
    """Return the histories with each item once, at its first event; order is kept."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    most = int(histories.items.max(initial=0)) + 1
    _, first = np.unique(rows * most + histories.items, return_index=True)
    return kept_events(histories, np.sort(first))


def kept_events(histories: Histories, places: np.ndarray) -> Histories:
    """Return the histories with the events at these ascending places only."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)[places]
    times = None if histories.times is None else histories.times[places]
    return Histories(offsets_of(np.bincount(rows, minlength=len(histories))), histories.items[places], times)


def recency_weights(offsets: np.ndarray, times: np.ndarray | None, half_life: float) -> np.ndarray:
    """Return ``float32[m]`` weights that sum to one in each row: ``2^(-age / half-life)``, alike without times or half-life.

    Parameters
    ----------
    offsets, times
        Rows of events, in seconds.
    half_life
        In days; 0 gives equal weights. Ages count from the last event of the row: another moment changes nothing.
    """
    lengths = np.diff(offsets)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    raw = np.ones(len(rows))
    if times is not None and half_life > 0 and len(rows):
        last = np.full(len(lengths), np.iinfo(np.int64).min)
        np.maximum.at(last, rows, times)
        raw = np.exp2((times - last[rows]) / (half_life * DAY))
    total = np.bincount(rows, raw, minlength=len(lengths))
    found: np.ndarray = (raw / np.maximum(total[rows], 1e-300)).astype(np.float32)
    return found


def weighted_means(histories: Histories, half_life: float, vectors: np.ndarray) -> np.ndarray:
    """Return ``float32[n, d]``: the weighted mean of the vectors of each history (zero where it is empty)."""
    weights = recency_weights(histories.offsets, histories.times, half_life)
    shape = (len(histories), len(vectors))
    rows = sparse.csr_matrix((weights, histories.items, histories.offsets), shape=shape)
    rows.sort_indices()
    return np.asarray(rows @ vectors, np.float32)


@dataclass(frozen=True)
class ReleaseBatch:
    """People's histories (ragged items with weights that sum to one), items had, ``int32[m, W]`` items not had, places."""

    history: Ragged
    weights: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.positives)


class ReleasePairs:
    """All pairs with a history, in a new order each epoch.

    Parameters
    ----------
    histories
        With each item once (:func:`first_events`).
    n_items
        Size of the catalogue.
    form
        ``before``: the history is what came earlier (strictly, where times are known); ``others``: all but the pair's item.
    most
        The most items of a history: the last ones (``before``), or as many draws with replacement (``others``).
    half_life
        Of :func:`recency_weights`.
    n_negatives, window
        Items drawn for each pair: evenly from all (``window`` = 0), or from those with an event in the same ``window`` days.
    allowed
        ``bool[n_items]`` items that may be negatives (``None``: all).
    """

    def __init__(
        self,
        histories: Histories,
        n_items: int,
        *,
        batch_size: int,
        form: Form = "before",
        most: int = 50,
        half_life: float = 0.0,
        n_negatives: int = 20,
        window: float = 0.0,
        allowed: np.ndarray | None = None,
    ) -> None:
        self.items, self.times, self.offsets = histories.items, histories.times, histories.offsets
        self.users = np.repeat(np.arange(len(histories), dtype=np.int32), histories.lengths)
        self.form, self.most, self.half_life, self.width = form, most, half_life, n_negatives
        self.n_items, self.batch_size = n_items, batch_size
        self.starts = self.offsets[self.users]
        self.until = self._moments()
        before = self.until - self.starts if form == "before" else self.offsets[self.users + 1] - self.starts - 1
        self.pairs = np.flatnonzero(before > 0)
        self.sorted = self.items[np.lexsort((self.items, self.users))]
        self.allowed = np.arange(n_items, dtype=np.int32) if allowed is None else np.flatnonzero(allowed).astype(np.int32)
        self.playing = self._playing(window)

    def _moments(self) -> np.ndarray:
        """Return the first place of each event's row that is not earlier than the event."""
        places = np.arange(len(self.items))
        if self.times is None or not len(places):
            return places
        new = (np.diff(self.users, prepend=-1) != 0) | (np.diff(self.times, prepend=self.times[0] - 1) != 0)
        return np.asarray(np.maximum.accumulate(np.where(new, places, 0)))

    def _playing(self, window: float) -> tuple[np.ndarray, Ragged] | None:
        """Return the window of each event, and the items with an event in each window."""
        if window <= 0:
            return None
        if self.times is None:
            raise ConfigError(
                "negatives of the same weeks need the times of events.", where="window", value=window, remedy="set it to 0"
            )
        code = (self.times - self.times.min(initial=0)) // int(window * DAY)
        _, number = np.unique(code, return_inverse=True)
        return number, Ragged.group(number, self.items, int(number.max(initial=-1)) + 1).distinct

    def epoch(self, number: int, rng: np.random.Generator) -> _Epoch:
        """Return the batches of one epoch."""
        return _Epoch(self, rng.permutation(self.pairs), rng)

    def batch(self, places: np.ndarray, rng: np.random.Generator) -> ReleaseBatch:
        """Return the batch of the events at these places."""
        history, at = self._histories(places, rng)
        weights = recency_weights(history.offsets, None if self.times is None else self.times[at], self.half_life)
        return ReleaseBatch(history, weights, self.items[places], self.negatives(places, rng), places)

    def _histories(self, places: np.ndarray, rng: np.random.Generator) -> tuple[Ragged, np.ndarray]:
        starts = self.starts[places]
        if self.form == "before":
            until = self.until[places]
            lengths = np.minimum(until - starts, self.most)
            offsets = offsets_of(lengths)
            at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - (until - lengths), lengths)
            return Ragged(offsets, self.items[at]), at
        others = self.offsets[self.users[places] + 1] - starts - 1
        lengths = np.minimum(others, self.most)
        offsets = offsets_of(lengths)
        row = np.repeat(np.arange(len(places)), lengths)
        at = np.arange(offsets[-1]) - offsets[row]
        long = others[row] > self.most
        at[long] = (rng.random(int(long.sum())) * others[row[long]]).astype(np.int64)
        at += starts[row]
        at += at >= places[row]
        return Ragged(offsets, self.items[at]), at

    def negatives(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``int32[m, W]`` items that the people had not; a row of -1 where none was found."""
        users = self.users[places]
        out = self._draw(places, rng)
        for _ in range(_ROUNDS):
            had = held(self.offsets, self.sorted, users, out)
            if not had.any():
                return out
            again = np.flatnonzero(had.any(axis=1))
            out[again] = np.where(had[again], self._draw(places[again], rng), out[again])
        had = held(self.offsets, self.sorted, users, out)
        rows = np.flatnonzero(had.any(axis=1))
        good = (~had[rows]).argmax(axis=1)
        fill = np.where(had[rows].all(axis=1), -1, out[rows, good])
        out[rows] = np.where(had[rows], fill[:, None], out[rows])
        return out

    def _draw(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shape = (len(places), self.width)
        if self.playing is None:
            return self.allowed[rng.integers(len(self.allowed), size=shape)]
        number, playing = self.playing
        own = number[places]
        drawn = (rng.random(shape) * playing.lengths[own][:, None]).astype(np.int64)
        return np.asarray(playing.values[playing.offsets[own][:, None] + drawn], np.int32)


@dataclass(frozen=True)
class _Epoch:
    pairs: ReleasePairs
    order: np.ndarray
    rng: np.random.Generator

    def __len__(self) -> int:
        return -(-len(self.order) // self.pairs.batch_size)

    def __iter__(self) -> Iterator[ReleaseBatch]:
        for start in range(0, len(self.order), self.pairs.batch_size):
            yield self.pairs.batch(self.order[start : start + self.pairs.batch_size], self.rng)
