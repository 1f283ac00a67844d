"""From the parts of a layout to a data set: number ids, check rows, sort, attach attributes and graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities
from palate.data.readers.bad_rows import BadRows, first_value
from palate.data.readers.entities import attach, keep_used, number_graph
from palate.data.readers.growing import Growing
from palate.data.readers.ids import IdColumn
from palate.data.readers.order import assemble
from palate.data.readers.parts import Options, Parts
from palate.data.readers.roles import resolve
from palate.data.readers.source import Source
from palate.data.readers.times import TimeColumn
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError


class ValueColumn:
    """Collects ratings, counts or other strengths as ``float32``."""

    def __init__(self, name: str, n_hint: int | None) -> None:
        self.name = name
        self._values = Growing(np.float32, n_hint)

    def add(self, column: pa.Array, start: int, bad: BadRows) -> None:
        """Take the next batch, whose first row is row ``start`` of the source."""
        if any(test(column.type) for test in (pa.types.is_nested, pa.types.is_temporal, pa.types.is_binary)):
            remedy = "name another column with columns={'value': …} (--column value=NAME)"
            raise DataError(f"column {self.name!r} can't hold values.", value=str(column.type), remedy=remedy)
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            numbers = np.asarray(column.cast(pa.float32(), safe=False).fill_null(np.nan))
        else:
            numbers = _parsed(column)
        at = np.flatnonzero(~np.isfinite(numbers))
        bad.add(start + at, f"value in column {self.name!r} is not a finite number", first_value(column, at))
        self._values.extend(numbers)

    def finish(self) -> np.ndarray:
        """Return ``float32[n]``."""
        return self._values.array()


def _parsed(column: pa.Array) -> np.ndarray:
    """Return text, decimals or truth values as ``float32`` (nan where that can't be)."""
    import polars as pl

    values = pl.Series(pl.from_arrow(column))
    values = values.str.strip_chars() if values.dtype == pl.String else values
    with np.errstate(over="ignore"):
        return values.cast(pl.Float64, strict=False).to_numpy().astype(np.float32)


@dataclass
class Encoded:
    """Columns of numbers in file order, and the vocabularies behind them."""

    columns: dict[str, np.ndarray]
    words: dict[str, Vocabulary]
    ticks: int = 1
    unit: dict[str, str] = field(default_factory=dict)


def build(parts: Parts, options: Options, name: str) -> Dataset:
    """Number, check and sort what a layout's reader found.

    Raises
    ------
    DataError
        If a row is bad and ``on_bad_rows`` is ``"error"``, or if nothing usable is left.
    """
    where = parts.events[0].where
    sizes: list[int] = []
    bad = BadRows(options.on_bad_rows, lambda row: _locate(parts.events, sizes, row))
    roles = resolve(parts.events[0].columns, {**(parts.columns or {}), **(options.columns or {})}, where)
    encoded = _encode(parts, roles, options, bad, sizes)
    n = len(encoded.columns["user"])
    good, dropped = bad.settle(n)
    if good is not None:
        encoded.columns = {role: column[good] for role, column in encoded.columns.items()}
        sizes = [int(np.count_nonzero(part)) for part in np.split(good, np.cumsum(sizes)[:-1])]
    if len(encoded.columns["user"]) == 0:
        what = "no row is left after bad ones were dropped." if n else "there are no rows, only a header."
        raise DataError(what, where=where, value=dropped or None, remedy="give at least two users with interactions")
    if good is not None:
        for role in encoded.words:
            encoded.words[role], encoded.columns[role] = keep_used(encoded.words[role], encoded.columns[role])
    if len(encoded.words["user"]) < options.min_users:
        only = encoded.words["user"].raw[0].as_py()
        remedy = (
            f"check that {roles['user']!r} is the user column, or pass min_users=1 (--read min_users=1) if one user is meant"
        )
        raise DataError("there is only one user: nobody can be compared.", where=where, value=only, remedy=remedy)
    step = _step(parts, options, roles, encoded, sizes, n, dropped)
    return _assemble(parts, options, encoded, name, step)


def _encode(parts: Parts, roles: Mapping[str, str], options: Options, bad: BadRows, sizes: list[int]) -> Encoded:
    hint = sum(s.n_rows for s in parts.events if s.n_rows is not None) or None
    typed = all(s.typed for s in parts.events)
    encoders: dict[str, IdColumn | TimeColumn | ValueColumn] = {}
    for role, column in roles.items():
        if role in ("user", "item", "action", "session"):
            ids = parts.ids.get(role, "text" if role == "action" else "auto") if options.ids == "auto" else options.ids
            encoders[role] = IdColumn(role, column, ids="text" if role == "action" else ids, typed=typed, n_hint=hint)
        elif role == "time":
            encoders[role] = TimeColumn(column, options.time_unit, hint)
        else:
            encoders[role] = ValueColumn(column, hint)
    start = 0
    for source in parts.events:
        absent = [column for column in roles.values() if column not in source.columns]
        if absent:
            remedy = "give all files the same columns, or name one file"
            raise DataError("the files of the source differ in columns.", where=source.where, value=absent, remedy=remedy)
        stop = _feed(source, roles, encoders, start, bad)
        sizes.append(stop - start)
        start = stop
    return _finish(encoders, bad)


def _feed(source: Source, roles: Mapping[str, str], encoders: Mapping[str, Any], start: int, bad: BadRows) -> int:
    groups = [[role] for role in roles] if source.columnar else [list(roles)]
    row = start
    for group in groups:
        row = start
        for batch in source.batches(list(dict.fromkeys(roles[role] for role in group)), bad):
            for role in group:
                encoders[role].add(batch.column(batch.schema.get_field_index(roles[role])), row, bad)
            row += batch.num_rows
        pa.default_memory_pool().release_unused()
    return row


def _finish(encoders: Mapping[str, Any], bad: BadRows) -> Encoded:
    found = Encoded({}, {})
    for role, encoder in encoders.items():
        if isinstance(encoder, IdColumn):
            found.words[role], found.columns[role] = encoder.finish(bad)
        elif isinstance(encoder, TimeColumn):
            found.columns[role], found.ticks = encoder.finish(bad)
            found.unit = {"unit": encoder.unit or "s", "form": encoder.form}
        else:
            found.columns[role] = encoder.finish()
    pa.default_memory_pool().release_unused()
    return found


def _assemble(parts: Parts, options: Options, encoded: Encoded, name: str, step: dict[str, Any]) -> Dataset:
    keep = parts.keep_unseen if options.keep_unseen is None else options.keep_unseen
    entities: dict[str, Entities] = {}
    for role, table in (("user", parts.users), ("item", parts.items)):
        entity, renumber, counts = attach(encoded.words[role], table, keep_unseen=keep, table_first=parts.entity_order)
        if renumber is not None:
            encoded.columns[role] = renumber[encoded.columns[role]]
        entities[role] = entity
        step.update({f"{role}_{key}": count for key, count in counts.items() if count})
    graphs = {title: number_graph(raw, entities["user"].ids, entities["item"].ids) for title, raw in parts.graphs.items()}
    step["links"] = {title: [len(graph), lost] for title, (graph, lost) in graphs.items()}
    if not step["links"]:
        del step["links"]
    events = assemble(encoded.columns, len(entities["user"]), encoded.ticks, rank=not parts.names)
    return Dataset(
        events,
        entities["user"],
        entities["item"],
        graphs={title: graph for title, (graph, _) in graphs.items()},
        actions=encoded.words.get("action"),
        sessions=encoded.words.get("session"),
        name=name,
        spec=(step,),
    )


def _step(
    parts: Parts,
    options: Options,
    roles: Mapping[str, str],
    encoded: Encoded,
    sizes: Sequence[int],
    n: int,
    dropped: Mapping[str, int],
) -> dict[str, Any]:
    step: dict[str, Any] = {"step": "read", "source": [s.where for s in parts.events], "columns": dict(roles), "rows": n}
    step["rows_dropped"] = sum(dropped.values())
    if dropped:
        step["dropped"] = dict(dropped)
    if encoded.unit:
        step["time"] = {"column": roles["time"], **encoded.unit}
    if parts.names:
        step["parts"] = dict(zip(parts.names, sizes, strict=True))
    step["ties"] = "exact time, then file order" if encoded.ticks > 1 and not parts.names else "file order"
    return {**step, **parts.notes}


def _locate(sources: Sequence[Source], sizes: Sequence[int], row: int) -> str:
    for source, size in zip(sources, sizes, strict=False):
        if row < size:
            return source.locate(row)
        row -= size
    return sources[min(len(sizes), len(sources) - 1)].locate(row)


def rows_dropped(dataset: Dataset) -> dict[str, int]:
    """Return how many rows of the source were dropped, by reason."""
    counts: dict[str, int] = {}
    for step in dataset.spec:
        for reason, count in step.get("dropped", {}).items():
            counts[reason] = counts.get(reason, 0) + count
    return counts
