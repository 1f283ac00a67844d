"""Between the store and the rest of Palate: a data set out of it to train on, one into it for a start or beside what is there,
Parquet both ways.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, func, select

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.errors import ConflictError
from palate.serve.store.archive import export_store, import_store
from palate.serve.store.attributes import attribute_table, item_rows, user_rows
from palate.serve.store.bulk import BLOCK, is_empty, put_block, read_blocks, settle_numbers, without_indexes
from palate.serve.store.checks import check_id, check_new_id
from palate.serve.store.logs import write_searches
from palate.serve.store.part import chunks, raised
from palate.serve.store.rows import Event
from palate.serve.store.searched import search_rows, search_table
from palate.serve.store.store import Store
from palate.serve.store.tables import events, items, ties, users
from palate.serve.store.ties import GRAPH, tie_graph, tie_rows

__all__ = ["add_dataset", "dataset", "export_store", "import_store", "load_dataset", "load_items", "shares_items"]

_READ = ("user", "item", "type", "value", "time", "session")
_ITEM = ("id", "title", "text", "categories", "price", "image", "attributes")
#: Events written in one transaction where they come beside others.
BATCH = 1_000
#: An event in the order of ``_READ``.
_Row = tuple[Any, ...]


def dataset(
    store: Store, *, name: str = "store", searched: bool = False, tied: bool = False, progress: Progress = silent
) -> Dataset:
    """Return everything that models learn from, as of one moment.

    Users and items are numbered in the order of their ids, deleted items included (histories name them). Events become
    interactions with their type as action; times are cut to whole seconds, and equal ones keep their order. Values are there if
    any event has one (an event without counts 1), sessions if every event has one. Titles, texts, categories, prices, images
    and the keys of attributes become columns.

    Parameters
    ----------
    searched
        With the log of searches (:func:`palate.serve.store.searched.search_table`).
    tied
        With the ties between people (:func:`palate.serve.store.ties.tie_graph`).
    """
    return numbered_dataset(store, name=name, searched=searched, tied=tied, progress=progress)[0]


def numbered_dataset(
    store: Store, *, name: str = "store", searched: bool = False, tied: bool = False, progress: Progress = silent
) -> tuple[Dataset, np.ndarray]:
    """Return :func:`dataset`, and ``int64[n]``: the store's number of each event, in the order of its source rows.

    The number of an event of the data set, or of one made from it, is ``numbers[interactions.file_order]``.
    """
    with store.database.snapshot() as connection:
        total = int(connection.scalar(select(func.count()).select_from(events)) or 0)
        people = _entities(connection, users, ("id", "attributes"))
        things = _entities(connection, items, _ITEM)
        columns = _Columns()
        for block in read_blocks(connection, select(events.c.n, *(events.c[c] for c in _READ)).order_by(events.c.n)):
            columns.extend(block)
            progress(ProgressEvent("Read events", len(columns), total))
        interactions, actions, sessions, numbers = columns.interactions(people.ids, things.ids)
        log = search_table(connection, people.ids, things.ids, interactions) if searched else None
        graph = tie_graph(connection, people.ids) if tied else None
    more: dict[str, Any] = {} if log is None else {"searches": log}
    if graph is not None:
        more["graphs"] = {GRAPH: graph}
    spec = ({"step": "store", "store": store.identity, "events": len(columns)},)
    return Dataset(interactions, people, things, actions=actions, sessions=sessions, name=name, spec=spec, **more), numbers


def load_dataset(store: Store, data: Dataset, *, named: bool = False, progress: Progress = silent) -> int:
    """Put a data set's users, items and events into an empty store, in one transaction; return the number of events.

    Raw ids become texts. Events go in by time, with their action as type (``"view"`` where there is none); without times, all
    happened now. Searches go in where queries are texts, and ties between people. Vectors and other columns that are no plain
    values are left out.

    Parameters
    ----------
    named
        Give every event the id by which :func:`add_dataset` knows it again.

    Raises
    ------
    ConflictError
        If the store is not empty.
    DataError
        If an id is no id of the store; it is named.
    """
    _check(data)
    now, ids = store.clock(), _Ids()
    with store.database.write() as connection:
        if not is_empty(connection):
            raise ConflictError("a data set goes into an empty store only.", where=store.url, remedy="open a new one")
        for names, block in user_rows(data.users, now):
            put_block(connection, users, names, block)
        for names, block in item_rows(data.items, now):
            put_block(connection, items, names, block)
        put_block(connection, ties, ("user", "other", "time"), tie_rows(data, now))
        with without_indexes(connection, events):
            done = 0
            for rows in _event_rows(data):
                timed = [(*row[:4], now, row[5]) if row[4] is None else row for row in rows]
                if named:
                    timed = [(ids.of(row), *kept) for row, kept in zip(rows, timed, strict=True)]
                put_block(connection, events, ("id", *_READ) if named else _READ, timed)
                done += len(rows)
                progress(ProgressEvent("Load events", done, len(data)))
        for some in chunks(search_rows(data), BATCH):
            raised(write_searches(connection, [some], now)[0])
        settle_numbers(connection)
    return len(data)


def add_dataset(store: Store, data: Dataset, *, progress: Progress = silent) -> int:
    """Put a data set's events into a store, whatever is there; those that came in before stay once. Return how many are new.

    An event's id is made of what it says (user, item, action, value, time, session), and of which it is among several that say
    the same. So the same events again change nothing, alone or in a longer file. An empty store takes the whole data set in one
    transaction (:func:`load_dataset`). Another takes the events only, :data:`BATCH` of them at a time: adding again finishes
    what was interrupted.

    Raises
    ------
    DataError
        If an id is no id of the store; it is named, and nothing is written.
    """
    try:
        return load_dataset(store, data, named=True, progress=progress)
    except ConflictError:
        pass
    ids, new, done = _Ids(), 0, 0
    for rows in _event_rows(data):
        for some in chunks(rows, BATCH):
            batch = [
                Event(u, i, kind, value, time, session, id=ids.of((u, i, kind, value, time, session)))
                for u, i, kind, value, time, session in some
            ]
            new += store.add_events(batch).stored
            done += len(batch)
            progress(ProgressEvent("Load events", done, len(data)))
    return new


def load_items(store: Store, things: Entities) -> int:
    """Put items into a store that never had any, in one transaction; return how many came in (none into any other store).

    Raises
    ------
    DataError
        If an id is no id of the store; it is named.
    """
    _check_ids(things.ids, "items")
    with store.database.write() as connection:
        if connection.execute(select(items.c.id).limit(1)).first() is not None:
            return 0
        for names, block in item_rows(things, store.clock()):
            put_block(connection, items, names, block)
    return len(things.ids)


def shares_items(store: Store, things: Entities) -> bool:
    """Say whether any of these items is in the store, shown or not."""
    with store.database.read() as connection:
        found = (
            connection.execute(select(items.c.id).where(items.c.id.in_(some)).limit(1)).first()
            for some in chunks(_texts(things.ids).to_pylist())
        )
        return any(row is not None for row in found)


class _Columns:
    """Columns of events that grow block by block; texts are kept once a block."""

    def __init__(self) -> None:
        self.words: dict[str, list[pa.DictionaryArray]] = {name: [] for name in ("user", "item", "type", "session")}
        self.numbers: dict[str, list[np.ndarray]] = {"n": [], "value": [], "time": []}
        self.rows = 0

    def __len__(self) -> int:
        return self.rows

    def extend(self, block: Sequence[Sequence[Any]]) -> None:
        for name, column in zip(("n", *_READ), zip(*block, strict=True), strict=True):
            if name in self.words:
                self.words[name].append(pa.array(column, pa.string()).dictionary_encode())
            elif name == "n":
                self.numbers[name].append(np.array(column, np.int64))
            else:
                self.numbers[name].append(np.array(column, np.float64))  # a missing value becomes NaN
        self.rows += len(block)

    def interactions(
        self, people: Vocabulary, things: Vocabulary
    ) -> tuple[Interactions, Vocabulary, Vocabulary | None, np.ndarray]:
        """Return the events, the names of actions, those of sessions, and the store's numbers of the events by source row."""
        time = self._joined("time")
        order = np.argsort(time, kind="stable")
        value = self._joined("value")[order]
        actions, action = self._coded("type", None)
        sessions, session = self._coded("session", None)
        whole = len(session) > 0 and (session >= 0).all()
        found = Interactions.sorted(
            self._coded("user", people)[1][order],
            self._coded("item", things)[1][order],
            time=np.floor(time[order]).astype(np.int64),
            value=None if np.isnan(value).all() else np.nan_to_num(value, nan=1.0).astype(np.float32),
            action=action[order],
            session=session[order] if whole else None,
        )
        return found, actions, sessions if whole else None, self._joined("n").astype(np.int64)[order]

    def _joined(self, name: str) -> np.ndarray:
        return np.concatenate([np.empty(0), *self.numbers[name]])

    def _coded(self, name: str, words: Vocabulary | None) -> tuple[Vocabulary, np.ndarray]:
        """Return the vocabulary (sorted, where none is given) and ``int32[n]`` numbers, -1 where nothing stands."""
        column = pa.chunked_array(self.words[name], pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
        if not len(column):
            return words or Vocabulary([]), np.empty(0, np.int32)
        own = column.chunk(0).dictionary
        words = words or Vocabulary(own.take(pc.sort_indices(own)))
        number = np.append(words.encode(own), np.int32(-1))
        codes = np.concatenate([chunk.indices.fill_null(len(own)).to_numpy() for chunk in column.chunks])
        return words, number[codes]


def _entities(connection: Connection, table: Any, names: Sequence[str]) -> Entities:
    blocks = list(read_blocks(connection, select(*(table.c[name] for name in names)).order_by(table.c.id)))
    columns = {name: [row[at] for block in blocks for row in block] for at, name in enumerate(names)}
    ids = Vocabulary(pa.array(columns.pop("id"), pa.string()))
    return Entities(ids, attribute_table(columns))


class _Ids:
    """Ids of events by what they say; equal events are counted, so that each has an id of its own."""

    def __init__(self) -> None:
        self._met: Counter[bytes] = Counter()

    def of(self, row: _Row) -> str:
        words = hashlib.blake2b(json.dumps(row).encode(), digest_size=16)
        said = words.digest()
        self._met[said] += 1
        return f"said-{words.hexdigest()}-{self._met[said]}"


def _event_rows(data: Dataset) -> Iterator[list[_Row]]:
    """Give rows in the order of ``_READ``, by time; ``None`` stands for a time, value or session that is not there."""
    seen = data.interactions
    order = seen.time_order
    people, things = _texts(data.users.ids), _texts(data.items.ids)
    actions = None if seen.action is None or data.actions is None else _texts(data.actions)
    sessions = None if seen.session is None or data.sessions is None else _texts(data.sessions)
    for start in range(0, len(seen), BLOCK):
        at = order[start : start + BLOCK]
        none = [None] * len(at)
        yield list(
            zip(
                people.take(pa.array(seen.user[at])).to_pylist(),
                things.take(pa.array(seen.item[at])).to_pylist(),
                ["view"] * len(at) if actions is None or seen.action is None else _words(actions, seen.action[at], "view"),
                none if seen.value is None else seen.value[at].astype(np.float64).tolist(),
                none if seen.time is None else seen.time[at].astype(np.float64).tolist(),
                none if sessions is None or seen.session is None else _words(sessions, seen.session[at], None),
                strict=True,
            )
        )


def _words(words: pa.Array, codes: np.ndarray, missing: str | None) -> list[str | None]:
    taken = words.take(pa.array(codes, mask=codes < 0))
    return taken.to_pylist() if missing is None else taken.fill_null(missing).to_pylist()


def _texts(ids: Vocabulary) -> pa.Array:
    return ids.raw.cast(pa.string())


def _check(data: Dataset) -> None:
    """Refuse a data set of which something can't stand in the store."""
    for kind, entities in (("users", data.users), ("items", data.items)):
        _check_ids(entities.ids, kind)
    for kind, words in (("actions", data.actions), ("sessions", data.sessions)):
        for at, text in enumerate([] if words is None else _texts(words).to_pylist()):
            check_id(text, f"{kind}[{at}]")


def _check_ids(ids: Vocabulary, kind: str) -> None:
    for at, text in enumerate(_texts(ids).to_pylist()):
        check_new_id(text, f"{kind}[{at}]")
