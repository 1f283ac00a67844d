"""Epochs over (person, item had, item not had) triples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.training.samplers import Unseen


@dataclass(frozen=True)
class Triples:
    """A batch: ``int32[m]`` people, items that they had, and items that they had not (-1 where there is none)."""

    users: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


class Pairs:
    """The distinct (user, item) pairs of a training matrix, in a new order each epoch.

    Parameters
    ----------
    matrix
        Users x items.
    batch_size
        Pairs of a batch; the last one of an epoch may be smaller.
    """

    def __init__(self, matrix: sparse.csr_matrix, batch_size: int) -> None:
        self.unseen = Unseen(matrix)
        self.batch_size = batch_size
        lengths = np.diff(self.unseen.offsets)
        self.users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self.items = self.unseen.columns

    def epoch(self, rng: np.random.Generator, *, negatives: bool = True) -> Epoch:
        """Return the batches of one epoch; without ``negatives`` they are all -1."""
        order = rng.permutation(len(self.users))
        users, items = self.users[order], self.items[order]
        others = self.unseen.sample_for(rng, users) if negatives else np.full(len(users), -1, np.int32)
        return Epoch(Triples(users, items, others), self.batch_size)


@dataclass(frozen=True)
class Epoch:
    """All triples of an epoch, cut into batches."""

    triples: Triples
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.triples) // self.batch_size)

    def __iter__(self) -> Iterator[Triples]:
        whole = self.triples
        for start in range(0, len(whole), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Triples(whole.users[part], whole.positives[part], whole.negatives[part])
