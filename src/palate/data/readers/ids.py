"""Raw ids to numbers, batch by batch, with every kind of doubtful id caught."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.readers.bad_rows import DROP, BadRows, first_value
from palate.data.readers.growing import Growing
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError

#: How to take ids: as they look, always as text, or always as integers.
IdType = Literal["auto", "text", "integer"]

MISSING = ("", "nan", "NaN", "null", "NULL")
INTEGER = r"^(0|-?[1-9][0-9]*)$"
AS_TEXT = f'take ids as text with ids="text" (--read ids=text), or {DROP}'


class IdColumn:
    """Numbers a column of raw ids by first appearance.

    Integer and text columns are taken as they are. In text files, a column whose ids are all plain integers becomes an
    integer column (blanks around ids do not count); one that is mostly integers (more than half of the distinct ids) but not
    always is an error, unless the caller asks for text. Leading zeros make an id text.

    Parameters
    ----------
    role
        ``"user"``, ``"item"``, ``"action"`` or ``"session"``.
    name
        Column name.
    ids
        How to take ids.
    typed
        Whether the source has types of its own.
    n_hint
        Number of rows where known.
    """

    def __init__(self, role: str, name: str, *, ids: IdType = "auto", typed: bool = True, n_hint: int | None = None) -> None:
        self.what = f"{role} in column {name!r}"
        self.name, self.ids, self.typed = name, ids, typed
        self._codes = Growing(np.int32, n_hint)
        self._known: pa.Array | None = None

    def add(self, column: pa.Array, start: int, bad: BadRows) -> None:
        """Take the next batch, whose first row is row ``start`` of the source."""
        clean = self._clean(column, start, bad)
        encoded = clean if pa.types.is_dictionary(clean.type) else pc.dictionary_encode(clean)
        numbers = self._number(encoded.dictionary)
        codes = np.asarray(encoded.indices.fill_null(-1))
        self._codes.extend(np.where(codes >= 0, numbers[codes], -1) if len(numbers) else np.full(len(codes), -1, np.int32))

    def finish(self, bad: BadRows) -> tuple[Vocabulary, np.ndarray]:
        """Return the vocabulary and ``int32[n]`` numbers (-1 in bad rows)."""
        codes = self._codes.array()
        known = pa.array([], pa.string()) if self._known is None else self._known
        if pa.types.is_string(known.type) and self.ids != "text" and (not self.typed or self.ids == "integer"):
            known = self._integers(known, codes, bad)
        if pa.types.is_integer(known.type):
            if self.ids == "text":
                known = known.cast(pa.string())
            else:
                self._refuse(pc.less(known, 0), "negative id of the", known, codes, bad)
        return Vocabulary(known), codes

    def _number(self, fresh: pa.Array) -> np.ndarray:
        if self._known is None:
            self._known = fresh
            return np.arange(len(fresh), dtype=np.int32)
        if self._known.type != fresh.type:
            raise DataError(
                f"mixed id types: the {self.what} is {self._known.type} at first and {fresh.type} later.",
                value=fresh[0].as_py() if len(fresh) else None,
                remedy="write all ids as text, or all as integers",
            )
        found = pc.index_in(fresh, value_set=self._known)
        if found.null_count:
            self._known = pa.concat_arrays([self._known, fresh.filter(found.is_null())])
            found = pc.index_in(fresh, value_set=self._known)
        return np.asarray(found).astype(np.int32, copy=False)

    def _clean(self, column: pa.Array, start: int, bad: BadRows) -> pa.Array:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        if pa.types.is_integer(kind):
            column = self._bounded(column, start, bad)
        elif pa.types.is_floating(kind):
            column = self._whole(column, start, bad)
        elif pa.types.is_null(kind):
            column = column.cast(pa.string() if self._known is None else self._known.type)
        elif any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
            column = column.cast(pa.string())
            if not self.typed and self.ids != "text":
                column = pc.utf8_trim_whitespace(column)
            lost = pc.is_in(column, value_set=pa.array(MISSING))
            column = pc.if_else(lost, pa.scalar(None, pa.string()), column) if pc.any(lost).as_py() else column
        else:
            remedy = "ids are text or integers: name another column with columns="
            raise DataError(f"the {self.what} is not an id.", where=bad.locate(start), value=str(kind), remedy=remedy)
        if column.null_count:
            at = np.flatnonzero(np.asarray(column.is_null()))
            bad.add(start + at, f"missing id of the {self.what}", None)
        return column

    def _bounded(self, column: pa.Array, start: int, bad: BadRows) -> pa.Array:
        if pa.types.is_uint64(column.type):
            huge = pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())).fill_null(False)
            at = np.flatnonzero(np.asarray(huge))
            bad.add(start + at, f"id of the {self.what} is beyond 64 bits", first_value(column, at), AS_TEXT)
            column = pc.if_else(huge, pa.scalar(None, pa.uint64()), column) if len(at) else column
        return column.cast(pa.int64())

    def _whole(self, column: pa.Array, start: int, bad: BadRows) -> pa.Array:
        numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
        lost = np.isnan(numbers)
        fits = np.abs(numbers) < 2.0**53
        odd = ~lost & ~(fits & (np.where(fits, numbers, 0) == np.floor(np.where(fits, numbers, 0))))
        at = np.flatnonzero(odd)
        bad.add(start + at, f"the {self.what} is not a whole number", first_value(numbers, at), AS_TEXT)
        return pa.array(np.where(odd | lost, 0, numbers).astype(np.int64), mask=odd | lost)

    def _integers(self, known: pa.Array, codes: np.ndarray, bad: BadRows) -> pa.Array:
        if len(known) == 0:
            return known
        whole = pc.match_substring_regex(known, INTEGER)
        share = pc.sum(whole).as_py() / len(known)
        if share <= 0.5 and self.ids == "auto":
            return known
        self._refuse(pc.invert(whole), "mixed id types: most are integers, but not this", known, codes, bad)
        numbers = pc.if_else(whole, known, pa.scalar("0"))
        huge = [abs(int(n)) >= 2**63 for n in numbers.to_pylist()] if self._too_long(numbers) else None
        if huge is not None:
            self._refuse(pa.array(huge), "beyond 64 bits: id of the", known, codes, bad)
            numbers = pc.if_else(pa.array(huge), pa.scalar("0"), numbers)
        return numbers.cast(pa.int64())

    def _too_long(self, numbers: pa.Array) -> bool:
        return bool(pc.max(pc.utf8_length(numbers)).as_py() >= 19)

    def _refuse(self, wrong: pa.Array, reason: str, known: pa.Array, codes: np.ndarray, bad: BadRows) -> None:
        if not pc.any(wrong).as_py():
            return
        numbers = np.flatnonzero(np.asarray(wrong.fill_null(False)))
        rows = np.flatnonzero(np.isin(codes, numbers))
        if len(rows):
            bad.add(rows, f"{reason} {self.what}", known[int(codes[rows[0]])].as_py(), AS_TEXT)
        codes[rows] = -1
