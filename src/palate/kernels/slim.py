"""SLIM: one elastic net for each item, by coordinate descent over sparse columns of ones.

For target ``j`` with column ``x_j`` and features ``F_j`` (other items)::

    min_w ½ |x_j - Σ_{i in F_j} w_i x_i|² + l2/2 |w|² + l1 |w|₁,    w ≥ 0 by option

A pass visits every feature; then only those with a weight are visited until they settle, and all once more. Items are
independent, so threads share them without changing a bit. Where weights can't be negative, a feature that shares no more than
``l1`` people with the target can't enter (all products are ≥ 0), and is never visited.

Source: X. Ning, G. Karypis, "SLIM", ICDM 2011; J. Friedman, T. Hastie, R. Tibshirani, 2010 (active sets).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from palate.kernels.compile import compiled
from palate.kernels.spans import SPANS, each_span

_ALL = np.empty((0, 0), np.int32)


def elastic_net_reference(
    columns: np.ndarray, target: int, features: np.ndarray, *, l1: float, l2: float, positive: bool, rounds: int = 10_000
) -> np.ndarray:
    """Return ``float64[n_items]``, the weights of one target by plain cyclic coordinate descent on a dense matrix.

    Parameters
    ----------
    columns
        ``float[n_users, n_items]``.
    features
        Items that may have a weight.
    """
    weights = np.zeros(columns.shape[1])
    rest = columns[:, target].astype(np.float64)
    for _ in range(rounds):
        most = 0.0
        for i in features:
            x = columns[:, i]
            pull = x @ rest + x @ x * weights[i]
            size = max(pull - l1, 0.0) if positive else np.sign(pull) * max(abs(pull) - l1, 0.0)
            change = (size / (x @ x + l2) if x @ x + l2 > 0 else 0.0) - weights[i]
            weights[i] += change
            rest -= change * x
            most = max(most, abs(change))
        if most < 1e-12:
            break
    return weights


def elastic_nets(
    by_item: sparse.csr_matrix,
    *,
    l1: float,
    l2: float,
    positive: bool = True,
    features: np.ndarray | None = None,
    tolerance: float = 1e-4,
    rounds: int = 100,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`elastic_net_reference` for every item, fast.

    Parameters
    ----------
    by_item
        CSR items x users of ones.
    features
        ``int32[n_items, m]`` items that may have a weight for each target (-1 is none), or ``None`` for all others.
    tolerance
        A weight that changes by less has settled.
    rounds
        Most passes over all features.

    Returns
    -------
    counts, sources, weights
        How many weights each target has (``int64[n_items]``), and all of them, target after target (``int32``, ``float32``).
    """
    n = by_item.shape[0]
    table = _ALL if features is None else np.ascontiguousarray(features, np.int32)
    spans = np.unique(np.linspace(0, n, 4 * SPANS + 1).astype(np.int64))
    counts = np.zeros(n, np.int64)
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def run(low: int, high: int) -> None:
        parts[low] = _nets(
            by_item.indptr, by_item.indices, by_item.shape[1], table, features is None,
            l1, l2, positive, tolerance, rounds, counts, low, high,
        )  # fmt: skip

    each_span(run, spans, by_item.nnz * 1000)
    found = [parts[low] for low in sorted(parts)]
    sources = np.concatenate([np.empty(0, np.int32), *(part[0] for part in found)])
    return counts, sources, np.concatenate([np.empty(0, np.float32), *(part[1] for part in found)])


@compiled()
def _pull(offsets, users, item, rest):  # type: ignore[no-untyped-def]
    total = 0.0
    for at in range(offsets[item], offsets[item + 1]):
        total += rest[users[at]]
    return total


@compiled()
def _step(offsets, users, item, rest, weights, l1, l2, positive):  # type: ignore[no-untyped-def]
    """Move one weight to its best value; return by how much."""
    norm = offsets[item + 1] - offsets[item]
    if norm == 0:
        return 0.0
    old = weights[item]
    pull = _pull(offsets, users, item, rest) + norm * old
    size = pull - l1
    if pull < 0:
        size = 0.0 if positive else min(pull + l1, 0.0)
    elif size < 0:
        size = 0.0
    change = size / (norm + l2) - old
    if change != 0:
        weights[item] = old + change
        for at in range(offsets[item], offsets[item + 1]):
            rest[users[at]] -= change
    return abs(change)


@compiled()
def _fit(offsets, users, chosen, rest, weights, l1, l2, positive, tolerance, rounds):  # type: ignore[no-untyped-def]
    """Descend until a pass over all features changes nothing."""
    active = np.empty(len(chosen), np.int32)
    for _ in range(rounds):
        most, count = 0.0, 0
        for item in chosen:
            most = max(most, _step(offsets, users, item, rest, weights, l1, l2, positive))
            if weights[item] != 0:
                active[count] = item
                count += 1
        if most < tolerance:
            return
        for _ in range(rounds):
            most = 0.0
            for item in active[:count]:
                most = max(most, _step(offsets, users, item, rest, weights, l1, l2, positive))
            if most < tolerance:
                break


@compiled()
def _nets(offsets, users, n_users, features, everything, l1, l2, positive, tolerance, rounds, counts, low, high):  # type: ignore[no-untyped-def]
    n = len(offsets) - 1
    rest, weights = np.zeros(n_users), np.zeros(n)
    chosen = np.empty(n, np.int32)
    sources, values, used = np.empty(1024, np.int32), np.empty(1024, np.float32), 0
    width = n if everything else features.shape[1]
    for target in range(low, high):
        for at in range(offsets[target], offsets[target + 1]):
            rest[users[at]] = 1.0
        count = 0
        for at in range(width):
            item = at if everything else features[target, at]
            if item >= 0 and item != target and (not positive or _pull(offsets, users, item, rest) > l1):
                chosen[count] = item
                count += 1
        _fit(offsets, users, chosen[:count], rest, weights, l1, l2, positive, tolerance, rounds)
        if used + count > len(sources):
            room = 2 * (used + count)
            more, rest_of = np.empty(room, np.int32), np.empty(room, np.float32)
            more[:used], rest_of[:used] = sources[:used], values[:used]
            sources, values = more, rest_of
        for item in chosen[:count]:
            if weights[item] != 0:
                sources[used], values[used] = item, weights[item]
                counts[target] += 1
                used += 1
                weights[item] = 0.0
        rest[:] = 0.0
    return sources[:used], values[:used]
