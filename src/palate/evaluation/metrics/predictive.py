"""Predicted values and probabilities against what was seen. Plain arrays in, one number out.

Every function refuses empty arrays, arrays of different lengths and numbers that are not finite (:class:`DataError`).
``y`` is the truth, ``ŷ`` the prediction, ``p`` a predicted probability, ``n`` the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import DataError

__all__ = [
    "accuracy",
    "auc",
    "brier",
    "calibration_ratio",
    "expected_calibration_error",
    "explained_variance",
    "f1",
    "gauc",
    "log_loss",
    "mae",
    "mape",
    "mse",
    "normalised_entropy",
    "pr_auc",
    "precision",
    "r2",
    "recall",
    "relative_information_gain",
    "rmse",
]

#: Probabilities are clipped this far from 0 and 1.
CLIP = 1e-7


def mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error: ``(1/n) Σ |y - ŷ|``."""
    y, guess = _pair(truth, predicted)
    return float(np.abs(y - guess).mean())


def mse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error: ``(1/n) Σ (y - ŷ)²``."""
    y, guess = _pair(truth, predicted)
    return float(((y - guess) ** 2).mean())


def rmse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Root mean squared error: ``sqrt(MSE)``; never below the mean absolute error."""
    return float(np.sqrt(mse(truth, predicted)))


def mape(truth: ArrayLike, predicted: ArrayLike) -> tuple[float, int]:
    """Mean absolute percentage error: ``(100/n) Σ |y - ŷ| / |y|`` over pairs with ``y ≠ 0``.

    Returns
    -------
    value, skipped
        The value (NaN where every ``y`` is 0), and how many pairs were left out.
    """
    y, guess = _pair(truth, predicted)
    kept = y != 0
    value = float(100 * (np.abs(y - guess)[kept] / np.abs(y[kept])).mean()) if kept.any() else float("nan")
    return value, int((~kept).sum())


def r2(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Coefficient of determination: ``1 - Σ (y - ŷ)² / Σ (y - ȳ)²``; NaN where all ``y`` are equal."""
    y, guess = _pair(truth, predicted)
    spread = ((y - y.mean()) ** 2).sum()
    return float(1 - ((y - guess) ** 2).sum() / spread) if spread > 0 else float("nan")


def explained_variance(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Explained variance: ``1 - Var(y - ŷ) / Var(y)``, equal to R² where the mean error is 0; NaN where all ``y`` are equal."""
    y, guess = _pair(truth, predicted)
    return float(1 - (y - guess).var() / y.var()) if y.var() > 0 else float("nan")


def log_loss(truth: ArrayLike, probability: ArrayLike, *, clip: float = CLIP) -> float:
    """Log loss: ``-(1/n) Σ [y ln p + (1 - y) ln(1 - p)]`` in nats, with ``p`` clipped to ``[clip, 1 - clip]`` (1e-7)."""
    y, p = _chances(truth, probability)
    if not 0 < clip < 0.5:
        raise DataError("clip lies between 0 and one half.", where="clip", value=clip)
    p = np.clip(p, clip, 1 - clip)
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    """Brier score: ``(1/n) Σ (y - p)²``."""
    y, p = _chances(truth, probability)
    return float(((y - p) ** 2).mean())


def normalised_entropy(truth: ArrayLike, probability: ArrayLike) -> float:
    """Normalised entropy: log loss over the entropy of the base rate; below 1 beats a constant. NaN with one class only."""
    y, _ = _chances(truth, probability)
    rate = y.mean()
    if rate in (0.0, 1.0):
        return float("nan")
    return log_loss(truth, probability) / float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))


def relative_information_gain(truth: ArrayLike, probability: ArrayLike) -> float:
    """Relative information gain: ``1 - normalised entropy``."""
    return 1 - normalised_entropy(truth, probability)


def auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: ``P(s⁺ > s⁻) + ½ P(s⁺ = s⁻)``, from average ranks; NaN with one class only."""
    from scipy.stats import rankdata

    y, s = _labels(truth, score)
    positives = int(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rankdata(s)[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def gauc(truth: ArrayLike, score: ArrayLike, group: ArrayLike) -> tuple[float, int]:
    """Grouped AUC: ``Σ_u w_u AUC_u / Σ_u w_u``, ``w_u`` the impressions of a group (a user).

    Returns
    -------
    value, skipped
        The value (NaN where no group has both classes), and how many groups with one class were left out.
    """
    found, size = group_aucs(truth, score, group)
    known = ~np.isnan(found)
    value = float((size[known] * found[known]).sum() / size[known].sum()) if known.any() else float("nan")
    return value, int((~known).sum())


def group_aucs(truth: ArrayLike, score: ArrayLike, group: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """AUC of each group, and its rows, in the order of the groups' names; NaN with one class only."""
    y, s = _labels(truth, score)
    _, code = np.unique(np.asarray(group), return_inverse=True)
    if len(code) != len(y):
        raise DataError("one group is needed for each row.", where="group", value=len(code))
    order = np.lexsort((s, code))
    code, y, s = code[order], y[order], s[order]
    size, positives = np.bincount(code), np.bincount(code, y)
    first = np.concatenate([[0], np.cumsum(size)[:-1]])
    block = np.cumsum(np.concatenate([[True], (np.diff(code) != 0) | (np.diff(s) != 0)])) - 1
    place = np.bincount(block, np.arange(len(y)) + 1.0) / np.bincount(block)
    ranks = place[block] - first[code]
    pairs = positives * (size - positives)
    sums = np.bincount(code, ranks * y) - positives * (positives + 1) / 2
    return np.divide(sums, pairs, out=np.full(len(size), np.nan), where=pairs > 0), size


def pr_auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under precision and recall as a step sum: ``Σ_n (R_n - R_{n-1}) P_n`` over distinct scores, highest first.

    NaN without a positive. No interpolation between points.
    """
    y, s = _labels(truth, score)
    if not y.any():
        return float("nan")
    order = np.argsort(-s, kind="stable")
    ends = np.flatnonzero(np.concatenate([np.diff(s[order]) != 0, [True]]))
    found = np.cumsum(y[order])[ends]
    steps = np.diff(np.concatenate([[0], found])) / y.sum()
    return float((steps * found / (ends + 1)).sum())


def expected_calibration_error(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: ``Σ_b |B_b|/n · |mean y - mean p|`` over ``bins`` of equal width (1 falls in the last)."""
    y, p = _chances(truth, probability)
    if bins < 1:
        raise DataError("there must be at least one bin.", where="bins", value=bins)
    code = np.minimum((p * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(code, y, bins) - np.bincount(code, p, bins)
    return float(np.abs(gaps).sum() / len(y))


def calibration_ratio(truth: ArrayLike, probability: ArrayLike) -> float:
    """Calibration ratio: ``Σ p / Σ y``; 1 is right on the whole. NaN without a positive."""
    y, p = _chances(truth, probability)
    return float(p.sum() / y.sum()) if y.sum() > 0 else float("nan")


def accuracy(truth: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Accuracy: share of rows where ``score >= threshold`` says what the truth says."""
    y, s = _labels(truth, score)
    return float(((s >= threshold) == y).mean())


def precision(truth: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Precision: true positives over predicted positives (``score >= threshold``); 0 without any."""
    y, s = _labels(truth, score)
    return float((y & (s >= threshold)).sum() / max((s >= threshold).sum(), 1))


def recall(truth: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """Recall: true positives over positives; 0 without any."""
    y, s = _labels(truth, score)
    return float((y & (s >= threshold)).sum() / max(y.sum(), 1))


def f1(truth: ArrayLike, score: ArrayLike, threshold: float = 0.5) -> float:
    """F1: ``2 TP / (predicted positives + positives)``; 0 without either."""
    y, s = _labels(truth, score)
    return float(2 * (y & (s >= threshold)).sum() / max((s >= threshold).sum() + y.sum(), 1))


def by_group(metric: Callable[..., float], group: ArrayLike, *arrays: ArrayLike) -> dict[object, float]:
    """Return a metric for each group of rows."""
    code = np.asarray(group)
    columns = [np.asarray(a) for a in arrays]
    return {key: metric(*(c[code == key] for c in columns)) for key in np.unique(code).tolist()}


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, guess = np.asarray(truth, np.float64).ravel(), np.asarray(predicted, np.float64).ravel()
    if len(y) != len(guess) or not len(y):
        raise DataError("truth and predictions must have one length above 0.", value=[len(y), len(guess)])
    if not (np.isfinite(y).all() and np.isfinite(guess).all()):
        raise DataError("truth and predictions must be finite.", remedy="look for NaN and infinity before measuring")
    return y, guess


def _labels(truth: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, s = _pair(truth, score)
    if not np.isin(y, (0, 1)).all():
        raise DataError("labels must be 0 or 1.", where="truth", value=np.unique(y)[:5].tolist())
    return y.astype(bool), s


def _chances(truth: ArrayLike, probability: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, p = _labels(truth, probability)
    if p.min() < 0 or p.max() > 1:
        raise DataError(
            "probabilities lie between 0 and 1.", value=[float(p.min()), float(p.max())], remedy="apply the sigmoid"
        )
    return y.astype(np.float64), p
