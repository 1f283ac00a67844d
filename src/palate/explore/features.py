"""Features of items and of requests: what linear policies learn from.

    z_i    attributes of an item: a column of 0 and 1 for each value of a category or set, standardised numbers, and vectors
    c_r    columns of the request's context, as they are; and the mean of z over the person's history, where asked for

Attributes are read by :mod:`palate.data.features`. Text is left out (a vector column of a text encoder takes its place). Where
items have no attribute that can be read, each has a column of its own. Context columns are numbers: a category is given as one
column of 0 and 1 a value, so that the same names mean the same in every request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import Field

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.features import FieldKind, guess_kind, learn_schema
from palate.errors import ConfigError, DataError, nearest
from palate.explore.base import SlateConfig

#: Kinds under which attributes are read; all others are left out.
_READ: dict[str, FieldKind] = {"number": "standard", "standard": "standard", "category": "category", "set": "set"}


class FeatureConfig(SlateConfig):
    """Settings of policies that learn from features."""

    item_features: tuple[str, ...] = Field((), description="attributes of items to learn from (empty: all that can be read)")
    context: tuple[str, ...] = Field((), description="columns of a request's context, each a number")
    history: bool = Field(False, description="whether the mean features of a person's history are context too")


@dataclass(frozen=True)
class ArmFeatures:
    """Features as learnt from a catalogue.

    Attributes
    ----------
    table
        ``float64[n_items, p]``: ``z``.
    context
        Names of the context columns.
    history
        Whether histories are context.
    """

    table: np.ndarray
    context: tuple[str, ...] = ()
    history: bool = False

    @classmethod
    def of(cls, dataset: Dataset, config: FeatureConfig) -> ArmFeatures:
        """Read the attributes of a catalogue."""
        return cls(item_table(dataset, config.item_features), config.context, config.history)

    @property
    def items(self) -> np.ndarray:
        """``float64[n_items, 1 + p]``: ``(1, z)``."""
        return np.column_stack([np.ones(len(self.table)), self.table])

    @property
    def width(self) -> int:
        """Length of ``(1, c)``."""
        return 1 + len(self.context) + (self.table.shape[1] if self.history else 0)

    def of_requests(self, requests: Requests) -> np.ndarray:
        """Return ``float64[n, width]``: ``(1, c)`` of each request.

        Raises
        ------
        DataError
            If a context column is absent, or a value is no finite number; the row is named.
        """
        n = len(requests)
        parts = [np.ones((n, 1)), *(_column(requests.context, name)[:, None] for name in self.context)]
        if self.history:
            histories = requests.histories
            total = np.zeros((n, self.table.shape[1]))
            np.add.at(total, histories.ragged.row_numbers, self.table[histories.items])
            parts.append(total / np.maximum(histories.lengths, 1)[:, None])
        return np.concatenate(parts, axis=1)


def item_table(dataset: Dataset, names: tuple[str, ...] = ()) -> np.ndarray:
    """Return ``float64[n_items, p]`` of the attributes of items.

    Raises
    ------
    ConfigError
        If a column that is named is absent, or can't be read.
    """
    attributes = dataset.items.attributes
    present = [] if attributes is None else attributes.column_names
    for name in names:
        if name not in present:
            advice = nearest(name, present) if present else "the items have no attributes"
            raise ConfigError("there is no such attribute of items.", where="item_features", value=name, remedy=advice)
    vectors, kinds = [], {}
    for name in names or present:
        assert attributes is not None
        column = attributes.column(name)
        if _is_vector(column.type):
            vectors.append(_vectors(column, name))
            continue
        kind = _READ.get(guess_kind(column))
        if kind is not None:
            kinds[name] = kind
        elif names:
            remedy = "take a category, a set, a number or a vector"
            raise ConfigError("this attribute can't be read as features.", where="item_features", value=name, remedy=remedy)
    parts = vectors
    if kinds:
        assert attributes is not None
        parts = [*_coded(attributes.select(list(kinds)), kinds, dataset.n_items), *vectors]
    table = np.concatenate(parts, axis=1) if parts else np.zeros((dataset.n_items, 0))
    return table if table.shape[1] else np.eye(dataset.n_items)


def _coded(table: pa.Table, kinds: dict[str, FieldKind], n: int) -> list[np.ndarray]:
    """Return 0 and 1 for each code that some item has, and the standardised numbers."""
    schema = learn_schema(table, kinds=kinds)
    found = schema.encode(table, n)
    coded = np.zeros((n, int(schema.bases[-1])))
    if found.n_fields:
        coded[found.bags.row_numbers // found.n_fields, found.bags.values] = 1.0
    return [coded[:, coded.any(axis=0)], found.dense.astype(np.float64)]


def _is_vector(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_floating(kind.value_type))


def _vectors(column: pa.ChunkedArray, name: str) -> np.ndarray:
    rows = [np.asarray([] if row is None else row, np.float64) for row in column.to_pylist()]
    width = max((len(row) for row in rows), default=0)
    for number, row in enumerate(rows):
        if len(row) not in (0, width) or not np.isfinite(row).all():
            what = "the vectors of an attribute differ in length, or hold something else than numbers."
            raise DataError(what, where=f"item attribute {name!r}, item {number}", value=len(row))
    return np.array([row if len(row) else np.zeros(width) for row in rows]).reshape(len(rows), width)


def _column(context: pa.Table | None, name: str) -> np.ndarray:
    present = [] if context is None else context.column_names
    if context is None or name not in present:
        advice = nearest(name, present) if present else "give requests with a context table"
        raise DataError("a request lacks a context column.", where="requests.context", value=name, remedy=advice)
    try:
        found: np.ndarray = context.column(name).cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            "a context column holds something else than numbers.", where=f"context {name!r}", value=str(error)[:80]
        ) from None
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        raise DataError("a context value is missing or infinite.", where=f"context {name!r}, row {int(wrong[0])}")
    return found
