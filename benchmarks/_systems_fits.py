"""One system on one split under a budget: tuned, fitted with every seed and judged, each fit kept for a run that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from palate.catalog.registry import get
from palate.contracts.recommender import Recommender
from palate.data.split import HeldOut, Split
from palate.evaluation.judge import Facts, Judgement
from palate.evaluation.report import Report
from palate.evaluation.slices import standard_slices
from palate.study.evaluate import evaluate
from palate.study.kept import Kept
from palate.study.tune import Start, Trial, Work, blind, here, tune

T = TypeVar("T")
METRICS, CHOSEN_BY = ("ndcg@10", "recall@20", "coverage@10"), "ndcg@10"
#: Systems that watch a loss instead of the ranking: popularity is no floor of it, so they wait longer (decision 33).
OWN_WATCH = frozenset({"ubpr", "rel_mf"})
#: What all fits of a system share because of its cost: DiffKG's denoiser grows with the square of the entities that take part.
COSTLY: dict[str, dict[str, Any]] = {"diffkg": {"min_links": 10}}


@dataclass(frozen=True)
class Budget:
    """What every system is given.

    Attributes
    ----------
    trials
        Settings tried on validation, the defaults among them.
    seeds
        Fits of the best setting.
    people
        How many are drawn from data without ties (0: all).
    patience
        Looks without improvement before the end, of all that stop by validation; the most epochs are each system's own.
    loss_patience
        The same for systems that watch a loss instead of the ranking.
    """

    trials: int
    seeds: int
    people: int = 0
    patience: int = 10
    loss_patience: int = 20

    def base(self, system: str) -> dict[str, Any]:
        """Return the settings that all fits of a system share; patience only of those that stop by validation."""
        own = dict(COSTLY.get(system, {}))
        if {"epochs", "patience"} <= set(get(system, "recommend").load().Settings.model_fields):
            own["patience"] = self.loss_patience if system in OWN_WATCH else self.patience
        return own


class NotMadeError(Exception):
    """A fit that is not kept, when none is to be made."""


@dataclass
class Bench:
    """A split that systems are held against.

    Attributes
    ----------
    split
        Its test part is asked once of each fit, and nothing is chosen by it.
    budget
        The same for all.
    kept
        Where fits are kept.
    make
        Whether to make fits that are not kept.
    doing
        What it is at, for a failure to be told by.
    fitted
        Seed, settings and model of the best trial of this run, if it was made in it.
    """

    split: Split
    budget: Budget
    kept: Kept
    make: bool = True
    doing: str = "start"
    fitted: tuple[int, dict[str, Any], Any] | None = None

    def __post_init__(self) -> None:
        self.blind = blind(self.split)

    @cached_property
    def asked(self) -> HeldOut:
        """The test part (opened once)."""
        return self.split.held_out("test")

    def row(self, system: str) -> dict[str, Any]:
        """Tune, fit and judge one system; return what the table says of it."""
        spent: list[float] = []
        self.doing, self.fitted = "tuning", None
        tuned = tune(
            self.blind,
            system,
            trials=self.budget.trials,
            metric=CHOSEN_BY,
            base=self.budget.base(system),
            runner=lambda work: self._keeping(work, spent),
        )
        fits = []
        for seed in range(self.budget.seeds):
            self.doing = f"the fit with seed {seed}"
            make = partial(self._fit, system, tuned.settings, seed)
            fits.append(self._kept("fit", system, tuned.settings, seed, make))
        self.doing = "judging"
        spent += [fit["CPU seconds"] for fit in fits]
        return {
            **self._judged(system, fits),
            "settings": fits[0]["settings"],
            "trials": len(tuned.trials),
            "trials failed": sum(bool(trial.error) for trial in tuned.trials),
            "epochs trained": [fit["epochs"] for fit in fits],
            "best epoch": [fit["best epoch"] for fit in fits],
            "fit seconds": round(float(np.mean([fit["seconds"] for fit in fits])), 2),
            "CPU seconds": round(sum(spent), 1),
        }

    def _keeping(self, work: Work, spent: list[float]) -> Start:
        """Return what runs trials here, each kept; the best model is remembered, as its fit is that of the first seed."""
        maker: Any = _Maker(work.system)
        run, best = here(replace(work, system=maker)), -np.inf

        def made(settings: dict[str, Any], strict: bool) -> dict[str, Any]:
            nonlocal best
            started = time.process_time()
            trial = run(settings, strict=strict)()
            if trial.value > best:
                best, self.fitted = trial.value, (work.seed, {**work.base, **settings}, maker.last)
            return {**asdict(trial), "CPU seconds": time.process_time() - started}

        def start(settings: dict[str, Any], *, strict: bool = False) -> Callable[[], Trial]:
            def outcome() -> Trial:
                whole = {**work.base, **settings}
                found = self._kept("trial", work.system.name, whole, work.seed, partial(made, settings, strict))
                spent.append(found.pop("CPU seconds"))
                return Trial(**found)

            return outcome

        return start

    def _kept(self, what: str, system: str, settings: Mapping[str, Any], seed: int, make: Callable[[], T]) -> T:
        def made() -> T:
            if not self.make:
                raise NotMadeError
            return make()

        of = {"split": self.split.fingerprint, "metrics": METRICS, "chosen by": CHOSEN_BY}
        return self.kept.get({"what": what, **of, "system": system, "settings": dict(settings), "seed": seed}, made)

    def _model(self, system: str, settings: Mapping[str, Any], seed: int) -> Recommender:
        """Return a model fitted with one seed: that of the best trial where it is the same fit."""
        if self.fitted is not None and self.fitted[:2] == (seed, dict(settings)) and self.fitted[2].name == system:
            return self.fitted[2]
        model: Recommender = get(system, "recommend").load()(**settings)
        model.fit(self.blind.train, self.blind.held_out("valid"), seed=seed)
        return model

    def _fit(self, system: str, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Fit with one seed and answer the test part; return the values of people and how the fit went."""
        started = time.process_time()
        model = self._model(system, settings, seed)
        found = evaluate(model, self.asked, METRICS, facts=Facts.of(self.split.train))
        notes, told = model.record_.notes, model.config.model_dump(mode="json")
        return {
            **{name: dict(getattr(found, name)) for name in ("per_user", "weights", "overall", "dropped")},
            "users": found.users,
            "settings": told,
            "epochs": notes.get("epochs", told.get("epochs")),
            "best epoch": notes.get("best_epoch"),
            "seconds": model.record_.seconds,
            "CPU seconds": time.process_time() - started,
        }

    def _judged(self, system: str, fits: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics over all seeds with their intervals over people, and the slices."""
        facts = Facts.of(self.split.train)
        report = Report(system, self.split.fingerprint, spec=dict(self.split.spec))
        for seed, fit in enumerate(fits):
            parts = {name: fit[name] for name in ("users", "per_user", "weights", "overall", "dropped")}
            report.add(system, Judgement(**parts, metrics={}, facts=facts), seed=seed)
        report.slice_by(*standard_slices(self.asked, facts.item_counts, self.split.train.users))
        row: dict[str, Any] = {}
        for metric in METRICS:
            found = report.estimates(metric)[system]
            row[metric] = round(found.value, 4)
            if found.low is not None and found.high is not None:
                row[f"{metric} interval"] = [round(found.low, 4), round(found.high, 4)]
        slices = {f"{part.slicing}: {part.group}": round(part.value, 4) for part in report.slices("ndcg@10")}
        return {**row, "slices of ndcg@10": slices}


class _Maker:
    """Makes models of a system, and remembers the last."""

    def __init__(self, system: type[Recommender]) -> None:
        self.system, self.name = system, system.name
        self.last: Recommender | None = None

    def __call__(self, **settings: Any) -> Recommender:
        self.last = self.system(**settings)
        return self.last
