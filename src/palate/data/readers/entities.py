"""Attributes and graphs: bring tables of raw ids into the order of the vocabularies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Entities, Graph
from palate.data.readers.parts import RawGraph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError


def keep_used(words: Vocabulary, codes: np.ndarray) -> tuple[Vocabulary, np.ndarray]:
    """Drop ids that no row uses; the others keep their order."""
    used = np.bincount(codes, minlength=len(words)) > 0
    if used.all():
        return words, codes
    numbers = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    return Vocabulary(words.raw.filter(pa.array(used))), numbers[codes]


def attach(
    words: Vocabulary, table: pa.Table | None, *, keep_unseen: bool, table_first: bool = False
) -> tuple[Entities, np.ndarray | None, dict[str, int]]:
    """Return entities with attributes in the order of the vocabulary.

    Parameters
    ----------
    words
        Vocabulary of the interactions.
    table
        Attributes whose first column is ``id``; of doubled ids the first row counts.
    keep_unseen
        Append ids that only the table has.
    table_first
        Number ids in the order of the table.

    Returns
    -------
    tuple
        Entities, ``int32`` new numbers by old number (``None`` where nothing moved), and counts of rows left out.
    """
    if table is None:
        return Entities(words), None, {}
    ids = same_type(table.column("id"), words)
    first = _first_rows(ids)
    counts = {"attribute_rows_doubled": len(ids) - len(first) - ids.null_count}
    ids, table = ids.take(first), table.take(first)
    numbers = words.encode(ids)
    renumber = None
    if table_first:
        late = words.raw.filter(pc.invert(pc.is_in(words.raw, value_set=ids)))
        final = Vocabulary(pa.concat_arrays([ids, late]) if len(late) else ids)
        renumber = final.encode(words.raw)
    elif keep_unseen and (numbers < 0).any():
        final = Vocabulary(pa.concat_arrays([words.raw, ids.filter(pa.array(numbers < 0))]))
    else:
        final = words
        counts["without_interactions_left_out"] = int((numbers < 0).sum())
    place = np.full(len(final), -1, np.int64)
    at = final.encode(ids)
    place[at[at >= 0]] = np.flatnonzero(at >= 0)
    attributes = table.drop_columns(["id"]).take(pa.array(place, mask=place < 0)).combine_chunks()
    return Entities(final, attributes if attributes.num_columns else None), renumber, counts


def same_type(column: pa.Array | pa.ChunkedArray, words: Vocabulary) -> pa.Array:
    """Return raw ids as the type of a vocabulary; what can't be one becomes null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.type == words.raw.type:
        return array
    if words.is_text:
        return array.cast(pa.string())
    if pa.types.is_string(array.type):
        short = pc.match_substring_regex(array, r"^(0|-?[1-9][0-9]{0,17})$")
        long = pc.match_substring_regex(array, r"^[1-9][0-9]{18}$")
        fits = pc.or_(short, pc.and_(long, pc.less_equal(array, pa.scalar(str(2**63 - 1)))))
        return pc.if_else(fits, array, pa.scalar(None, pa.string())).cast(pa.int64())
    return array.cast(pa.int64(), safe=False)


def number_graph(raw: RawGraph, users: Vocabulary, items: Vocabulary) -> tuple[Graph, int]:
    """Number links; those about users or items that the data set lacks are left out, and counted.

    An end of kind ``"entity"`` has a vocabulary of its own. Where items are linked to entities, ``item_entity`` says which.
    """
    entities, entity_numbers = _entities(raw)
    words = {"user": users, "item": items}
    sides = ((raw.head, raw.heads, entity_numbers[0]), (raw.tail, raw.tails, entity_numbers[1]))
    head, tail = (_encode(words[kind], column) if numbers is None else numbers for column, kind, numbers in sides)
    if raw.relation is None:
        relations, relation = Vocabulary(pa.array(["link"])), np.zeros(len(raw.head), np.int32)
    else:
        relations, relation = Vocabulary.of(raw.relation)
    known = (head >= 0) & (tail >= 0)
    item_entity = None
    if raw.links is not None and entities is not None:
        item_entity = np.full(len(items), -1, np.int32)
        item, entity = _encode(items, raw.links[0]), _encode(entities, raw.links[1])
        both = (item >= 0) & (entity >= 0)
        item_entity[item[both]] = entity[both]
    graph = Graph(
        head[known],
        relation[known],
        tail[known],
        raw.heads,
        raw.tails,
        relations,
        entities,
        item_entity,
        None if raw.weight is None else np.asarray(raw.weight).astype(np.float32)[known],
    )
    return graph, int(np.count_nonzero(~known))


def list_column(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    """Split text such as ``"Action|Comedy"`` into lists of words; null stays null."""
    words = pc.split_pattern(pc.utf8_trim_whitespace(column), separator)
    if separator != " ":
        return pa.chunked_array([_trimmed(chunk) for chunk in words.chunks], pa.list_(pa.string()))
    return words


def with_id(table: pa.Table, column: str, where: object, renamed: dict[str, str] | None = None) -> pa.Table:
    """Return an attribute table whose first column is ``id``."""
    if column not in table.column_names:
        remedy = f"name its id column {column!r}"
        raise DataError("the attributes have no id column.", where=where, value=table.column_names, remedy=remedy)
    names = {column: "id", **(renamed or {})}
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    rest = [name for name in table.column_names if name != "id"]
    return table.select(["id", *rest])


def numbers_where_possible(table: pa.Table) -> pa.Table:
    """Turn text columns that hold only numbers into integers or floats; leading zeros (post codes) keep a column text."""
    for at, name in enumerate(table.column_names):
        column = table.column(name)
        if name == "id" or not pa.types.is_string(column.type) or column.null_count == len(column):
            continue
        if pc.any(pc.match_substring_regex(column, r"^-?0[0-9]")).as_py():
            continue
        for kind in (pa.int64(), pa.float64()):
            try:
                table = table.set_column(at, name, table.column(name).cast(kind))
                break
            except pa.ArrowInvalid:
                continue
    return table


def _trimmed(words: pa.ListArray) -> pa.Array:
    flat = pc.utf8_trim_whitespace(words.flatten())
    lists = pa.ListArray.from_arrays(words.offsets, flat) if words.null_count == 0 and words.offset == 0 else None
    if lists is not None:
        return lists
    return pa.array([None if w is None else [x.strip() for x in w] for w in words.to_pylist()], pa.list_(pa.string()))


def _first_rows(ids: pa.Array) -> pa.Array:
    encoded = ids.dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1))
    _, first = np.unique(codes, return_index=True)
    first = np.sort(first)
    return pa.array(first[codes[first] >= 0])


def _encode(words: Vocabulary, column: Any) -> np.ndarray:
    return words.encode(same_type(column, words))


def _entities(raw: RawGraph) -> tuple[Vocabulary | None, tuple[np.ndarray | None, np.ndarray | None]]:
    columns = [c for c, kind in ((raw.head, raw.heads), (raw.tail, raw.tails)) if kind == "entity"]
    if not columns:
        return None, (None, None)
    if raw.links is not None:
        columns.append(raw.links[1])
    kinds = {str(c.type) for c in columns}
    if len(kinds) > 1:
        raise DataError(
            "mixed id types of entities.", value=sorted(kinds), remedy="write all entity ids as text, or all as integers"
        )
    words, codes = Vocabulary.of(pa.chunked_array([c for col in columns for c in _chunks(col)]))
    cuts = np.cumsum([len(c) for c in columns])[:-1]
    pieces = iter(np.split(codes, cuts))
    return words, tuple(next(pieces) if kind == "entity" else None for kind in (raw.heads, raw.tails))  # type: ignore[return-value]


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]
