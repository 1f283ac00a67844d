"""Compare: the same split, the same tuning budget, the same seeds for every system, and one look at the test part.

The order of work makes choosing by test impossible: tuning and fitting see a copy of the split that has no test part; only
when the last model is fitted is the test part opened, once, and every model answers it.

Every system learns from train, with the validation part for early stopping and for tuning. With ``refit`` the chosen
settings are fitted once more on train and validation together before the test (for the number of epochs found best, where
the system trains by epochs); the default is not to, so that all systems learn from the same events and published figures can
be met. At the test, a question's history holds the validation events either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.catalog.registry import get, systems
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.split import HeldOut, Split
from palate.errors import ConfigError, DataError
from palate.evaluation.judge import Facts
from palate.evaluation.metrics import parse
from palate.evaluation.report import Report
from palate.evaluation.slices import standard_slices
from palate.progress import Progress, ProgressEvent, silent
from palate.study.evaluate import DEFAULT_METRICS, check_asked, measure, recommend_rate
from palate.study.tune import blind, tune

#: Seconds for which each model answers requests, to take its rate.
RATE_SECONDS = 0.5


@dataclass
class Entrant:
    """A system in a comparison.

    Attributes
    ----------
    title
        How tables name it.
    system
        Its class.
    settings
        What differs from the defaults; tuning adds to it, and never changes what the caller fixed.
    """

    title: str
    system: type[Recommender]
    settings: dict[str, Any]
    n_trials: int = 0
    fitted: list[Recommender] = field(default_factory=list)


def compare(
    split: Split,
    models: Sequence[str | Recommender] | Mapping[str, str | Recommender],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    trials: int = 0,
    seeds: int = 1,
    seed: int = 0,
    tune_metric: str = "ndcg@10",
    refit: bool = False,
    exclude_seen: bool = True,
    device: str = "cpu",
    name: str | None = None,
    attributes: Sequence[str] = (),
    categories: str | None = None,
    accept: Sequence[str] = (),
    progress: Progress = silent,
    keep: list[Entrant] | None = None,
) -> Report:
    """Compare systems on equal terms.

    Parameters
    ----------
    split
        Train, validation (needed for tuning) and test.
    models
        Names of the catalogue, or models (their settings are kept fixed; their weights are not used), or a mapping of
        titles to either.
    metrics
        What the report holds.
    trials
        Settings tried for each system on validation; 0 takes the settings as given.
    seeds
        Fits of each system, with seeds ``seed``, ``seed + 1``…; tuning uses the first.
    refit
        Fit again on train and validation before the test (see the module's text).
    attributes
        Attributes of people by which the report is sliced, beside activity, popularity of the answers, and cold.
    categories
        Attribute of items that metrics of categories (calibration, α-nDCG and others) go by.
    accept
        Codes of hard leaks of the split that the caller knows of and accepts; the report names them.
    keep
        A list that receives the entrants with their fitted models, for a caller that goes on with one of them.

    Returns
    -------
    Report
        Per-user values of every system and seed, fit seconds, requests a second, settings, trials, share of cold questions,
        and how often the test part was looked at.

    Raises
    ------
    LeakError
        If the split has a hard leak that is not accepted (:mod:`palate.data.audit`).
    """
    if seeds < 1:
        raise ConfigError("seeds must be at least 1.", where="seeds", value=seeds)
    if split.test_part is None or len(split.test_part) == 0:
        raise DataError("this split has no test part.", where=str(dict(split.spec)), remedy="split again with one")
    parse(tune_metric)
    leaks = [finding.code for finding in split.audit(accept=accept).findings if finding.severity == "hard"]
    plan = _Plan(metrics, trials, range(seed, seed + seeds), tune_metric, refit, exclude_seen, device, progress)
    facts = Facts.of(split.train, categories=categories)
    check_asked(metrics, facts, split.train.users, attributes)
    entrants = _entrants(models)
    seen = blind(split)
    for entrant in entrants:
        _prepare(entrant, seen, plan)
    setup: dict[str, Any] = {
        "trials": trials,
        "seeds": seeds,
        "tuned on": tune_metric,
        "refit": refit,
        "seen items excluded": exclude_seen,
    }
    setup |= {"accepted leaks": ", ".join(leaks)} if leaks else {}
    with split.looking():
        held_out = split.held_out("test")
        report = Report(
            name or f"Comparison on {split.train.name}",
            split.fingerprint,
            spec=dict(split.spec),
            looks=split.looks,
            setup=setup,
        )
        for entrant in entrants:
            for at, model in zip(plan.seeds, entrant.fitted, strict=True):
                _add(report, entrant, model, at, held_out, facts, plan)
    report.slice_by(*standard_slices(held_out, facts.item_counts, split.train.users, attributes))
    if keep is not None:
        keep.extend(entrants)
    return report


@dataclass(frozen=True)
class _Plan:
    """What is the same for every entrant."""

    metrics: Sequence[str]
    trials: int
    seeds: range
    tune_metric: str
    refit: bool
    exclude_seen: bool
    device: str
    progress: Progress


def _prepare(entrant: Entrant, seen: Split, plan: _Plan) -> None:
    """Tune and fit one system on a split without a test part."""
    if plan.trials > 0 and entrant.system.name in systems():
        tuned = tune(
            seen,
            entrant.system.name,
            trials=plan.trials,
            seed=plan.seeds[0],
            metric=plan.tune_metric,
            base=entrant.settings,
            device=plan.device,
            progress=plan.progress,
        )
        entrant.settings, entrant.n_trials = dict(tuned.settings), len(tuned.trials)
    for done, seed in enumerate(plan.seeds, start=1):
        entrant.fitted.append(_fit(entrant, seen, seed, plan))
        plan.progress(ProgressEvent(f"{entrant.title}: fit", done, len(plan.seeds)))


def _fit(entrant: Entrant, seen: Split, seed: int, plan: _Plan) -> Recommender:
    validation = None if seen.valid is None else seen.held_out("valid")
    options: dict[str, Any] = {"seed": seed, "device": plan.device, "progress": plan.progress}
    settings, by_epochs = entrant.settings, _by_epochs(entrant.system)
    if not plan.refit:
        return entrant.system(**settings).fit(seen.train, validation, **options)
    if by_epochs:
        model = entrant.system(**settings).fit(seen.train, validation, **options)
        settings = {**settings, "epochs": _best_epochs(model), "patience": 0}
    return entrant.system(**settings).fit(seen.full_train(), None, **options)


def _add(report: Report, entrant: Entrant, model: Recommender, seed: int, held_out: HeldOut, facts: Facts, plan: _Plan) -> None:
    """Let one fitted model answer the test questions."""
    options: dict[str, Any] = {"exclude_seen": plan.exclude_seen, "progress": plan.progress}
    measured = measure(model, held_out, plan.metrics, facts=facts, **options)
    info = {
        "system": model.name,
        "fit_seconds": model.record_.seconds,
        "requests_per_s": recommend_rate(
            model, Requests.of_held_out(held_out, exclude_seen=plan.exclude_seen), seconds=RATE_SECONDS
        ),
        "settings": model.config.model_dump(mode="json"),
        "n_trials": entrant.n_trials,
        "cold_share": measured.cold_share,
    }
    report.add(entrant.title, measured.judgement, seed=seed, info=info)


def _by_epochs(system: type[Recommender]) -> bool:
    return {"epochs", "patience"} <= set(system.Settings.model_fields)


def _best_epochs(model: Recommender) -> int:
    best = model.record_.notes.get("best_epoch")
    return max(1, int(best)) if best is not None else int(model.config.model_dump()["epochs"])


def _entrants(models: Sequence[str | Recommender] | Mapping[str, str | Recommender]) -> list[Entrant]:
    titled = list(models.items()) if isinstance(models, Mapping) else [(None, m) for m in models]
    if not titled:
        raise ConfigError("name at least one model to compare.", where="models", remedy="see: palate models")
    entrants = [_entrant(title, model) for title, model in titled]
    seen: dict[str, int] = {}
    for entrant in entrants:
        seen[entrant.title] = seen.get(entrant.title, 0) + 1
    twice = [title for title, count in seen.items() if count > 1]
    if twice:
        raise ConfigError(
            "two models have the same title.",
            where="models",
            value=twice[0],
            remedy="name each once, or give titles: {'title': model, …}",
        )
    return entrants


def _entrant(title: str | None, model: str | Recommender) -> Entrant:
    if isinstance(model, str):
        system = get(model, "recommend")
        return Entrant(title or system.title, system.load(), {})
    known = systems().get(model.name)
    changed = model.config.model_dump(exclude_defaults=True)
    name = known.title if known is not None else type(model).__name__
    if changed and title is None:
        name += " (" + ", ".join(f"{k}={v}" for k, v in changed.items()) + ")"
    return Entrant(title or name, type(model), changed)
