"""Writers: Parquet folders, RecBole atomic files, TREC runs and qrels.

Nothing is left half-written: a temporary file or folder is filled first, then takes the final name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.readers.ids import MISSING
from palate.data.readers.own import MANIFEST, SCHEMA
from palate.data.readers.recbole import SIDE_FILE
from palate.data.trec import read_qrels, read_run, write_qrels, write_run
from palate.data.vocabulary import Vocabulary
from palate.data.whole import whole_folder
from palate.errors import DataError

__all__ = ["read_qrels", "read_run", "write_parquet", "write_qrels", "write_recbole", "write_run"]

#: Rows of a Parquet row group.
ROWS = 1 << 20

#: Columns of events in RecBole's names.
ATOMIC = {"value": "rating:float", "time": "timestamp:float", "action": "action:token", "session": "session_id:token"}


def write_parquet(dataset: Dataset, folder: str | Path) -> Path:
    """Write a data set as a folder of Parquet files; :func:`palate.data.readers.read` gives it back exactly.

    ``interactions.parquet`` holds raw ids (``user``, ``item``, ``time``, ``value`` …) sorted by user, time and file order;
    ``users.parquet`` and ``items.parquet`` hold ids in the order of their numbers, with attributes.

    Raises
    ------
    DataError
        If the folder exists and holds something else.
    """
    folder = Path(folder)
    with whole_folder(folder, MANIFEST) as target:
        _write_events(dataset, target / "interactions.parquet")
        for kind, entities in (("users", dataset.users), ("items", dataset.items)):
            pq.write_table(_entity_table(entities), target / f"{kind}.parquet")
        words = {"actions": dataset.actions, "sessions": dataset.sessions}
        for kind, vocabulary in words.items():
            if vocabulary is not None:
                pq.write_table(pa.table({"id": vocabulary.raw}), target / f"{kind}.parquet")
        logs = {n: t for n in ("searches", "impressions", "dialogues") if (t := getattr(dataset, n)) is not None}
        for kind, table in logs.items():
            pq.write_table(table, target / f"{kind}.parquet")
        manifest = {
            "schema": SCHEMA,
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "graphs": {name: _write_graph(graph, at, target) for at, (name, graph) in enumerate(dataset.graphs.items())},
            "words": {kind: vocabulary is not None for kind, vocabulary in words.items()},
            "tables": sorted(logs),
            "spec": [dict(step) for step in dataset.spec],
        }
        (target / MANIFEST).write_text(json.dumps(manifest, indent=2, default=_plain) + "\n", encoding="utf-8")
    return folder


def write_recbole(dataset: Dataset, folder: str | Path) -> Path:
    """Write a data set as RecBole atomic files (``.inter``, ``.user``, ``.item``, ``.kg``, ``.link``, ``.net``).

    Users, items, times and values come back exactly; tabs and line breaks inside attribute texts become blanks. ``palate.json``
    beside the files records what they can't say (whether ids are text, and their numbering).

    Raises
    ------
    DataError
        If an id can't be written (empty, or with a tab or line break), or the folder holds something else.
    """
    folder = Path(folder)
    _check_ids(dataset)
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in folder.name) or "data"
    with whole_folder(folder, SIDE_FILE) as target:
        _write_inter(dataset, target / f"{stem}.inter")
        for kind, entities in (("user", dataset.users), ("item", dataset.items)):
            _write_atomic(_atomic_entities(entities, kind), target / f"{stem}.{kind}")
        for graph in dataset.graphs.values():
            _write_links(graph, dataset, target / stem)
        vocabularies = {"user": dataset.users.ids, "item": dataset.items.ids, "session": dataset.sessions}
        ids = {role: "text" if v.is_text else "integer" for role, v in vocabularies.items() if v is not None}
        side = {"format": "recbole", "schema": SCHEMA, "name": dataset.name, "ids": ids}
        (target / SIDE_FILE).write_text(json.dumps(side, indent=2) + "\n", encoding="utf-8")
    return folder


def _raw(codes: np.ndarray, words: Vocabulary | None) -> pa.Array:
    if words is None:
        return pa.array(codes)
    return words.raw.take(pa.array(codes))


def _event_table(events: Interactions, dataset: Dataset) -> pa.Table:
    words = {"user": dataset.users.ids, "item": dataset.items.ids, "action": dataset.actions, "session": dataset.sessions}
    return pa.table({name: _raw(c, words.get(name)) for name, c in events.columns.items()})


def _blocks(events: Interactions, order: np.ndarray | None = None) -> Iterator[Interactions]:
    for start in range(0, max(1, len(events)), ROWS):
        block = slice(start, start + ROWS) if order is None else order[start : start + ROWS]
        yield Interactions(**{name: column[block] for name, column in events.columns.items()})


def _write_events(dataset: Dataset, path: Path) -> None:
    writer = None
    try:
        for block in _blocks(dataset.interactions):
            table = _event_table(block, dataset)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _entity_table(entities: Entities) -> pa.Table:
    table = pa.table({"id": entities.ids.raw})
    if entities.attributes is not None:
        for name in entities.attributes.column_names:
            table = table.append_column(name, entities.attributes.column(name))
    return table


def _write_graph(graph: Graph, at: int, folder: Path) -> dict[str, Any]:
    columns = {"head": graph.head, "relation": graph.relation, "tail": graph.tail}
    if graph.weight is not None:
        columns["weight"] = graph.weight
    pq.write_table(pa.table(columns), folder / f"graph-{at}.parquet")
    words = (
        {"relations": graph.relations} if graph.entities is None else {"relations": graph.relations, "entities": graph.entities}
    )
    for kind, vocabulary in words.items():
        pq.write_table(pa.table({"id": vocabulary.raw}), folder / f"graph-{at}-{kind}.parquet")
    if graph.item_entity is not None:
        pq.write_table(pa.table({"entity": graph.item_entity}), folder / f"graph-{at}-item_entity.parquet")
    return {
        "heads": graph.heads,
        "tails": graph.tails,
        "vocabularies": list(words),
        "item_entity": graph.item_entity is not None,
    }


def _check_ids(dataset: Dataset) -> None:
    words = {"user": dataset.users.ids, "item": dataset.items.ids, "action": dataset.actions, "session": dataset.sessions}
    for role, vocabulary in words.items():
        if vocabulary is None or not vocabulary.is_text:
            continue
        raw = vocabulary.raw
        odd = pc.or_(pc.match_substring_regex(raw, r"[\t\r\n]"), pc.is_in(raw, value_set=pa.array(MISSING)))
        if pc.any(odd).as_py():
            remedy = "rename such ids, or write Parquet"
            raise DataError(f"an atomic file can't hold this {role} id.", value=raw.filter(odd)[0].as_py(), remedy=remedy)


def _write_inter(dataset: Dataset, path: Path) -> None:
    events = dataset.interactions
    order = None if events.row is None else np.argsort(events.row, kind="stable")
    names = {"user": "user_id:token", "item": "item_id:token", **{c: n for c, n in ATOMIC.items() if c in events.columns}}
    with open(path, "wb") as stream:
        stream.write(("\t".join(names.values()) + "\n").encode())
        for block in _blocks(events, order):
            table = _event_table(block, dataset).select(list(names))
            _write_rows(table, stream)


def _atomic_entities(entities: Entities, kind: str) -> pa.Table:
    columns: dict[str, Any] = {f"{kind}_id:token": entities.ids.raw}
    for name, column in zip(*_named_columns(entities.attributes), strict=True):
        kind_of = column.type
        title = name.replace("\t", " ").replace(":", "-").replace("\n", " ")
        if pa.types.is_list(kind_of):
            inner = "float_seq" if pa.types.is_floating(kind_of.value_type) else "token_seq"
            words = [None if row is None else " ".join(str(w).replace(" ", "_") for w in row) for row in column.to_pylist()]
            columns[f"{title}:{inner}"] = pa.array(words, pa.string())
        elif pa.types.is_integer(kind_of) or pa.types.is_floating(kind_of):
            columns[f"{title}:float"] = column.cast(pa.float64())
        else:
            text = "token_seq" if name in ("title", "name") else "token"
            columns[f"{title}:{text}"] = pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    return pa.table(columns)


def _named_columns(table: pa.Table | None) -> tuple[list[str], list[pa.ChunkedArray]]:
    return ([], []) if table is None else (table.column_names, table.columns)


def _write_links(graph: Graph, dataset: Dataset, stem: Path) -> None:
    if graph.heads == graph.tails == "user" and not stem.with_suffix(".net").exists():
        users = dataset.users.ids
        columns = {
            "source_id:token": users.raw.take(pa.array(graph.head)),
            "target_id:token": users.raw.take(pa.array(graph.tail)),
        }
        if graph.weight is not None:
            columns["weight:float"] = pa.array(graph.weight)
        _write_atomic(pa.table(columns), stem.with_suffix(".net"))
    elif graph.heads == graph.tails == "entity" and graph.entities is not None and not stem.with_suffix(".kg").exists():
        words = (graph.entities, graph.relations, graph.entities)
        names = ("head_id:token", "relation_id:token", "tail_id:token")
        ends = (graph.head, graph.relation, graph.tail)
        table = pa.table({n: _raw(codes, w) for n, codes, w in zip(names, ends, words, strict=True)})
        _write_atomic(table, stem.with_suffix(".kg"))
        if graph.item_entity is not None:
            known = graph.item_entity >= 0
            items = dataset.items.ids.raw.filter(pa.array(known))
            pairs = {"item_id:token": items, "entity_id:token": _raw(graph.item_entity[known], graph.entities)}
            _write_atomic(pa.table(pairs), stem.with_suffix(".link"))


def _write_atomic(table: pa.Table, path: Path) -> None:
    with open(path, "wb") as stream:
        stream.write(("\t".join(table.column_names) + "\n").encode())
        _write_rows(table, stream)


def _write_rows(table: pa.Table, stream: IO[bytes]) -> None:
    """Write rows as text without quotes; breaks inside texts become blanks."""
    columns = []
    for column in table.columns:
        text = column.cast(pa.string())
        columns.append(pc.replace_substring_regex(text, r"[\t\r\n]+", " ").fill_null(""))
    if table.num_rows == 0:
        return
    lines = pc.binary_join_element_wise(*columns, "\t")
    stream.write("\n".join(lines.to_pylist()).encode())
    stream.write(b"\n")


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
