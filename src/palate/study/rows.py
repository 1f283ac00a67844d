"""Rows in a study: judge a ranker, tune rankers alike on validation, and compare them with one look at the test part.

As for recommenders (:mod:`palate.study.compare`), tuning and fitting see train and validation only; the test part is opened
once, when the last ranker is fitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from palate.catalog.registry import get
from palate.catalog.spaces import Range, space_of
from palate.contracts.ranker import Ranker, RowSource, blocks_of
from palate.data.row_split import RowSplit
from palate.errors import ConfigError, PalateError
from palate.evaluation.reliability import Reliability, reliability
from palate.evaluation.rows import METRICS, RowValue, check_metric, judge_rows, paired_rows
from palate.evaluation.significance import holm
from palate.progress import Progress, ProgressEvent, silent
from palate.study.row_parts import groups_of, part_of
from palate.study.tune import Trial, Tuned, chosen, here

#: Makes a part of a long study, or takes it from an earlier run.
Keeper = Callable[[Callable[[], list[Any]], dict[str, Any]], list[Any]]


@dataclass(frozen=True)
class Answered:
    """Predictions beside what happened.

    Attributes
    ----------
    tasks
        Names.
    truth, predicted
        ``float32[n, t]``.
    groups
        ``int32[n]``, or ``None``.
    seconds
        Of predicting.
    """

    tasks: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray | None
    seconds: float

    def values(self, metrics: Sequence[str] = (), *, resamples: int = 200) -> list[RowValue]:
        """Judge every task."""
        return [
            value
            for at, task in enumerate(self.tasks)
            for value in judge_rows(
                self.truth[:, at], self.predicted[:, at], task=task, groups=self.groups, metrics=metrics, resamples=resamples
            )
        ]

    def reliability(self) -> dict[str, Reliability]:
        """Return predictions against what happened, for every binary task."""
        found = {}
        for at, task in enumerate(self.tasks):
            seen = ~np.isnan(self.truth[:, at])
            truth, predicted = self.truth[seen, at], self.predicted[seen, at]
            if len(truth) and np.isin(truth, (0, 1)).all():
                found[task] = reliability(truth, predicted, groups=None if self.groups is None else self.groups[seen])
        return found


def answered(model: Ranker, rows: RowSource, groups: np.ndarray | None = None) -> Answered:
    """Let a fitted ranker predict rows, block by block.

    Parameters
    ----------
    groups
        The request of each row; those of the rows themselves by default.
    """
    truth, predicted, own, seconds = [], [], list[np.ndarray](), 0.0
    last = 0
    for block in blocks_of(rows)():
        started = time.perf_counter()
        predicted.append(model.predict(block).values)
        seconds += time.perf_counter() - started
        truth.append(np.stack([block.labels[task] for task in model.tasks], axis=1))
        if block.groups is not None:
            own.append(block.groups.astype(np.int64) + last)
            last = int(own[-1].max(initial=last)) + 1
    told = groups if groups is not None else (np.concatenate(own) if own else None)
    return Answered(model.tasks, np.concatenate(truth), np.concatenate(predicted), told, seconds)


@dataclass(frozen=True)
class RowWork:
    """What all trials of a search over a ranker's settings share; it holds no test part."""

    train: RowSource
    valid: RowSource
    groups: np.ndarray | None
    system: type[Any]
    base: dict[str, Any]
    seed: int
    metric: str
    device: str
    kept: Keeper | None = None

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, -1 where less is."""
        return METRICS[self.metric][1]

    def trial(self, settings: dict[str, Any], *, strict: bool = False) -> Trial:
        """Fit and judge one setting; a failure is recorded, or raised where ``strict``."""
        make = partial(self._tried, settings, strict)
        value, seconds, error = make() if self.kept is None else self.kept(make, {"system": self.system.name, **settings})
        return Trial(settings, value, seconds, error)

    def _tried(self, settings: dict[str, Any], strict: bool) -> list[Any]:
        started = time.perf_counter()
        try:
            model = self.system(**{**self.base, **settings})
            model.fit(self.train, self.valid, seed=self.seed, device=self.device)
            found = answered(model, self.valid, self.groups).values([self.metric], resamples=0)
        except PalateError as error:
            if strict:
                raise
            return [float("nan"), time.perf_counter() - started, error.what]
        return [float(np.mean([v.value for v in found])), time.perf_counter() - started, ""]

    def defaults(self) -> dict[str, Any]:
        """Return the settings of the first trial, whole."""
        return dict(self.system(**self.base).config.model_dump())


def tune_ranker(
    train: RowSource,
    valid: RowSource,
    system: str,
    *,
    trials: int,
    seed: int = 0,
    metric: str = "auc",
    space: Mapping[str, Range] | None = None,
    base: Mapping[str, Any] | None = None,
    groups: np.ndarray | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    kept: Keeper | None = None,
) -> Tuned:
    """Choose settings of a ranker on validation rows: the defaults first, then what a seeded estimator proposes.

    Parameters
    ----------
    train, valid
        Rows, or functions that yield them in blocks.
    system
        Name in the catalogue.
    trials
        How many settings to try, the defaults included.
    metric
        Name in :data:`palate.evaluation.rows.METRICS`; the mean over tasks counts.
    space, base
        Ranges to search instead of the catalogue's, and settings that all trials share.
    kept
        Given what makes a trial's outcome and the settings that name it, returns the outcome: for long searches that are taken
        up again (:meth:`palate.study.claims.Trial.kept`).

    Raises
    ------
    ConfigError
        If there is no trial, or no such metric.
    MissingExtraError
        If there is something to search and Optuna is not installed.
    """
    if trials < 1:
        raise ConfigError("trials must be at least 1.", where="trials", value=trials)
    if not METRICS[check_metric(metric)][1]:
        raise ConfigError("of this metric neither more nor less is better.", where="metric", value=metric, remedy="try auc")
    work = RowWork(train, valid, groups, get(system, "rank").load(), dict(base or {}), seed, metric, device, kept)
    return chosen(work, here(work), space_of(system) if space is None else space, trials, 1, progress)


@dataclass
class RowEntrant:
    """A ranker in a comparison: its settings, its fits, its answers on the test part."""

    title: str
    system: str
    settings: dict[str, Any]
    trials: int = 0
    fitted: list[Ranker] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)


@dataclass(frozen=True)
class RowReport:
    """Rankers compared on the test rows.

    Attributes
    ----------
    rows
        A mapping a system: each metric with its interval (mean over seeds; the interval is over test rows, or their groups
        where the split has any, of the first seed), standard deviation over seeds, seconds of the fit, rows predicted a second,
        settings.
    pairs
        A mapping a pair of systems: how much better the first is in the first metric, interval, and whether that counts
        (interval without zero, after Holm's correction of the levels by a normal approximation).
    setup
        Trials, seeds, looks, fingerprint, and the column whose values the intervals draw (``None``: they draw rows).
    curves
        Reliability of each system on its first task (where that is binary), of the first seed.
    """

    rows: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    setup: dict[str, Any]
    curves: dict[str, Reliability] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        bins = {name: curve.table().to_pylist() for name, curve in self.curves.items()}
        return {"rows": self.rows, "pairs": self.pairs, "setup": self.setup, "reliability": bins}


def compare_rankers(
    split: RowSplit,
    models: Sequence[str],
    *,
    metrics: Sequence[str] = (),
    trials: int = 0,
    seeds: int = 1,
    seed: int = 0,
    tune_metric: str = "auc",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> RowReport:
    """Compare rankers on equal terms: the same rows, the same tuning budget, the same seeds, one look at the test part.

    Parameters
    ----------
    models
        Names of the catalogue.
    settings
        By name, what a system keeps fixed.
    """
    if seeds < 1:
        raise ConfigError("seeds must be at least 1.", where="seeds", value=seeds)
    for metric in metrics:
        check_metric(metric)
    entrants = [RowEntrant(get(name, "rank").title, name, dict((settings or {}).get(name, {}))) for name in models]
    known = groups_of(split, "valid")
    for entrant in entrants:
        wants = get(entrant.system).load()(**entrant.settings).wants_groups
        train, valid = (part_of(split, part, groups=wants) for part in ("train", "valid"))
        if trials:
            how: dict[str, Any] = {
                "trials": trials,
                "seed": seed,
                "metric": tune_metric,
                "device": device,
                "progress": progress,
            }
            tuned = tune_ranker(train, valid, entrant.system, base=entrant.settings, groups=known, **how)
            entrant.settings, entrant.trials = dict(tuned.settings), len(tuned.trials)
        for done, one in enumerate(range(seed, seed + seeds), start=1):
            model = get(entrant.system).load()(**entrant.settings)
            entrant.fitted.append(model.fit(train, valid, seed=one, device=device, progress=progress))
            progress(ProgressEvent(f"{entrant.title}: fit", done, seeds))
    with split.looking():
        test, groups = list(part_of(split, "test")()), groups_of(split, "test")
        for entrant in entrants:
            entrant.answers = [answered(model, lambda: test, groups) for model in entrant.fitted]
        rows, pairs = [_row(entrant, metrics) for entrant in entrants], _pairs(entrants, metrics)
    setup = {"trials": trials, "seeds": seeds, "tuned on": tune_metric, "looks": split.looks, "split": split.fingerprint}
    setup["drawn by"] = split.group
    curves = {e.title: next(iter(found.values())) for e in entrants if (found := e.answers[0].reliability())}
    return RowReport(rows, pairs, {**setup, "spec": split.spec}, curves)


def _row(entrant: RowEntrant, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the table row of a system."""
    first, *others = (one.values(metrics, resamples=200 if at == 0 else 0) for at, one in enumerate(entrant.answers))
    many = len(entrant.answers[0].tasks) > 1
    row: dict[str, Any] = {"system": entrant.title}
    for at, value in enumerate(first):
        values = [value.value, *(other[at].value for other in others)]
        shift = float(np.mean(values)) - value.value
        name = f"{value.task}: {value.metric}" if many else value.metric
        row[name] = {
            "value": float(np.mean(values)),
            "low": value.low + shift,
            "high": value.high + shift,
            "sd over seeds": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
    seconds = sum(one.seconds for one in entrant.answers)
    return {
        **row,
        "fit seconds": float(np.mean([model.record_.seconds for model in entrant.fitted])),
        "rows/s": len(entrant.answers[0].truth) * len(entrant.answers) / max(seconds, 1e-9),
        "trials": entrant.trials,
        "settings": entrant.settings,
    }


def _pairs(entrants: Sequence[RowEntrant], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return how every two systems differ in the first task and metric, the better one first."""
    found = []
    for at, one in enumerate(entrants):
        for other in entrants[at + 1 :]:
            a, b = one.answers, other.answers
            truth = a[0].truth[:, 0]
            seen = ~np.isnan(truth)
            sides = [[answer.predicted[seen, 0] for answer in side] for side in (a, b)]
            groups = None if a[0].groups is None else a[0].groups[seen]
            metric = metrics[0] if metrics else ("auc" if np.isin(truth[seen], (0, 1)).all() else "rmse")
            value = paired_rows(truth[seen], *sides, metric=metric, groups=groups)
            pair = (one, other) if value.value >= 0 else (other, one)
            low, high = (value.low, value.high) if value.value >= 0 else (-value.high, -value.low)
            found.append(
                {
                    "better": pair[0].title,
                    "worse": pair[1].title,
                    "metric": metric,
                    "by": abs(value.value),
                    "low": low,
                    "high": high,
                }
            )
    return _counted(found)


def _counted(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each pair whether the difference counts, all pairs taken together."""
    from scipy.stats import norm

    if not pairs:
        return []
    errors = [max((p["high"] - p["low"]) / (2 * 1.96), 1e-12) for p in pairs]
    adjusted = holm(np.array([2 * norm.sf(abs(p["by"]) / e) for p, e in zip(pairs, errors, strict=True)]))
    return [{**p, "p": float(q), "counts": bool(q < 0.05)} for p, q in zip(pairs, adjusted, strict=True)]
