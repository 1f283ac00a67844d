"""Batches of sequences without padding waste: windows of histories, packed several to a row.

A history ``x_1 … x_T`` gives inputs ``x_1 … x_{T-1}`` and targets ``x_2 … x_T``. Long ones are cut into windows of at most
``max_len`` inputs, counted back from the most recent event, so that every position trains. Windows are shuffled, gathered into
batches of about ``batch_size`` positions, and within a batch laid into rows of ``max_len`` by best fit, longest first.
Attention is kept inside a window by :func:`palate.nn.attention.packed_mask`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from palate.data.histories import Histories


@dataclass(frozen=True)
class Windows:
    """Pieces of histories.

    Attributes
    ----------
    items
        ``int32[m]`` all events, flat.
    starts, lengths
        ``int64[n]``: window ``w`` has inputs ``items[starts[w] : starts[w] + lengths[w]]``; its targets lie one further.
    """

    items: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_positions(self) -> int:
        """Positions with a target, over all windows."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class PackedBatch:
    """Windows laid into rows.

    Attributes
    ----------
    items
        ``int64[rows, width]`` inputs (0 where padding).
    segments
        ``int32[rows, width]`` number of the window within its row, -1 where padding.
    age, place
        ``int64[rows, width]`` position counted from the window's end (0 is the most recent), and from its start.
    at
        ``int64[p]`` flat positions that are real.
    targets
        ``int64[p]`` next item at each real position.
    windows
        ``int64[w]`` which windows are inside.
    """

    items: np.ndarray
    segments: np.ndarray
    age: np.ndarray
    place: np.ndarray
    at: np.ndarray
    targets: np.ndarray
    windows: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def cut_windows(histories: Histories, max_len: int) -> Windows:
    """Cut histories into windows of at most ``max_len`` inputs; the most recent window is the full one."""
    targets = np.maximum(histories.lengths - 1, 0)
    pieces = -(-targets // max_len)
    user = np.repeat(np.arange(len(targets)), pieces)
    rank = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    stop = targets[user] - rank * max_len
    start = np.maximum(stop - max_len, 0)
    return Windows(histories.items, histories.offsets[user] + start, stop - start)


def groups(lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle windows and gather consecutive ones into groups of about ``size`` positions (the last one may be small)."""
    order = rng.permutation(len(lengths))
    filled = np.cumsum(lengths[order])
    batch = (filled - 1) // size
    return np.split(order, np.flatnonzero(np.diff(batch)) + 1) if len(order) else []


def best_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay pieces into rows of ``width``: longest first, each into the fullest row that still takes it.

    Parameters
    ----------
    lengths
        ``int64[n]``, each 1 to ``width``.

    Returns
    -------
    row, column
        ``int64[n]`` where each piece starts.
    """
    row, column = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(width + 1)]
    n_rows = 0
    lengths_list = lengths.tolist()
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = lengths_list[piece]
        free = next((f for f in range(length, width) if open_rows[f]), width)
        if free < width:
            home = open_rows[free].pop()
        else:
            home, n_rows = n_rows, n_rows + 1
        row[piece], column[piece] = home, width - free
        open_rows[free - length].append(home)
    return row, column


def pack(windows: Windows, chosen: np.ndarray, width: int) -> PackedBatch:
    """Lay the chosen windows into rows of ``width`` positions."""
    lengths = windows.lengths[chosen]
    row, column = best_fit(lengths, width)
    n_rows = int(row.max(initial=-1)) + 1
    first = np.cumsum(lengths) - lengths
    inside = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    at = np.repeat(row * width + column, lengths) + inside
    source = np.repeat(windows.starts[chosen], lengths) + inside
    items, age, place = (np.zeros(n_rows * width, np.int64) for _ in range(3))
    segments = np.full(n_rows * width, -1, np.int32)
    items[at], place[at] = windows.items[source], inside
    age[at] = np.repeat(lengths, lengths) - 1 - inside
    segments[at] = np.repeat(np.arange(len(chosen)), lengths)
    shape = (n_rows, width)
    return PackedBatch(
        items.reshape(shape),
        segments.reshape(shape),
        age.reshape(shape),
        place.reshape(shape),
        at,
        windows.items[source + 1].astype(np.int64),
        chosen,
    )


@dataclass(frozen=True)
class PackedEpoch:
    """The batches of one epoch, made one at a time."""

    windows: Windows
    groups: list[np.ndarray]
    width: int

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[PackedBatch]:
        for chosen in self.groups:
            yield pack(self.windows, chosen, self.width)


class PackedSequences:
    """All training windows of some histories; call :meth:`epoch` for a shuffled pass.

    Parameters
    ----------
    histories
        Training histories.
    max_len
        Most inputs of a window, and the width of a row (narrower where all windows are shorter).
    batch_size
        Positions (targets) a batch, about.
    """

    def __init__(self, histories: Histories, max_len: int, batch_size: int) -> None:
        self.windows = cut_windows(histories, max_len)
        self.width = max(1, min(max_len, int(self.windows.lengths.max(initial=1))))
        self.batch_size = batch_size

    def epoch(self, rng: np.random.Generator) -> PackedEpoch:
        """Return one shuffled pass over all windows."""
        return PackedEpoch(self.windows, groups(self.windows.lengths, self.batch_size, rng), self.width)


@dataclass(frozen=True)
class TimeMajorBatch:
    """Windows side by side in time order, for recurrent layers: no padding at all.

    Attributes
    ----------
    items, targets
        ``int64[p]``: first events of all windows (longest window first), then second ones, and so on.
    active
        ``int64[steps]`` how many windows have an event at each step.
    windows
        ``int64[w]`` which windows are inside, longest first.
    """

    items: np.ndarray
    targets: np.ndarray
    active: np.ndarray
    windows: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def side_by_side(windows: Windows, chosen: np.ndarray) -> TimeMajorBatch:
    """Lay the chosen windows side by side."""
    chosen = chosen[np.argsort(-windows.lengths[chosen], kind="stable")]
    lengths = windows.lengths[chosen]
    inside = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rank = np.repeat(np.arange(len(chosen)), lengths)
    order = np.lexsort((rank, inside))
    source = (np.repeat(windows.starts[chosen], lengths) + inside)[order]
    active = np.bincount(inside).astype(np.int64)
    return TimeMajorBatch(windows.items[source].astype(np.int64), windows.items[source + 1].astype(np.int64), active, chosen)


@dataclass(frozen=True)
class TimeMajorEpoch:
    """The batches of one epoch, made one at a time."""

    windows: Windows
    groups: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[TimeMajorBatch]:
        for chosen in self.groups:
            yield side_by_side(self.windows, chosen)


class TimeMajorSequences:
    """As :class:`PackedSequences`, for recurrent layers."""

    def __init__(self, histories: Histories, max_len: int, batch_size: int) -> None:
        self.windows = cut_windows(histories, max_len)
        self.batch_size = batch_size

    def epoch(self, rng: np.random.Generator) -> TimeMajorEpoch:
        """Return one shuffled pass over all windows."""
        return TimeMajorEpoch(self.windows, groups(self.windows.lengths, self.batch_size, rng))
