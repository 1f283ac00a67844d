"""Click rows: the service's own log of slates as training rows for rankers, made by the code that makes rows for answers.

A row is an item that was shown: ``slate`` (the request), ``time``, ``click`` (1 where feedback on it has a value above 0), and
the columns of :mod:`palate.serve.rows.asked`, with the history as it was when the slate was shown.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palate.errors import DataError
from palate.evaluation.report_files import write_atomic
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.memory.catalogue import Catalogue
from palate.serve.rows.asked import RECENT, Asker, kinds_of, rows_of
from palate.serve.store import Store

#: Slates of a block.
BLOCK = 2_000


@dataclass(frozen=True)
class Known:
    """What is known of the people of a log.

    Attributes
    ----------
    attributes
        Of each person of whom any is known, as they are now.
    past
        Times and items of each person's events, in order of time.
    """

    attributes: Mapping[str, Mapping[str, Any]]
    past: Mapping[str, tuple[list[float], list[str]]]

    @classmethod
    def of(cls, store: Store, people: set[Any] | None = None, *, histories: bool = True) -> Known:
        """Read it; of all people where none are named, and without what they did where histories are not asked for."""
        return cls(_attributes(store), _events(store, people) if histories else {})

    def asker(self, user: str | None, now: float, context: Mapping[str, Any]) -> Asker:
        """Return who asked at a moment, with the history before it."""
        if user is None:
            return Asker(None, [], now, {}, context, 0)
        times, items = self.past.get(user, ([], []))
        stop = bisect.bisect_left(times, now)
        return Asker(user, items[max(0, stop - RECENT) : stop], now, self.attributes.get(user, {}), context, stop)


def write_click_rows(
    store: Store, out: str | Path, *, since: float = 0.0, until: float | None = None, progress: Progress = silent
) -> int:
    """Write the rows of all slates of a time as Parquet, whole or not at all; return how many there are.

    Raises
    ------
    DataError
        If no slate was shown in that time.
    """
    count = 0

    def write(work: Path) -> None:
        nonlocal count
        writer = None
        for table in click_rows(store, since=since, until=until, progress=progress):
            writer = writer or pq.ParquetWriter(work, table.schema)
            writer.write_table(table)
            count += table.num_rows
        if writer is None:
            raise DataError("no slate was shown in that time.", where="slates", remedy="let the service answer people first")
        writer.close()

    write_atomic(out, write)
    return count


def click_rows(
    store: Store, *, since: float = 0.0, until: float | None = None, progress: Progress = silent
) -> Iterator[pa.Table]:
    """Yield the rows of slates in blocks, by time."""
    catalogue = Catalogue()
    catalogue.refresh(store)
    log = store.impressions_since(since, until=until, limit=2**31 - 1).to_pylist()
    people = {entry["user"] for entry in log if entry["user"] is not None}
    told = Known.of(store, people)
    slates: list[list[dict[str, Any]]] = []
    for entry in log:
        if slates and slates[-1][0]["slate"] == entry["slate"]:
            slates[-1].append(entry)
        else:
            slates.append([entry])
    contexts = [json.loads(entries[0]["context"] or "{}") for entries in slates]
    kinds = kinds_of(catalogue, (told.attributes[user] for user in people if user in told.attributes), contexts)
    for start in range(0, len(slates), BLOCK):
        parts = []
        for entries, context in zip(slates[start : start + BLOCK], contexts[start : start + BLOCK], strict=True):
            known = [entry for entry in entries if entry["item"] in catalogue.row]
            if not known:
                continue
            now = known[0]["time"]
            asker = told.asker(known[0]["user"], now, context)
            table = rows_of(asker, [catalogue.items[catalogue.row[entry["item"]]] for entry in known], kinds)
            own = {
                "slate": pa.array([entry["slate"] for entry in known], pa.string()),
                "time": pa.array([now] * len(known), pa.float64()),
                "click": pa.array([float(entry["reward"] > 0) for entry in known], pa.float32()),
            }
            parts.append(pa.table({**own, **{name: table.column(name) for name in table.column_names}}))
        progress(ProgressEvent("slates", min(start + BLOCK, len(slates)), len(slates)))
        if parts:
            yield pa.concat_tables(parts).combine_chunks()


def _attributes(store: Store) -> dict[str, Any]:
    """Return what is known of people, by id; those of whom nothing is known are left out."""
    found, after = {}, None
    while page := store.users(after, 5_000):
        found.update({user.id: user.attributes for user in page if user.attributes})
        after = page[-1].id
    return found


def _events(store: Store, people: set[Any] | None) -> dict[Any, tuple[list[float], list[str]]]:
    """Return times and items of the events of some people (``None``: of all), in order of time."""
    gathered: dict[Any, list[tuple[float, int, str]]] = {}
    position = 0
    while (table := store.events_after(position, 50_000)).num_rows:
        columns = [table.column(name).to_pylist() for name in ("user", "time", "n", "item")]
        for user, moment, number, item in zip(*columns, strict=True):
            if people is None or user in people:
                gathered.setdefault(user, []).append((moment, number, item))
        position = columns[2][-1]
    return {user: ([m for m, _, _ in sorted(own)], [i for _, _, i in sorted(own)]) for user, own in gathered.items()}
