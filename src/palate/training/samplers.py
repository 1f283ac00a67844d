"""Samplers of negatives: where the items that a loss pushes down come from.

Every sampler has ``sample(rng, shape)`` (``int32`` item numbers, with repeats) and ``log_q(items)`` (log probability of a
draw). Generators are passed. Exact uniform draws from what a person has not had are in :class:`Unseen`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy import sparse

from palate.errors import ConfigError
from palate.kernels.negatives import draw_missing


class Sampler(Protocol):
    """Draws items from one distribution."""

    def sample(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return ``int32`` draws of a shape."""

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Return ``float32`` log probabilities of items (``-inf`` for those never drawn)."""


class Uniform:
    """Every item alike."""

    def __init__(self, n_items: int) -> None:
        _check(n_items > 0, "there is no item to draw.", n_items)
        self.n_items = n_items

    def sample(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return ``int32`` draws of a shape."""
        return rng.integers(0, self.n_items, shape, dtype=np.int32)

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Return ``float32`` log probabilities of items."""
        return np.full(np.shape(items), -np.log(self.n_items), np.float32)


class Popularity:
    """Items in proportion to ``count ** power``.

    Drawing uses the alias method: two random numbers a draw, whatever the size of the catalogue.

    Parameters
    ----------
    counts
        ``[n_items]`` training counts; an item of count 0 is never drawn (for ``power > 0``).
    power
        0 is uniform, 1 is the training distribution; 0.75 is usual.
    """

    def __init__(self, counts: np.ndarray, power: float = 0.75) -> None:
        weights = np.asarray(counts, np.float64) ** power
        _check(len(weights) > 0 and bool(np.isfinite(weights).all()) and weights.sum() > 0, "no item has a count.", power)
        self.q = weights / weights.sum()
        self._bar, self._other = _alias(self.q)

    def sample(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return ``int32`` draws of a shape."""
        cell = rng.integers(0, len(self.q), shape, dtype=np.int32)
        return np.where(rng.random(shape) < self._bar[cell], cell, self._other[cell]).astype(np.int32)

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Return ``float32`` log probabilities of items."""
        with np.errstate(divide="ignore"):
            return np.log(self.q[items]).astype(np.float32)


class InBatch:
    """The positives of other rows: an item is drawn as often as it is someone's positive.

    ``sample`` draws from a batch set by :meth:`use`; ``log_q`` is that of the training distribution, which batches follow.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self._whole = Popularity(counts, 1.0)
        self.batch = np.empty(0, np.int32)

    def use(self, positives: np.ndarray) -> InBatch:
        """Set the batch's positives; return self."""
        self.batch = np.asarray(positives, np.int32)
        return self

    def sample(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return ``int32`` draws from the batch."""
        _check(len(self.batch) > 0, "no batch was set.", 0)
        return self.batch[rng.integers(0, len(self.batch), shape)]

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Return ``float32`` log probabilities of items."""
        return self._whole.log_q(items)


class Hard:
    """The highest scored of several candidates that another sampler drew.

    Parameters
    ----------
    pool
        Where candidates come from.
    n_candidates
        Candidates for each negative.
    score
        ``score(rows, items)``: scores ``float[m, c]`` of candidates ``int32[m, c]`` for the rows of the batch ``int[m]``.

    Notes
    -----
    The distribution depends on the model, so there is no ``log_q``; asking for it is an error. This is dynamic negative
    sampling: Zhang et al., SIGIR 2013.
    """

    def __init__(self, pool: Sampler, n_candidates: int, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        _check(n_candidates > 0, "hard negatives need candidates.", n_candidates)
        self.pool, self.n_candidates, self.score = pool, n_candidates, score

    def sample(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return ``int32`` negatives of shape ``m`` or ``(m, n)``: one row of candidates for each negative of each row."""
        rows, width = shape if isinstance(shape, tuple) and len(shape) == 2 else (_first(shape), 1)
        candidates = self.pool.sample(rng, (rows * width, self.n_candidates))
        scores = self.score(np.repeat(np.arange(rows), width), candidates)
        best = np.take_along_axis(candidates, scores.argmax(1)[:, None], 1)[:, 0]
        return best.reshape(shape)

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Raise: the distribution changes with the model."""
        raise ConfigError(
            "hard negatives have no known probability.", where="log_q", remedy="use uniform or popularity negatives with logQ"
        )


class Unseen:
    """Items that a person has not had, uniformly and exactly (no rejection).

    Parameters
    ----------
    matrix
        Users x items matrix of what was had.
    """

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        matrix.sort_indices()
        self.offsets, self.columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.n_items = int(matrix.shape[1])

    def sample_for(self, rng: np.random.Generator, users: np.ndarray) -> np.ndarray:
        """Return ``int32[m]``: an item for each of ``users``; -1 for a person who has had everything."""
        return draw_missing(self.offsets, self.columns, users, self.n_items, int(rng.integers(2**63)))


def _alias(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bars and alternatives of Vose's alias method."""
    n = len(q)
    bar, other = q * n, np.arange(n, dtype=np.int32)
    small, large = list(np.flatnonzero(bar < 1)), list(np.flatnonzero(bar >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        bar[high] -= 1 - bar[low]
        if bar[high] < 1:
            small.append(large.pop())
    bar[small + large] = 1.0
    return bar, other


def _first(shape: int | tuple[int, ...]) -> int:
    return shape if isinstance(shape, int) else shape[0]


def _check(good: bool, what: str, value: object) -> None:
    if not good:
        raise ConfigError(what, where="sampler", value=value)
