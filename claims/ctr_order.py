"""The order of click models on two public sets of rows: LR < FM < MLP, and DeepFM and DCN-v2 no worse than MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.data.row_fields import RowField
from palate.evaluation.auc_bootstrap import resampled_auc
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.metrics.predictive import auc
from palate.runtime import generator
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.public_rows import frappe, movielens_likes, parts_of
from palate.study.rows import tune_ranker

#: Rows of each part.
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
#: Ratings that are taken of the whole of MovieLens 1M, where it is at hand.
RATINGS = 100_000
FRAPPE = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
#: What all systems share; vocabularies are learnt on training rows alone.
SHARED: dict[str, Any] = {"batch_size": 1024, "epochs": 40, "patience": 4, "dim": 16}
#: All systems have the same number of trials; deep ones have more settings to find in them.
SHALLOW_SPACE = {"lr": Range(3e-3, 5e-2, log=True), "embedding_reg": Range(1e-4, 0.1, log=True)}
DEEP_SPACE = {
    "lr": Range(5e-4, 1e-2, log=True),
    "embedding_reg": Range(1e-3, 3.0, log=True),
    "dropout": Range(0.0, 0.5),
    "hidden": Range(choices=((64,), (256, 128))),
    "batch_norm": Range(choices=(False, True)),
}
SYSTEMS: dict[str, dict[str, Range]] = {
    "lr": SHALLOW_SPACE,
    "fm": SHALLOW_SPACE,
    "mlp": DEEP_SPACE,
    "deepfm": DEEP_SPACE,
    "dcnv2": DEEP_SPACE,
}
TRIALS = 8
#: Better, than which, and by how much at least.
ORDER = (("fm", "lr", 0.0), ("mlp", "fm", 0.0), ("deepfm", "mlp", -0.002), ("dcnv2", "mlp", -0.002))
TITLES = {"lr": "LR", "fm": "FM", "mlp": "MLP", "deepfm": "DeepFM", "dcnv2": "DCN-v2"}


def made(n: int = 3_000, seed: int = 0) -> tuple[pa.Table, tuple[RowField, ...]]:
    """Return rows whose clicks depend on a person, an item, and their match."""
    rng = generator(seed, "made rows")
    user, item, day = rng.integers(40, size=n), rng.integers(30, size=n), rng.integers(7, size=n)
    left, right = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    logit = (left[user] * right[item]).sum(1) + rng.normal(size=30)[item] + 0.3 * np.sin(day)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    columns = {"user": user, "item": item, "day": day}
    table = pa.table({**{name: pa.array(x).cast(pa.string()) for name, x in columns.items()}, "label": label})
    return table, tuple(RowField(name, "category") for name in columns)


DATA: dict[str, Callable[[], tuple[pa.Table, tuple[RowField, ...]]]] = {"Frappe": frappe, "MovieLens 1M": movielens_likes}


def run(trial: Trial) -> Mapping[str, Effect]:
    """Tune each system on validation, fit it with every seed, open the test rows once."""
    effects: dict[str, Effect] = {}
    for name, load in DATA.items():
        table, fields = made() if trial.reduced else load()
        trial.fingerprints[name] = fingerprint(table)
        effects |= one_data(trial, name, parts_of(table, SHARES), fields)
    return effects


def one_data(trial: Trial, name: str, parts: dict[str, Rows], fields: tuple[RowField, ...]) -> dict[str, Effect]:
    """Return the effects of one set of rows."""
    shared = {**SHARED, "fields": fields, **({"epochs": 4, "batch_size": 256, "dim": 4} if trial.reduced else {})}
    found: dict[str, np.ndarray] = {}
    settings: dict[str, Any] = {}
    for system, space in SYSTEMS.items():
        tuned = tune_ranker(
            parts["train"],
            parts["valid"],
            system,
            trials=1 if trial.reduced else TRIALS,
            seed=trial.seeds[0],
            space=space,
            base=shared,
            progress=trial.progress,
            kept=lambda make, key: trial.kept(make, part="tuning", rows=name, **key),
        )
        chosen = create(system, **tuned.settings).config
        settings[system] = {key: getattr(chosen, key) for key in space} | {"validation AUC": tuned.value}
        each = []
        for seed in trial.seeds:
            make = partial(answers, system, tuned.settings, parts, seed, trial)
            each.append(trial.kept(make, part="fit", rows=name, system=system, settings=settings[system], seed=seed))
        found[system] = np.stack(each)
    return compared(name, parts["test"].labels["label"], found, settings, 200 if trial.reduced else 1000)


def answers(system: str, chosen: Mapping[str, Any], parts: dict[str, Rows], seed: int, trial: Trial) -> np.ndarray:
    """Return the predictions of the test rows by one fit."""
    model = create(system, **chosen).fit(parts["train"], parts["valid"], seed=seed, progress=trial.progress)
    return np.asarray(model.predict(parts["test"]).values[:, 0])


def compared(
    name: str, truth: np.ndarray, found: dict[str, np.ndarray], settings: dict[str, Any], resamples: int
) -> dict[str, Effect]:
    """Return the differences of AUC, means over seeds, with bootstrap intervals over rows that all systems share."""
    seeds = len(next(iter(found.values())))
    drawn = resampled_auc(truth, np.concatenate(list(found.values())), resamples=resamples)
    by_system = dict(zip(found, np.split(drawn, len(found), axis=1), strict=True))
    each = {system: np.array([auc(truth, p) for p in rows]) for system, rows in found.items()}
    facts = {TITLES[s]: _facts(truth, rows, each[s], by_system[s], settings[s]) for s, rows in found.items()}
    effects = {}
    for better, worse, _ in ORDER:
        gap = (by_system[better] - by_system[worse]).mean(1)
        low, high = np.nanpercentile(gap, [2.5, 97.5])
        value = float(each[better].mean() - each[worse].mean())
        details = {"systems": facts, "rows": len(truth), "seeds": seeds} if better == "fm" else {}
        effects[effect_name(name, better, worse)] = Effect(value, float(low), float(high), details)
    return effects


def _facts(
    truth: np.ndarray, rows: np.ndarray, each: np.ndarray, drawn: np.ndarray, settings: dict[str, Any]
) -> dict[str, Any]:
    p = np.clip(rows, 1e-7, 1 - 1e-7)
    losses = -np.where(truth > 0.5, np.log(p), np.log(1 - p)).mean(0)
    loss = bootstrap_ci(losses)
    ends = np.nanpercentile(drawn.mean(1), [2.5, 97.5])
    return {
        "AUC": [float(each.mean()), *map(float, ends)],
        "AUC, sd over seeds": float(each.std(ddof=1)) if len(each) > 1 else None,
        "log loss": [float(x) for x in (loss.value, loss.low, loss.high)],
        **settings,
    }


def effect_name(data: str, better: str, worse: str) -> str:
    """Return what an effect is called."""
    return f"{data}: AUC of {TITLES[better]} over {TITLES[worse]}"


CLAIM = Claim(
    name="ctr_order",
    title="Click models: LR < FM < MLP, and DeepFM and DCN-v2 no worse",
    statement="On Frappe and on likes and dislikes of MovieLens 1M, with rows split at random and the same number of trials on "
    "validation, FM has a higher AUC than logistic regression and an MLP than FM; DeepFM and DCN-v2 are at most 0.002 below.",
    bars={effect_name(data, better, worse): Bar(bar) for data in DATA for better, worse, bar in ORDER},
    run=run,
    data=("frappe", "ml-1m"),
    seeds=(0, 1, 2),
    minutes=20,
)
