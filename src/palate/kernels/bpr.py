"""Bayesian personalised ranking: the loss with its gradient in one pass, and plain stochastic descent.

    L = -ln σ(<e_u, e_i - e_j> + b_i - b_j)

Both forms walk through the triples in order, in one thread, so they are deterministic. A triple whose negative is -1 is
skipped (its person has every item).
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled


def bpr_gradient_reference(
    users: np.ndarray, positives: np.ndarray, negatives: np.ndarray, vectors: np.ndarray, gradient: np.ndarray
) -> float:
    """Add the gradient of the summed loss to ``gradient``; return the sum.

    Parameters
    ----------
    users, positives, negatives
        ``int[m]`` rows of ``vectors``; a negative of -1 skips the triple.
    vectors, gradient
        ``float32[n, d]``.
    """
    total = 0.0
    for u, i, j in zip(users, positives, negatives, strict=True):
        if j < 0:
            continue
        x = float(vectors[u] @ (vectors[i] - vectors[j]))
        total += float(np.logaddexp(0.0, -x))
        g = np.float32(-1 / (1 + np.exp(x)))
        gradient[u] += g * (vectors[i] - vectors[j])
        gradient[i] += g * vectors[u]
        gradient[j] -= g * vectors[u]
    return total


def bpr_gradient(
    users: np.ndarray, positives: np.ndarray, negatives: np.ndarray, vectors: np.ndarray, gradient: np.ndarray
) -> float:
    """As :func:`bpr_gradient_reference`, fast."""
    return float(_gradient(users, positives, negatives, vectors, gradient))


def bpr_descend_reference(
    users: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    people: np.ndarray,
    items: np.ndarray,
    bias: np.ndarray,
    lr: float,
    reg: float,
) -> float:
    """Take one step of descent for each triple, in place; return the summed loss before each step.

    ``θ ← θ - lr (∂L/∂θ + reg θ)`` for the three vectors and two biases of a triple.

    Parameters
    ----------
    people, items
        ``float32[n_users, d]``, ``float32[n_items, d]``.
    bias
        ``float32[n_items]``; an empty array for none.
    """
    total, step, shrink = 0.0, np.float32(lr), np.float32(1 - lr * reg)
    for u, i, j in zip(users, positives, negatives, strict=True):
        if j < 0:
            continue
        x = float(people[u] @ (items[i] - items[j])) + (float(bias[i] - bias[j]) if len(bias) else 0.0)
        total += float(np.logaddexp(0.0, -x))
        g = step * np.float32(1 / (1 + np.exp(x)))
        p, q, r = people[u].copy(), items[i].copy(), items[j].copy()
        people[u] = shrink * p + g * (q - r)
        items[i] = shrink * q + g * p
        items[j] = shrink * r - g * p
        if len(bias):
            bias[i] = shrink * bias[i] + g
            bias[j] = shrink * bias[j] - g
    return total


def bpr_descend(
    users: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    people: np.ndarray,
    items: np.ndarray,
    bias: np.ndarray,
    lr: float,
    reg: float,
) -> float:
    """As :func:`bpr_descend_reference`, fast."""
    return float(_descend(users, positives, negatives, people, items, bias, np.float32(lr), np.float32(1 - lr * reg)))


@compiled(inline="always")
def _loss_and_slope(x):  # type: ignore[no-untyped-def]
    e = np.exp(-abs(x))
    loss = max(-x, np.float32(0.0)) + np.log1p(e)
    return loss, (e if x > 0 else np.float32(1.0)) / (np.float32(1.0) + e)


@compiled(fast_math=True)
def _margin(person, liked, other):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for c in range(len(person)):
        total += person[c] * (liked[c] - other[c])
    return total


@compiled()
def _gradient(users, positives, negatives, vectors, gradient):  # type: ignore[no-untyped-def]
    total = 0.0
    for at in range(len(users)):
        u, i, j = users[at], positives[at], negatives[at]
        if j < 0:
            continue
        loss, g = _loss_and_slope(_margin(vectors[u], vectors[i], vectors[j]))
        total += loss
        for c in range(vectors.shape[1]):
            p, q, r = vectors[u, c], vectors[i, c], vectors[j, c]
            gradient[u, c] -= g * (q - r)
            gradient[i, c] -= g * p
            gradient[j, c] += g * p
    return total


@compiled()
def _descend(users, positives, negatives, people, items, bias, lr, shrink):  # type: ignore[no-untyped-def]
    total = 0.0
    for at in range(len(users)):
        u, i, j = users[at], positives[at], negatives[at]
        if j < 0:
            continue
        x = _margin(people[u], items[i], items[j])
        if len(bias):
            x += bias[i] - bias[j]
        loss, slope = _loss_and_slope(x)
        total += loss
        g = lr * slope
        for c in range(people.shape[1]):
            p, q, r = people[u, c], items[i, c], items[j, c]
            people[u, c] = shrink * p + g * (q - r)
            items[i, c] = shrink * q + g * p
            items[j, c] = shrink * r - g * p
        if len(bias):
            bias[i] = shrink * bias[i] + g
            bias[j] = shrink * bias[j] - g
    return total
