"""Growing arrays: filled batch by batch, without a second copy at the end."""

from __future__ import annotations

import numpy as np


class Growing:
    """A one-dimensional array that takes batches.

    Parameters
    ----------
    dtype
        Type of the result.
    n_hint
        Final length where it is known; else the array grows by a quarter.
    """

    def __init__(self, dtype: np.typing.DTypeLike, n_hint: int | None = None) -> None:
        self._data: np.ndarray = np.empty(n_hint or 0, dtype)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def extend(self, values: np.ndarray) -> None:
        """Append a batch."""
        stop = self._n + len(values)
        if stop > len(self._data):
            self._data.resize(max(stop, len(self._data) + len(self._data) // 4, 1024), refcheck=False)
        self._data[self._n : stop] = values
        self._n = stop

    def scale(self, factor: int) -> None:
        """Multiply what is held."""
        self._data[: self._n] *= factor

    def array(self) -> np.ndarray:
        """Return the result and give it away."""
        data, self._data = self._data, np.empty(0, self._data.dtype)
        if len(data) != self._n:
            data.resize(self._n, refcheck=False)
        return data
