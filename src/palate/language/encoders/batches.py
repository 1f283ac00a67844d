"""Token numbers in batches of like length, one batch a core.

Each core works on a batch of its own with one thread inside: threads that share one small product spend their time waiting for
each other, the more so on a machine that does other work. Longest batches go first, so that no core is left with a long one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from palate.runtime import threads


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer made of a text, or of a pair.

    Attributes
    ----------
    ids, types
        ``int32[length]``: numbers of the tokens, and which text of a pair each is of.
    """

    ids: np.ndarray
    types: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Rows of like length, padded on the right.

    Attributes
    ----------
    rows
        ``int64[b]``: which texts.
    ids, mask, types
        ``int64[b, length]``.
    """

    rows: np.ndarray
    ids: np.ndarray
    mask: np.ndarray
    types: np.ndarray


def batches(tokens: Sequence[Tokens], size: int) -> list[np.ndarray]:
    """Return rows of each batch, longest first; batches of one length come in the order of the rows."""
    order = np.argsort([-len(entry.ids) for entry in tokens], kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded(tokens: Sequence[Tokens], rows: np.ndarray, pad: int) -> Batch:
    """Return the arrays of a batch."""
    length = max(len(tokens[row].ids) for row in rows)
    ids, mask, types = np.full((len(rows), length), pad, np.int64), *(np.zeros((len(rows), length), np.int64) for _ in range(2))
    for at, row in enumerate(rows):
        own = tokens[row]
        ids[at, : len(own.ids)], types[at, : len(own.ids)], mask[at, : len(own.ids)] = own.ids, own.types, 1
    return Batch(rows, ids, mask, types)


def run(
    tokens: Sequence[Tokens],
    width: int,
    model: Callable[[Batch], np.ndarray],
    *,
    size: int,
    pad: int,
    workers: int | None = None,
) -> np.ndarray:
    """Return ``float32[n, width]``: what the model says of each row.

    Parameters
    ----------
    tokens
        Tokenized texts.
    width
        Length of what the model gives for a row.
    model
        From a batch to ``float32[b, width]``; called from several threads.
    size
        Rows in a batch.
    pad
        Number of the token that fills up.
    workers
        Threads; the process's own number where ``None``.
    """
    out = np.zeros((len(tokens), width), np.float32)
    plan = batches(tokens, size)

    def one(rows: np.ndarray) -> None:
        out[rows] = model(padded(tokens, rows, pad))

    count = min(workers or threads(), len(plan))
    if count <= 1:
        for rows in plan:
            one(rows)
    else:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(one, plan))
    return out


def pooled(states: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
    """Return a vector a row: the mean over its tokens, or the first token's (``"cls"``).

    Parameters
    ----------
    states
        ``float32[b, length, d]``.
    mask
        ``[b, length]``, 1 where a token stands.
    """
    if pooling == "cls":
        return np.ascontiguousarray(states[:, 0], np.float32)
    weights = mask.astype(np.float32)
    return np.einsum("bld,bl->bd", states, weights) / np.maximum(weights.sum(1, keepdims=True), 1)
