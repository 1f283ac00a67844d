"""Rows brought to length one, and the way back for their gradient."""

from __future__ import annotations

import numpy as np

#: Vectors shorter than this count as this long.
TINY = 1e-12


class Unit:
    """Rows ``float[n, d]`` over their lengths.

    Attributes
    ----------
    lengths, rows
        ``float[n, 1]`` and ``float[n, d]``, of the type of the rows.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY).astype(rows.dtype)
        self.rows = rows / self.lengths

    def back(self, slope: np.ndarray) -> np.ndarray:
        """Return the gradient by the rows as they came, from that by the unit rows."""
        along = np.einsum("nd,nd->n", slope, self.rows)[:, None]
        back: np.ndarray = (slope - along * self.rows) / self.lengths
        return back
