"""Dense item-item matrices in one buffer: the Gram matrix of a sparse matrix of ones, and EASE's weights from its inverse.

Only the upper triangle is built, factorised and inverted; the last step fills both triangles in place. A catalogue of ``n``
items never takes more than one ``n x n`` array.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_spans

#: Rows and columns of a tile of the symmetric fill: two tiles stay in the first cache.
TILE = 32


def upper_gram_reference(user_offsets: np.ndarray, items: np.ndarray, out: np.ndarray) -> None:
    """Add to the upper triangle of ``out`` (``float[n, n]``) how many users have both of two items, by the plain definition.

    Parameters
    ----------
    user_offsets, items
        CSR rows of the users, items distinct and ascending within a row.
    """
    for user in range(len(user_offsets) - 1):
        own = items[user_offsets[user] : user_offsets[user + 1]]
        for at, item in enumerate(own):
            out[item, own[at:]] += 1


def upper_gram(
    user_offsets: np.ndarray, items: np.ndarray, item_offsets: np.ndarray, users: np.ndarray, out: np.ndarray
) -> None:
    """As :func:`upper_gram_reference`, fast; needs the transposed matrix too (``item_offsets``, ``users``)."""
    lengths = np.diff(user_offsets).astype(np.float64)
    spans = even_spans(item_offsets)
    each_span(lambda a, b: _upper_gram(user_offsets, items, item_offsets, users, out, a, b), spans, int(lengths @ lengths))


def ease_weights_reference(upper: np.ndarray) -> np.ndarray:
    """Return ``B_ij = -P_ij / P_jj`` with a zero diagonal, from the upper triangle of a symmetric ``P``."""
    whole = np.triu(upper) + np.triu(upper, 1).T
    weights = -whole / np.diag(whole)[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights


def ease_weights(upper: np.ndarray) -> None:
    """As :func:`ease_weights_reference`, in place, tile by tile."""
    tiles = -(-len(upper) // TILE)
    own = np.diag(upper).copy()
    each_span(lambda a, b: _fill(upper, own, a, b), np.arange(tiles + 1), upper.size * 8)


@compiled()
def _upper_gram(user_offsets, items, item_offsets, users, out, low, high):  # type: ignore[no-untyped-def]
    for item in range(low, high):
        row = out[item]
        for at in range(item_offsets[item], item_offsets[item + 1]):
            user = users[at]
            first, last = user_offsets[user], user_offsets[user + 1]
            left, right = first, last
            while left < right:
                middle = (left + right) // 2
                if items[middle] < item:
                    left = middle + 1
                else:
                    right = middle
            for other in range(left, last):
                row[items[other]] += 1


@compiled()
def _fill(p, own, low, high):  # type: ignore[no-untyped-def]
    n = p.shape[0]
    for tile in range(low, high):
        top, bottom = tile * TILE, min(n, (tile + 1) * TILE)
        for left in range(top, n, TILE):
            right = min(n, left + TILE)
            for i in range(top, bottom):
                for j in range(max(left, i + 1), right):
                    value = p[i, j]
                    p[i, j] = -value / own[j]
                    p[j, i] = -value / own[i]
        for i in range(top, bottom):
            p[i, i] = 0.0
