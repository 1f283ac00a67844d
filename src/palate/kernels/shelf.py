"""Large arrays that are used again: a step of a fit would else ask the system for the same memory, page by page, every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Most arrays of one form that wait.
MOST = 8
#: Makes an array from a shape and a number format, as :func:`numpy.empty` does.
Maker = Callable[..., np.ndarray]


class Shelf:
    """Arrays that are not in use, by shape and number format. One thread at a time may take and give."""

    def __init__(self) -> None:
        self._free: dict[tuple[tuple[int, ...], Any], list[np.ndarray]] = {}

    def take(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Return an array that may hold anything: one that was given back, if there is one of that form."""
        left = self._free.get((tuple(shape), np.dtype(dtype)))
        return left.pop() if left else np.empty(shape, dtype)

    def give(self, *arrays: np.ndarray) -> None:
        """Take arrays back. Nobody may use them any more, nor a view of them."""
        for array in arrays:
            waiting = self._free.setdefault((array.shape, array.dtype), [])
            if len(waiting) < MOST:
                waiting.append(array)
