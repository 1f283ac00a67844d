"""Which interactions were found through a search, and by what words.

A search is a row of ``dataset.searches``: a person, a query, and the items that were chosen from its results. An interaction
was found through a search where the same person chose the same item from one. Where both tables know times, it is the latest
search of that person and item between their former interaction and this one, and at most ``within`` seconds old; where one of
them does not, the first interaction of a person with an item belongs to their first search for it, the second to the second.
A search that leads to no interaction of the data set says nothing here, so what was held out does not come back in through the
queries that led to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import DataError, nearest

#: Seconds of a day.
DAY = 86_400


@dataclass(frozen=True)
class _Chosen:
    """Items chosen from searches, one row each: ``int64[m]`` key of person and item, time, row of the search."""

    key: np.ndarray
    time: np.ndarray | None
    row: np.ndarray


def searches_of_events(dataset: Dataset, *, within: int = DAY) -> np.ndarray:
    """Return ``int64[n]``: for each interaction the row of the search that led to it, -1 where there is none.

    Parameters
    ----------
    dataset
        With or without searches.
    within
        Most seconds from a search to the interaction that it led to.

    Raises
    ------
    DataError
        If the table of searches lacks the query, the person, or the items chosen.
    """
    events = dataset.interactions
    if dataset.searches is None or dataset.searches.num_rows == 0 or len(events) == 0:
        return np.full(len(events), -1, np.int64)
    chosen = _chosen(dataset)
    key = events.user.astype(np.int64) * dataset.n_items + events.item
    if chosen.time is None or events.time is None:
        return _by_order(key, chosen)
    return _by_time(key, events.time, chosen, within)


def query_texts(dataset: Dataset) -> list[str]:
    """Return the query of each search as text; codes, and lists of codes, are told apart by blanks."""
    if dataset.searches is None:
        return []
    return [_text(query) for query in _column(dataset.searches, "query").to_pylist()]


@dataclass(frozen=True, eq=False)
class Asked:
    """The answers of held-out questions, a question each, apart by how they were asked.

    Attributes
    ----------
    recommendation
        Answers that no search led to.
    search
        Answers that a search led to.
    texts
        The query of each question of ``search``.
    """

    recommendation: HeldOut
    search: HeldOut
    texts: list[str]


def asked(dataset: Dataset, held_out: HeldOut, *, within: int = DAY) -> Asked:
    """Tell held-out answers that a search led to from those that none did.

    Parameters
    ----------
    dataset
        Training data, whose table of searches reaches beyond training: searches that led to no training interaction are
        those of the answers. Of several for one answer the latest counts.
    held_out
        Questions of the same data.
    """
    row, item = held_out.truth.row_numbers, held_out.truth.values
    found = np.full(len(item), -1, np.int64)
    if dataset.searches is not None and dataset.searches.num_rows:
        chosen = _chosen(dataset)
        events, led = dataset.interactions, searches_of_events(dataset, within=within)
        used = np.flatnonzero(led >= 0)
        spent = led[used] * dataset.n_items + events.item[used]
        free = ~np.isin(chosen.row * dataset.n_items + chosen.key % dataset.n_items, spent)
        time = np.zeros(len(free), np.int64) if chosen.time is None else chosen.time
        order = np.lexsort((chosen.row, time, chosen.key))
        order = order[free[order]]
        key = chosen.key[order]
        wanted = held_out.users[row].astype(np.int64) * dataset.n_items + item
        at = np.searchsorted(key, wanted, side="right") - 1
        hit = (at >= 0) & (held_out.users[row] >= 0)
        hit[hit] = key[at[hit]] == wanted[hit]
        found[hit] = chosen.row[order][at[hit]]
    texts = query_texts(dataset)
    searched = np.flatnonzero(found >= 0)
    return Asked(
        _one_each(held_out, np.flatnonzero(found < 0)), _one_each(held_out, searched), [texts[r] for r in found[searched]]
    )


def _one_each(held_out: HeldOut, answers: np.ndarray) -> HeldOut:
    """Return a question for each of some answers (places in the truth)."""
    rows = held_out.truth.row_numbers[answers]
    truth = Ragged(np.arange(len(answers) + 1, dtype=np.int64), held_out.truth.values[answers])
    gains = None if held_out.gains is None else held_out.gains[answers]
    times = None if held_out.times is None else held_out.times[rows]
    return HeldOut(held_out.users[rows], held_out.histories.take(rows), truth, gains, times, held_out.part)


def _by_time(key: np.ndarray, time: np.ndarray, chosen: _Chosen, within: int) -> np.ndarray:
    """Give an interaction the search that stands right before it when both are put in order of time."""
    assert chosen.time is not None
    n, m = len(key), len(chosen.key)
    keys, times = np.concatenate([chosen.key, key]), np.concatenate([chosen.time, time])
    is_event = np.arange(m + n) >= m
    order = np.lexsort((np.arange(m + n), is_event, times, keys))
    before, here = order[:-1], order[1:]
    led = ~is_event[before] & is_event[here] & (keys[before] == keys[here]) & (times[here] - times[before] <= within)
    out = np.full(n, -1, np.int64)
    out[here[led] - m] = chosen.row[before[led]]
    return out


def _by_order(key: np.ndarray, chosen: _Chosen) -> np.ndarray:
    """Give the k-th interaction of a person and item their k-th search for it."""
    at = np.unique(np.concatenate([key, chosen.key]), return_inverse=True)[1]
    ranks = [_rank(part) for part in (at[: len(key)], at[len(key) :])]
    width = int(max(r.max(initial=0) for r in ranks)) + 1
    ours, theirs = at[: len(key)] * width + ranks[0], at[len(key) :] * width + ranks[1]
    out = np.full(len(key), -1, np.int64)
    if len(theirs):
        order = np.argsort(theirs)
        place = np.minimum(np.searchsorted(theirs[order], ours), len(order) - 1)
        hit = theirs[order][place] == ours
        out[hit] = chosen.row[order[place[hit]]]
    return out


def _rank(groups: np.ndarray) -> np.ndarray:
    """Return how many of the same group stand before each."""
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    starts = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
    out = np.empty(len(groups), np.int64)
    out[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return out


def _chosen(dataset: Dataset) -> _Chosen:
    """Return the items chosen from searches of known people, in the order of the table; an item counts once a search."""
    table = dataset.searches
    assert table is not None
    people = np.asarray(pc.fill_null(_column(table, "user"), -1).to_numpy(zero_copy_only=False), np.int64)
    lists = _column(table, "items")
    row = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), np.int64)
    item = np.asarray(pc.fill_null(pc.list_flatten(lists), -1).to_numpy(zero_copy_only=False), np.int64)
    kept = (item >= 0) & (item < dataset.n_items) & (people[row] >= 0)
    row, item = row[kept], item[kept]
    first = np.sort(np.unique(row * dataset.n_items + item, return_index=True)[1])
    row, item = row[first], item[first]
    time = None
    if "time" in table.column_names:
        far = np.iinfo(np.int64).min // 4
        time = np.asarray(pc.fill_null(_column(table, "time"), far).to_numpy(zero_copy_only=False), np.int64)[row]
    return _Chosen(people[row] * dataset.n_items + item, time, row)


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise DataError(
            "the table of searches lacks a column.",
            where="dataset.searches",
            value=name,
            remedy=nearest(name, table.column_names) or "attach the log with palate.data.readers.logs.read_searches",
        )
    column = table.column(name).combine_chunks()
    return column if not isinstance(column, pa.ChunkedArray) else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _text(query: Any) -> str:
    if query is None:
        return ""
    return " ".join(str(part) for part in query) if isinstance(query, list) else str(query)
