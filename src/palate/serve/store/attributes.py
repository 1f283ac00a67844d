"""Attributes of users and items, between the columns of a data set and the rows of the store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from palate.data.dataset import Entities
from palate.serve.store.bulk import BLOCK
from palate.serve.store.checks import to_json

Block = tuple[Sequence[str], list[tuple[Any, ...]]]
#: Columns of data sets that mean a column of the store, the first found counts.
TITLE, TEXT = ("title", "name"), ("text", "description", "summary")
CATEGORIES, PRICE, IMAGE = ("categories", "category", "genres", "tags"), ("price",), ("image", "image_url")
_USER = ("id", "attributes", "created", "updated")
_ITEM = (
    "id",
    "title",
    "text",
    "categories",
    "price",
    "available",
    "attributes",
    "image",
    "created",
    "updated",
    "revision",
)


def user_rows(people: Entities, now: float) -> Iterator[Block]:
    """Give rows of users, block by block."""
    for ids, table in _blocks(people):
        rows = _plain_rows(table, len(ids), table.column_names)
        yield _USER, [(id_, _object(row), now, now) for id_, row in zip(ids, rows, strict=True)]


def item_rows(things: Entities, now: float) -> Iterator[Block]:
    """Give rows of items, block by block; revisions count from 1."""
    revision = 0
    for ids, table in _blocks(things):
        use = {at: _first(table, names) for at, names in enumerate((TITLE, TEXT, CATEGORIES, PRICE, IMAGE))}
        known = [_values(table, use[at], len(ids)) for at in range(5)]
        rest = _plain_rows(table, len(ids), [name for name in table.column_names if name not in use.values()])
        block = []
        for id_, title, text, words, price, image, more in zip(ids, *known, rest, strict=True):
            revision += 1
            shown = (_text(title), _text(text), _list(words), _price(price), True, _object(more), image and _text(image))
            block.append((id_, *shown, now, now, revision))
        yield _ITEM, block


def attribute_table(columns: Mapping[str, list[Any]]) -> pa.Table | None:
    """Return rows of the store as columns of a data set; what is empty throughout is left out."""
    made: dict[str, pa.Array] = {}
    for name, values in columns.items():
        if name == "categories":
            values = [None if v is None else json.loads(v) for v in values]
        if name != "attributes" and any(v not in (None, "") for v in values):
            made[name] = pa.array([None if v == "" else v for v in values])
    objects = [{} if v is None else json.loads(v) for v in columns["attributes"]]
    for key in sorted({key for found in objects for key in found} - set(columns)):
        made[key] = _column([found.get(key) for found in objects])
    return pa.table(made) if made else None


def _column(values: list[Any]) -> pa.Array:
    """Return values of one kind as they are, mixed ones as text."""
    try:
        found = pa.array(values)
        if not pa.types.is_struct(found.type) and not pa.types.is_null(found.type):
            return found
    except pa.ArrowException:
        pass
    return pa.array([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values], pa.string())


def _blocks(entities: Entities) -> Iterator[tuple[list[str], pa.Table]]:
    texts = entities.ids.raw.cast(pa.string())
    for start in range(0, len(entities), BLOCK):
        ids = texts.slice(start, BLOCK).to_pylist()
        whole = entities.attributes
        yield ids, pa.table({}) if whole is None else whole.slice(start, BLOCK)


def _first(table: pa.Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.column_names), None)


def _values(table: pa.Table, name: str | None, n: int) -> list[Any]:
    return [None] * n if name is None else table.column(name).to_pylist()


def _plain_rows(table: pa.Table, n: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the plain values of some columns, row by row."""
    kept = table.select([name for name in names if _is_plain(table.schema.field(name).type)])
    return kept.to_pylist() if kept.num_columns else [{} for _ in range(n)]


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_integer(inner))
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return any(test(kind) for test in tests)


def _object(row: Mapping[str, Any]) -> str | None:
    kept = {key: value for key, value in row.items() if value is not None and value == value and value != ""}
    return to_json(kept, "attributes") if kept else None


def _text(value: Any) -> str:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value).replace("\x00", "")


def _list(value: Any) -> str | None:
    words = [str(word) for word in (value if isinstance(value, list) else [value]) if word not in (None, "")]
    return to_json(words, "categories") if words else None


def _price(value: Any) -> float | None:
    try:
        price = float(value)
    except (TypeError, ValueError):
        return None
    return price if price >= 0 and price < float("inf") else None
