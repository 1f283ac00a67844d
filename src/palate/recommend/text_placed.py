"""Items that nobody had, placed among the others by their texts: what best tells trained vectors from texts tells new ones too.

    q̂_j = q̄ + a (t_j - t̄) W,    W = ( Σ (t_i - t̄)(t_i - t̄)ᵀ + λ I )⁻¹ Σ (t_i - t̄)(q_i - q̄)ᵀ       over trained items with a text

``λ`` and ``a`` are those with the least leave-one-out error, which has a closed form: each trained item is guessed as if it
were new. ``a`` gives back the length that a large ``λ`` takes, so that texts may be smoothed much (a guess is then nearly the
mean of items with texts alike) and still tell one item from another. Where no ``λ`` does better than the mean, a new item gets
that.
"""

from __future__ import annotations

import numpy as np

#: λ, as shares of the largest squared direction of the texts.
SHARES = tuple(float(10**power) for power in np.arange(-4, 0.1, 0.5))


def placed_by_text(vectors: np.ndarray, texts: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return the vectors with rows filled in for items that are not trained and have a text.

    Parameters
    ----------
    vectors
        ``float32[n_items, d]``, of which only trained rows count.
    texts
        ``float32[n_items, t]``, zero rows where there is no text.
    trained
        ``bool[n_items]``.

    Returns
    -------
    vectors
        ``float32[n_items, d]``; as given where there are fewer than three trained items with a text, or nothing to place.
    """
    told = texts.any(axis=1) if texts.shape[1] else np.zeros(len(vectors), bool)
    known, new = np.flatnonzero(told & trained), np.flatnonzero(told & ~trained)
    if len(known) < 3 or not len(new):
        return vectors
    x, y = texts[known].astype(np.float64), vectors[known].astype(np.float64)
    middle, mean = x.mean(0), y.mean(0)
    out = vectors.copy()
    out[new] = mean + (texts[new] - middle) @ ridge_left_out(x - middle, y - mean)
    return out


def ridge_left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``float64[t, d]``: ``a W`` of centred ``x[n, t]`` and ``y[n, d]`` (see the module's text)."""
    values, basis = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0)
    turned = x @ basis
    side, least, best = turned.T @ y, float((y**2).sum()), np.zeros((x.shape[1], y.shape[1]))
    for share in SHARES:
        weights = side / (values + share * max(float(values[-1]), 1e-12))[:, None]
        guessed = left_out(turned, weights, values + share * max(float(values[-1]), 1e-12), y)
        length = float((guessed**2).sum())
        scale = float((y * guessed).sum()) / max(length, 1e-300)
        error = float(((y - scale * guessed) ** 2).sum())
        if scale > 0 and error < least:
            least, best = error, scale * basis @ weights
    return best


def left_out(turned: np.ndarray, weights: np.ndarray, penalised: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``float64[n, d]``: the guess of each row from the others, means included, beside the mean of all.

    Parameters
    ----------
    turned, penalised
        ``float64[n, t]`` inputs along the directions of their Gram matrix, and its values plus ``λ``.
    weights
        ``float64[t, d]`` of all rows along these directions.
    """
    pull = (turned**2 / penalised).sum(1) + 1 / len(turned)
    guessed: np.ndarray = y - (y - turned @ weights) / np.maximum(1 - pull, 1e-9)[:, None]
    return guessed
