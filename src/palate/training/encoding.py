"""Encode histories in pieces of fixed shape, so that an answer has the same bits alone, in a batch, and in any order.

A matrix product in BLAS may sum in an order that depends on the number of rows. So each history is laid into a row whose
width depends on its own length alone, and rows are answered in pieces of a fixed number for that width, filled up with
unused rows. The cost of one request is that of one small piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from palate.data.histories import Histories

#: Positions of one piece.
PIECE = 1024


@dataclass(frozen=True)
class Piece:
    """Some histories in rows of equal width, oldest first, padding (item 0) on the right.

    Attributes
    ----------
    rows
        ``int64[m]`` which histories the first ``m`` rows hold.
    items
        ``int64[height, width]``.
    lengths
        ``int64[height]`` events of each row (1 in unused rows).
    """

    rows: np.ndarray
    items: np.ndarray
    lengths: np.ndarray


def widths(max_len: int) -> list[int]:
    """Return the row widths in use: 8, 16, 32 … and ``max_len``."""
    out = [8]
    while out[-1] < max_len:
        out.append(out[-1] * 2)
    return [w for w in out if w < max_len] + [max_len]


def pieces(histories: Histories, max_len: int, size: int = PIECE) -> Iterator[Piece]:
    """Cut histories to their last ``max_len`` events and lay them into pieces; empty ones are left out."""
    kept = np.minimum(histories.lengths, max_len)
    shorter = 0
    for width in widths(max_len):
        rows = np.flatnonzero((kept > shorter) & (kept <= width))
        height = max(1, size // width)
        for start in range(0, len(rows), height):
            yield _piece(histories, rows[start : start + height], kept, (height, width))
        shorter = width


def encode_last(
    histories: Histories, max_len: int, dim: int, encode: Callable[[Piece], np.ndarray], size: int = PIECE
) -> np.ndarray:
    """Return ``float32[n, dim]``: the state after each history (zero for an empty one).

    Parameters
    ----------
    encode
        Gives ``float32[height, dim]`` for a piece: the state at each row's last event.
    """
    out = np.zeros((len(histories), dim), np.float32)
    for piece in pieces(histories, max_len, size):
        out[piece.rows] = encode(piece)[: len(piece.rows)]
    return out


def _piece(histories: Histories, rows: np.ndarray, kept: np.ndarray, shape: tuple[int, int]) -> Piece:
    lengths = np.ones(shape[0], np.int64)
    lengths[: len(rows)] = kept[rows]
    items = np.zeros(shape, np.int64)
    column = np.arange(shape[1])
    filled = column < lengths[: len(rows), None]
    source = (histories.offsets[rows + 1] - kept[rows])[:, None] + column
    items[: len(rows)][filled] = histories.items[source[filled]]
    return Piece(rows, items, lengths)
