"""The order of click models on two public sets of rows: LR < FM < MLP, DeepFM and DCN-v2 no worse, nor FinalMLP than those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.spaces import Range
from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.data.row_fields import RowField
from palate.runtime import generator
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.public_rows import frappe, movielens_likes, movielens_told, parts_of
from palate.study.row_arms import Arm, auc_gap, tuned_arm

#: Rows of each part.
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
#: Ratings that are read of MovieLens 1M, for time: seven systems are tuned on them.
RATINGS = 100_000
#: What all systems share; vocabularies are learnt on training rows alone.
SHARED: dict[str, Any] = {"batch_size": 1024, "epochs": 40, "patience": 4, "dim": 16}
#: All systems have the same number of trials; deep ones have more settings to find in them.
SHALLOW_SPACE = {"lr": Range(3e-3, 5e-2, log=True), "embedding_reg": Range(1e-4, 0.1, log=True)}
DEEP = {
    "lr": Range(5e-4, 1e-2, log=True),
    "embedding_reg": Range(1e-3, 3.0, log=True),
    "dropout": Range(0.0, 0.5),
    "batch_norm": Range(choices=(False, True)),
}
DEEP_SPACE = DEEP | {"hidden": Range(choices=((64,), (256, 128)))}
TWO_STACKS = DEEP_SPACE | {"heads": Range(choices=(1, 4, 16)), "select": Range(choices=(False, True))}
TWO_BLOCKS = DEEP | {"hidden": Range(choices=((64, 64), (256, 128))), "hidden_2": Range(choices=((), (128,)))}
#: System, its search space, and what it keeps fixed: the gates of FinalMLP read the person and the item.
SYSTEMS: dict[str, tuple[dict[str, Range], dict[str, Any]]] = {
    "lr": (SHALLOW_SPACE, {}),
    "fm": (SHALLOW_SPACE, {}),
    "mlp": (DEEP_SPACE, {}),
    "deepfm": (DEEP_SPACE, {}),
    "dcnv2": (DEEP_SPACE, {}),
    "finalmlp": (TWO_STACKS, {"context": ("user",), "context_2": ("item",)}),
    "finalnet": (TWO_BLOCKS, {}),
}
TRIALS = 6
#: A system is no worse than another where it is less than this below it.
NO_WORSE = -0.002
#: Better, than which, and by how much at least.
ORDER = (
    ("fm", "lr", 0.0),
    ("mlp", "fm", 0.0),
    ("deepfm", "mlp", NO_WORSE),
    ("dcnv2", "mlp", NO_WORSE),
    ("finalmlp", "deepfm", NO_WORSE),
    ("finalmlp", "dcnv2", NO_WORSE),
    ("finalnet", "mlp", NO_WORSE),
)
TITLES = {
    "lr": "LR",
    "fm": "FM",
    "mlp": "MLP",
    "deepfm": "DeepFM",
    "dcnv2": "DCN-v2",
    "finalmlp": "FinalMLP",
    "finalnet": "FINAL",
}


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


DATA: dict[str, Callable[[], tuple[pa.Table, tuple[RowField, ...]]]] = {
    "Frappe": frappe,
    "MovieLens 1M": lambda: movielens_likes(RATINGS),
}


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
    arms: dict[str, Arm] = {}
    for system, (space, fixed) in SYSTEMS.items():
        trials = 1 if trial.reduced else TRIALS
        arms[system] = tuned_arm(trial, name, parts, system, space=space, base={**shared, **fixed}, trials=trials)
    truth, draws = parts["test"].labels["label"], 200 if trial.reduced else 1000
    facts = {"systems": {TITLES[system]: arm.told(truth) for system, arm in arms.items()}, "rows": len(truth)}
    effects = {}
    for at, (better, worse, _) in enumerate(ORDER):
        details = {**facts, "seeds": len(trial.seeds)} if at == 0 else {}
        effects[effect_name(name, better, worse)] = auc_gap(truth, arms[better], arms[worse], resamples=draws, **details)
    return effects


def effect_name(data: str, better: str, worse: str) -> str:
    """Return what an effect is called."""
    return f"{data}: AUC of {TITLES[better]} over {TITLES[worse]}"


CLAIM = Claim(
    name="ctr_order",
    title="Click models: LR < FM < MLP, DeepFM and DCN-v2 no worse, nor FinalMLP than those",
    statement="On the two parts of Frappe that are at hand, cut anew, and on likes and dislikes of "
    f"{movielens_told(RATINGS)}, with rows split at random and the same number of trials on validation, FM has a higher AUC "
    "than logistic regression and an MLP than FM; DeepFM and DCN-v2 are less than 0.002 below the MLP, FinalMLP less than "
    "0.002 below each of these two, and FINAL less than 0.002 below the MLP.",
    bars={effect_name(data, better, worse): Bar(bar) for data in DATA for better, worse, bar in ORDER},
    run=run,
    data=("frappe", "ml-1m"),
    seeds=(0, 1, 2, 3, 4),
    minutes=15,
)
