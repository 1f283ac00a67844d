"""Mutual information between the fields of a feature table: how much one field tells of another.

    MI(a, b) = Σ P(v_a, v_b) ln( P(v_a, v_b) / (P(v_a) P(v_b)) )

Each entity with both fields counts once: a pair of its values has weight ``1 / (n_a n_b)``, where it has several. Entities
count alike, however often people chose them. Of one-value fields MI(a, a) is the entropy. The cost is the number of pairs of
values that occur together (sparse counts).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from palate.data.features import Features
from palate.runtime import generator

#: Entities beyond which a random sample of so many is counted.
MOST = 100_000


def mutual_information(features: Features, *, normalise: bool = False, most: int = MOST, seed: int = 0) -> np.ndarray:
    """Return the symmetric matrix of mutual information, in nats.

    Parameters
    ----------
    features
        Codes of ``n`` entities in ``k`` fields.
    normalise
        Divide by the mean of the two entropies, so that values lie between 0 and 1 and a field of many values is not near to
        everything by its size alone.
    most, seed
        Count at most so many entities, drawn with this seed.

    Returns
    -------
    ndarray
        ``float64[k, k]``; 0 where no entity has both fields.
    """
    if len(features) > most:
        features = features.take(np.sort(generator(seed, "mutual information").choice(len(features), most, replace=False)))
    k = features.n_fields
    shares = [_shares(features, f) for f in range(k)]
    found = np.zeros((k, k))
    for a in range(k):
        for b in range(a, k):
            mi, mean_entropy = _between(shares[a], shares[b])
            if normalise:
                mi = mi / mean_entropy if mean_entropy > 0 else 0.0
            found[a, b] = found[b, a] = mi
    return found


def _shares(features: Features, number: int) -> sparse.csr_matrix:
    """Return entities x values of one field: ``1 / n`` at each of an entity's ``n`` values."""
    rows = features.field(number)
    _, codes = np.unique(rows.values, return_inverse=True)
    weights = 1.0 / np.repeat(rows.lengths, rows.lengths)
    return sparse.csr_matrix((weights, codes, rows.offsets), (len(rows), int(codes.max(initial=-1)) + 1))


def _between(first: sparse.csr_matrix, second: sparse.csr_matrix) -> tuple[float, float]:
    """Return the mutual information of two fields, and the mean of their entropies."""
    both = np.flatnonzero((np.diff(first.indptr) > 0) & (np.diff(second.indptr) > 0))
    if not len(both):
        return 0.0, 0.0
    joint = (first[both].T @ second[both]).tocoo()
    p = joint.data / len(both)
    left, right = np.bincount(joint.row, p), np.bincount(joint.col, p)
    mi = float((p * np.log(p / (left[joint.row] * right[joint.col]))).sum())
    return max(mi, 0.0), (_entropy(left) + _entropy(right)) / 2


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def label_information(columns: Sequence[np.ndarray], label: np.ndarray) -> float:
    """Return the mutual information of columns taken together with a label, in nats, less what chance alone would show.

    Of ``v`` values that occur, ``l`` labels and ``n`` rows, chance shows ``(v - 1)(l - 1) / 2n`` on average (G. Miller, 1955);
    the rest may be a little below 0.

    Parameters
    ----------
    columns
        Arrays of ``n`` values.
    label
        ``n`` labels.
    """
    code = np.zeros(len(label), np.int64)
    for column in columns:
        own = np.unique(column, return_inverse=True)[1].ravel()
        code = np.unique(code * (int(own.max(initial=0)) + 1) + own, return_inverse=True)[1].ravel()
    told = np.unique(label, return_inverse=True)[1].ravel()
    counts = np.zeros((int(code.max(initial=-1)) + 1, int(told.max(initial=-1)) + 1))
    np.add.at(counts, (code, told), 1)
    n = max(1.0, counts.sum())
    together = counts / n
    apart = together.sum(1, keepdims=True) * together.sum(0, keepdims=True)
    seen = together > 0
    chance = (counts.shape[0] - 1) * (counts.shape[1] - 1) / (2 * n)
    return float((together[seen] * np.log(together[seen] / apart[seen])).sum() - chance)
