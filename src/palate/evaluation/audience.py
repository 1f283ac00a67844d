"""The people expected for new items against those who came.

``came`` is ``bool[people, items]`` and ``p`` the probabilities of the same pairs. An item's audience is the number of people
who came, its expected audience ``Σ_u p_u``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse, stats

from palate.errors import DataError
from palate.evaluation.metrics.predictive import expected_calibration_error
from palate.evaluation.reliability import reliability

__all__ = ["audience_report", "co_audience", "lift"]


def lift(came: np.ndarray, p: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Return ``float64[items]``: the rate among the ``share`` of people with the highest ``p``, over the rate of all.

    People with equal ``p`` stand in the order of their rows; NaN where nobody came.
    """
    if not 0 < share <= 1:
        raise DataError("a share lies above 0 and up to 1.", where="share", value=share)
    n = max(1, round(share * len(came)))
    top = np.argsort(-p, axis=0, kind="stable")[:n]
    rate = came.mean(axis=0)
    found: np.ndarray = np.take_along_axis(came, top, axis=0).mean(axis=0) / np.where(rate > 0, rate, np.nan)
    return found


def co_audience(came: np.ndarray, p: np.ndarray, had: sparse.spmatrix, k: int = 20) -> np.ndarray:
    """Return ``float64[items]``: the share of the ``k`` earlier items most had by who came, among those of who is expected.

    ``had`` is ``[people, earlier items]``; who is expected counts by ``p``. Equal counts stand in the order of the items. NaN
    where nobody came.
    """
    actual, expected = (np.asarray(had.T @ x.astype(np.float64)) for x in (came, p))
    k = min(k, len(actual))
    tops = [np.argsort(-counts, axis=0, kind="stable")[:k] for counts in (actual, expected)]
    shared = [len(np.intersect1d(a, b)) / k for a, b in zip(tops[0].T, tops[1].T, strict=True)]
    return np.where(came.any(axis=0), shared, np.nan)


def audience_report(came: np.ndarray, p: np.ndarray, had: sparse.spmatrix | None = None, k: int = 20) -> dict[str, Any]:
    """Return what is asked of a forecast of audiences, as plain numbers.

    Parameters
    ----------
    came, p
        Of all people and new items.
    had
        ``[people, earlier items]``, for the overlap of co-audiences; that of a forecast which expects everybody alike stands
        beside it.
    k
        Earlier items that are compared.

    Returns
    -------
    dict
        ``decile lift`` and ``co-audience@k`` (means over items), ``expected / came`` of all pairs, ``error of an audience``
        (median over items of ``|expected - came| / came``), ``Spearman of audience sizes``, ``ECE``, and ``reliability``, rows
        of ten bins with as many pairs each.
    """
    if came.shape != p.shape or came.ndim != 2 or not came.any():
        raise DataError("came and p need one shape, people by items, and somebody who came.", value=(came.shape, p.shape))
    size, expected = came.sum(axis=0), p.sum(axis=0)
    some = size > 0
    found: dict[str, Any] = {
        "decile lift": float(np.nanmean(lift(came, p))),
        "expected / came": float(expected.sum() / size.sum()),
        "error of an audience": float(np.median(np.abs(expected - size)[some] / size[some])),
        "Spearman of audience sizes": _spearman(expected, size),
        "ECE": expected_calibration_error(came.ravel(), p.ravel()),
        "reliability": reliability(came.ravel(), p.ravel(), by="count").table().to_pylist(),
    }
    if had is not None:
        found[f"co-audience@{k}"] = float(np.nanmean(co_audience(came, p, had, k)))
        found[f"co-audience@{k}, everybody alike"] = float(np.nanmean(co_audience(came, np.ones_like(p), had, k)))
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    constant = len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0
    return float("nan") if constant else float(stats.spearmanr(a, b).statistic)
