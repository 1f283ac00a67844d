"""Links of a knowledge graph as rows of a matrix, and those that a generated graph keeps (:mod:`palate.recommend.diffkg`)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from palate.nn.knowledge import Edges


def taking_part(edges: Edges, n_items: int, least: int) -> np.ndarray:
    """Return ``int64[linked]``: rows that a link joins, of items and of entities with at least so many links."""
    able = (edges.degrees >= least) | (np.arange(edges.rows) < n_items)
    return np.unique(edges.heads[able[edges.heads] & able[edges.tails]]).astype(np.int64)


def adjacency(edges: Edges, linked: np.ndarray) -> sparse.csr_matrix:
    """Return ``Z`` over the linked rows: ``float32`` ones where some relation links two of them."""
    number = np.full(edges.rows, -1, np.int64)
    number[linked] = np.arange(len(linked))
    heads, tails = number[edges.heads], number[edges.tails]
    both = (heads >= 0) & (tails >= 0)
    places = (heads[both], tails[both])
    z = sparse.csr_matrix((np.ones(int(both.sum()), np.float32), places), shape=(len(linked), len(linked)))
    z.sum_duplicates()
    z.data[:] = 1
    return z


def taken(edges: Edges, linked: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Return ``bool[m]``: edges between rows of which one names the other among its ``entries[linked, k]`` (-1: none)."""
    rows = np.repeat(linked, entries.shape[1])
    columns = linked[np.maximum(entries.ravel(), 0)]
    known = entries.ravel() >= 0
    n = np.int64(edges.rows)
    named = np.unique((rows * n + columns)[known])
    own = edges.heads.astype(np.int64) * n + edges.tails
    marks = np.isin(own, named)
    return marks | marks[edges.inverse]


def random_entries(z: sparse.csr_matrix, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``int64[n, k]``: random links of each row (-1 where it has fewer)."""
    out = np.full((z.shape[0], k), -1, np.int64)
    lengths = np.diff(z.indptr)
    order = np.lexsort((rng.random(z.nnz), np.repeat(np.arange(z.shape[0]), lengths)))
    within = np.arange(z.nnz) - np.repeat(z.indptr[:-1], lengths)
    first = within < k
    rows = np.repeat(np.arange(z.shape[0]), lengths)
    out[rows[first], within[first]] = z.indices[order[first]]
    return out


def survivors(edges: Edges, marks: np.ndarray, keep: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``bool[m]``: of the marked edges, each link (with its way back) with probability ``keep``."""
    forward = edges.relations % 2 == 0
    lucky = np.zeros(len(edges), bool)
    lucky[forward] = rng.random(int(forward.sum())) < keep
    return marks & (lucky | lucky[edges.inverse])
