"""Resampled metrics of rows: most are functions of sums over rows, and need no second look at the rows.

A resample draws rows, or groups with all their rows, with replacement. Where a metric is ``f(Σ_r a_r)``, what a group adds is
summed once, and a resample is ``f(c A)``, with ``c`` how often each group is drawn: the same values as of the drawn rows, up to
rounding. ``gauc`` needs groups. AUC (:mod:`palate.evaluation.auc_bootstrap`) and the area under precision and recall are no
such functions, but their rows are put in order once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from palate.evaluation.metrics.predictive import CLIP, group_aucs
from palate.runtime import generator

BINS = 10
#: A row a row of the data (of ``gauc``, a group): an array, or a sparse matrix.
Table = Any


def resampled(
    name: str, truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None, resamples: int, seed: int
) -> np.ndarray:
    """Return ``float64[resamples]``: a metric of :data:`SUMS`, or ``pr_auc``, on drawn rows (groups); NaN where undefined.

    Parameters
    ----------
    truth, predicted
        ``float64[n]``, checked.
    groups
        ``int[n]`` numbers from 0 without gaps, or ``None``.
    """
    if name == "pr_auc":
        return _resampled_pr_auc(truth, predicted, groups, resamples, seed)
    adds, value = SUMS[name]
    table = adds(truth, predicted, groups)
    if groups is not None and name != "gauc":
        rows, n = len(groups), int(groups.max()) + 1
        table = sparse.csr_matrix((np.ones(rows), groups, np.arange(rows + 1)), shape=(rows, n)).T @ table
    draws = _counts(int(table.shape[0]), resamples, seed)
    return np.array([value(np.asarray(counts @ table).ravel()) for counts in draws])


def resampled_reference(
    metric: Callable[..., float], arrays: Sequence[np.ndarray], groups: np.ndarray | None, resamples: int, seed: int
) -> np.ndarray:
    """Return a metric of the rows of each resample: what :func:`resampled` stands for."""
    n = len(arrays[0]) if groups is None else int(groups.max()) + 1
    whose = np.arange(n) if groups is None else groups
    drawn = (np.repeat(np.arange(len(whose)), counts[whose].astype(np.int64)) for counts in _counts(n, resamples, seed))
    return np.array([metric(*(array[rows] for array in arrays)) for rows in drawn])


def _counts(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ``float64[n]`` a resample: how often each row (group) is drawn."""
    rng = generator(seed, "rows")
    for _ in range(resamples):
        yield np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64)


def _resampled_pr_auc(
    truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None, resamples: int, seed: int
) -> np.ndarray:
    """Return the area under precision and recall of each resample, from rows that are put in order once."""
    order = np.argsort(-predicted, kind="stable")
    up, starts = truth[order], np.flatnonzero(np.diff(predicted[order], prepend=np.nan) != 0)
    whose = order if groups is None else groups[order]
    found = np.full(resamples, np.nan)
    for at, counts in enumerate(_counts(len(truth) if groups is None else int(groups.max()) + 1, resamples, seed)):
        own = counts[whose]
        positives, rows = np.add.reduceat(own * up, starts), np.add.reduceat(own, starts)
        if total := positives.sum():
            precision = np.cumsum(positives) / np.maximum(np.cumsum(rows), 1)
            found[at] = float(positives @ precision / total)
    return found


def _columns(*columns: np.ndarray | np.float64) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.float64)


def _log_losses(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    p = np.clip(p, CLIP, 1 - CLIP)
    return _columns(-(y * np.log(p) + (1 - y) * np.log(1 - p)), np.float64(1))


def _squares(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    return _columns((y - p) ** 2, np.float64(1))


def _distances(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    return _columns(np.abs(y - p), np.float64(1))


def _spreads(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    centred = y - y.mean()
    return _columns((y - p) ** 2, centred**2, centred, np.float64(1))


def _totals(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    return _columns(p, y)


def _bins(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    """Return each row's gap in the column of its bin, and a last column of ones."""
    n = len(y)
    code = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    columns, values = np.stack([code, np.full(n, BINS)], axis=1), np.stack([y - p, np.ones(n)], axis=1)
    return sparse.csr_matrix((values.ravel(), columns.ravel(), 2 * np.arange(n + 1)), shape=(n, BINS + 1))


def _aucs(y: np.ndarray, p: np.ndarray, groups: np.ndarray | None) -> Table:
    """Return of each group its AUC times its rows, and its rows; 0 where it has one class."""
    assert groups is not None
    found, size = group_aucs(y, p, groups)
    known = ~np.isnan(found)
    return _columns(np.where(known, found * size, 0), np.where(known, size, 0))


def _mean(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


#: Name: what a row adds (of ``gauc``, a group), and the value of the sums.
SUMS: dict[str, tuple[Callable[[np.ndarray, np.ndarray, np.ndarray | None], Table], Callable[[np.ndarray], float]]] = {
    "gauc": (_aucs, _mean),
    "log_loss": (_log_losses, _mean),
    "brier": (_squares, _mean),
    "ece": (_bins, lambda sums: float(np.abs(sums[:-1]).sum() / sums[-1])),
    "calibration_ratio": (_totals, _mean),
    "rmse": (_squares, lambda sums: float(np.sqrt(_mean(sums)))),
    "mae": (_distances, _mean),
    "r2": (_spreads, lambda sums: _r2(*sums)),
}


def _r2(errors: float, squares: float, total: float, n: float) -> float:
    spread = squares - total**2 / n
    return float(1 - errors / spread) if spread > 0 else float("nan")
