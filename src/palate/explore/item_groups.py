"""Groups of items from an attribute: what a new item has in common with old ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Entities
from palate.errors import ConfigError, nearest

#: Attributes that are looked for by themselves, in order.
NAMES = ("category", "categories", "group", "topic")


def item_groups(items: Entities, group_by: str = "auto") -> tuple[np.ndarray, list[str], str | None]:
    """Return ``int32[n_items]`` groups, their labels, and the attribute that gave them.

    Parameters
    ----------
    group_by
        Attribute: one value an item, or a list of which the first counts. Items without a value share a group. ``"auto"`` takes
        the first of :data:`NAMES` that is there; without any, all items share one group (and the attribute is ``None``).

    Raises
    ------
    ConfigError
        If there is no such attribute.
    """
    columns = [] if items.attributes is None else items.attributes.column_names
    name = next((c for c in NAMES if c in columns), None) if group_by == "auto" else group_by
    if name is None:
        return np.zeros(len(items), np.int32), ["all"], None
    column = items.column(name)
    if column is None:
        advice = nearest(name, columns) if columns else "the items have no attributes"
        raise ConfigError("there is no such item attribute.", where="group_by", value=name, remedy=advice)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pa.chunked_array([pa.array([cell[0] if cell else None for cell in column.to_pylist()])])
    encoded = pc.dictionary_encode(column.combine_chunks())
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    labels = [str(value) for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(labels)).to_numpy(zero_copy_only=False).astype(np.int32)
    if encoded.indices.null_count:
        labels.append("unknown")
    return codes, labels, name
