"""Columns of rows as codes and numbers: what the row encoder is made of."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.ragged import offsets_of
from palate.data.row_lookup import Lookup
from palate.errors import ConfigError, DataError

#: Distinct values that are kept apart before counts are summed.
MANY_COUNTS = 1_000_000
#: Codes counted from a field's base (see :mod:`palate.data.row_encoder`).
MISSING, UNKNOWN, FIRST = 0, 1, 2


class RowError(DataError):
    """A value in one row of a table can't be used.

    Parameters
    ----------
    what, value, remedy
        As of every error.
    column
        Its column, in words.
    row
        Its row within the block at hand, counted from 0.
    told
        The row that the message names: that of the source, where it is known; ``row`` by default.
    """

    def __init__(
        self,
        what: str,
        *,
        column: str = "",
        row: int = 0,
        told: int | None = None,
        value: Any = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, where=f"{column}, row {row if told is None else told}", value=value, remedy=remedy)
        self.column, self.row = column, row

    def counted(self, told: int) -> RowError:
        """Return the error with another row in its message."""
        return RowError(self.what, column=self.column, row=self.row, told=told, value=self.value, remedy=self.remedy)


def plain(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return one array without dictionary, of whole numbers (``int64``) or text; empty texts and NaN are missing."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_integer(whole.type) and whole.type != pa.uint64():
        return whole.cast(pa.int64())
    if pa.types.is_floating(whole.type):
        whole = pc.if_else(pc.is_nan(whole), pa.scalar(None, whole.type), whole)
    text = whole if pa.types.is_string(whole.type) else whole.cast(pa.string())
    empty = pc.equal(text, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), text) if pc.any(empty).as_py() else text


def counted(counts: pa.Table | None, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    """Return counts of values (columns ``value``, ``count``), those of ``counts`` added."""
    found = pc.value_counts(plain(values).drop_null())
    own = pa.table({"value": found.field("values"), "count": found.field("counts")})
    if counts is None:
        return own
    if counts.column("value").type != own.column("value").type:  # numbers in one block, text in another
        counts, own = (t.set_column(0, "value", t.column("value").cast(pa.string())) for t in (counts, own))
    summed = pa.concat_tables([counts, own]).group_by("value").aggregate([("count", "sum")])
    return summed.rename_columns({"value": "value", "count_sum": "count"}).select(["value", "count"])


def codes_of(values: pa.ChunkedArray | pa.Array, vocabulary: Lookup | None) -> np.ndarray:
    """Return ``int32[n]``: codes of values by a vocabulary, 0 where missing, 1 where unknown."""
    assert vocabulary is not None
    column = plain(values)
    codes = vocabulary.places(column)
    np.maximum(codes + np.int32(FIRST), UNKNOWN, out=codes)
    if column.null_count:
        codes[column.is_null().to_numpy(zero_copy_only=False)] = MISSING
    return codes


def hashed_codes(values: pa.ChunkedArray | pa.Array, buckets: int) -> np.ndarray:
    """Return ``int32[n]``: codes of values by hash, 0 where missing."""
    coded = pc.dictionary_encode(plain(values))
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    names = coded.dictionary.cast(pa.string()).to_pylist()
    own = np.array([FIRST + zlib.crc32(name.encode()) % buckets for name in names] or [0], np.int32)
    index = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    return np.where(index < 0, MISSING, own[index]).astype(np.int32)


def crossed(keys: np.ndarray, buckets: int, vocabulary: Lookup | None) -> np.ndarray:
    """Return ``int32[n]``: codes of joined values, 0 where one is missing (key -1)."""
    if buckets:  # the multiplier of Knuth's multiplicative hash spreads neighbouring keys
        local = ((keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) % np.uint64(buckets)
        return np.where(keys < 0, MISSING, FIRST + local.astype(np.int64)).astype(np.int32)
    found = codes_of(pa.array(keys), vocabulary)
    found[keys < 0] = MISSING
    return found


def bucket_codes(numbers: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Return ``int32[n]``: codes of numbers by quantile, 0 where missing."""
    found = FIRST + np.searchsorted(np.array(edges), numbers, side="right")
    return np.where(np.isnan(numbers), MISSING, found).astype(np.int32)


def numbers_of(column: pa.ChunkedArray, name: str, start: int) -> np.ndarray:
    """Return ``float64[n]``, NaN where missing.

    Raises
    ------
    DataError
        If a value is no number.
    RowError
        If one is infinite; the message counts its row from ``start``.
    """
    kind: Any = column.type
    whole = column.cast(pa.int64()) if pa.types.is_temporal(kind) else column
    if pa.types.is_dictionary(kind):
        whole = whole.cast(kind.value_type)
    try:
        numbers: np.ndarray = np.asarray(whole.cast(pa.float64()).to_numpy(), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            "a column can't be read as numbers.",
            where=f"column {name!r}",
            value=str(error)[:80],
            remedy="make it a category, or mend the row",
        ) from None
    endless = np.flatnonzero(np.isinf(numbers))
    if len(endless):
        raise RowError(
            "a number is infinite.",
            column=f"column {name!r}",
            row=int(endless[0]),
            told=start + int(endless[0]),
            value=float(numbers[endless[0]]),
            remedy="leave the cell empty if the number is unknown, or mend the row",
        )
    return numbers


def scaled(numbers: np.ndarray, scale: str, learnt: tuple[float, ...]) -> np.ndarray:
    """Return numbers by a scale (see :class:`palate.data.row_fields.RowField`), 0 where missing."""
    if scale == "log":
        numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    if scale in ("standard", "log"):
        numbers = (numbers - learnt[0]) / learnt[1]
    elif scale == "minmax":
        numbers = np.clip((numbers - learnt[0]) / learnt[1], 0, 1)
    elif scale == "log2":
        numbers = np.where(numbers > 2, np.log(np.maximum(numbers, 2)) ** 2, numbers)
    return np.asarray(np.nan_to_num(numbers), np.float32)


def flat_values(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, pa.Array]:
    """Return how many values each row of a list column has, and all of them; missing values inside a list are left out."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    if not (pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type) or pa.types.is_fixed_size_list(whole.type)):
        raise DataError(
            "a column holds no lists.", where=f"column {name!r}", value=str(whole.type), remedy="make it a category"
        )
    row, values = pc.list_parent_indices(whole).to_numpy(), plain(pc.list_flatten(whole))
    if values.null_count:
        kept = values.is_valid()
        row, values = row[kept.to_numpy(zero_copy_only=False)], values.filter(kept)
    return np.bincount(row, minlength=len(whole)), values


def is_repeated(column: pa.ChunkedArray) -> bool:
    """Say whether all rows of a list column hold the same values, as those of one request do."""
    n, kind = len(column), column.type
    if n < 2 or column.null_count or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        return False
    lengths = np.diff(whole.offsets.to_numpy())
    length = int(lengths[0])
    if (lengths != length).any():
        return False
    values = whole.flatten()
    first_two = values.slice(0, length).equals(values.slice(length, length))
    return bool(first_two and values.slice(length).equals(values.slice(0, (n - 1) * length)))


def word_codes(
    column: pa.ChunkedArray, buckets: int, words: Callable[[str], list[str]] | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many distinct words each text has, and their codes (``int32``), in order of first use."""
    if words is None:
        raise ConfigError("a text field needs a function that splits text into words.", where=f"column {name!r}")
    memo: dict[str, int] = {}
    flat: list[int] = []
    lengths = []
    for text in column.to_pylist():
        own = dict.fromkeys(words(str(text)) if text else [])
        lengths.append(len(own))
        for word in own:
            if word not in memo:
                memo[word] = FIRST + zlib.crc32(word.encode()) % buckets
            flat.append(memo[word])
    return np.array(lengths, np.int64), np.array(flat, np.int32)


def padded(lengths: np.ndarray, values: np.ndarray, most: int, *, last: bool) -> np.ndarray:
    """Return ``int32[n, most]``: values of each row, then 0; of longer rows the last ones (or the first)."""
    offsets = offsets_of(lengths)
    kept = np.minimum(lengths, most)
    begin = offsets[1:] - kept if last else offsets[:-1]
    out = np.zeros((len(lengths), most), np.int32)
    at = np.arange(most)
    inside = at < kept[:, None]
    out[inside] = values[(begin[:, None] + at)[inside]]
    return out
