"""Interactions as a model of search and recommendation learns them: with the query that led there, or with none.

Rows that a search led to come first, so that demands told by queries and guessed ones are two blocks of one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from palate.data.dataset import Dataset
from palate.data.query_words import QueryWords, counts_of, top_words, top_words_without
from palate.data.ragged import Ragged, offsets_of, row_positions
from palate.data.search_events import query_texts, searches_of_events
from palate.nn.sparse import Sparse
from palate.training.samplers import Unseen


@dataclass(frozen=True, eq=False)
class Lists:
    """The words used most: by people, and for items.

    Attributes
    ----------
    people, items
        A row each.
    people_left, items_left
        A row for each told interaction: of its person and of its item, without its own query.
    """

    people: Ragged
    items: Ragged
    people_left: Ragged
    items_left: Ragged


@dataclass(frozen=True, eq=False)
class SearchRows:
    """All interactions of training.

    Attributes
    ----------
    users, items
        ``int64[n]``, those that a search led to first.
    bags
        ``float32[n_told, words]``: the words of those searches.
    searches
        ``int64[n_told]``: number of each search, which may have led to several interactions.
    n_users, n_items
        Of the data set.
    """

    users: np.ndarray
    items: np.ndarray
    bags: sparse.csr_matrix
    searches: np.ndarray
    n_users: int
    n_items: int

    @classmethod
    def of(
        cls, dataset: Dataset, tokens: Callable[[str], list[str]], *, longest: int, most: int, within: int
    ) -> tuple[Self, QueryWords]:
        """Read the rows of a data set, and the words of their queries.

        Parameters
        ----------
        tokens
            Splits a query into words.
        longest, most
            Words of a query that are read, and words that are known.
        within
            As in :func:`palate.data.search_events.searches_of_events`.

        Notes
        -----
        A query without any known word led to nothing that could be learnt: its interaction counts as recommended.
        """
        events, led = dataset.interactions, searches_of_events(dataset, within=within)
        texts, told = query_texts(dataset), np.flatnonzero(led >= 0)
        queries = [tokens(texts[row])[:longest] for row in led[told]]
        words = QueryWords.learn(queries, longest, most)
        bags = words.bags(queries)
        full = np.diff(bags.indptr) > 0
        rest = np.ones(len(events), bool)
        rest[told[full]] = False
        order = np.concatenate([told[full], np.flatnonzero(rest)])
        users, items = events.user[order].astype(np.int64), events.item[order].astype(np.int64)
        searches = led[told[full]].astype(np.int64)
        return cls(users, items, sparse.csr_matrix(bags[full]), searches, dataset.n_users, dataset.n_items), words

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_told(self) -> int:
        """Interactions that a search led to."""
        return int(self.bags.shape[0])

    @cached_property
    def queries(self) -> Sparse:
        """The bags, to be multiplied with."""
        return Sparse.of(self.bags)

    def lists(self, own: int, led: int, *, leave_out: bool) -> Lists:
        """Return the ``own`` words that each person used most, and the ``led`` that led to each item most.

        Without ``leave_out`` the lists of an interaction count its own query like any other; with it, a query that led to
        several interactions is left out of each of them whole.
        """
        users, items = self.users[: self.n_told], self.items[: self.n_told]
        by_user, by_item = counts_of(users, self.bags, self.n_users), counts_of(items, self.bags, self.n_items)
        people, things = top_words(by_user, own), top_words(by_item, led)
        if not leave_out:
            return Lists(people, things, people.take(users), things.take(items))
        mine, its = self._as_often(users), self._as_often(items)
        return Lists(people, things, top_words_without(by_user, users, mine, own), top_words_without(by_item, items, its, led))

    def _as_often(self, owners: np.ndarray) -> sparse.csr_matrix:
        """Return each bag as often as its owner counts that search."""
        pairs = np.stack([owners, self.searches])
        _, at, times = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        data = self.bags.data * np.repeat(times[at.ravel()], np.diff(self.bags.indptr)).astype(np.float32)
        return sparse.csr_matrix((data, self.bags.indices, self.bags.indptr), shape=self.bags.shape)

    def told(self) -> ToldPairs:
        """Return what queries say of each pair of a person and an item."""
        keys, at, times = np.unique(self.users * self.n_items + self.items, return_inverse=True, return_counts=True)
        mine = at[: self.n_told]
        shape = (len(keys), self.n_told)
        mean = sparse.csr_matrix((1 / times[mine].astype(np.float64), (mine, np.arange(self.n_told))), shape=shape)
        share = np.asarray(mean.sum(1)).ravel()
        kept = np.flatnonzero(share > 0)
        words = sparse.csr_matrix((mean @ self.bags)[kept])
        offsets = offsets_of(np.bincount(keys[kept] // self.n_items, minlength=self.n_users))
        items = (keys[kept] % self.n_items).astype(np.int32)
        ends, values, weights = words.indptr.astype(np.int64), words.indices.astype(np.int32), words.data.astype(np.float32)
        return ToldPairs(offsets, items, share[kept].astype(np.float32), ends, values, weights)


@dataclass(frozen=True, eq=False)
class ToldPairs:
    """Pairs of a person and an item that a query led to at least once.

    Attributes
    ----------
    offsets, items
        ``int64[n_users + 1]`` and ``int32[p]``: the items of each person, ascending.
    shares
        ``float32[p]``: of the pair's interactions, how many a query led to.
    ends, words, weights
        ``int64[p + 1]``, ``int32[m]``, ``float32[m]``: the sum of those queries' words, over the number of interactions.
    """

    offsets: np.ndarray
    items: np.ndarray
    shares: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    weights: np.ndarray

    def mixed(self, users: np.ndarray, items: np.ndarray, guessed: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return ``float32[n, d]``: the mean demand of pairs, told as far as it was, else as guessed.

        Parameters
        ----------
        users, items
            ``int[n]``; -1 for somebody unknown.
        guessed, vectors
            ``float32[n, d]``, and ``float32[n_words, d]`` of words.
        """
        if len(self.items) == 0 or len(users) == 0:
            return guessed
        width = int(max(self.items.max(), np.max(items))) + 1
        known = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets)) * width + self.items
        wanted = np.asarray(users, np.int64) * width + items
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        hit = np.flatnonzero((known[place] == wanted) & (np.asarray(users) >= 0))
        at = place[hit]
        ends, flat = row_positions(self.ends, at)
        told = Sparse(ends, self.words[flat], self.weights[flat], len(vectors)).product(vectors)
        out = guessed.copy()
        out[hit] = told + (1 - self.shares[at])[:, None] * guessed[hit]
        return out

    def without(self, users: np.ndarray) -> ToldPairs:
        """Return them without those of some people."""
        lengths = np.diff(self.offsets)
        lengths[users] = 0
        gone = np.zeros(len(lengths), bool)
        gone[users] = True
        kept = np.flatnonzero(~np.repeat(gone, np.diff(self.offsets)))
        ends, flat = row_positions(self.ends, kept)
        return ToldPairs(offsets_of(lengths), self.items[kept], self.shares[kept], ends, self.words[flat], self.weights[flat])

    def packed(self) -> dict[str, np.ndarray]:
        """Return them as arrays."""
        names = ("offsets", "items", "shares", "ends", "words", "weights")
        return {f"told/{name}": getattr(self, name) for name in names}

    @classmethod
    def unpacked(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Take back what :meth:`packed` gave."""
        return cls(*(state[f"told/{name}"] for name in ("offsets", "items", "shares", "ends", "words", "weights")))


@dataclass(frozen=True)
class RowBatch:
    """Rows of a batch ``int64[b]``, and for each an item that its person never had ``int32[b]`` (-1 where there is none)."""

    rows: np.ndarray
    negatives: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class RowEpoch:
    """All rows in a new order, cut into batches."""

    whole: RowBatch
    batch_size: int

    @classmethod
    def draw(cls, rows: SearchRows, unseen: Unseen, batch_size: int, rng: np.random.Generator) -> Self:
        """Draw the order, and the negatives."""
        order = rng.permutation(len(rows))
        return cls(RowBatch(order, unseen.sample_for(rng, rows.users[order].astype(np.int32))), batch_size)

    def __len__(self) -> int:
        return -(-len(self.whole) // self.batch_size)

    def __iter__(self) -> Iterator[RowBatch]:
        for start in range(0, len(self.whole), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield RowBatch(self.whole.rows[part], self.whole.negatives[part])
