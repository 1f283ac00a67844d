"""Epochs over (person, item had, item not had) triples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.data.ragged import take_rows
from palate.training.samplers import Hard, Unseen


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
    evenly
        Draw, with repeats, as many pairs as there are: a person, all alike, then one of their items. Otherwise every pair
        comes once, so that people count by the length of their history.
    """

    def __init__(self, matrix: sparse.csr_matrix, batch_size: int, *, evenly: bool = False) -> None:
        self.unseen = Unseen(matrix)
        self.batch_size, self.evenly = batch_size, evenly
        lengths = np.diff(self.unseen.offsets)
        self.users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self.items = self.unseen.columns

    def epoch(self, rng: np.random.Generator, *, negatives: bool = True) -> Epoch:
        """Return the batches of one epoch; without ``negatives`` they are all -1."""
        order = self._evenly(rng) if self.evenly else rng.permutation(len(self.users))
        users, items = self.users[order], self.items[order]
        others = self.unseen.sample_for(rng, users) if negatives else np.full(len(users), -1, np.int32)
        return Epoch(Triples(users, items, others), self.batch_size)

    def _evenly(self, rng: np.random.Generator) -> np.ndarray:
        """Return places of drawn pairs: people alike, then their items alike."""
        lengths = np.diff(self.unseen.offsets)
        people = rng.choice(np.flatnonzero(lengths), len(self.users)) if len(self.users) else np.empty(0, np.int64)
        return self.unseen.offsets[people] + rng.integers(0, lengths[people])

    def epoch_hard(
        self, rng: np.random.Generator, n_candidates: int, score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> HardEpoch:
        """Return the batches of one epoch whose negatives are the highest scored of several, chosen when a batch is due.

        Parameters
        ----------
        score
            ``score(users, items)``: scores ``float[m, c]`` of candidates ``int32[m, c]`` for people ``int32[m]``; a candidate
            may be -1, which must not score highest.
        """
        return HardEpoch(self, self.epoch(rng, negatives=False), rng, n_candidates, score)

    def epoch_of_people(self, rng: np.random.Generator) -> People:
        """Return the batches of one epoch, each with all pairs of some people, by ascending person: about ``batch_size``."""
        people = rng.permutation(np.flatnonzero(np.diff(self.unseen.offsets))).astype(np.int32)
        done = np.cumsum(np.diff(self.unseen.offsets)[people])
        cuts = np.flatnonzero(np.diff((done - 1) // self.batch_size)) + 1
        return People(self, np.split(people, cuts))


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


@dataclass(frozen=True)
class HardEpoch:
    """The batches of an epoch with hard negatives, made one at a time."""

    pairs: Pairs
    batches: Epoch
    rng: np.random.Generator
    n_candidates: int
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Triples]:
        for batch in self.batches:
            yield Triples(batch.users, batch.positives, self._hardest(batch.users))

    def _hardest(self, users: np.ndarray) -> np.ndarray:
        unseen = self.pairs.unseen.of(users)
        return Hard(unseen, self.n_candidates, lambda rows, items: self.score(users[rows], items)).sample(self.rng, len(users))


@dataclass(frozen=True)
class People:
    """Batches that hold people whole."""

    pairs: Pairs
    groups: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Triples]:
        rows = self.pairs.unseen
        for group in self.groups:
            people = np.sort(group)
            offsets, items = take_rows(rows.offsets, people, rows.columns)
            users = np.repeat(people, np.diff(offsets))
            yield Triples(users, items, np.full(len(items), -1, np.int32))
