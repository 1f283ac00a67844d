"""Dropped graphs: some links, or some nodes with all their links, are left out, and what stays is normalised anew.

    Â' = D'^-1/2 A' D'^-1/2,   D' the degrees that are left in A'

so the spectral radius stays 1, and nodes that lost all links have zero rows.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from palate.nn.graph import Adjacency

#: What is left out: links, or nodes with all their links.
Drop = Literal["edges", "nodes"]


def dropped(matrix: sparse.csr_matrix, rate: float, rng: np.random.Generator, what: Drop = "edges") -> Adjacency:
    """Return ``Â'`` of a users x items matrix of ones.

    Parameters
    ----------
    rate
        Each link (both its directions), or each person and each item, is left out with this chance.
    """
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    if what == "edges":
        kept = rng.random(matrix.nnz, np.float32) >= rate
    else:
        people, items = (rng.random(n, np.float32) >= rate for n in matrix.shape)
        kept = people[rows] & items[matrix.indices]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=matrix.shape[0]))])
    return Adjacency.of_matrix(sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape))
