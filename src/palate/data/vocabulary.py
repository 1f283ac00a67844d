"""Vocabulary: raw ids on the outside, contiguous int32 numbers inside."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.errors import DataError


class Vocabulary:
    """A one-to-one table between raw ids (all strings or all integers) and numbers from 0.

    Parameters
    ----------
    raw
        Distinct raw ids, an Arrow array of ``string`` or ``int64``; position is the number.
    """

    def __init__(self, raw: pa.Array | Sequence[Any] | np.ndarray) -> None:
        array = raw if isinstance(raw, pa.Array) else pa.array(raw)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if len(array) == 0:
            array = array.cast(pa.string())
        elif pa.types.is_integer(array.type):
            array = array.cast(pa.int64())
        elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            array = array.cast(pa.string())
        else:
            raise DataError("ids must be all strings or all integers.", value=str(array.type))
        self.raw: pa.Array = array

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> tuple[Vocabulary, np.ndarray]:
        """Number a column of raw ids by first appearance; return the vocabulary and ``int32[n]``."""
        encoded = pc.dictionary_encode(column)
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks() if encoded.num_chunks != 1 else encoded.chunk(0)
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.unify_dictionaries().chunk(0)
        return cls(encoded.dictionary), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)

    @classmethod
    def range(cls, n: int) -> Vocabulary:
        """Number the integers ``0 … n - 1`` as themselves."""
        return cls(pa.array(np.arange(n, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.raw.equals(other.raw)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _numbers(self) -> dict[Any, int]:
        return {raw: number for number, raw in enumerate(self.raw.to_pylist())}

    @property
    def is_text(self) -> bool:
        """Whether raw ids are strings."""
        return bool(pa.types.is_string(self.raw.type))

    def coerce(self, raw: Any) -> Any:
        """Turn one raw id given from outside (a command line, JSON) into this vocabulary's type."""
        if self.is_text:
            return str(raw)
        try:
            return int(raw)
        except (TypeError, ValueError):
            return None

    def number(self, raw: Any) -> int:
        """Return the number of one raw id, or -1 if it is unknown."""
        return self._numbers.get(self.coerce(raw), -1)

    def encode(self, raw: pa.Array | pa.ChunkedArray | Sequence[Any] | np.ndarray) -> np.ndarray:
        """Return ``int32[n]`` numbers of raw ids; unknown ones are -1."""
        if isinstance(raw, (pa.Array, pa.ChunkedArray)):
            column = raw.cast(self.raw.type) if raw.type != self.raw.type else raw
            found = pc.index_in(column, value_set=self.raw).fill_null(-1)
            return np.asarray(found.to_numpy()).astype(np.int32)
        number, coerce = self._numbers.get, str if self.is_text else self.coerce
        return np.fromiter((number(coerce(r), -1) for r in raw), dtype=np.int32, count=len(raw))

    def without(self, numbers: np.ndarray) -> Vocabulary:
        """Return the vocabulary with some raw ids replaced by unguessable ones of the same type (numbers don't change)."""
        raw = self.raw.to_pylist()
        for number in np.asarray(numbers).tolist():
            raw[number] = f"forgotten-{secrets.token_hex(16)}" if self.is_text else -1 - secrets.randbits(62)
        return Vocabulary(pa.array(raw, self.raw.type))

    def decode(self, numbers: np.ndarray) -> pa.Array:
        """Return the raw ids of numbers (any shape is flattened); -1 gives null."""
        flat = np.asarray(numbers).ravel()
        return self.raw.take(pa.array(flat, mask=flat < 0))
