"""What is learnt of a field of rows: its vocabulary, quantiles or scale, gathered while blocks go by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.row_columns import counted, flat_values, numbers_of
from palate.data.row_fields import MANY, RowField
from palate.data.row_lookup import Lookup

#: Numbers of a column that its quantiles are taken from, at most.
SAMPLE = 200_000


@dataclass(frozen=True)
class Learnt:
    """What was learnt of a field: a vocabulary, or edges, or two numbers of a scale."""

    values: pa.Array | None = None
    edges: tuple[float, ...] = ()

    @cached_property
    def lookup(self) -> Lookup | None:
        """The vocabulary, ready to look values up in."""
        return None if self.values is None else Lookup(self.values)


class Learner:
    """What is gathered of one field while blocks go by."""

    def __init__(self, f: RowField) -> None:
        self.field, self.counts, self.samples = f, None, list[np.ndarray]()
        self.n, self.mean, self.square, self.low, self.high = 0, 0.0, 0.0, np.inf, -np.inf

    def see(self, column: pa.ChunkedArray, start: int) -> None:
        """Take up the column of a block whose first row has the number ``start``."""
        f = self.field
        if f.kind in ("number", "bucket"):
            self._see_numbers(numbers_of(column, f.name, start))
        elif not f.hash_buckets:
            values = flat_values(column, f.name)[1] if f.kind in MANY else column
            self.counts = counted(self.counts, values)

    def learnt(self) -> Learnt:
        """Return what was learnt from all blocks."""
        f = self.field
        if f.kind == "number":
            if f.scale == "minmax":
                return Learnt(edges=(self.low, self.high - self.low or 1.0) if self.n else (0.0, 1.0))
            return Learnt(edges=(self.mean, float(np.sqrt(self.square / self.n)) or 1.0) if self.n else (0.0, 1.0))
        if f.kind == "bucket":
            found = np.concatenate([np.empty(0), *self.samples])
            if not len(found):
                return Learnt()
            marks = np.arange(1, f.buckets) / f.buckets
            return Learnt(edges=tuple(map(float, np.unique(np.quantile(found, marks, method="inverted_cdf")))))
        return Learnt(None if f.hash_buckets else vocabulary(f, self.counts))

    def _see_numbers(self, numbers: np.ndarray) -> None:
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            return
        if self.field.kind == "bucket":
            held = sum(map(len, self.samples))
            step = max(1, -(-len(known) // max(1, SAMPLE - held))) if held < SAMPLE else 0
            if step:
                self.samples.append(known[::step])
            return
        if self.field.scale == "log":
            known = np.sign(known) * np.log1p(np.abs(known))
        n, mean = self.n + len(known), float(known.mean())
        self.square += float(((known - mean) ** 2).sum()) + (mean - self.mean) ** 2 * self.n * len(known) / n
        self.mean += (mean - self.mean) * len(known) / n
        self.n, self.low, self.high = n, min(self.low, float(known.min())), max(self.high, float(known.max()))


def vocabulary(f: RowField, counts: pa.Table | None) -> pa.Array:
    """Return the values with codes of their own, the commonest first, equals in order of the value."""
    if counts is None:
        return pa.array([], pa.string())
    kept = counts.filter(pc.greater_equal(counts.column("count"), f.min_count))
    if f.kind == "cross":
        kept = kept.filter(pc.greater_equal(kept.column("value"), 0))
    order = kept.sort_by([("count", "descending"), ("value", "ascending")]).slice(0, f.max_values)
    column = order.column("value")
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
