"""Row encoder: fields learnt from training rows, and the same code for rows of training, validation and service.

Codes of all fields share one range, so that one table of vectors and one look-up serve all of them. Code 0 is padding. A field
with codes begins at its base: ``base`` stands for a missing value, ``base + 1`` for an unknown one, and values follow, the
commonest first. Values of a hashed field stand at ``base + 2 + hash mod buckets``, where the hash is the CRC-32 of the value's
text: the same on every machine.

A number that is missing becomes 0 after scaling: the mean, where the scale is standard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from palate.data.row_columns import (
    FIRST,
    MISSING,
    UNKNOWN,
    bucket_codes,
    codes_of,
    counted,
    crossed,
    flat_values,
    hashed_codes,
    is_repeated,
    numbers_of,
    padded,
    scaled,
    word_codes,
)
from palate.data.row_fields import MANY, SINGLE, RowField, check_fields
from palate.data.row_learner import Learner, Learnt, vocabulary
from palate.errors import DataError

Words = Callable[[str], list[str]]
Blocks = Callable[[], Iterable[pa.Table]]


@dataclass(frozen=True)
class Encoded:
    """Rows as numbers.

    Attributes
    ----------
    codes
        ``int32[n, w]``: one column a single-valued field, then ``max_length`` columns a bag or sequence (0 is padding; values
        first). :class:`RowLayout` says which column is what.
    numbers
        ``float32[n, m]`` scaled numbers.
    """

    codes: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray | slice) -> Encoded:
        """Return some rows."""
        return Encoded(self.codes[rows], self.numbers[rows])


@dataclass(frozen=True)
class RowLayout:
    """Which column of :class:`Encoded` is what.

    Attributes
    ----------
    single
        Names of fields with one code, in the order of the columns.
    bags, sequences
        Name to the columns ``(start, stop)`` of its codes.
    numbers
        Names of numbers.
    bases, sizes
        Name to the first code and the number of codes; a field that shares codes has those of the other.
    n_codes
        Codes of all fields, padding included.
    """

    single: tuple[str, ...]
    bags: Mapping[str, tuple[int, int]]
    sequences: Mapping[str, tuple[int, int]]
    numbers: tuple[str, ...]
    bases: Mapping[str, int]
    sizes: Mapping[str, int]
    n_codes: int

    @property
    def width(self) -> int:
        """Columns of codes."""
        return max([len(self.single), *(stop for _, stop in (*self.bags.values(), *self.sequences.values()))])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields that have one vector a row each, in order: single, bags, sequences, numbers."""
        return (*self.single, *self.bags, *self.sequences, *self.numbers)


@dataclass(frozen=True)
class RowEncoder:
    """Fields and what was learnt of them (made by :meth:`learn`)."""

    fields: tuple[RowField, ...]
    learnt: Mapping[str, Learnt] = field(repr=False)

    @classmethod
    def learn(cls, fields: Sequence[RowField], blocks: Blocks) -> RowEncoder:
        """Learn vocabularies, quantiles and scales from training rows, in one pass over the blocks (two with crosses).

        Raises
        ------
        DataError
            If a column is missing or can't be read as its kind, or a number is infinite; the row is named.
        """
        used = check_fields(fields)
        base = [f for f in used if f.kind != "cross" and not f.share]
        learners = {f.name: Learner(f) for f in base}
        start = 0
        for table in blocks():
            for f in base:
                learners[f.name].see(_column(table, f.name), start)
            start += table.num_rows
        encoder = cls(used, {name: learner.learnt() for name, learner in learners.items()})
        crosses = [f for f in used if f.kind == "cross" and not f.hash_buckets]
        if not crosses:
            return encoder
        counts: dict[str, Any] = dict.fromkeys(f.name for f in crosses)
        for table in blocks():
            local = encoder._local_codes(table, {name for f in crosses for name in f.of})
            for f in crosses:
                keys = pa.array(encoder._keys(f, local))
                counts[f.name] = counted(counts[f.name], keys)
        made = {f.name: Learnt(vocabulary(f, counts[f.name])) for f in crosses}
        return cls(used, {**encoder.learnt, **made})

    @cached_property
    def layout(self) -> RowLayout:
        """Which column is what."""
        sizes = {f.name: self._size(f) for f in self.fields if f.kind != "number"}
        bases, at = {}, 1
        for f in self.fields:
            if f.kind != "number" and not f.share:
                bases[f.name] = at
                at += sizes[f.name]
        for f in self.fields:
            if f.share:
                bases[f.name], sizes[f.name] = bases[f.share], sizes[f.share]
        single = tuple(f.name for f in self.fields if f.kind in SINGLE)
        spans, stop = {}, len(single)
        for f in (*self._many("bag"), *self._many("sequence")):
            spans[f.name] = (stop, stop + f.max_length)
            stop += f.max_length
        bags = {f.name: spans[f.name] for f in self._many("bag")}
        sequences = {f.name: spans[f.name] for f in self._many("sequence")}
        numbers = tuple(f.name for f in self.fields if f.kind == "number")
        return RowLayout(single, bags, sequences, numbers, bases, sizes, at)

    def encode(self, table: pa.Table, words: Words | None = None) -> Encoded:
        """Return rows as numbers.

        Parameters
        ----------
        words
            Splits a text into words; needed where a field is text.

        Raises
        ------
        DataError
            If a column is missing or can't be read, or a number is infinite; the row is named.
        """
        layout = self.layout
        codes = np.zeros((table.num_rows, layout.width), np.int32)
        local = self._local_codes(table, set(layout.single))
        for at, name in enumerate(layout.single):
            codes[:, at] = local[name] + layout.bases[name]
        for name, (start, stop) in {**layout.bags, **layout.sequences}.items():
            column = _column(table, name)
            some = column.slice(0, 1) if is_repeated(column) else column
            codes[:, start:stop] = self._many_codes(self._field(name), some, layout.bases[name], words)
        numbers = np.zeros((table.num_rows, len(layout.numbers)), np.float32)
        for at, name in enumerate(layout.numbers):
            f = self._field(name)
            numbers[:, at] = scaled(numbers_of(_column(table, name), name, 0), f.scale, self.learnt[name].edges)
        return Encoded(codes, numbers)

    def crossed_anew(self, rows: Encoded) -> Encoded:
        """Return rows put together from parts of others, with crosses that follow from the fields that they join."""
        crosses = [f for f in self.fields if f.kind == "cross"]
        if not crosses:
            return rows
        layout, codes = self.layout, rows.codes.copy()
        local = {name: codes[:, at] - layout.bases[name] for at, name in enumerate(layout.single)}
        for f in crosses:
            known = self.learnt.get(f.name)
            found = crossed(self._keys(f, local), f.hash_buckets, None if known is None else known.lookup)
            codes[:, layout.single.index(f.name)] = found + layout.bases[f.name]
        return Encoded(codes, rows.numbers)

    def codes_of(self, name: str, values: Sequence[Any]) -> np.ndarray:
        """Return ``int32[n]`` codes of values of a field with one code a row."""
        found: np.ndarray = self._local_codes(pa.table({name: pa.array(values)}), {name})[name] + np.int32(
            self.layout.bases[name]
        )
        return found

    def value_of(self, name: str, code: int) -> str:
        """Return what a code of a field stands for, in words."""
        f, local = self._field(name), code - self.layout.bases[name]
        if local in (MISSING, UNKNOWN):
            return ("missing", "unknown")[local]
        owner = self._field(f.share) if f.share else f
        learnt = self.learnt.get(owner.name, Learnt())
        if owner.kind == "bucket":
            low, high = ([-np.inf, *learnt.edges][local - FIRST], [*learnt.edges, np.inf][local - FIRST])
            return f"{low:g} to {high:g}"
        if learnt.values is None:
            return f"bucket {local - FIRST} of {owner.hash_buckets}"
        if owner.kind == "cross":
            return " & ".join(self._uncrossed(owner, int(learnt.values[local - FIRST].as_py())))
        return str(learnt.values[local - FIRST].as_py())

    def knows(self, name: str, value: Any) -> bool:
        """Say whether a value stands in the vocabulary of a field (or of one that shares its codes with it)."""
        learnt = self.learnt.get(name)
        return learnt is not None and learnt.values is not None and str(value) in learnt.values.cast(pa.string()).to_pylist()

    def without(self, name: str, values: Sequence[Any]) -> RowEncoder:
        """Return the encoder with values of a field replaced by names that no value has; codes stay as they are."""
        learnt, gone = self.learnt[name], {str(value) for value in values}
        assert learnt.values is not None
        old = learnt.values.cast(pa.string()).to_pylist()
        kept = pa.array([f"\x00removed {at}" if value in gone else value for at, value in enumerate(old)], pa.string())
        return RowEncoder(self.fields, {**self.learnt, name: Learnt(kept, learnt.edges)})

    # -- saving -------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Return the encoder as arrays: what a bundle keeps."""
        facts = [{**asdict(f), "edges": list(self.learnt[f.name].edges) if f.name in self.learnt else []} for f in self.fields]
        arrays = {"fields": np.frombuffer(json.dumps(facts).encode(), np.uint8).copy()}
        for name, learnt in self.learnt.items():
            if learnt.values is not None:
                sink = pa.BufferOutputStream()
                table = pa.table({"values": learnt.values})
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
                arrays[f"values/{name}"] = np.frombuffer(sink.getvalue(), np.uint8).copy()
        return arrays

    @classmethod
    def of_state(cls, arrays: Mapping[str, np.ndarray]) -> RowEncoder:
        """Read what :meth:`state` gave."""
        facts = json.loads(arrays["fields"].tobytes().decode())
        learnt: dict[str, Learnt] = {}
        fields = []
        for fact in facts:
            edges = tuple(fact.pop("edges"))
            fields.append(RowField(**{**fact, "of": tuple(fact["of"])}))
            values, name = None, fact["name"]
            if f"values/{name}" in arrays:
                column = pa.ipc.open_stream(arrays[f"values/{name}"].tobytes()).read_all().column("values")
                values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            if values is not None or edges or fields[-1].kind == "number":
                learnt[name] = Learnt(values, edges)
        return cls(tuple(fields), learnt)

    # -- parts --------------------------------------------------------------------------------------

    def _field(self, name: str) -> RowField:
        return next(f for f in self.fields if f.name == name)

    def _many(self, what: str) -> list[RowField]:
        return [f for f in self.fields if f.kind in MANY and (f.kind == "sequence") == (what == "sequence")]

    def _size(self, f: RowField) -> int:
        if f.share:
            return 0
        if f.hash_buckets:
            return FIRST + f.hash_buckets
        learnt = self.learnt.get(f.name, Learnt())
        if f.kind == "bucket":
            return FIRST + len(learnt.edges) + 1
        return FIRST + (0 if learnt.values is None else len(learnt.values))

    def _local_codes(self, table: pa.Table, names: set[str]) -> dict[str, np.ndarray]:
        """Return codes of single-valued fields counted from the field's base; crosses after the fields that they join."""
        wanted = names | {name for f in self.fields if f.name in names for name in f.of}
        local: dict[str, np.ndarray] = {}
        for f in (f for f in self.fields if f.name in wanted and f.kind in ("category", "bucket")):
            column, owner = _column(table, f.name), self._field(f.share) if f.share else f
            if f.kind == "bucket":
                local[f.name] = bucket_codes(numbers_of(column, f.name, 0), self.learnt[f.name].edges)
            elif owner.hash_buckets:
                local[f.name] = hashed_codes(column, owner.hash_buckets)
            else:
                local[f.name] = codes_of(column, self.learnt[owner.name].lookup)
        for f in (f for f in self.fields if f.name in wanted and f.kind == "cross"):
            known = self.learnt.get(f.name)
            if known is not None or f.hash_buckets:  # else its vocabulary is being learnt
                local[f.name] = crossed(self._keys(f, local), f.hash_buckets, None if known is None else known.lookup)
        return local

    def _keys(self, f: RowField, local: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return ``int64[n]``: the codes of the joined fields as one number (-1 where any is missing)."""
        keys: np.ndarray = np.zeros(len(next(iter(local.values()))), np.int64)
        absent = np.zeros(len(keys), bool)
        for name in f.of:
            keys = keys * self._size(self._field(name)) + local[name]
            absent |= local[name] == MISSING
        return np.where(absent, -1, keys)

    def _uncrossed(self, f: RowField, key: int) -> list[str]:
        words = []
        for name in reversed(f.of):
            key, local = divmod(key, self._size(self._field(name)))
            words.append(self.value_of(name, local + self.layout.bases[name]))
        return words[::-1]

    def _many_codes(self, f: RowField, column: pa.ChunkedArray, base: int, words: Words | None) -> np.ndarray:
        if f.kind == "text":
            lengths, local = word_codes(column, f.hash_buckets, words, f.name)
        else:
            owner = self._field(f.share) if f.share else f
            lengths, values = flat_values(column, f.name)
            known = None if owner.hash_buckets else self.learnt[owner.name].lookup
            local = hashed_codes(values, owner.hash_buckets) if known is None else codes_of(values, known)
        return padded(lengths, local + np.int32(base), f.max_length, last=f.kind == "sequence")


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DataError(
            "a column that the model reads is missing.",
            where=f"rows, columns {', '.join(table.column_names[:12]) or 'none'}",
            value=name,
            remedy="add it, with empty cells where it is unknown; or fit the ranker on rows without it (leave_out)",
        )
    return table.column(name)
