"""The social network of a data set, as matrices: who follows whom among the people of training.

    S_uv = 1 where u is tied to v       B = S ∘ Sᵀ (mutual ties)        U = S - B (one-way ties)

A tie counts if both ends have training events, it joins two different people, and it has no weight of zero or less (distrust);
what is left out is counted. An undirected network is one whose ties are all mutual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import sparse

from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.nn.graph import Adjacency

#: Multiplications of sparse rows that are done at once: what bounds the memory of an intermediate product.
BLOCK_WORK = 2**24


@dataclass(frozen=True, eq=False)
class SocialGraph:
    """Ties between the people of training.

    Attributes
    ----------
    ties
        ``float32`` CSR of ones, users x users: S.
    counts
        What came of the ties that were given: ``given``, ``kept``, ``outside`` (an end without training events), ``loops``,
        ``distrust`` and ``doubles``; and ``mutual``, how many of those kept are answered.
    """

    ties: sparse.csr_matrix
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, system: str, graph: str = "social") -> SocialGraph:
        """Read the social network of a data set.

        Parameters
        ----------
        dataset
            Holds the graph, whose two ends are users.
        system
            Who asks, for the message.
        graph
            Name of the graph.

        Raises
        ------
        DataError
            If there is no such graph, its ends are not users, or no tie is left.
        """
        found = dataset.graphs.get(graph)
        if found is None:
            raise DataError(
                f"{system} needs social ties, and the data have none.",
                where=f"graph {graph!r} of {dataset.name}",
                remedy="put a table trust.csv (user, friend) beside the events, or RecBole's .net; "
                "or choose a system without ties, such as lightgcn",
            )
        if (found.heads, found.tails) != ("user", "user"):
            raise DataError(
                f"{system} needs ties between users.", where=f"graph {graph!r}", value=f"{found.heads} to {found.tails}"
            )
        made = cls.of_pairs(found.head, found.tail, dataset.histories.lengths > 0, found.weight)
        if made.ties.nnz == 0:
            raise DataError(
                f"{system} needs social ties, and none of those given joins two people of the training part.",
                where=f"graph {graph!r} of {dataset.name}",
                value=made.counts,
                remedy="check that ties and interactions name people by the same ids, or choose a system without ties",
            )
        return made

    @classmethod
    def of_pairs(cls, head: np.ndarray, tail: np.ndarray, trained: np.ndarray, weight: np.ndarray | None = None) -> SocialGraph:
        """Build from pairs of user numbers; ``trained`` is ``bool[n_users]``."""
        head, tail = np.asarray(head, np.int64), np.asarray(tail, np.int64)
        n = len(trained)
        inside = (head >= 0) & (head < n) & (tail >= 0) & (tail < n)
        inside[inside] = trained[head[inside]] & trained[tail[inside]]
        loops = inside & (head == tail)
        distrust = np.zeros(len(head), bool) if weight is None else inside & ~loops & ~(np.asarray(weight) > 0)
        kept = inside & ~loops & ~distrust
        pairs = np.unique(head[kept] * n + tail[kept])
        ones = np.ones(len(pairs), np.float32)
        ties = sparse.csr_matrix((ones, (pairs // max(n, 1), pairs % max(n, 1))), shape=(n, n))
        graph = cls(ties)
        graph.counts.update(
            given=len(head),
            kept=len(pairs),
            outside=int((~inside).sum()),
            loops=int(loops.sum()),
            distrust=int(distrust.sum()),
            doubles=int(kept.sum()) - len(pairs),
            mutual=int(graph.mutual.nnz),
        )
        return graph

    @property
    def n_users(self) -> int:
        """Number of users, with ties or without."""
        return int(self.ties.shape[0])

    @cached_property
    def mutual(self) -> sparse.csr_matrix:
        """B: ties that are answered."""
        return _pruned(self.ties.multiply(self.ties.T))

    @cached_property
    def one_way(self) -> sparse.csr_matrix:
        """U: ties that are not."""
        return _pruned(self.ties - self.mutual)

    @cached_property
    def either(self) -> sparse.csr_matrix:
        """Ones where two people are tied in at least one direction: symmetric."""
        return _pruned(self.ties.maximum(self.ties.T))

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``int32`` heads and tails, sorted."""
        heads = np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.ties.indptr))
        return heads, self.ties.indices.astype(np.int32)

    def symmetric(self, kind: str) -> sparse.csr_matrix:
        """Return the ties that run both ways by themselves (``"mutual"``) or once turned round (``"any"``)."""
        return self.mutual if kind == "mutual" else self.either


def masked_product(x: sparse.csr_matrix, y: sparse.csr_matrix, mask: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return ``(X Y) ∘ mask`` (``float32``), never holding more of ``X Y`` than a block of rows."""
    y = sparse.csr_matrix(y)
    parts = [(x[a:b] @ y).multiply(mask[a:b]) for a, b in row_blocks(x, np.diff(y.indptr), np.diff(mask.indptr))]
    return _stacked(parts, (x.shape[0], y.shape[1]))


def common_items(matrix: sparse.csr_matrix, least: int) -> sparse.csr_matrix:
    """Return how many items two people have in common, where it is at least ``least``; nobody is paired with themselves.

    Parameters
    ----------
    matrix
        Users x items, ones.
    least
        Fewer common items count as none: what keeps popular items from joining everybody.
    """
    back = sparse.csr_matrix(matrix.T)
    parts = []
    for a, b in row_blocks(matrix, np.diff(back.indptr)):
        block = sparse.csr_matrix(matrix[a:b] @ back)
        rows = np.repeat(np.arange(a, b), np.diff(block.indptr))
        block.data[(block.data < least) | (rows == block.indices)] = 0
        parts.append(block)
    return _stacked(parts, (matrix.shape[0], matrix.shape[0]))


def strongest(matrix: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """Return the matrix with the ``most`` largest entries of each row (equal ones: those of lower columns first)."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept = np.sort(order[place < most])
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


def row_blocks(x: sparse.csr_matrix, *work: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut the rows of ``X`` so that a product with a matrix of these row lengths takes about :data:`BLOCK_WORK` steps."""
    cost = np.asarray(x.astype(bool).astype(np.float64) @ (work[0].astype(np.float64) + 1)).ravel()
    if len(work) > 1:
        cost += work[1]
    number = np.cumsum(cost) // BLOCK_WORK
    cuts = np.flatnonzero(np.diff(number)) + 1
    bounds = [0, *cuts.tolist(), x.shape[0]]
    yield from pairwise(bounds)


def _pruned(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    rows = sparse.csr_matrix(matrix, dtype=np.float32)
    rows.eliminate_zeros()
    rows.sort_indices()
    return rows


def _stacked(parts: list[sparse.csr_matrix], shape: tuple[int, int]) -> sparse.csr_matrix:
    if not parts:
        return sparse.csr_matrix(shape, dtype=np.float32)
    return _pruned(sparse.vstack([_pruned(part) for part in parts], format="csr"))


def people_graph(matrix: sparse.csr_matrix) -> Adjacency:
    """Return a symmetric people x people matrix in the form that propagation takes."""
    rows = _pruned(matrix)
    return Adjacency(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data)
