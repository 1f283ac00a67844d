"""Words of queries as numbers: bags of words, the words used most by each person or for each item, with one query left out.

    c_o(w) = times that w stands in the queries of o           top_k(o) = the k words with the largest c_o
    leaving query q out                                        top_k(o | q) = the k words with the largest c_o - c_q

Words are numbered by falling count, then by spelling; of words with the same count the lower number comes first. Lists are
ragged: a query or list that is short is not filled up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from palate.data.ragged import Ragged, offsets_of, row_positions


@dataclass(frozen=True)
class QueryWords:
    """The words that queries are read in.

    Attributes
    ----------
    words
        By number.
    longest
        Words of a query that are read; the first ones.
    """

    words: tuple[str, ...]
    longest: int

    @classmethod
    def learn(cls, queries: Sequence[Sequence[str]], longest: int, most: int | None = None) -> Self:
        """Number the words of queries; only the ``most`` frequent ones, where given."""
        counts = Counter(word for query in queries for word in query[:longest])
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[:most]), longest)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def bags(self, queries: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        """Return ``float32[n, words]``: how often each known word stands in each query."""
        rows = [Counter(n for word in query[: self.longest] if (n := self._numbers.get(word)) is not None) for query in queries]
        columns = [np.array(sorted(row), np.int32) for row in rows]
        data = [np.array([row[n] for n in sorted(row)], np.float32) for row in rows]
        flat = (np.concatenate([np.empty(0, np.float32), *data]), np.concatenate([np.empty(0, np.int32), *columns]))
        return sparse.csr_matrix((*flat, offsets_of([len(row) for row in rows])), shape=(len(queries), len(self)))

    def packed(self) -> dict[str, np.ndarray]:
        """Return them as arrays."""
        coded = [word.encode("utf-8", "surrogatepass") for word in self.words]
        return {"words": np.frombuffer(b"".join(coded), np.uint8).copy(), "ends": offsets_of([len(word) for word in coded])}

    @classmethod
    def unpacked(cls, state: Mapping[str, np.ndarray], longest: int) -> Self:
        """Take back what :meth:`packed` gave."""
        text, ends = state["words"].tobytes(), state["ends"]
        pairs = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        return cls(tuple(text[a:b].decode("utf-8", "surrogatepass") for a, b in pairs), longest)


def counts_of(owners: np.ndarray, bags: sparse.csr_matrix, n: int) -> sparse.csr_matrix:
    """Return ``float32[n, words]``: how often each word stands in the queries of each owner (``int[m]``, one a bag)."""
    mine = sparse.csr_matrix((np.ones(len(owners), np.float32), (owners, np.arange(len(owners)))), shape=(n, len(owners)))
    total = sparse.csr_matrix(mine @ bags)
    total.sort_indices()
    return total


def top_words(counts: sparse.csr_matrix, k: int) -> Ragged:
    """Return the ``k`` words that each row counts most, most first; fewer where it has fewer."""
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    return _ranked(rows, counts.indices, counts.data, counts.shape[0], k)[0]


def top_words_without(counts: sparse.csr_matrix, owners: np.ndarray, bags: sparse.csr_matrix, k: int) -> Ragged:
    """Return the ``k`` words that the owner of each bag counts most when that bag is left out.

    Parameters
    ----------
    counts
        ``[n, words]`` counts of the owners, the bags among them.
    owners, bags
        ``int[m]`` owner of each bag, and ``[m, words]``.

    Notes
    -----
    A bag of ``b`` words lowers the counts of those alone, so the list is found among the owner's ``k + b`` first.
    """
    longest = int(np.diff(bags.indptr).max(initial=0))
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    wide, data = _ranked(rows, counts.indices, counts.data, counts.shape[0], k + longest)
    offsets, at = row_positions(wide.offsets, owners)
    row, word = np.repeat(np.arange(len(owners)), np.diff(offsets)), wide.values[at]
    left = data[at].copy()
    taken = np.repeat(np.arange(len(owners)), np.diff(bags.indptr)) * bags.shape[1] + bags.indices
    order = np.argsort(taken)
    key = row * bags.shape[1] + word
    place = np.minimum(np.searchsorted(taken[order], key), max(0, len(order) - 1))
    if len(order):
        hit = taken[order][place] == key
        left[hit] -= bags.data[order[place[hit]]]
    return _ranked(row, word, left, len(owners), k)[0]


def _ranked(rows: np.ndarray, words: np.ndarray, counts: np.ndarray, n: int, k: int) -> tuple[Ragged, np.ndarray]:
    """Return the ``k`` words of each row with the largest counts above zero, and those counts."""
    kept = np.flatnonzero(counts > 0)
    order = kept[np.lexsort((words[kept], -counts[kept], rows[kept]))]
    sizes = np.bincount(rows[order], minlength=n)
    starts = offsets_of(sizes)
    first = np.arange(len(order)) - np.repeat(starts[:-1], sizes) < k
    order = order[first]
    return Ragged(offsets_of(np.minimum(sizes, k)), words[order].astype(np.int32)), counts[order]
