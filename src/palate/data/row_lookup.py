"""Lookup: the places of a column's values in a vocabulary, by a table that is built once and not for every block of rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.kernels.vocabulary import find_numbers, find_texts, number_slots, text_slots


@dataclass(frozen=True)
class Lookup:
    """A vocabulary that values are looked up in.

    Attributes
    ----------
    values
        The vocabulary: ``string`` or ``int64``, without nulls.
    """

    values: pa.Array
    _slots: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        made = text_slots(*_texts(self.values)) if self._is_text else number_slots(_numbers(self.values))
        object.__setattr__(self, "_slots", made)

    @property
    def _is_text(self) -> bool:
        return bool(pa.types.is_string(self.values.type))

    def places(self, column: pa.Array) -> np.ndarray:
        """Return ``int32[n]``: the place of each value, -1 where it isn't there (what a missing value has, means nothing).

        Parameters
        ----------
        column
            ``string`` or ``int64``; where its type is not the vocabulary's, texts are compared.
        """
        if column.type != self.values.type:
            found = pc.index_in(column.cast(pa.string()), value_set=self.values.cast(pa.string()))
            return np.array(pc.fill_null(found, -1), np.int32)
        if self._is_text:
            return find_texts(*_texts(column), _texts(self.values), self._slots)
        return find_numbers(_numbers(column), _numbers(self.values), self._slots)


def _texts(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return ``int32[n + 1]`` offsets and ``uint8`` bytes of an array of texts, without a copy."""
    _, offsets, data = column.buffers()
    if not len(column):
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return bounds, np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def _numbers(column: pa.Array) -> np.ndarray:
    if not len(column):
        return np.zeros(0, np.int64)
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
