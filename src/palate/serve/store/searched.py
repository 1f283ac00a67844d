"""Searches of a store as a data set's log of searches, and of a data set into a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, select

from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.data.ragged import in_sorted, offsets_of
from palate.data.vocabulary import Vocabulary
from palate.serve.store.bulk import read_blocks
from palate.serve.store.rows import Search
from palate.serve.store.tables import searches

_READ = (searches.c.user, searches.c.anonymous, searches.c.time, searches.c.query, searches.c.results)


def search_table(connection: Connection, people: Vocabulary, things: Vocabulary, events: Interactions) -> pa.Table | None:
    """Return the log of searches; ``None`` where there are none.

    Columns: ``user`` (int32; nothing where it is nobody of the data set), ``time`` (whole seconds), ``query``, and ``items``
    (lists of int32): what was found and the person has an event with, whenever that was. A visitor's key is a user, as in
    events.
    """
    met = np.unique(events.user.astype(np.int64) * len(things) + events.item)
    blocks = [_table(block, people, things, met) for block in read_blocks(connection, select(*_READ).order_by(searches.c.n))]
    return pa.concat_tables(blocks) if blocks else None


def _table(block: Sequence[Sequence[Any]], people: Vocabulary, things: Vocabulary, met: np.ndarray) -> pa.Table:
    user, key, time, query, results = zip(*block, strict=True)
    who = people.encode([one or other or "" for one, other in zip(user, key, strict=True)])
    found = [[] if told is None else json.loads(told) for told in results]
    owner = np.repeat(np.arange(len(found)), [len(row) for row in found])
    items = things.encode([item for row in found for item in row])
    kept = (items >= 0) & (who[owner] >= 0) & in_sorted(met, who[owner].astype(np.int64) * len(things) + items)
    ends = offsets_of(np.bincount(owner[kept], minlength=len(found)))
    return pa.table(
        {
            "user": pa.array(who, pa.int32(), mask=who < 0),
            "time": pa.array(np.floor(np.array(time)).astype(np.int64)),
            "query": pa.array(query, pa.string()),
            "items": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(items[kept], pa.int32())),
        }
    )


def search_rows(data: Dataset) -> Iterator[Search]:
    """Give the searches of a data set that say something, in their order; none where queries are no texts."""
    log = data.searches
    if log is None or not pa.types.is_string(log.schema.field("query").type):
        return
    people, things = data.users.ids.raw.cast(pa.string()), data.items.ids.raw.cast(pa.string())
    for batch in log.to_batches(max_chunksize=10_000):
        columns = {
            name: batch.column(name).to_pylist() for name in ("user", "time", "query", "items") if name in log.column_names
        }
        none = [None] * len(batch)
        for user, time, query, items in zip(
            *(columns.get(name, none) for name in ("user", "time", "query", "items")), strict=True
        ):
            if query is None or not query.strip():
                continue
            found = tuple(things[int(item)].as_py() for item in items or () if item is not None and item >= 0)
            who = None if user is None or user < 0 else people[int(user)].as_py()
            yield Search(query, who, None if time is None else float(time), found)
