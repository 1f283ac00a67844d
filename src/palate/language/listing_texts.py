"""Texts of things for sale: title, brand and the finest category that is known, in the words of their sellers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from palate.data.dataset import Entities

#: What may be told.
Part = Literal["title", "brand", "category"]
#: Columns of each part; of several that exist, the first that says something for an item counts.
COLUMNS: dict[str, tuple[str, ...]] = {
    "title": ("title", "name", "headline"),
    "brand": ("brand_name", "brand", "maker", "store"),
    "category": ("c2_name", "c1_name", "c0_name", "categories", "category", "genres"),
}
_SPACE = re.compile(r"\s+")


def listing_texts(items: Entities, parts: Sequence[Part] = ("title", "brand", "category")) -> list[str] | None:
    """Return a text for each item (``""`` where nothing is known), or ``None`` where no column tells any part.

    Parameters
    ----------
    parts
        What is told, in this order. Categories run from fine to coarse by their columns (:data:`COLUMNS`); of a list the last
        entry is the finest.
    """
    table = items.attributes
    found = [] if table is None else [columns for part in parts if (columns := _columns(table, part))]
    if not found:
        return None
    rows = zip(*(_first(columns, len(items)) for columns in found), strict=True)
    return [_SPACE.sub(" ", " ".join(word for word in row if word)).strip() for row in rows]


def _columns(table: pa.Table, part: str) -> list[list[Any]]:
    names = [name for name in COLUMNS[part] if name in table.column_names and _is_text(table.schema.field(name).type)]
    return [table.column(name).to_pylist() for name in names]


def _first(columns: list[list[Any]], n: int) -> list[str]:
    out = [""] * n
    for column in reversed(columns):
        for row, value in enumerate(column):
            word = (value[-1] if value else None) if isinstance(value, list) else value
            if word is not None and str(word).strip():
                out[row] = str(word)
    return out


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))
