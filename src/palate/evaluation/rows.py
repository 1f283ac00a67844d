"""Rows judged: how well predictions of single rows fit what happened, with intervals over the requests or rows.

Metrics by name are those of :mod:`palate.evaluation.metrics.predictive`; of a binary task ``auc``, ``gauc`` (where rows have
groups), ``pr_auc``, ``log_loss``, ``brier``, ``ece``, ``calibration_ratio``, of any other ``rmse``, ``mae``, ``r2``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.errors import ConfigError, nearest
from palate.evaluation.auc_bootstrap import resampled_auc
from palate.evaluation.metrics import predictive
from palate.evaluation.row_bootstrap import resampled

#: Name to function, whether more is better (1), less (-1) or neither (0), and whether the task is binary.
METRICS: dict[str, tuple[Callable[..., float], int, bool]] = {
    "auc": (predictive.auc, 1, True),
    "gauc": (lambda y, p, g: predictive.gauc(y, p, g)[0], 1, True),
    "pr_auc": (predictive.pr_auc, 1, True),
    "log_loss": (predictive.log_loss, -1, True),
    "brier": (predictive.brier, -1, True),
    "ece": (predictive.expected_calibration_error, -1, True),
    "calibration_ratio": (predictive.calibration_ratio, 0, True),
    "rmse": (predictive.rmse, -1, False),
    "mae": (predictive.mae, -1, False),
    "r2": (predictive.r2, 1, False),
}
#: What is reported where nothing is named.
DEFAULT = {True: ("auc", "gauc", "log_loss", "ece"), False: ("rmse", "mae")}


@dataclass(frozen=True)
class RowValue:
    """A metric of one task, with its 95% interval."""

    metric: str
    task: str
    value: float
    low: float
    high: float


def check_metric(name: str) -> str:
    """Return the name of a metric of rows.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in METRICS:
        raise ConfigError("unknown metric of rows.", where="metric", value=name, remedy=nearest(name, METRICS))
    return name


def judge_rows(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    task: str = "label",
    groups: np.ndarray | None = None,
    metrics: Sequence[str] = (),
    resamples: int = 200,
    seed: int = 0,
) -> list[RowValue]:
    """Judge predictions of one task.

    Parameters
    ----------
    truth
        ``float[n]`` labels, NaN where not observed (those rows are left out).
    predicted
        ``float[n]`` probabilities or values.
    groups
        ``[n]`` the request or person of each row, or ``None``. Intervals are then over groups drawn whole.
    metrics
        Names; the usual ones of the kind of task by default.
    resamples
        Of the bootstrap.
    """
    seen = ~np.isnan(truth)
    y, p = truth[seen].astype(np.float64), predicted[seen].astype(np.float64)
    g = None if groups is None else np.unique(groups[seen], return_inverse=True)[1]
    binary = bool(np.isin(y, (0.0, 1.0)).all())
    named = [check_metric(name) for name in metrics] or [name for name in DEFAULT[binary] if name != "gauc" or g is not None]
    for name in named:
        _check_able(name, task, binary, g)
    return [_value(name, task, (y, p, g), resamples, seed) for name in named]


def _check_able(name: str, task: str, binary: bool, g: np.ndarray | None) -> None:
    needs_binary = METRICS[name][2]
    if needs_binary and not binary:
        raise ConfigError("this metric is of tasks with labels 0 and 1.", where=f"task {task!r}", value=name, remedy="rmse")
    if name == "gauc" and g is None:
        raise ConfigError(
            "gauc needs groups.", where=f"task {task!r}", remedy="name the column of the request or person: --group"
        )


def _value(name: str, task: str, rows: tuple[np.ndarray, np.ndarray, Any], resamples: int, seed: int) -> RowValue:
    y, p, g = rows
    value = METRICS[name][0](*(rows if name == "gauc" else (y, p)))  # checks both
    if not resamples:
        found = np.empty(0)
    elif name == "auc":
        found = resampled_auc(y, p[None], resamples=resamples, seed=seed, groups=g)[:, 0]
    else:
        found = resampled(name, y, p, g, resamples, seed)
    low, high = np.nanpercentile(found, [2.5, 97.5]) if np.isfinite(found).any() else (np.nan, np.nan)
    return RowValue(name, task, value, float(low), float(high))


def paired_rows(
    truth: np.ndarray,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    *,
    metric: str = "auc",
    groups: np.ndarray | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> RowValue:
    """Return how much better the first predictions are than the second, more being better, as a mean over seeds.

    Parameters
    ----------
    truth
        ``float[n]``, all observed.
    first, second
        Predictions of one task, one array a seed.
    groups
        ``[n]`` the request or person of each row, or ``None``. Intervals are then over groups drawn whole.
    """
    function, sign, _ = METRICS[check_metric(metric)]
    g = None if groups is None else np.unique(groups, return_inverse=True)[1]
    own = () if metric != "gauc" or g is None else (g,)
    values = [[function(truth, p, *own) for p in side] for side in (first, second)]  # checks all
    value = float(np.mean(values[0]) - np.mean(values[1])) * (sign or 1)
    if metric == "auc":
        scores = np.stack([*first, *second]).astype(np.float64)
        drawn = resampled_auc(truth, scores, resamples=resamples, seed=seed, groups=g)
        found = drawn[:, : len(first)].mean(1) - drawn[:, len(first) :].mean(1)
    else:
        y = truth.astype(np.float64)
        sides = [[resampled(metric, y, p.astype(np.float64), g, resamples, seed) for p in side] for side in (first, second)]
        found = (np.mean(sides[0], axis=0) - np.mean(sides[1], axis=0)) * (sign or 1)
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return RowValue(metric, "", value, float(low), float(high))
