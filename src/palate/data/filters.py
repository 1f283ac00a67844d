"""Filters: pure functions from a data set to a smaller one, each recorded in its spec.

All of them end in :func:`compact`: users and items without interactions lose their numbers, and attributes, graphs and logs go
along. Rows keep the file order that they had. :func:`replay` does again what a spec records.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.positive import Positive
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest
from palate.runtime import generator

#: Which of a person's repeated events with an item stays.
Keep = Literal["first", "last", "sum", "max"]


def k_core(dataset: Dataset, user: int = 5, item: int = 5, iterate: bool = True) -> Dataset:
    """Keep users with at least ``user`` events and items with at least ``item``.

    Parameters
    ----------
    user, item
        Fewest events; 0 or 1 sets no bound.
    iterate
        Repeat until both bounds hold (the k-core); else drop once, by the counts that stand at the start.

    Raises
    ------
    DataError
        If nothing is left.
    """
    for name, bound in (("user", user), ("item", item)):
        if bound < 0:
            raise ConfigError(f"{name} must be at least 0.", value=bound, remedy=f"pass {name}=5")
    events = dataset.interactions
    keep = np.ones(len(events), bool)
    rounds = 0
    while True:
        users = np.bincount(events.user[keep], minlength=dataset.n_users)
        items = np.bincount(events.item[keep], minlength=dataset.n_items)
        fit = keep & (users >= user)[events.user] & (items >= item)[events.item]
        if (fit == keep).all():
            break
        keep, rounds = fit, rounds + 1
        if not iterate:
            break
    step = {"step": "k_core", "user": user, "item": item, "iterate": iterate, "rounds": rounds}
    return _kept(dataset, keep, step, "lower the bounds user= and item=")


def min_value(dataset: Dataset, threshold: float) -> Dataset:
    """Keep events whose value is at least ``threshold`` (ratings of 4 and more, say).

    Raises
    ------
    DataError
        If events have no values, or none reaches the threshold.
    """
    value = dataset.interactions.value
    if value is None:
        raise DataError("these interactions have no values.", where=dataset.name, remedy="read them with columns={'value': …}")
    return _kept(dataset, value >= threshold, {"step": "min_value", "threshold": threshold}, "lower the threshold")


def positive(dataset: Dataset, events: Iterable[str]) -> Dataset:
    """Keep events that count as choices: of some types, or of a least value.

    Parameters
    ----------
    events
        Terms such as ``"purchase"``, ``"rating:4"`` and ``":4"`` (see :mod:`palate.data.positive`); one of them must hold.

    Raises
    ------
    ConfigError
        If none is given, or one can't be read.
    DataError
        If the data have no such type, or no values where a term has a bound; or nothing is left.
    """
    found = Positive.parse(events)
    if found is None:
        raise ConfigError("no positive events are named.", where="events", remedy='name some, such as ["purchase", "rating:4"]')
    found.check(dataset)
    return compact(found.select(dataset))


def dedup(dataset: Dataset, keep: Keep = "last") -> Dataset:
    """Merge a person's repeated events with one item.

    Parameters
    ----------
    keep
        ``"first"`` or ``"last"`` in time (file order where times are equal or absent); ``"max"`` the event of the greatest
        value (the earliest of equals); ``"sum"`` the last event with the values of all added up (without values: the number of
        events).
    """
    choices = ("first", "last", "sum", "max")
    if keep not in choices:
        raise ConfigError("unknown policy.", where="keep", value=keep, remedy=nearest(str(keep), choices))
    events = dataset.interactions
    if keep == "max" and events.value is None:
        raise DataError("these interactions have no values.", where=dataset.name, remedy='pass keep="first" or keep="last"')
    pairs = events.user.astype(np.int64) * max(1, dataset.n_items) + events.item
    order = np.argsort(pairs, kind="stable")
    if keep == "max" and events.value is not None:
        order = np.lexsort((np.arange(len(events)), -events.value, pairs))
    fresh = np.ones(len(order), bool)
    fresh[1:] = pairs[order][1:] != pairs[order][:-1]
    starts = np.flatnonzero(fresh)
    stops = np.append(starts[1:], len(order))
    chosen = order[stops - 1] if keep in ("last", "sum") else order[starts]
    merged = events.take(np.sort(chosen))
    if keep == "sum":
        weights = np.ones(len(order), np.float64) if events.value is None else events.value[order].astype(np.float64)
        sums = np.add.reduceat(weights, starts) if len(starts) else weights
        merged = replace(merged, value=sums[np.argsort(chosen)].astype(np.float32))
    step = {"step": "dedup", "keep": keep, "rows": len(merged), "rows_removed": len(events) - len(merged)}
    return dataset.derive(step, interactions=merged)


def time_window(dataset: Dataset, start: Any = None, end: Any = None) -> Dataset:
    """Keep events of ``start <= time < end``.

    Parameters
    ----------
    start, end
        Seconds since 1970, ISO 8601 text, a date or a datetime (UTC where it has no zone); ``None`` sets no bound.

    Raises
    ------
    DataError
        If events have no times, or none lies in the window.
    """
    times = dataset.interactions.time
    if times is None:
        raise DataError("these interactions have no times.", where=dataset.name, remedy="read them with columns={'time': …}")
    low, high = _seconds(start, "start"), _seconds(end, "end")
    keep = np.ones(len(times), bool)
    if low is not None:
        keep &= times >= low
    if high is not None:
        keep &= times < high
    span = (
        f"events lie between {np.datetime64(int(times.min()), 's')} and {np.datetime64(int(times.max()), 's')}"
        if len(times)
        else ""
    )
    return _kept(dataset, keep, {"step": "time_window", "start": low, "end": high}, span)


def subset_users(dataset: Dataset, n: int, seed: int = 0) -> Dataset:
    """Keep ``n`` users drawn at random (all of them if there are fewer); the same seed draws the same people."""
    if n < 1:
        raise ConfigError("n must be at least 1.", value=n, remedy="pass the number of users to keep")
    chosen = np.zeros(dataset.n_users, bool)
    active = np.unique(dataset.interactions.user)
    chosen[generator(seed, "subset_users").permutation(active)[:n]] = True
    step = {"step": "subset_users", "n": n, "seed": seed}
    return _kept(dataset, chosen[dataset.interactions.user], step, "give a data set that has events")


#: Filters by the name of their step.
FILTERS: Mapping[str, Callable[..., Dataset]] = MappingProxyType(
    {f.__name__: f for f in (k_core, min_value, positive, dedup, time_window, subset_users)}
)


def random_places(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """Return ``int64[n]``: the place of each event, from 0, in a random order of its person's events.

    Those below ``m`` are ``m`` random events of everybody (all, where there are fewer).
    """
    user = dataset.interactions.user
    order = np.lexsort((rng.random(len(user)), user))
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user)) - dataset.histories.offsets[user[order]]
    return place


def replay(dataset: Dataset, steps: Iterable[Mapping[str, Any]]) -> Dataset:
    """Filter as the steps of a spec say (``Dataset.spec``); steps that are no filters are passed over.

    Examples
    --------
    >>> data = Dataset.from_columns(["ann", "ann", "ben"], [1, 2, 1], value=[5, 1, 4])
    >>> filtered = k_core(min_value(data, 4), user=1, item=2)
    >>> replay(data, filtered.spec).fingerprint == filtered.fingerprint
    True
    """
    for step in steps:
        found = FILTERS.get(step["step"])
        if found is not None:
            names = [name for name in inspect.signature(found).parameters if name != "dataset"]
            dataset = found(dataset, **{name: step[name] for name in names})
    return dataset


def compact(dataset: Dataset) -> Dataset:
    """Take the numbers of users and items without interactions away; attributes, graphs and logs go along.

    Links that lose an end go. In logs, the user or item of a row becomes null when it goes, and leaves lists of items.
    """
    events = dataset.interactions
    user = _renumber(np.bincount(events.user, minlength=dataset.n_users) > 0)
    item = _renumber(np.bincount(events.item, minlength=dataset.n_items) > 0)
    if user is None and item is None:
        return dataset
    maps = {"user": user, "item": item}
    columns = dict(events.columns)
    for role in ("user", "item"):
        new = maps[role]
        if new is not None:
            columns[role] = new[columns[role]]
            columns[role].flags.writeable = False
    logs: dict[str, Any] = {name: _log(getattr(dataset, name), maps) for name in ("searches", "impressions", "dialogues")}
    gone = {f"{role}s": int((new < 0).sum()) for role, new in maps.items() if new is not None}
    return dataset.derive(
        {"step": "compact", "removed": gone},
        interactions=Interactions(**columns),
        users=_entities(dataset.users, user),
        items=_entities(dataset.items, item),
        graphs={name: _graph(graph, maps) for name, graph in dataset.graphs.items()},
        **logs,
    )


def _kept(dataset: Dataset, keep: np.ndarray, step: Mapping[str, Any], remedy: str) -> Dataset:
    if not keep.any():
        raise DataError("no interaction is left.", where=dataset.name, value=dict(step), remedy=remedy or None)
    counts = {"rows": int(keep.sum()), "rows_removed": int((~keep).sum())}
    events = dataset.interactions if keep.all() else dataset.interactions.take(keep)
    return compact(dataset.derive({**step, **counts}, interactions=events))


def _renumber(used: np.ndarray) -> np.ndarray | None:
    """Return the new ``int32`` number of each old one (-1 where it goes), or ``None`` where all stay."""
    return None if used.all() else np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)


def _entities(entities: Entities, new: np.ndarray | None) -> Entities:
    if new is None:
        return entities
    kept = pa.array(new >= 0)
    table = entities.attributes
    return Entities(Vocabulary(entities.ids.raw.filter(kept)), None if table is None else table.filter(kept))


def _graph(graph: Graph, maps: Mapping[str, np.ndarray | None]) -> Graph:
    head, tail = (_mapped(end, maps.get(kind)) for end, kind in ((graph.head, graph.heads), (graph.tail, graph.tails)))
    keep = (head >= 0) & (tail >= 0)
    item = maps["item"]
    return replace(
        graph,
        head=head[keep],
        relation=graph.relation[keep],
        tail=tail[keep],
        weight=None if graph.weight is None else graph.weight[keep],
        item_entity=graph.item_entity if graph.item_entity is None or item is None else graph.item_entity[item >= 0],
    )


def _mapped(numbers: np.ndarray, new: np.ndarray | None) -> np.ndarray:
    return numbers if new is None else new[numbers]


def _log(table: pa.Table | None, maps: Mapping[str, np.ndarray | None]) -> pa.Table | None:
    if table is None:
        return None
    for name, role in (("user", "user"), ("item", "item"), ("items", "item")):
        new = maps[role]
        if new is None or name not in table.column_names:
            continue
        at, column = table.column_names.index(name), table.column(name).combine_chunks()
        moved = _moved_lists(column, new) if pa.types.is_list(column.type) else _moved(column, new)
        table = table.set_column(at, name, moved)
    return table


def _moved(column: pa.Array, new: np.ndarray) -> pa.Array:
    found = pa.array(new, mask=new < 0).take(column)
    return found.cast(pa.int32())


def _moved_lists(column: pa.Array, new: np.ndarray) -> pa.Array:
    rows = np.asarray(pc.list_parent_indices(column))
    moved = new[np.asarray(column.flatten())]
    counts = np.bincount(rows[moved >= 0], minlength=len(column))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(moved[moved >= 0], pa.int32()))


def _seconds(moment: Any, where: str) -> int | None:
    if moment is None or isinstance(moment, (int, np.integer)):
        return None if moment is None else int(moment)
    if isinstance(moment, str):
        try:
            moment = int(moment) if moment.lstrip("-").isdigit() else datetime.fromisoformat(moment)
        except ValueError as error:
            raise ConfigError(
                "unparsable time.", where=where, value=moment, remedy="give ISO 8601 text or unix seconds"
            ) from error
        return _seconds(moment, where)
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    if not isinstance(moment, datetime):
        raise ConfigError("unparsable time.", where=where, value=moment, remedy="give ISO 8601 text or unix seconds")
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(np.ceil(aware.timestamp()))
