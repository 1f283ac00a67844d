"""One data set of several: their people and items side by side, for models that learn from all of them at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError

#: The attribute of an item that names the data set from which it came.
DOMAIN = "domain"


def mixed(datasets: Mapping[str, Dataset], *, name: str = "mixture") -> Dataset:
    """Return people, items and events of all data sets as one; nobody is in two of them.

    Ids become text, ``"NAME:ID"``. Of the items' attributes those stay that hold text or lists of it, and :data:`DOMAIN` is
    added, which names the data set; a column that is text here and a list there becomes text, its entries parted by ``"; "``.
    Times stay where all have them, and so do values; graphs and other tables are left out.

    Raises
    ------
    DataError
        If there is no data set.
    """
    if not datasets:
        raise DataError("a mixture needs a data set.", where="datasets", value=0)
    users, items, parts = 0, 0, []
    for data in datasets.values():
        events = data.interactions
        parts.append((events.user + np.int32(users), events.item + np.int32(items), events.time, events.value))
        users, items = users + data.n_users, items + data.n_items
    columns = [None if any(p[c] is None for p in parts) else np.concatenate([p[c] for p in parts]) for c in range(4)]
    assert columns[0] is not None and columns[1] is not None
    events = Interactions.sorted(columns[0], columns[1], time=columns[2], value=columns[3])
    people = Vocabulary(pa.concat_arrays([_named(key, data.users.ids) for key, data in datasets.items()]))
    things = Vocabulary(pa.concat_arrays([_named(key, data.items.ids) for key, data in datasets.items()]))
    steps = {key: data.fingerprint for key, data in datasets.items()}
    spec = ({"step": "mixture", "of": steps},)
    return Dataset(events, Entities(people), Entities(things, _attributes(datasets)), name=name, spec=spec)


def _named(key: str, ids: Vocabulary) -> pa.Array:
    return pa.array([f"{key}:{raw}" for raw in ids.raw.to_pylist()], pa.string())


def _attributes(datasets: Mapping[str, Dataset]) -> pa.Table:
    """Return the items' attributes of text, of all data sets one after another."""
    found: dict[str, list[pa.Array | None]] = {}
    for at, data in enumerate(datasets.values()):
        table = data.items.attributes
        if table is None:
            continue
        for column in table.column_names:
            values = _text(table.column(column))
            if values is not None and column != DOMAIN:
                found.setdefault(column, [None] * len(datasets))[at] = values
    lengths = [data.n_items for data in datasets.values()]
    columns = {column: _stacked(parts, lengths) for column, parts in found.items()}
    names = [key for key, n in zip(datasets, lengths, strict=True) for _ in range(n)]
    return pa.table({**columns, DOMAIN: pa.array(names, pa.string())})


def _text(column: pa.ChunkedArray) -> pa.Array | None:
    """Return a column of text, or of lists of text, or ``None``."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.cast(kind.value_type))
    whole = column.combine_chunks()
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type.value_type if pa.types.is_dictionary(kind.value_type) else kind.value_type
        return whole.cast(pa.list_(pa.string())) if pa.types.is_string(inner) or pa.types.is_large_string(inner) else None
    return whole.cast(pa.string()) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _stacked(parts: list[pa.Array | None], lengths: list[int]) -> pa.Array:
    """Return the parts one after another, missing ones as nulls."""
    kinds = {part.type for part in parts if part is not None}
    kind = kinds.pop() if len(kinds) == 1 else pa.string()
    rows = [pa.nulls(n, kind) if p is None else _as(p, kind) for p, n in zip(parts, lengths, strict=True)]
    return pa.concat_arrays(rows)


def _as(part: pa.Array, kind: pa.DataType) -> pa.Array:
    return pc.binary_join(part, "; ") if pa.types.is_list(part.type) and kind == pa.string() else part
