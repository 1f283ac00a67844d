"""Pairs of systems, tested over the same people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, get_args

import numpy as np

from palate.errors import ConfigError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.significance import (
    Tested,
    TestName,
    effect_size_dz,
    holm,
    paired_permutations,
    paired_t,
    wilcoxon,
)

if TYPE_CHECKING:
    from palate.evaluation.report import Report


@dataclass(frozen=True)
class Pair:
    """Two systems on one metric.

    Attributes
    ----------
    metric, system, baseline
        What was compared.
    difference
        Mean over people of system minus baseline (weighted where the metric is).
    low, high
        Bootstrap interval of the difference.
    relative
        The difference as a part of the baseline's value (NaN where that is zero).
    p, p_adjusted
        Two-sided p-value, and after Holm's correction over all pairs asked for.
    effect
        Cohen's d_z: the difference in standard deviations of the differences.
    n, wins, losses
        People with both values; for how many of them the system is better, and worse.
    method
        The test.
    significant
        Whether the adjusted p-value is below 1 - confidence.
    """

    metric: str
    system: str
    baseline: str
    difference: float
    low: float
    high: float
    relative: float
    p: float
    p_adjusted: float
    effect: float
    n: int
    wins: int
    losses: int
    method: str
    significant: bool


def compare_pairs(
    report: Report, metrics: Sequence[str], baseline: str | None, test: TestName, flips: int = 10_000
) -> list[Pair]:
    """Test pairs of systems of a report (see :meth:`palate.evaluation.report.Report.compare`)."""
    if test not in get_args(TestName):
        raise ConfigError("unknown test.", where="test", value=test, remedy=f"choose one of: {', '.join(get_args(TestName))}")
    titles = report.systems
    if baseline is not None:
        report.runs_of(baseline)
        chosen = [(title, baseline) for title in titles if title != baseline]
    else:
        chosen = list(combinations(titles, 2))
    found = [pair for metric in metrics for pair in _pairs(report, metric, chosen, test, flips)]
    adjusted = holm(np.array([pair.p for pair in found]))
    level = 1 - report.confidence
    return [replace(pair, p_adjusted=float(p), significant=bool(p < level)) for pair, p in zip(found, adjusted, strict=True)]


def _pairs(report: Report, metric: str, chosen: list[tuple[str, str]], test: TestName, flips: int) -> list[Pair]:
    if not chosen:
        return []
    values = {title: report.values(title, metric) for title in report.systems}
    raw = np.stack([values[a] - values[b] for a, b in chosen], axis=1)
    table = raw * _weights(report, metric, raw)
    tested = _test(table, test, flips, report.seed)
    interval = bootstrap_ci(table, confidence=report.confidence, resamples=report.resamples, seed=report.seed)
    sign = report.better(metric) or 1
    estimates = report.estimates(metric)
    out = []
    for at, ((system, baseline), result) in enumerate(zip(chosen, tested, strict=True)):
        base, better = estimates[baseline].value, sign * raw[:, at]
        difference = float(interval.value[at])
        out.append(
            Pair(
                metric,
                system,
                baseline,
                difference,
                float(interval.low[at]),
                float(interval.high[at]),
                difference / abs(base) if base else float("nan"),
                result.p,
                result.p,
                effect_size_dz(table[:, at]),
                result.n,
                int((better > 0).sum()),
                int((better < 0).sum()),
                result.method,
                False,
            )
        )
    return out


def _test(table: np.ndarray, test: TestName, flips: int, seed: int) -> list[Tested]:
    if test == "permutation":
        return paired_permutations(table, flips=flips, seed=seed)
    one = paired_t if test == "t" else wilcoxon
    return [one(column) for column in table.T]


def _weights(report: Report, metric: str, raw: np.ndarray) -> np.ndarray:
    """Return weights of people scaled to mean 1 over those of each pair, so that a mean of products is the weighted mean."""
    weights = report.runs[0].weights.get(metric)
    if weights is None:
        return np.ones((len(raw), 1))
    own = np.where(np.isnan(raw), np.nan, weights[:, None])
    whole = np.nansum(own, axis=0)
    known = (~np.isnan(own)).sum(0)
    return np.divide(own * known, whole, out=np.zeros_like(own), where=whole > 0)
