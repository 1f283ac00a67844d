"""Arms of claims about rankers: tuned on validation rows with equal budgets, fitted with several seeds, compared on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.contracts.ranker import Ranker, Rows
from palate.evaluation.auc_bootstrap import resampled_auc
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.metrics.predictive import auc
from palate.runtime import generator
from palate.study.claims import Effect, Trial
from palate.study.effects import seed_shares
from palate.study.rows import tune_ranker


@dataclass(frozen=True)
class Arm:
    """A system with chosen settings, fitted with each seed.

    Attributes
    ----------
    answers
        ``float32[seeds, n]``: predictions of the test rows.
    settings
        What was chosen (without what all arms share).
    valid
        The metric on validation with it.
    facts
        What the caller wanted to know of each fit.
    """

    answers: np.ndarray
    settings: dict[str, Any]
    valid: float | None = None
    facts: tuple[Any, ...] = ()

    def told(self, truth: np.ndarray) -> dict[str, Any]:
        """Return AUC (mean and sd over seeds), log loss with its interval over rows, and the settings, as plain values."""
        each = [auc(truth, p) for p in self.answers]
        p = np.clip(self.answers, 1e-7, 1 - 1e-7)
        loss = bootstrap_ci(-np.where(truth > 0.5, np.log(p), np.log(1 - p)).mean(0))
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else None
        return {
            "AUC": float(np.mean(each)),
            "AUC, sd over seeds": spread,
            "log loss": [float(x) for x in (loss.value, loss.low, loss.high)],
            "AUC on validation": self.valid,
            "settings": self.settings,
        }


def tuned_arm(
    trial: Trial,
    data: str,
    parts: Mapping[str, Rows],
    system: str,
    *,
    space: Mapping[str, Range],
    base: Mapping[str, Any],
    trials: int,
    name: str = "",
    facts: Callable[[Any], Any] | None = None,
) -> Arm:
    """Tune a system with so many trials on the first seed, and fit it with every seed.

    Parameters
    ----------
    data, name
        Name the rows and the arm (the system by default) among what an interrupted run kept.
    parts
        ``train``, ``valid``, ``test``.
    base
        Settings that all trials have.
    facts
        Given a fitted model, returns what is to be known of it (plain values).
    """
    arm = name or system
    tuned = tune_ranker(
        parts["train"],
        parts["valid"],
        system,
        trials=trials,
        seed=trial.seeds[0],
        space=space,
        base=base,
        progress=trial.progress,
        kept=lambda make, key: trial.kept(make, part="tuning", rows=data, arm=arm, **key),
    )
    return fitted_arm(trial, data, parts, system, tuned.settings, chosen=tuple(space), name=arm, valid=tuned.value, facts=facts)


def fitted_arm(
    trial: Trial,
    data: str,
    parts: Mapping[str, Rows],
    system: str,
    settings: Mapping[str, Any],
    *,
    chosen: tuple[str, ...] = (),
    name: str = "",
    valid: float | None = None,
    facts: Callable[[Any], Any] | None = None,
) -> Arm:
    """Fit a system with given settings with every seed; ``chosen`` names those that an account of it shows."""
    config, arm = create(system, **settings).config, name or system
    shown = {key: getattr(config, key) for key in chosen}
    found = []
    for seed in trial.seeds:
        make = partial(_fit, system, settings, parts, seed, trial, facts)
        found.append(trial.kept(make, part="fit", rows=data, arm=arm, settings=shown, seed=seed))
    return Arm(np.stack([one[0] for one in found]), shown, valid, tuple(one[1] for one in found))


def auc_gap(
    truth: np.ndarray,
    better: Arm,
    worse: Arm,
    *,
    resamples: int = 1000,
    people: np.ndarray | None = None,
    **details: object,
) -> Effect:
    """Return the difference of AUC, a mean over seeds, with a 95% bootstrap interval over rows (or people) and seeds.

    Rows are those of both arms; where ``people`` says whose each is, people are drawn, each with all rows. Seeds are drawn anew
    with them, the same for both arms where they have equally many (:func:`palate.study.effects.seed_shares`); the standard
    deviation over seeds of each arm stands in the details.
    """
    drawn = resampled_auc(truth, np.concatenate([better.answers, worse.answers]), resamples=resamples, groups=people)
    m, n = len(better.answers), len(worse.answers)
    rng = generator(0, "resampled seeds")
    one = seed_shares(m, resamples, rng)
    other = one if m == n else seed_shares(n, resamples, rng)
    means = [(drawn[:, :m] * one).sum(1), (drawn[:, m:] * other).sum(1)]
    low, high = np.nanpercentile(means[0] - means[1], [2.5, 97.5])
    each = [np.array([auc(truth, p) for p in arm.answers]) for arm in (better, worse)]
    spread = [float(own.std(ddof=1)) if len(own) > 1 else None for own in each]
    return Effect(float(each[0].mean() - each[1].mean()), float(low), float(high), {"sd over seeds": spread, **details})


def _fit(
    system: str,
    settings: Mapping[str, Any],
    parts: Mapping[str, Rows],
    seed: int,
    trial: Trial,
    facts: Callable[[Any], Any] | None,
) -> tuple[np.ndarray, Any]:
    model: Ranker = create(system, **settings).fit(parts["train"], parts["valid"], seed=seed, progress=trial.progress)
    return np.asarray(model.predict(parts["test"]).values[:, 0]), None if facts is None else facts(model)
