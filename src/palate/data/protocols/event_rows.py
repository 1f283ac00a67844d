"""Rows of events: for each event of a sequence what was offered, the seven before it, and which event it was.

An event at place ``k ≥ history`` of a sequence of at least ``min_events`` gives a row: its own attributes, ``hist_1 …`` (the
products of the events before it, the oldest first), and one label an event type that is asked for (1 where it was this one).
That is the form in which MerRec's click-through and multi-task studies read it. Rows go into a ranker as they are::

    Rows(part.features, part.labels, groups=part.groups)

Differences from the published preparation:

- There are no impressions in such data: what it calls a click is one event type told apart from the others.
- Its maps of products and colours are never filled, so that both columns, and with them all of ``hist_1 …``, are constant.
  Here columns hold raw ids, and :class:`IdMaps` numbers them by what training rows hold.
- The default is to cut at two moments, the same for everybody. ``order="random"`` is the published way: neighbouring rows of a
  sequence then fall on both sides, and :meth:`RowSplit.audit` calls it a leak unless it is accepted by name.
- The app's session is no feature unless asked for: rows of a session share what they are about, and their labels.

Source: the MerRec paper (arXiv 2402.14230) and its published preparation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.audit import Audit, Finding
from palate.data.protocols.cut import check_at_least, check_shares, moments
from palate.data.readers.bad_rows import BadRows
from palate.data.readers.merrec import EVENTS
from palate.data.readers.times import TimeColumn, seconds
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest
from palate.runtime import generator

Order = Literal["time", "random"]
#: What a row says of its event; those that exist are taken.
FEATURES = (
    *("user_id", "product_id", "c0_id", "c1_id", "c2_id", "brand_id"),
    *("item_condition_id", "size_id", "shipper_id", "color", "price"),
)
#: Columns that :class:`IdMaps` leaves as they are.
NUMBERS = ("price",)
PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class EventRows:
    """Rows, in order of sequence and place.

    Attributes
    ----------
    features
        Arrow table of raw values.
    labels
        Event type to ``float32[n]`` of 0 and 1.
    groups, places
        ``int32[n]`` sequence of each row (rows of one stand together), and the event's place in it.
    times
        ``int64[n]`` seconds since 1970.
    history
        Columns ``hist_1`` to ``hist_{history}``.
    """

    features: pa.Table
    labels: Mapping[str, np.ndarray]
    groups: np.ndarray
    places: np.ndarray
    times: np.ndarray
    history: int

    def __len__(self) -> int:
        return len(self.times)

    def take(self, keep: np.ndarray) -> EventRows:
        """Return the rows of a mask, in the same order."""
        labels = {task: values[keep] for task, values in self.labels.items()}
        table = self.features.filter(pa.array(keep))
        return EventRows(table, labels, self.groups[keep], self.places[keep], self.times[keep], self.history)


def event_rows(
    events: pa.Table,
    *,
    tasks: Sequence[str] = ("item_view", "item_like"),
    features: Sequence[str] = FEATURES,
    history: int = 7,
    history_of: str = "product_id",
    min_events: int = 8,
    as_list: bool = False,
) -> EventRows:
    """Return the rows of whole sequences.

    Parameters
    ----------
    events
        In the schema of MerRec, sorted (a block of :class:`palate.data.readers.merrec.SequenceBlocks`).
    tasks
        Event types that become labels; ``("item_view",)`` is the click-through task.
    features
        Columns of the event itself (``"session_id"`` leaks, see the module's text).
    history, history_of
        How many events before it are told, and by which column.
    min_events
        Shorter sequences give no row.
    as_list
        Tell the history as one list column, ``history``, in place of one column an event.

    Raises
    ------
    ConfigError
        If a task is no event type, or a sequence may be too short for its history.
    DataError
        If the events aren't sorted by person, sequence and time, or lack a column.
    """
    for task in tasks:
        if task not in EVENTS:
            raise ConfigError("this is no event type.", where="tasks", value=task, remedy=nearest(task, EVENTS))
    check_at_least(history, 1, "history")
    check_at_least(min_events, history + 1, "min_events")
    for name in ("user_id", "sequence_id", "stime", "event_id", history_of):
        if name not in events.column_names:
            raise DataError("a column is missing.", where="events", value=name, remedy=nearest(name, events.column_names))
    times = _seconds(events.column("stime"))
    sequence, place, length = _sequences(events, times)
    at = np.flatnonzero((place >= history) & (length[sequence] >= min_events))
    rows = pa.array(at)
    present = [name for name in features if name in events.column_names]
    columns: dict[str, pa.ChunkedArray | pa.Array] = {name: events.column(name).take(rows) for name in present}
    past = events.column(history_of).combine_chunks()
    windows = at[:, None] + np.arange(-history, 0)
    if as_list:
        offsets = pa.array(np.arange(len(at) + 1, dtype=np.int32) * np.int32(history))
        columns["history"] = pa.ListArray.from_arrays(offsets, past.take(pa.array(windows.ravel())))
    else:
        columns |= {f"hist_{k + 1}": past.take(pa.array(windows[:, k])) for k in range(history)}
    kind = pc.index_in(events.column("event_id").take(rows), value_set=pa.array(EVENTS)).to_numpy()
    labels = {task: (kind == EVENTS.index(task)).astype(np.float32) for task in tasks}
    return EventRows(pa.table(columns), labels, sequence[at].astype(np.int32), place[at].astype(np.int32), times[at], history)


def _seconds(column: pa.ChunkedArray) -> np.ndarray:
    times = TimeColumn("stime", None, len(column))
    bad = BadRows("error", lambda row: f"events, row {row + 1}")
    start = 0
    for chunk in column.chunks:
        times.add(chunk, start, bad)
        start += len(chunk)
    return seconds(*times.finish(bad))


def _sequences(events: pa.Table, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sequence and place of each event, and the length of each sequence."""
    n = events.num_rows
    codes = [Vocabulary.of(events.column(name).cast(pa.string()))[1] for name in ("user_id", "sequence_id")]
    begins = np.ones(n, bool)
    begins[1:] = (codes[0][1:] != codes[0][:-1]) | (codes[1][1:] != codes[1][:-1])
    starts = np.flatnonzero(begins)
    pairs = codes[0][starts].astype(np.int64) << 32 | codes[1][starts]
    late = np.flatnonzero(~begins[1:] & (np.diff(times) < 0))
    if len(np.unique(pairs)) < len(pairs) or len(late):
        where = f"events, row {int(late[0]) + 2}" if len(late) else "events"
        remedy = "sort by user_id, sequence_id and stime (palate.data.readers.merrec.in_order)"
        raise DataError("events of a sequence don't stand together in order of time.", where=where, remedy=remedy)
    sequence = np.cumsum(begins) - 1
    return sequence, np.arange(n) - starts[sequence], np.diff(np.append(starts, n))


@dataclass(frozen=True)
class IdMaps:
    """Numbers of raw values, learnt from training rows: 0 is a missing value, 1 one that training never held.

    Attributes
    ----------
    maps
        Column to the values behind the numbers from 2 on. Columns of the history use that of ``history_of``.
    history_of
        The column that the history tells.
    """

    maps: Mapping[str, Vocabulary]
    history_of: str = "product_id"

    @classmethod
    def learn(cls, blocks: Iterable[pa.Table], history_of: str = "product_id") -> IdMaps:
        """Learn from blocks of features of training rows (histories count too), by first appearance."""
        known: dict[str, Vocabulary] = {}
        for table in blocks:
            for name in table.column_names:
                if name in NUMBERS:
                    continue
                values = pc.unique(_flat(table.column(name)).drop_null())
                key = _map_of(name, history_of)
                if key in known:
                    fresh = values.filter(pc.invert(pc.is_in(values, value_set=known[key].raw)))
                    known[key] = Vocabulary(pa.concat_arrays([known[key].raw, fresh.cast(known[key].raw.type)]))
                else:
                    known[key] = Vocabulary(values)
        return cls(known, history_of)

    def encode(self, features: pa.Table) -> pa.Table:
        """Return the same columns as ``int32`` numbers; those of :data:`NUMBERS` stay.

        Raises
        ------
        DataError
            If a column was not learnt.
        """
        columns: dict[str, pa.Array | pa.ChunkedArray] = {}
        for name in features.column_names:
            column, key = features.column(name), _map_of(name, self.history_of)
            if name not in NUMBERS and key not in self.maps:
                raise DataError("this column was not learnt.", where="IdMaps", value=name, remedy="learn it with the others")
            columns[name] = column if name in NUMBERS else self._numbers(column.combine_chunks(), self.maps[key])
        return pa.table(columns)

    def size(self, name: str) -> int:
        """Return how many numbers a column may have, those of missing and unknown values included."""
        return len(self.maps[_map_of(name, self.history_of)]) + 2

    def _numbers(self, column: pa.Array, words: Vocabulary) -> pa.Array:
        if pa.types.is_list(column.type):
            return pa.ListArray.from_arrays(column.offsets, self._numbers(column.values, words))
        found = words.encode(column)
        return pa.array(np.where(np.asarray(column.is_null()), 0, found + 2).astype(np.int32))


def _map_of(name: str, history_of: str) -> str:
    return history_of if name.startswith("hist") else name


def _flat(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.flatten() if pa.types.is_list(whole.type) else whole


@dataclass(frozen=True, eq=False)
class RowSplit:
    """Rows cut into training, validation and test.

    Attributes
    ----------
    train, valid, test
        The parts.
    spec
        How they were cut.
    """

    train: EventRows
    valid: EventRows
    test: EventRows
    spec: Mapping[str, object]

    def audit(self, *, accept: Sequence[str] = ()) -> Audit:
        """Look for leaks.

        ``window-in-train`` (hard)
            a held-out event stands in the history of a training row, so that training tells what was done next
        ``future-in-train`` (hard)
            training rows after the first held-out one
        ``session-feature`` (warn)
            rows of one session in training and in a held-out part, told by its number

        Parameters
        ----------
        accept
            Codes of leaks that the caller knows of.

        Raises
        ------
        LeakError
            If there is a leak that is not accepted.
        """
        found = [f for f in (self._windows(), self._future(), self._sessions()) if f is not None]
        audit = Audit(tuple(sorted(found, key=lambda f: f.severity != "hard")), tuple(accept))
        audit.check()
        return audit

    def _windows(self) -> Finding | None:
        width = np.int64(1) << 32
        known = np.sort(self.train.groups * width + self.train.places)
        count = 0
        for part in (self.valid, self.test):
            own = part.groups * width + part.places
            later = np.searchsorted(known, own, side="right")
            reach = np.searchsorted(known, own + part.history, side="right")
            count += int((reach > later).sum())
        held = len(self.valid) + len(self.test)
        message = f"{count} of {held} held-out events stand in the history of a training row"
        return Finding("window-in-train", "hard", message, count) if count else None

    def _future(self) -> Finding | None:
        held = np.concatenate([self.valid.times, self.test.times])
        count = int((self.train.times >= held.min()).sum()) if len(held) else 0
        message = f"{count} training rows are not before the first held-out one"
        return Finding("future-in-train", "hard", message, count) if count else None

    def _sessions(self) -> Finding | None:
        if "session_id" not in self.train.features.column_names:
            return None
        known = pc.unique(self.train.features.column("session_id"))
        held = pa.chunked_array([c for p in (self.valid, self.test) for c in p.features.column("session_id").chunks])
        count = int(pc.sum(pc.is_in(held, value_set=known)).as_py() or 0)
        return Finding("session-feature", "warn", f"{count} held-out rows are told by a session of training", count)


def split_rows(rows: EventRows, *, order: Order = "time", valid: float = 0.1, test: float = 0.1, seed: int = 0) -> RowSplit:
    """Cut rows into parts.

    Parameters
    ----------
    order
        ``"time"`` cuts at two moments, so that equal times stay together; ``"random"`` draws rows (see the module's text).
    valid, test
        Shares of the rows.
    seed
        Fixes what is drawn.

    Raises
    ------
    DataError
        If a part would have no row.
    """
    check_shares(valid, test)
    if order not in ("time", "random"):
        raise ConfigError("unknown order of rows.", where="order", value=order, remedy=nearest(str(order), ("time", "random")))
    if not len(rows):
        raise DataError("there are no rows.", where="split_rows", remedy="give longer sequences, or lower min_events")
    spec: dict[str, object] = {"order": order, "valid": valid, "test": test}
    if order == "time":
        borders = moments(np.sort(rows.times), valid, test)
        part = part_of(rows.times, *borders)
        spec |= {"valid_at": borders[0], "test_at": borders[1]}
    else:
        n = len(rows)
        part = np.zeros(n, np.int8)
        drawn = generator(seed, "random rows").permutation(n)
        part[drawn[: round(n * test)]] = 2
        part[drawn[round(n * test) : round(n * test) + round(n * valid)]] = 1
        spec["seed"] = seed
    found = [rows.take(part == p) for p in range(3)]
    for name, share, piece in zip(PARTS, (1.0, valid, test), found, strict=True):
        if share > 0 and not len(piece):
            raise DataError(f"the {name} part has no row.", where="split_rows", value=spec, remedy="choose other shares")
    return RowSplit(found[0], found[1], found[2], spec)


def part_of(times: np.ndarray, valid_at: int, test_at: int) -> np.ndarray:
    """Return ``int8[n]``: 0 before ``valid_at``, 1 before ``test_at``, else 2."""
    return ((times >= valid_at).astype(np.int8) + (times >= test_at)).astype(np.int8)


class RowStream:
    """Rows of files larger than memory, cut at two moments.

    The first pass reads times (8 bytes a row are kept) and finds the moments; each later pass gives one part, block by block::

        stream = RowStream(SequenceBlocks("merrec/20230501"))
        ranker.fit_rows(lambda: (Rows(b.features, b.labels, groups=b.groups) for b in stream.part("train")))

    Parameters
    ----------
    blocks
        Blocks of whole sequences, which can be gone through again and again.
    valid, test
        Shares of the rows.
    **options
        Those of :func:`event_rows`.
    """

    def __init__(self, blocks: Iterable[pa.Table], *, valid: float = 0.1, test: float = 0.1, **options: object) -> None:
        check_shares(valid, test)
        self.blocks, self.options = blocks, options
        times = [event_rows(block, **options).times for block in blocks]  # type: ignore[arg-type]
        whole = np.sort(np.concatenate([np.empty(0, np.int64), *times]))
        if not len(whole):
            raise DataError("there are no rows.", where="RowStream", remedy="give longer sequences, or lower min_events")
        self.borders = moments(whole, valid, test)

    def part(self, name: str) -> Iterator[EventRows]:
        """Yield the rows of ``"train"``, ``"valid"`` or ``"test"``; groups are numbered within a block."""
        if name not in PARTS:
            raise ConfigError("no such part.", where="RowStream", value=name, remedy=nearest(name, PARTS))
        for block in self.blocks:
            rows = event_rows(block, **self.options)  # type: ignore[arg-type]
            found = rows.take(part_of(rows.times, *self.borders) == PARTS.index(name))
            if len(found):
                yield found
