"""The weighted hinge of collaborative metric learning with its gradient, in one pass: no table of negative vectors is gathered.

    w [m + d(u, i) - d(u, j*)]₊,   w = ln(1 + I M / W),   j* the nearest of W negatives,   d(u, i) = |p_u - q_i|²

``M`` is the number of negatives with ``d(u, j) < d(u, i) + m``; the weight has no gradient, and only three vectors of a row
have one. Both forms walk through the rows in order, in one thread, so they are deterministic.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled


def cml_gradient_reference(
    users: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    people: np.ndarray,
    items: np.ndarray,
    d_people: np.ndarray,
    d_items: np.ndarray,
    margin: float,
) -> float:
    """Add the gradient of the summed loss to ``d_people`` and ``d_items``; return the sum.

    Parameters
    ----------
    users, positives
        ``int[m]``.
    negatives
        ``int[m, W]``; a row that begins with -1 is left out (its person has had everything).
    people, items
        ``float32[n_users, d]`` and ``float32[n_items, d]``; the catalogue is all of ``items``.
    """
    total = 0.0
    for u, i, others in zip(users, positives, negatives, strict=True):
        if others[0] < 0:
            continue
        near = float(((people[u] - items[i]) ** 2).sum())
        far = ((people[u] - items[others]) ** 2).sum(1)
        gap = margin + near - float(far.min())
        if gap > 0:
            j = others[far.argmin()]
            weight = np.log1p(len(items) * int((far < near + margin).sum()) / len(others))
            total += weight * gap
            d_people[u] += np.float32(2 * weight) * (items[j] - items[i])
            d_items[i] += np.float32(2 * weight) * (items[i] - people[u])
            d_items[j] += np.float32(2 * weight) * (people[u] - items[j])
    return total


def cml_gradient(
    users: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    people: np.ndarray,
    items: np.ndarray,
    d_people: np.ndarray,
    d_items: np.ndarray,
    margin: float,
) -> float:
    """As :func:`cml_gradient_reference`, fast."""
    return float(_gradient(users, positives, negatives, people, items, d_people, d_items, np.float32(margin)))


@compiled(fast_math=True, inline="always")
def _distance(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for c in range(a.shape[0]):
        total += (a[c] - b[c]) * (a[c] - b[c])
    return total


@compiled()
def _gradient(users, positives, negatives, people, items, d_people, d_items, margin):  # type: ignore[no-untyped-def]
    total = 0.0
    for row in range(users.shape[0]):
        u, i = users[row], positives[row]
        if negatives[row, 0] < 0:
            continue
        near = _distance(people[u], items[i])
        nearest, best, intruders = negatives[row, 0], np.float32(np.inf), 0
        for at in range(negatives.shape[1]):
            far = _distance(people[u], items[negatives[row, at]])
            intruders += far < near + margin
            if far < best:
                nearest, best = negatives[row, at], far
        gap = margin + near - best
        if gap > 0:
            weight = np.log1p(items.shape[0] * intruders / negatives.shape[1])
            total += weight * gap
            step = np.float32(2 * weight)
            for c in range(people.shape[1]):
                p, q, r = people[u, c], items[i, c], items[nearest, c]
                d_people[u, c] += step * (r - q)
                d_items[i, c] += step * (q - p)
                d_items[nearest, c] += step * (p - r)
    return total
