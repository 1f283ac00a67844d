"""Samplers of negatives: where the items that a loss pushes down come from.

Every sampler has ``sample(rng, shape)`` (``int32`` item numbers, with repeats). Those with a known distribution also give
``log_q(items)`` and negatives that a whole batch shares, with the chance of being among them. Generators are passed. Exact
uniform draws from what a person has not had are in :class:`Unseen`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy import sparse

from palate.errors import ConfigError
from palate.kernels.negatives import draw_missing

Shape = int | tuple[int, ...]


class Sampler(Protocol):
    """Draws items."""

    def sample(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return ``int32`` draws of a shape."""


class Weighted:
    """Items from a given distribution: one random number and a binary search a draw.

    Parameters
    ----------
    q
        ``float64[n_items]`` probabilities, summing to one.
    """

    def __init__(self, q: np.ndarray) -> None:
        _check(len(q) > 0, "there is no item to draw.", len(q))
        self.q, self.edges = q, np.cumsum(q)

    def sample(self, rng: np.random.Generator, shape: Shape, positives: np.ndarray | None = None) -> np.ndarray:
        """Return ``int32`` draws of a shape; ``positives`` of the batch matter to :class:`InBatch` alone."""
        found = np.searchsorted(self.edges, rng.random(shape) * self.edges[-1], side="right")
        return np.minimum(found, len(self.q) - 1).astype(np.int32)

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Return ``float32`` log probabilities of a draw (``-inf`` for items never drawn)."""
        with np.errstate(divide="ignore"):
            return np.log(self.q[items]).astype(np.float32)

    def shared(self, rng: np.random.Generator, n: int, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return negatives for a whole batch: the distinct items of ``n`` draws (``int64``, ascending), and their ``log π``."""
        items = np.unique(self.sample(rng, n)).astype(np.int64)
        return items, self.log_inclusion(items, n)

    def log_inclusion(self, items: np.ndarray, n: int) -> np.ndarray:
        """Return ``float32``: the log of ``π_j = 1 - (1 - q_j)^n``, the chance that an item is among ``n`` draws.

        Taking ``log π_j`` from its score makes the sum of exponentials over the drawn items an unbiased estimate of the sum
        over all items (Horvitz-Thompson; ``π_j ≈ n q_j`` gives the usual logQ correction).
        """
        with np.errstate(divide="ignore"):
            return np.log(-np.expm1(n * np.log1p(-self.q[items]))).astype(np.float32)


class Uniform(Weighted):
    """Every item alike."""

    def __init__(self, n_items: int) -> None:
        super().__init__(np.full(n_items, 1 / max(1, n_items)))


class Popularity(Weighted):
    """Items in proportion to ``(count + smooth) ** power``.

    Parameters
    ----------
    counts
        ``[n_items]`` training counts; without ``smooth`` an item of count 0 is never drawn (for ``power > 0``).
    power
        0 is uniform, 1 is the training distribution; 0.75 is usual.
    """

    def __init__(self, counts: np.ndarray, power: float = 0.75, smooth: float = 0.0) -> None:
        weights = (np.asarray(counts, np.float64) + smooth) ** power
        _check(len(weights) > 0 and bool(np.isfinite(weights).all()) and weights.sum() > 0, "no item has a count.", power)
        super().__init__(weights / weights.sum())


class Mixed(Weighted):
    """Half of the draws uniform, half by popularity: every item has a fair chance, and popular ones more of it."""

    def __init__(self, counts: np.ndarray, power: float = 0.75, smooth: float = 0.0) -> None:
        super().__init__((Uniform(len(counts)).q + Popularity(counts, power, smooth).q) / 2)


class InBatch(Popularity):
    """The positives of other rows of the batch: an item is drawn as often as it is someone's positive.

    ``log_q`` is that of the training distribution, which batches follow.
    """

    def __init__(self, counts: np.ndarray) -> None:
        super().__init__(counts, 1.0)

    def sample(self, rng: np.random.Generator, shape: Shape, positives: np.ndarray | None = None) -> np.ndarray:
        """Return ``int32`` draws from the positives of the batch."""
        _check(positives is not None and len(positives) > 0, "in-batch negatives need the positives of the batch.", 0)
        assert positives is not None
        return np.asarray(positives, np.int32)[rng.integers(0, len(positives), shape)]

    def shared(self, rng: np.random.Generator, n: int, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct positives of the batch, however many; the others of a row are ``len(positives) - 1`` draws."""
        items = np.unique(positives).astype(np.int64)
        return items, self.log_inclusion(items, max(1, len(positives) - 1))


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
    The distribution depends on the model, so no probability is known, and no correction by it. This is dynamic negative
    sampling: W. Zhang et al., SIGIR 2013.
    """

    def __init__(self, pool: Sampler, n_candidates: int, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        _check(n_candidates > 0, "hard negatives need candidates.", n_candidates)
        self.pool, self.n_candidates, self.score = pool, n_candidates, score

    def sample(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return ``int32`` negatives of shape ``m`` or ``(m, n)``: one row of candidates for each negative of each row."""
        rows, width = shape if isinstance(shape, tuple) and len(shape) == 2 else (_first(shape), 1)
        candidates = self.pool.sample(rng, (rows * width, self.n_candidates))
        scores = self.score(np.repeat(np.arange(rows), width), candidates)
        best = np.take_along_axis(candidates, scores.argmax(1)[:, None], 1)[:, 0]
        return best.reshape(shape)


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

    def of(self, users: np.ndarray) -> UnseenOf:
        """Return a sampler whose row ``r`` draws for ``users[r]``."""
        return UnseenOf(self, users)


class UnseenOf:
    """A :class:`Sampler` of what each person of a batch has not had."""

    def __init__(self, unseen: Unseen, users: np.ndarray) -> None:
        self.unseen, self.users = unseen, users

    def sample(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """Return ``int32`` draws of shape ``m`` or ``(m, c)``, ``m`` being the number of people."""
        width = 1 if isinstance(shape, int) else int(np.prod(shape[1:]))
        return self.unseen.sample_for(rng, np.repeat(self.users, width)).reshape(shape)


def _first(shape: Shape) -> int:
    return shape if isinstance(shape, int) else shape[0]


def _check(good: bool, what: str, value: object) -> None:
    if not good:
        raise ConfigError(what, where="sampler", value=value)
