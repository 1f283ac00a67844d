"""AUC of resampled rows: what an interval of an AUC, or of a difference of two on the same rows, is read from."""

from __future__ import annotations

import numpy as np

from palate.errors import DataError
from palate.evaluation.metrics.predictive import auc
from palate.runtime import generator


def resampled_auc(
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``float64[resamples, m]``: the AUC of ``m`` scorings of the same rows, which are drawn with replacement.

    All scorings share the resamples, so their differences are paired. Ties count one half. A resample of one class gives NaN.

    Parameters
    ----------
    truth
        ``float[n]`` of 0 and 1.
    scores
        ``float[m, n]``.
    groups
        ``[n]``: what each row belongs to, such as its person. Groups are drawn then, each with all its rows.

    Raises
    ------
    DataError
        If labels are not 0 and 1, numbers are not finite, or the shapes don't fit.
    """
    if scores.ndim != 2 or scores.shape[1] != len(truth):
        raise DataError("scores are one row a scoring, one column a row of the truth.", value=list(scores.shape))
    if groups is not None and len(groups) != len(truth):
        raise DataError("each row belongs to one group.", where="groups", value=len(groups))
    for row in scores:
        auc(truth, row)  # checks both
    y, n = np.asarray(truth, bool), len(truth)
    names, code = (None, None) if groups is None else np.unique(groups, return_inverse=True)
    drawn = n if names is None else len(names)
    orders = [np.argsort(row, kind="stable") for row in scores]
    starts = [np.flatnonzero(np.concatenate([[True], np.diff(row[o]) != 0])) for row, o in zip(scores, orders, strict=True)]
    rng, out = generator(seed, "resampled auc"), np.empty((resamples, len(scores)))
    for at in range(resamples):
        counts = np.bincount(rng.integers(drawn, size=drawn), minlength=drawn)
        counts = counts if code is None else counts[code]
        for which, (order, start) in enumerate(zip(orders, starts, strict=True)):
            out[at, which] = _auc(counts[order], y[order], start)
    return out


def _auc(counts: np.ndarray, positive: np.ndarray, starts: np.ndarray) -> float:
    """Return the AUC of rows in rising order, each so many times; ``starts`` of runs of equal scores."""
    up = np.add.reduceat(np.where(positive, counts, 0), starts)
    down = np.add.reduceat(np.where(positive, 0, counts), starts)
    pairs = float(up.sum()) * float(down.sum())
    below = np.cumsum(down) - 0.5 * down
    return float(up @ below) / pairs if pairs else float("nan")
