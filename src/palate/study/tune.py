"""Tune: the same number of trials for every system, judged on validation by full ranking.

The first trial is the defaults; the others are proposed by Optuna's seeded tree-structured Parzen estimator over the
system's space (:mod:`palate.catalog.spaces`). The test part can't be reached from here: tuning works on a copy of the split
that has none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

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
    """

    system: str
    settings: Mapping[str, Any]
    value: float
    trials: tuple[Trial, ...]
    metric: str
    seed: int


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

    Raises
    ------
    ConfigError
        If the metric has no better end, or no value on the validation part.
    MissingExtraError
        If there is something to search and Optuna is not installed.
    """
    if trials < 1:
        raise ConfigError("trials must be at least 1.", where="trials", value=trials)
    sign = parse(metric).definition.better
    if not sign:
        raise ConfigError("of this metric neither more nor less is better.", where="metric", value=metric, remedy="try ndcg@10")
    seen = blind(split)
    held_out = seen.held_out("valid")
    work = _Work(seen, held_out, Facts.of(seen.train), get(system).load(), dict(base or {}), seed, metric, device)
    ranges = {name: r for name, r in (space_of(system) if space is None else space).items() if name not in work.base}
    done = [work.trial({}, strict=True)]
    if np.isnan(done[0].value):
        raise ConfigError(
            "this metric has no value on the validation part.", where="metric", value=metric, remedy="try ndcg@10"
        )
    progress(ProgressEvent(f"{system}: tune", 1, trials, {metric: done[0].value}))
    if trials > 1 and ranges:
        study = _study(seed, sign)
        _tell_defaults(study, ranges, work.defaults(), done[0].value)
        for at in range(1, trials):
            asked = study.ask()
            done.append(work.trial({name: _suggest(asked, name, r) for name, r in ranges.items()}))
            failed = np.isnan(done[-1].value)
            study.tell(asked, None if failed else done[-1].value, **({"state": _fail_state()} if failed else {}))
            best = sign * float(np.nanmax([sign * t.value for t in done]))
            progress(ProgressEvent(f"{system}: tune", at + 1, trials, {metric: done[-1].value, "best": best}))
    best_at = int(np.nanargmax([sign * t.value for t in done]))
    chosen = {**work.base, **done[best_at].settings}
    return Tuned(system, chosen, done[best_at].value, tuple(done), metric, seed)


@dataclass(frozen=True)
class _Work:
    split: Split
    held_out: HeldOut
    facts: Facts
    system: type[Any]
    base: dict[str, Any]
    seed: int
    metric: str
    device: str

    def trial(self, settings: dict[str, Any], *, strict: bool = False) -> Trial:
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
        return dict(self.system(**self.base).config.model_dump())


def _study(seed: int, sign: int) -> Any:
    optuna = require("optuna", "tuning")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
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
