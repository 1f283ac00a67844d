"""Facts: what metrics beyond accuracy need to know of the training data and of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy import sparse

from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest
from palate.kernels.list_metrics import Likeness, with_bitmaps
from palate.kernels.topk import tie_key

#: Beyond this many bytes counts of pairs are not kept; they are counted from sets of users as they are asked for.
MOST_BYTES, PAIR_BYTES = 2**27, 24
#: What two items may be compared by.
By = Literal["cooccurrence", "vectors", "categories"]


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of the catalogue, apart from any model.

    Attributes
    ----------
    item_counts
        ``int64[N]`` training interactions of each item of the catalogue.
    n_train_users
        Users with at least one training interaction.
    item_vectors
        ``float32[N, dim]``, or ``None``. Their cosine is the likeness of two items.
    categories
        Distinct category numbers of each item, ``N`` rows, or ``None``.
    cooccurrence
        Sparse ``N x N`` counts of users who have both items (the diagonal counts users of one item), or ``None``; then it is
        made from ``train`` when a metric first asks, where it is small enough.
    first_seen
        ``float64[N]`` time of each item's first training event (seconds since 1970; NaN where it has none), or ``None``.
    last_time
        Time of the last training event, or ``None``.
    train
        The training data, kept for ``cooccurrence``, or ``None``.
    """

    item_counts: np.ndarray
    n_train_users: int
    item_vectors: np.ndarray | None = None
    categories: Ragged | None = None
    cooccurrence: sparse.csr_matrix | None = None
    first_seen: np.ndarray | None = None
    last_time: int | None = None
    train: Dataset | None = None

    def __post_init__(self) -> None:
        for name in ("item_vectors", "categories", "first_seen"):
            column = getattr(self, name)
            if column is not None and len(column) != self.n_items:
                raise DataError(f"{name} has {len(column)} rows for {self.n_items} items.", remedy="give one row an item")
        if self.item_vectors is not None and not np.isfinite(self.item_vectors).all():
            raise DataError("item_vectors hold numbers that are not finite.", remedy="leave NaN and infinity out")

    @classmethod
    def of(
        cls,
        train: Dataset,
        *,
        item_vectors: np.ndarray | None = None,
        categories: str | Ragged | None = None,
    ) -> Facts:
        """Gather the facts of a training set.

        Parameters
        ----------
        train
            What models learnt from.
        item_vectors
            ``float[N, dim]``, where items are to be compared by vectors.
        categories
            Name of an item attribute (text, or lists of text), or ragged category numbers.
        """
        events = train.interactions
        first = last = None
        if events.time is not None and len(events):
            first = np.full(train.n_items, np.inf)
            np.minimum.at(first, events.item, events.time)
            first[np.isinf(first)] = np.nan
            last = int(events.time.max())
        topics = categories_of(train, categories) if isinstance(categories, str) else categories
        n_users = int((train.histories.lengths > 0).sum())
        return cls(train.item_counts, n_users, item_vectors, topics, None, first, last, train)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.item_counts)

    @cached_property
    def popular(self) -> np.ndarray:
        """``int64[N]`` items, most chosen first; equal counts rank by the tie rule."""
        return np.lexsort((tie_key(np.arange(self.n_items)), -self.item_counts))

    def tail(self, head: Literal["interactions", "items"], share: float) -> np.ndarray:
        """Return ``bool[N]``: items outside the head.

        The head is the fewest most popular items that hold ``share`` of the interactions, or ``share`` of the items.
        """
        ordered = self.item_counts[self.popular]
        before = np.cumsum(ordered) - ordered if head == "interactions" else np.arange(self.n_items)
        whole = ordered.sum() if head == "interactions" else self.n_items
        out = np.ones(self.n_items, bool)
        out[self.popular[before < share * whole]] = False
        return out

    def likeness(self, by: By) -> Likeness:
        """Return how alike items are (cosine of vectors, of category sets, or of the sets of users who chose them)."""
        known = self.__dict__.setdefault("_likeness", {})
        if by not in known:
            known[by] = {"vectors": self._by_vectors, "categories": self._by_categories, "cooccurrence": self._by_pairs}[by]()
        return known[by]

    def topics(self) -> Ragged:
        """Return the categories, or say how to give them."""
        if self.categories is None:
            raise _missing("categories", "Facts.of(train, categories=NAME), or compare(…, categories=NAME)")
        return self.categories

    def _by_vectors(self) -> Likeness:
        if self.item_vectors is None:
            raise _missing("item vectors", "Facts.of(train, item_vectors=…), or the option by=cooccurrence")
        vectors = np.asarray(self.item_vectors, np.float64)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        dense = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0).astype(np.float32)
        return Likeness(0, dense, np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1), np.zeros(1))

    def _by_categories(self) -> Likeness:
        topics = self.topics()
        rows = topics.row_numbers
        order = np.lexsort((topics.values, rows))
        norms = np.sqrt(topics.lengths.astype(np.float64))
        members = topics.values[order].astype(np.int32)
        return Likeness(1, np.zeros((1, 1), np.float32), topics.offsets, members, np.zeros(1), norms)

    def _by_pairs(self) -> Likeness:
        counts = self.cooccurrence
        if counts is None:
            if self.train is None:
                raise _missing("co-occurrences", "Facts.of(train), or Facts(…, cooccurrence=…)")
            matrix = self.train.matrix()
            lengths = np.diff(matrix.indptr).astype(np.int64)
            if PAIR_BYTES * min(self.n_items**2, int((lengths**2).sum())) > MOST_BYTES:
                return _by_users(matrix)
            counts = sparse.csr_matrix(matrix.T @ matrix)
        counts = sparse.csr_matrix(counts).sorted_indices()
        norms = np.sqrt(counts.diagonal().astype(np.float64))
        values = counts.data.astype(np.float64)
        return Likeness(
            2,
            np.zeros((1, 1), np.float32),
            counts.indptr.astype(np.int64),
            counts.indices.astype(np.int32),
            values,
            norms,
        )


def _by_users(matrix: sparse.csr_matrix) -> Likeness:
    """Return co-occurrence as sets of users: the same numbers, slower, in about the memory that the events take."""
    users = sparse.csc_matrix(matrix).sorted_indices()
    offsets, members = users.indptr.astype(np.int64), users.indices.astype(np.int32)
    norms = np.sqrt(np.diff(offsets).astype(np.float64))
    return with_bitmaps(Likeness(1, np.zeros((1, 1), np.float32), offsets, members, np.zeros(1), norms), matrix.shape[0])


def categories_of(dataset: Dataset, name: str) -> Ragged:
    """Number an item attribute that holds text or lists of text; items without a value get an empty row."""
    column = dataset.items.column(name)
    if column is None:
        attributes = dataset.items.attributes
        advice = nearest(name, attributes.column_names) if attributes is not None else "this data set has no item attributes"
        raise ConfigError("there is no such item attribute.", where="categories", value=name, remedy=advice)
    cells = column.to_pylist()
    rows = [[] if c is None else sorted(set(map(str, c))) if isinstance(c, list) else [str(c)] for c in cells]
    flat = pa.array([word for row in rows for word in row], pa.string())
    _, numbers = Vocabulary.of(flat)
    return Ragged(np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64), numbers)


def _missing(what: str, remedy: str) -> ConfigError:
    return ConfigError(f"this metric needs {what}, and the facts have none.", where="facts", remedy=remedy)
