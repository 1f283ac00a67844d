"""Tune: the same number of trials for every system, judged on validation by full ranking.

The first trial is the defaults; the others are proposed by Optuna's seeded tree-structured Parzen estimator over the
system's space (:mod:`palate.catalog.spaces`). The test part can't be reached from here: tuning works on a copy of the split
that has none.

Up to ``parallel`` trials are under way at a time. Outcomes are told to the estimator in the order of the trials, whichever
ends first, and trial ``t`` is proposed when those up to ``t - parallel`` are told; those still under way count as bad ones
(constant liar). So the result depends on the seed and on ``parallel``, and not on where or how fast trials run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from palate.catalog.registry import get
from palate.catalog.spaces import Range, space_of
from palate.data.split import HeldOut, Split
from palate.errors import ConfigError, PalateError
from palate.evaluation.judge import Facts
from palate.evaluation.metrics import parse
from palate.extras import require
from palate.progress import Progress, ProgressEvent, silent
from palate.study.evaluate import evaluate


@dataclass(frozen=True)
class Trial:
    """One setting tried.

    Attributes
    ----------
    settings
        What differs from the base settings.
    value
        Validation metric, or NaN where the trial failed.
    seconds
        Fit and evaluation.
    error
        Why it failed, or empty.
    """

    settings: Mapping[str, Any]
    value: float
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Tuned:
    """The outcome: the best settings on validation, and every trial.

    Attributes
    ----------
    system
        Name in the catalogue.
    settings
        Settings of the best trial, base settings included (earliest trial where equal).
    value
        Its validation metric.
    trials
        All trials, in order; the first is the defaults.
    parallel
        How many were under way at a time.
    """

    system: str
    settings: Mapping[str, Any]
    value: float
    trials: tuple[Trial, ...]
    metric: str
    seed: int
    parallel: int = 1


class Tried(Protocol):
    """What a search needs to know of the work that its trials share."""

    @property
    def system(self) -> Any:
        """The class of the system."""

    @property
    def seed(self) -> int:
        """Fixes the proposals and every fit."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, -1 where less is."""

    @property
    def base(self) -> dict[str, Any]:
        """Settings that all trials share."""

    def trial(self, settings: dict[str, Any], *, strict: bool = False) -> Trial:
        """Fit and judge one setting; a failure is recorded, or raised where ``strict``."""

    def defaults(self) -> dict[str, Any]:
        """Return the settings of the first trial, whole."""


class Start(Protocol):
    """Begins a trial, and returns what waits for its outcome."""

    def __call__(self, settings: dict[str, Any], *, strict: bool = False) -> Callable[[], Trial]:
        """Begin; where ``strict``, a failure is raised instead of recorded."""


def blind(split: Split) -> Split:
    """Return the split without its test part: what tuning and fitting may see."""
    return replace(split, test_part=None, test_context=None, _ledger=None)


def tune(
    split: Split,
    system: str,
    *,
    trials: int,
    seed: int = 0,
    metric: str = "ndcg@10",
    space: Mapping[str, Range] | None = None,
    base: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    parallel: int = 1,
    runner: Callable[[Work], Start] | None = None,
) -> Tuned:
    """Choose settings of a system on the validation part.

    Parameters
    ----------
    split
        Train and validation parts are used; the test part stays closed.
    system
        Name in the catalogue.
    trials
        How many settings to try, the defaults included (at least 1).
    seed
        Fixes the proposals and every fit.
    metric
        Metric to raise (or to lower, where less is better, as of ``percentile_rank``).
    space
        Ranges to search, instead of the catalogue's.
    base
        Settings that all trials share.
    parallel
        How many trials may be under way at a time. More than one is of use where ``runner`` can run them at once, and gives
        the estimator less to go by.
    runner
        Given the work, returns what begins a trial; by default trials run here, one after another.

    Raises
    ------
    ConfigError
        If the metric has no better end, or no value on the validation part.
    MissingExtraError
        If there is something to search and Optuna is not installed.
    """
    for name, count in (("trials", trials), ("parallel", parallel)):
        if count < 1:
            raise ConfigError(f"{name} must be at least 1.", where=name, value=count)
    if not parse(metric).definition.better:
        raise ConfigError("of this metric neither more nor less is better.", where="metric", value=metric, remedy="try ndcg@10")
    seen = blind(split)
    held_out = seen.held_out("valid")
    work = Work(seen, held_out, Facts.of(seen.train), get(system, "recommend").load(), dict(base or {}), seed, metric, device)
    start = (here if runner is None else runner)(work)
    return chosen(work, start, space_of(system) if space is None else space, trials, parallel, progress)


def chosen(
    work: Tried, start: Start, space: Mapping[str, Range], trials: int, parallel: int = 1, progress: Progress = silent
) -> Tuned:
    """Return the best of some trials: the defaults first, then what the estimator proposes."""
    name, ranges = work.system.name, {key: r for key, r in space.items() if key not in work.base}
    first = start({}, strict=True)()
    if np.isnan(first.value):
        raise ConfigError(
            "this metric has no value on the validation part.", where="metric", value=work.metric, remedy="try ndcg@10"
        )
    progress(ProgressEvent(f"{name}: tune", 1, trials, {work.metric: first.value}))
    done = _search(work, start, first, ranges, trials, parallel, progress) if ranges else [first]
    best_at = int(np.nanargmax([work.sign * t.value for t in done]))
    settings = {**work.base, **done[best_at].settings}
    return Tuned(name, settings, done[best_at].value, tuple(done), work.metric, work.seed, parallel)


def _search(
    work: Tried, start: Start, first: Trial, ranges: Mapping[str, Range], trials: int, parallel: int, progress: Progress
) -> list[Trial]:
    """Run the trials after the defaults, at most ``parallel`` at a time; outcomes are told in the order of the trials."""
    done = [first]
    if trials == 1:
        return done
    study = _study(work.seed, work.sign)
    _tell_defaults(study, ranges, work.defaults(), first.value)
    under_way: deque[tuple[Any, Callable[[], Trial]]] = deque()
    while len(done) < trials:
        while len(under_way) < min(parallel, trials - len(done)):
            asked = study.ask()
            under_way.append((asked, start({name: _suggest(asked, name, r) for name, r in ranges.items()})))
        asked, outcome = under_way.popleft()
        done.append(outcome())
        failed = np.isnan(done[-1].value)
        study.tell(asked, None if failed else done[-1].value, **({"state": _fail_state()} if failed else {}))
        best = work.sign * float(np.nanmax([work.sign * t.value for t in done]))
        metrics = {work.metric: done[-1].value, "best": best}
        progress(ProgressEvent(f"{work.system.name}: tune", len(done), trials, metrics))
    return done


def here(work: Tried) -> Start:
    """Return what runs trials in this process, each when its outcome is wanted."""

    def start(settings: dict[str, Any], *, strict: bool = False) -> Callable[[], Trial]:
        return partial(work.trial, settings, strict=strict)

    return start


@dataclass(frozen=True)
class Work:
    """What all trials of a search share; it holds no test part."""

    split: Split
    held_out: HeldOut
    facts: Facts
    system: type[Any]
    base: dict[str, Any]
    seed: int
    metric: str
    device: str

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, -1 where less is."""
        return parse(self.metric).definition.better

    def trial(self, settings: dict[str, Any], *, strict: bool = False) -> Trial:
        """Fit and judge one setting; a failure is recorded, or raised where ``strict``."""
        started = time.perf_counter()
        try:
            model = self.system(**{**self.base, **settings})
            model.fit(self.split.train, self.held_out, seed=self.seed, device=self.device)
            value = float(evaluate(model, self.held_out, [self.metric], facts=self.facts).value(self.metric))
        except PalateError as error:
            if strict:
                raise
            return Trial(settings, float("nan"), time.perf_counter() - started, error.what)
        return Trial(settings, value, time.perf_counter() - started)

    def defaults(self) -> dict[str, Any]:
        """Return the settings of the first trial, whole."""
        return dict(self.system(**self.base).config.model_dump())


def _study(seed: int, sign: int) -> Any:
    optuna = require("optuna", "tuning")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)
    return optuna.create_study(direction="maximize" if sign > 0 else "minimize", sampler=sampler)


def _fail_state() -> Any:
    return require("optuna", "tuning").trial.TrialState.FAIL


def _tell_defaults(study: Any, ranges: Mapping[str, Range], defaults: Mapping[str, Any], value: float) -> None:
    """Let the sampler learn from the defaults, where they lie inside the space."""
    if not np.isfinite(value) or not all(r.holds(defaults.get(name)) for name, r in ranges.items()):
        return
    optuna = require("optuna", "tuning")
    params = {name: defaults[name] for name in ranges}
    known = {name: _distribution(optuna, r) for name, r in ranges.items()}
    study.add_trial(optuna.trial.create_trial(params=params, distributions=known, value=value))


def _distribution(optuna: Any, r: Range) -> Any:
    if r.choices:
        return optuna.distributions.CategoricalDistribution(r.choices)
    if r.whole:
        return optuna.distributions.IntDistribution(r.low, r.high, log=r.log)
    return optuna.distributions.FloatDistribution(float(r.low or 0.0), float(r.high or 0.0), log=r.log)


def _suggest(trial: Any, name: str, r: Range) -> Any:
    if r.choices:
        return trial.suggest_categorical(name, r.choices)
    if r.whole:
        return trial.suggest_int(name, r.low, r.high, log=r.log)
    return trial.suggest_float(name, r.low, r.high, log=r.log)
