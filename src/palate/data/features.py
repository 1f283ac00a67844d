"""Features: attribute tables of people or items as typed integer codes, ready for embedding tables.

A schema is learnt once from a table, saved as JSON, and turns any table with the same columns into codes: that of the
training data, that of items which came later, and one with columns missing. Kinds of fields:

=============  ======================================================================================================
``category``   one value; values seen less than ``min_count`` times share the code of unknown ones
``set``        several values (a list column)
``text``       distinct words, hashed into a fixed number of codes (no vocabulary)
``number``     buckets with edges at the quantiles
``standard``   a number as it is, less the mean and over the standard deviation (0 where missing): no codes
``ignore``     left out
=============  ======================================================================================================

Code 0 of every field stands for values that were unknown when the schema was learnt; an entity without a value has an empty
bag, which is another thing. Codes of all fields share one range (each field has a base), so that one embedding table and one
look-up serve all of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset
from palate.data.ragged import Ragged, offsets_of
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest

FieldKind = Literal["category", "set", "text", "number", "standard", "ignore"]
Words = Callable[[str], list[str]]
#: Integers with at most this many distinct values are categories unless the caller says otherwise.
FEW = 64


@dataclass(frozen=True)
class Field:
    """A column that became codes.

    Attributes
    ----------
    name, kind
        The column, and how it is read.
    size
        Codes of the field, that of unknown values included (0 for ``standard``).
    values
        Values behind the codes from 1 on (``category``, ``set``).
    edges
        Inner edges of the buckets (``number``); mean and standard deviation (``standard``).
    """

    name: str
    kind: FieldKind
    size: int
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()


@dataclass(frozen=True)
class Features:
    """Codes of ``n`` entities in ``k`` fields.

    Attributes
    ----------
    bags
        ``n * k`` rows of ``int32`` codes: row ``r * k + f`` holds the codes of entity ``r`` in field ``f``.
    dense
        ``float32[n, m]`` standardised numbers.
    n_fields
        ``k``.
    """

    bags: Ragged
    dense: np.ndarray
    n_fields: int

    def __len__(self) -> int:
        return len(self.dense)

    @cached_property
    def known(self) -> np.ndarray:
        """``bool[n]``: does an entity have a value in any field?"""
        has = np.asarray((self.bags.lengths.reshape(len(self), self.n_fields) > 0).any(axis=1))
        return np.asarray(has | (self.dense != 0).any(axis=1))

    def take(self, rows: np.ndarray) -> Features:
        """Return some entities; a negative number gives one without values."""
        rows = np.asarray(rows, np.int64)
        wanted = rows[:, None] * self.n_fields + np.arange(self.n_fields)
        bags = self.bags.take(np.where(rows[:, None] >= 0, wanted, -1).ravel())
        dense = np.zeros((len(rows), self.dense.shape[1]), np.float32)
        dense[rows >= 0] = self.dense[rows[rows >= 0]]
        return Features(bags, dense, self.n_fields)

    def field(self, number: int) -> Ragged:
        """Return the codes of one field, one row an entity."""
        return self.bags.take(np.arange(len(self), dtype=np.int64) * self.n_fields + number)


@dataclass(frozen=True)
class Schema:
    """The fields of a table, as learnt by :func:`learn_schema`.

    Attributes
    ----------
    fields
        Those with codes, in order.
    numbers
        Those of kind ``standard``.
    """

    fields: tuple[Field, ...] = ()
    numbers: tuple[Field, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields with codes."""
        return tuple(field.name for field in self.fields)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each field."""
        return tuple(field.size for field in self.fields)

    @property
    def bases(self) -> np.ndarray:
        """``int64[k + 1]``: first code of each field, and the number of codes of all."""
        return offsets_of(self.sizes)

    def encode(self, table: pa.Table | None, n: int, words: Words | None = None) -> Features:
        """Return the codes of a table of ``n`` rows; ``None`` and missing columns give entities without values.

        Parameters
        ----------
        words
            Splits a text into words; needed where a field is text.

        Raises
        ------
        DataError
            If the table has another number of rows, or a column can't be read as its field says.
        ConfigError
            If a field is text and ``words`` is missing.
        """
        if table is not None and table.num_rows != n:
            raise DataError(f"the attribute table has {table.num_rows} rows for {n} entities.", where="features")
        present = {} if table is None else {name: table.column(name) for name in table.column_names}
        parts, bases = [], self.bases
        for at, field in enumerate(self.fields):
            column = present.get(field.name)
            own = Ragged.empty(n) if column is None else _codes(field, column, words)
            parts.append(Ragged(own.offsets, own.values + np.int32(bases[at])))
        dense = np.zeros((n, len(self.numbers)), np.float32)
        for at, field in enumerate(self.numbers):
            if field.name in present:
                mean, spread = field.edges
                dense[:, at] = np.nan_to_num((_numbers(present[field.name]) - mean) / spread)
        return Features(interleaved(parts, n), dense, len(parts))

    def array(self) -> np.ndarray:
        """Return the schema as ``uint8[1, bytes]`` of JSON: what a bundle keeps."""
        text = json.dumps({"fields": [asdict(f) for f in self.fields], "numbers": [asdict(f) for f in self.numbers]})
        return np.frombuffer(text.encode(), np.uint8)[None].copy()

    @classmethod
    def of_array(cls, array: np.ndarray) -> Schema:
        """Read what :meth:`array` gave."""
        found = json.loads(array.tobytes().decode())

        def fields(name: str) -> tuple[Field, ...]:
            return tuple(Field(**{**f, "values": tuple(f["values"]), "edges": tuple(f["edges"])}) for f in found[name])

        return cls(fields("fields"), fields("numbers"))


def learn_schema(
    table: pa.Table | None,
    *,
    kinds: Mapping[str, FieldKind] | None = None,
    min_count: int = 2,
    max_values: int = 100_000,
    text_buckets: int = 2**14,
    number_buckets: int = 16,
) -> Schema:
    """Learn the fields of a table.

    Parameters
    ----------
    kinds
        Kind of some columns by name, where the guess of :func:`guess_kind` is not wanted.
    min_count
        Values that fewer entities have get no code of their own.
    max_values
        Most values of a field with codes of their own, the commonest.
    text_buckets, number_buckets
        Codes of a text field, and buckets of a number.

    Raises
    ------
    ConfigError
        If ``kinds`` names a column that is not there.
    """
    kinds = dict(kinds or {})
    columns = [] if table is None else table.column_names
    for name in kinds:
        if name not in columns:
            advice = nearest(name, columns) if columns else "there are no attributes"
            raise ConfigError("there is no such attribute.", where="kinds of fields", value=name, remedy=advice)
    found: list[Field] = []
    for name in columns:
        assert table is not None
        column = table.column(name)
        kind = kinds.get(name) or guess_kind(column)
        if kind == "text":
            found.append(Field(name, kind, text_buckets + 1))
        elif kind in ("category", "set"):
            values = _common(_listed(column).values, min_count, max_values)
            found.append(Field(name, kind, len(values) + 1, values))
        elif kind in ("number", "standard"):
            found += _number_field(name, kind, _numbers(column), number_buckets)
    return Schema(tuple(f for f in found if f.size), tuple(f for f in found if not f.size))


def guess_kind(column: pa.ChunkedArray) -> FieldKind:
    """Return the kind that a column looks like.

    Lists are sets; floats, times and integers of many values numbers; other integers and booleans categories. A text column
    is a category where values repeat (at most half as many as entities), else text if it has words, else an id, which is
    ignored as columns of other types are.
    """
    kind, known = column.type, column.drop_null()
    if len(known) == 0:
        return "ignore"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        return "set" if pa.types.is_string(inner) or pa.types.is_integer(inner) or pa.types.is_large_string(inner) else "ignore"
    if pa.types.is_boolean(kind) or pa.types.is_dictionary(kind):
        return "category"
    if pa.types.is_integer(kind):
        return "category" if pc.count_distinct(known).as_py() <= FEW else "number"
    if pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if pc.count_distinct(known).as_py() <= max(1, len(known) // 2):
            return "category"
        return "text" if pc.mean(pc.count_substring(known, " ")).as_py() >= 1 else "ignore"
    return "ignore"


def with_graph_attributes(dataset: Dataset, graph: str = "knowledge") -> Dataset:
    """Return the data with one list column an outgoing relation of a graph added to the items (``graph:relation``).

    Raises
    ------
    DataError
        If there is no such graph, or its links don't begin at items or their entities.
    """
    if graph not in dataset.graphs:
        raise DataError("there is no such graph.", value=graph, remedy=f"there are: {', '.join(dataset.graphs) or 'none'}")
    links, n = dataset.graphs[graph], dataset.n_items
    if links.heads == "item":
        item = links.head.astype(np.int64)
    elif links.heads == "entity" and links.item_entity is not None and links.entities is not None:
        owner = np.full(len(links.entities), -1, np.int64)
        known = np.flatnonzero(links.item_entity >= 0)
        owner[links.item_entity[known]] = known
        item = owner[links.head]
    else:
        raise DataError("the links of this graph don't begin at items.", where=graph, value=links.heads)
    names = links.entities if links.tails == "entity" else None
    table = dataset.items.attributes or pa.table({"item": dataset.items.ids.raw}).drop_columns(["item"])
    for number, relation in enumerate(links.relations.raw.to_pylist()):
        kept = (links.relation == number) & (item >= 0)
        rows = Ragged.group(item[kept], links.tail[kept], n)
        labels = names.decode(rows.values).cast(pa.string()) if names is not None else pa.array(rows.values).cast(pa.string())
        column = pa.ListArray.from_arrays(pa.array(rows.offsets.astype(np.int32)), labels)
        table = table.append_column(f"{graph}:{relation}", column)
    return dataset.derive({"step": "graph attributes", "graph": graph}, items=replace(dataset.items, attributes=table))


def interleaved(parts: list[Ragged], n: int) -> Ragged:
    """Return ``n * k`` rows from ``k`` ragged arrays of ``n`` rows: row ``r * k + f`` is row ``r`` of part ``f``."""
    k = len(parts)
    if not k:
        return Ragged.empty(0)
    rows = np.concatenate([part.row_numbers * k + f for f, part in enumerate(parts)])
    return Ragged.group(rows, np.concatenate([part.values for part in parts]), n * k)


def _codes(field: Field, column: pa.ChunkedArray, words: Words | None) -> Ragged:
    """Return the codes of one column, from 0, distinct within a row."""
    if field.kind == "number":
        numbers = _numbers(column)
        known = ~np.isnan(numbers)
        codes = 1 + np.searchsorted(np.array(field.edges), numbers[known], side="right")
        return Ragged(offsets_of(known.astype(np.int64)), codes.astype(np.int32))
    if field.kind == "text":
        return _hashed(column, field.size - 1, words)
    listed = _listed(column)
    table = pa.array(field.values, pa.string())
    codes = pc.index_in(listed.values, value_set=table).fill_null(-1).to_numpy(zero_copy_only=False) + 1
    return Ragged(listed.offsets, codes.astype(np.int32)).distinct


def _hashed(column: pa.ChunkedArray, buckets: int, words: Words | None) -> Ragged:
    """Return codes of the distinct words of each text: 1 + CRC-32 of the word modulo ``buckets``."""
    if words is None:
        raise ConfigError("a text field needs a function that splits text into words.", where="features")
    memo: dict[str, int] = {}
    flat: list[int] = []
    lengths = []
    for text in column.to_pylist():
        found = words(str(text)) if text else []
        lengths.append(len(found))
        for word in found:
            if word not in memo:
                memo[word] = 1 + zlib.crc32(word.encode()) % buckets
            flat.append(memo[word])
    return Ragged(offsets_of(lengths), np.array(flat, np.int32)).distinct


@dataclass(frozen=True)
class _Listed:
    """Text values of a column as ragged rows; nulls and empty texts are left out."""

    offsets: np.ndarray
    values: pa.Array


def _listed(column: pa.ChunkedArray) -> _Listed:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    n = len(whole)
    if pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type):
        row, values = pc.list_parent_indices(whole).to_numpy(), pc.list_flatten(whole).cast(pa.string())
    else:
        row, values = np.arange(n), whole.cast(pa.string())
    kept = pc.fill_null(pc.not_equal(values, ""), False).to_numpy(zero_copy_only=False)
    lengths = np.bincount(row[kept], minlength=n)
    return _Listed(offsets_of(lengths), values.filter(pa.array(kept)))


def _common(values: pa.Array, min_count: int, most: int) -> tuple[str, ...]:
    """Return values that occur often enough, the commonest first (equals in order of the text)."""
    if not len(values):
        return ()
    vocabulary, numbers = Vocabulary.of(pa.chunked_array([values]))
    counts = np.bincount(numbers, minlength=len(vocabulary))
    pairs = [(-int(c), str(v)) for v, c in zip(vocabulary.raw.to_pylist(), counts, strict=True) if c >= min_count]
    return tuple(value for _, value in sorted(pairs)[:most])


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return ``float64[n]``; NaN where missing or infinite."""
    kind: Any = column.type
    try:
        plain = column.cast(pa.int64()) if pa.types.is_temporal(kind) else column
        numbers: np.ndarray = plain.cast(pa.float64()).to_numpy().astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError("a column can't be read as numbers.", where="features", value=str(error)[:80]) from None
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _number_field(name: str, kind: FieldKind, numbers: np.ndarray, buckets: int) -> list[Field]:
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return []
    if kind == "standard":
        return [Field(name, kind, 0, edges=(float(known.mean()), float(known.std()) or 1.0))]
    edges = np.unique(np.quantile(known, np.arange(1, buckets) / buckets, method="inverted_cdf"))
    return [Field(name, kind, len(edges) + 2, edges=tuple(map(float, edges)))]
