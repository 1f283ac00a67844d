"""Tune rankers: the same number of trials for every system, judged on validation rows.

As :mod:`palate.study.tune`: the first trial is the defaults, the others are proposed by Optuna's seeded tree-structured Parzen
estimator over the system's space (:mod:`palate.catalog.spaces`). Test rows are not handed in at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter
from typing import Any, Literal

import numpy as np

from palate.catalog.registry import get
from palate.catalog.spaces import Range, space_of
from palate.contracts.ranker import Ranker, Rows
from palate.errors import ConfigError, PalateError
from palate.evaluation.metrics.predictive import auc, gauc, log_loss, mse
from palate.progress import Progress, ProgressEvent, silent
from palate.study.tune import Trial, Tuned, _fail_state, _study, _suggest, _tell_defaults

RowMetric = Literal["auc", "gauc", "log_loss", "mse"]
#: Metrics of rows alone.
MEASURES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {"auc": auc, "log_loss": log_loss, "mse": mse}
#: 1 where more is better.
SIGNS: Mapping[str, int] = {"auc": 1, "gauc": 1, "log_loss": -1, "mse": -1}


def judge_rows(model: Ranker, rows: Rows, metric: RowMetric, task: str | None = None) -> float:
    """Return a metric of one task (the first by default) over the rows where it was observed.

    Raises
    ------
    ConfigError
        If grouped AUC is wanted of rows without requests.
    """
    name = task or model.tasks[0]
    predicted, truth = model.predict(rows).task(name), rows.labels[name]
    seen = ~np.isnan(truth)
    if metric == "gauc":
        if rows.groups is None:
            raise ConfigError("grouped AUC needs groups.", where="metric", value=metric, remedy="metric='auc'")
        return gauc(truth[seen], predicted[seen], rows.groups[seen])[0]
    return MEASURES[metric](truth[seen], predicted[seen])


def tune_rows(
    train: Rows,
    valid: Rows,
    system: str,
    *,
    trials: int,
    seed: int = 0,
    metric: RowMetric = "auc",
    task: str | None = None,
    space: Mapping[str, Range] | None = None,
    base: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    kept: Callable[[Callable[[], list[Any]], dict[str, Any]], list[Any]] | None = None,
) -> Tuned:
    """Choose settings of a ranker on validation rows.

    Parameters
    ----------
    train, valid
        Rows to fit on, and to judge by (also for early stopping).
    system
        Name in the catalogue.
    trials
        How many settings to try, the defaults included (at least 1).
    seed
        Fixes the proposals and every fit.
    metric, task
        What to raise or to lower, of which task (the first by default).
    space
        Ranges to search, instead of the catalogue's.
    base
        Settings that all trials share.
    kept
        Given what makes a trial's value and its settings, returns the value: for long searches that are taken up again.

    Raises
    ------
    ConfigError
        If there is no trial, or no such metric.
    MissingExtraError
        If there is something to search and Optuna is not installed.
    """
    if trials < 1:
        raise ConfigError("trials must be at least 1.", where="trials", value=trials)
    if metric not in SIGNS:
        raise ConfigError("unknown metric of rows.", where="metric", value=metric, remedy=", ".join(SIGNS))
    work = _RowWork(train, valid, system, dict(base or {}), seed, metric, task, device, kept)
    ranges = {name: r for name, r in (space_of(system) if space is None else space).items() if name not in work.base}
    done = [work.trial({}, strict=True)]
    progress(ProgressEvent(f"{system}: tune", 1, trials, {metric: done[0].value}))
    if ranges and trials > 1:
        study = _study(seed, work.sign)
        defaults = work.kind(**work.base).config.model_dump()
        _tell_defaults(study, ranges, defaults, done[0].value)
        while len(done) < trials:
            asked = study.ask()
            done.append(work.trial({name: _suggest(asked, name, r) for name, r in ranges.items()}))
            failed = bool(np.isnan(done[-1].value))
            study.tell(asked, None if failed else done[-1].value, **({"state": _fail_state()} if failed else {}))
            best = work.sign * float(np.nanmax([work.sign * t.value for t in done]))
            progress(ProgressEvent(f"{system}: tune", len(done), trials, {metric: done[-1].value, "best": best}))
    best_at = int(np.nanargmax([work.sign * t.value for t in done]))
    return Tuned(system, {**work.base, **done[best_at].settings}, done[best_at].value, tuple(done), metric, seed)


@dataclass(frozen=True)
class _RowWork:
    """What all trials of a search share."""

    train: Rows
    valid: Rows
    system: str
    base: dict[str, Any]
    seed: int
    metric: RowMetric
    task: str | None
    device: str
    kept: Callable[[Callable[[], list[Any]], dict[str, Any]], list[Any]] | None

    @property
    def sign(self) -> int:
        return SIGNS[self.metric]

    @cached_property
    def kind(self) -> type[Any]:
        return get(self.system).load()

    def trial(self, settings: dict[str, Any], *, strict: bool = False) -> Trial:
        """Fit and judge one setting; a failure is recorded, or raised where ``strict``."""
        make = partial(self._value, settings, strict)
        value, seconds, error = make() if self.kept is None else self.kept(make, {"system": self.system, **settings})
        return Trial(settings, value, seconds, error)

    def _value(self, settings: dict[str, Any], strict: bool) -> list[Any]:
        started = perf_counter()
        try:
            model = self.kind(**{**self.base, **settings}).fit(self.train, self.valid, seed=self.seed, device=self.device)
            value, error = judge_rows(model, self.valid, self.metric, self.task), ""
        except PalateError as failure:
            if strict:
                raise
            value, error = float("nan"), failure.what
        return [value, perf_counter() - started, error]
