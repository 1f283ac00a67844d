"""Batches of slates: windows of people's events, with the clicks that move their states.

A window is a run of at most ``max_len`` events of one person, with a start state of its own. An epoch goes once through all
windows in random order. It also hands out all items once, an equal share to each batch: so a sum over all items, such as the
divergence of their posteriors, is paid exactly once an epoch, however large the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from palate.data.ragged import Ragged, row_positions
from palate.data.slates import UNKNOWN, SlateLog


@dataclass(frozen=True)
class SlateBatch:
    """Windows of ``b`` people with ``s`` events that count.

    Attributes
    ----------
    rows
        ``int64[u]`` distinct items of the batch; the item columns below hold places in it.
    clicks
        ``int64[b, c]`` items clicked, oldest first, padded with 0.
    lengths
        ``int64[b]`` clicks of each window.
    known
        ``int64[b]`` clicks that tell of the start state (the first ones).
    window, state
        ``int64[s]``: window of each event, and clicks that came before it.
    items
        ``int64[s, w]`` items shown, padded with 0.
    used
        ``bool[s, w]``.
    slot
        ``int64[s]``: what was clicked; 0 nothing, else the place from 1.
    slots
        ``int64[s]`` slots of the slate, the option of no click included.
    share
        ``int64[m]`` the batch's share of all items.
    """

    rows: np.ndarray
    clicks: np.ndarray
    lengths: np.ndarray
    known: np.ndarray
    window: np.ndarray
    state: np.ndarray
    items: np.ndarray
    used: np.ndarray
    slot: np.ndarray
    slots: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.window)


class SlateWindows:
    """A log cut into windows.

    Parameters
    ----------
    log
        The events.
    n_items
        Size of the catalogue.
    max_len
        Most events of a window.
    held
        ``bool[w]``: windows of which only the first ``given`` events are learnt from; the rest is for validation.
    given
        How many.
    """

    def __init__(self, log: SlateLog, n_items: int, max_len: int, *, held: np.ndarray | None = None, given: int = 0) -> None:
        self.log, self.n_items = log, n_items
        self.offsets = log.windows(max_len)
        n = len(self.offsets) - 1
        self.held = np.zeros(n, bool) if held is None else held
        place = np.arange(len(log)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        self.learnt = ~np.repeat(self.held, np.diff(self.offsets)) | (place < given)
        self.counts = log.clicked != UNKNOWN
        clicked = log.clicked_items
        real = clicked >= 0
        seen = np.concatenate([[0], np.cumsum(real)])
        self.before = seen[:-1] - np.repeat(seen[self.offsets[:-1]], np.diff(self.offsets))
        self.clicks = Ragged(seen[self.offsets].astype(np.int64), clicked[real])
        learnt = np.concatenate([[0], np.cumsum(real & self.learnt)])
        self.known = np.diff(learnt[self.offsets])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_learnt(self) -> int:
        """Events that are learnt from."""
        return int((self.learnt & self.counts).sum())

    def batch(
        self,
        windows: np.ndarray,
        share: np.ndarray,
        *,
        held_out: bool = False,
        random_items: np.random.Generator | None = None,
    ) -> SlateBatch:
        """Return the batch of some windows.

        Parameters
        ----------
        held_out
            Whether the events held out count, instead of those learnt from. What moves the states is the same but for this:
            in learning, clicks that are held out move nothing.
        random_items
            Where given, each slate is replaced by the clicked item, if any, and random others.
        """
        offsets, rows = row_positions(self.offsets, windows)
        window = np.repeat(np.arange(len(windows)), np.diff(offsets))
        wanted = self.counts[rows] & (self.learnt[rows] != held_out)
        rows, window = rows[wanted], window[wanted]
        lengths = self.clicks.lengths[windows] if held_out else self.known[windows]
        clicks = _padded(self.clicks.take(windows), lengths)
        shown = self.log.items.take(rows)
        items, slot = _padded(shown, shown.lengths), self.log.clicked[rows].astype(np.int64) + 1
        used = np.arange(items.shape[1]) < shown.lengths[:, None]
        if random_items is not None:
            items, slot = _replaced(items, slot, self.n_items, random_items)
        distinct, place = np.unique(np.concatenate([clicks.ravel(), items.ravel()]), return_inverse=True)
        return SlateBatch(
            distinct.astype(np.int64),
            place[: clicks.size].reshape(clicks.shape),
            lengths,
            np.minimum(self.known[windows], lengths),
            window,
            self.before[rows],
            place[clicks.size :].reshape(items.shape),
            used,
            slot,
            self.log.lengths[rows].astype(np.int64),
            share,
        )

    @cached_property
    def validation(self) -> np.ndarray:
        """``int64`` windows with events held out."""
        return np.flatnonzero(self.held & (np.diff(self.offsets) > 0))


class SlateEpoch:
    """The batches of one epoch, made one at a time.

    Parameters
    ----------
    windows
        Where from.
    size
        Windows of a batch.
    rng
        Fixes the order, and what stands in for slates.
    random_items
        Whether slates are replaced (see :meth:`SlateWindows.batch`).
    """

    def __init__(self, windows: SlateWindows, size: int, rng: np.random.Generator, *, random_items: bool = False) -> None:
        self.windows, self.rng, self.random_items = windows, rng, random_items
        self.order = rng.permutation(len(windows))
        self.cuts = np.append(np.arange(0, len(windows), size), len(windows))
        self.items = rng.permutation(windows.n_items)

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def __iter__(self) -> Iterator[SlateBatch]:
        for at, (low, high) in enumerate(zip(self.cuts[:-1], self.cuts[1:], strict=True)):
            share = self.items[at :: len(self)]
            fresh = self.rng if self.random_items else None
            yield self.windows.batch(self.order[low:high], share, random_items=fresh)


def _padded(rows: Ragged, lengths: np.ndarray) -> np.ndarray:
    """Return ``int64[n, w]`` the first ``lengths`` values of each row, 0 beyond them."""
    width = max(1, int(lengths.max(initial=0)))
    inside = np.arange(width) < lengths[:, None]
    table = np.zeros((len(rows), width), np.int64)
    table[inside] = rows.values[(rows.offsets[:-1, None] + np.arange(width))[inside]]
    return table


def _replaced(items: np.ndarray, slot: np.ndarray, n_items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return slates of as many items, the clicked one first, the others random (they may hold any item)."""
    out = rng.integers(0, n_items, items.shape)
    real = np.flatnonzero(slot > 0)
    out[real, 0] = items[real, slot[real] - 1]
    return out, np.minimum(slot, 1)
