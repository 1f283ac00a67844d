"""AutoInt: does attention over fields find interactions that FM can't hold, and does it pay on public rows?

Three parts. MovieLens 1M by the authors' recipe: seven fields, neither person nor film. Frappe, split anew. Made rows, whose
labels follow a table of two fields and one of three others.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.data.row_fields import RowField
from palate.evaluation.metrics.predictive import auc
from palate.runtime import generator
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import paired_gain
from palate.study.public_rows import frappe, movielens_seven, parts_of
from palate.study.row_arms import Arm, auc_gap, fitted_arm, tuned_arm

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
#: What all arms share; vocabularies are learnt on training rows alone.
SHARED: dict[str, Any] = {"batch_size": 1024, "epochs": 30, "patience": 3, "dim": 16}
TRIALS = 6
SHALLOW = {"lr": Range(3e-3, 5e-2, log=True), "embedding_reg": Range(1e-4, 0.1, log=True)}
DEEP = {"lr": Range(1e-3, 1e-2, log=True), "embedding_reg": Range(1e-3, 1.0, log=True), "dropout": Range(0.0, 0.5)}
ATTENTION = {**DEEP, "form": Range(choices=("paper", "original", "fuxictr"))}
#: System, search space, and what is fixed. All have the same number of trials.
ARMS: dict[str, tuple[dict[str, Range], dict[str, Any]]] = {
    "lr": (SHALLOW, {}),
    "fm": (SHALLOW, {}),
    "mlp": ({**DEEP, "batch_norm": Range(choices=(False, True))}, {"hidden": (128, 64)}),
    "autoint": (ATTENTION, {"layers": 2, "units": 32}),
    "autoint_plus": (ATTENTION, {"layers": 2, "units": 32, "hidden": (128, 64)}),
}
TITLES = {"lr": "LR", "fm": "FM", "mlp": "MLP", "autoint": "AutoInt", "autoint_plus": "AutoInt+"}
#: Layers that are tried with the settings chosen for two.
LAYERS = (0, 1, 3)


def compared(trial: Trial, name: str, table: pa.Table, fields: tuple[RowField, ...], arms: tuple[str, ...]) -> dict[str, Arm]:
    """Return arms on one set of rows: tuned on validation, fitted with every seed, the test rows opened once."""
    trial.fingerprints[name] = fingerprint(table)
    parts = parts_of(table, SHARES)
    short: dict[str, Any] = {"epochs": 2, "batch_size": 256, "dim": 4} if trial.reduced else {}
    found = {}
    for system in arms:
        space, fixed = ARMS[system]
        base = {**SHARED, **fixed, "fields": fields, **short}
        found[system] = tuned_arm(trial, name, parts, system, space=space, base=base, trials=1 if trial.reduced else TRIALS)
    return found


def ablated(trial: Trial, name: str, table: pa.Table, fields: tuple[RowField, ...], chosen: Arm) -> dict[str, Arm]:
    """Return AutoInt with other numbers of layers, and without residuals, all else as chosen."""
    short: dict[str, Any] = {"epochs": 2, "batch_size": 256, "dim": 4} if trial.reduced else {}
    base = {**SHARED, **ARMS["autoint"][1], **chosen.settings, "fields": fields, **short}
    arms: dict[str, dict[str, Any]] = {f"{n} layers": {"layers": n} for n in LAYERS} | {"no residual": {"residual": "none"}}
    parts = parts_of(table, SHARES)
    return {arm: fitted_arm(trial, name, parts, "autoint", {**base, **own}, name=arm) for arm, own in arms.items()}


def truth_of(table: pa.Table) -> np.ndarray:
    """Return the labels of the test rows."""
    return parts_of(table, SHARES)["test"].labels["label"]


# -- made rows --------------------------------------------------------------------------------------------------------------

PAIR, TRIPLE, VALUES = (1, 4), (2, 7, 9), 4
MADE = 12_000


def planted(seed: int, n: int) -> Rows:
    """Return rows of ten fields whose labels follow a random table of a pair of them and one of a triple.

    Each table is of its own order: what its lower margins would tell is taken out.
    """
    rng = generator(seed, "planted")
    x = rng.integers(VALUES, size=(n, 10))
    logit = np.zeros(n)
    for fields in (PAIR, TRIPLE):
        table = 2.5 * rng.standard_normal((VALUES,) * len(fields))
        for axis in range(len(fields)):
            table -= table.mean(axis, keepdims=True)
        logit += table[tuple(x[:, f] for f in fields)]
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Rows(pa.table({f"f{i}": [f"v{k}" for k in x[:, i]] for i in range(10)}), {"label": label})


def planted_values(seed: int, reduced: bool) -> dict[str, Any]:
    """Return test AUC of FM, and of AutoInt with 1 and 2 layers, and attention to planted partners and to other fields."""
    rows = planted(seed, 2_000 if reduced else MADE)
    ends = [0, round(0.7 * len(rows)), round(0.8 * len(rows)), len(rows)]
    train, valid, test = (rows.slice(a, b) for a, b in pairwise(ends))
    shared = {"batch_size": 256, "dim": 8, "lr": 0.01, "epochs": 2 if reduced else 30, "patience": 6}
    models = {"FM": create("fm", **shared)} | {f"{n} layers": create("autoint", **shared, layers=n, units=32) for n in (1, 2)}
    truth = test.labels["label"]
    found = {arm: auc(truth, m.fit(train, valid, seed=seed).predict(test).values[:, 0]) for arm, m in models.items()}
    attention = models["2 layers"].attention(test).mean()
    partners = np.zeros((10, 10), bool)
    for fields in (PAIR, TRIPLE):
        partners[np.ix_(fields, fields)] = True
    np.fill_diagonal(partners, False)
    others = ~partners & ~np.eye(10, dtype=bool)
    return {**found, "partners": float(attention[partners].mean()), "others": float(attention[others].mean())}


def made_effects(trial: Trial) -> dict[str, Effect]:
    """Return the effects of the made rows, over worlds."""
    worlds = range(1 if trial.reduced else 6)
    each = [trial.kept(lambda s=s: planted_values(s, trial.reduced), part="planted", world=s) for s in worlds]
    column = {name: np.array([one[name] for one in each]) for name in each[0]}
    rng = generator(0, "bootstrap")
    means = {name: float(values.mean()) for name, values in column.items()}
    return {
        MASS: paired_gain(column["partners"], column["others"], rng=rng, relative=False, **means),
        TRIPLES: paired_gain(column["2 layers"], column["FM"], rng=rng, relative=False),
    }


# -- the claim --------------------------------------------------------------------------------------------------------------

MASS = "made rows: attention to planted partners above that to others"
TRIPLES = "made rows: AUC of AutoInt with two layers over FM"
FM_LR, AUTO_FM = "MovieLens 1M, seven fields: AUC of FM over LR", "MovieLens 1M, seven fields: AUC of AutoInt over FM"
FLAT, RESIDUAL = "MovieLens 1M: AUC of two layers over none", "MovieLens 1M: AUC with residuals over without"
FRAPPE_LR, FRAPPE_FM = "Frappe: AUC of AutoInt over LR", "Frappe: AUC of AutoInt over FM"
FRAPPE_MLP, FRAPPE_PLUS = "Frappe: AUC of AutoInt over MLP", "Frappe: AUC of AutoInt+ over MLP"


def run(trial: Trial) -> Mapping[str, Effect]:
    """Compare arms on all three kinds of rows."""
    effects: dict[str, Effect] = {}
    draws = 100 if trial.reduced else 1000
    table, fields = _small() if trial.reduced else movielens_seven()
    arms, truth = compared(trial, "ml-1m", table, fields, ("lr", "fm", "mlp", "autoint", "autoint_plus")), truth_of(table)
    others = ablated(trial, "ml-1m", table, fields, arms["autoint"])
    told = {TITLES.get(name, name): arm.told(truth) for name, arm in {**arms, **others}.items()}
    effects[FM_LR] = auc_gap(truth, arms["fm"], arms["lr"], resamples=draws, arms=told, rows=len(truth))
    effects[AUTO_FM] = auc_gap(truth, arms["autoint"], arms["fm"], resamples=draws)
    effects[FLAT] = auc_gap(truth, arms["autoint"], others["0 layers"], resamples=draws)
    effects[RESIDUAL] = auc_gap(truth, arms["autoint"], others["no residual"], resamples=draws)
    table, fields = _small() if trial.reduced else frappe()
    arms, truth = compared(trial, "frappe", table, fields, tuple(ARMS)), truth_of(table)
    told = {TITLES[name]: arm.told(truth) for name, arm in arms.items()}
    effects[FRAPPE_LR] = auc_gap(truth, arms["autoint"], arms["lr"], resamples=draws, arms=told, rows=len(truth))
    effects[FRAPPE_FM] = auc_gap(truth, arms["autoint"], arms["fm"], resamples=draws)
    effects[FRAPPE_MLP] = auc_gap(truth, arms["autoint"], arms["mlp"], resamples=draws)
    effects[FRAPPE_PLUS] = auc_gap(truth, arms["autoint_plus"], arms["mlp"], resamples=draws)
    return effects | made_effects(trial)


def _small() -> tuple[pa.Table, tuple[RowField, ...]]:
    rows = planted(0, 2_000)
    table = rows.features.append_column("label", pa.array(rows.labels["label"]))
    return table, tuple(RowField(name, "category") for name in rows.features.column_names)


CLAIM = Claim(
    name="autoint",
    title="AutoInt: attention over fields holds what FM can't",
    statement="On likes of MovieLens 1M with seven fields and no ids, AutoInt has at least 0.01 more AUC than FM, and FM than "
    "logistic regression; two layers beat none, and residuals help. On Frappe, AutoInt beats logistic regression and FM, and "
    "lies at most 0.003 below an MLP, AutoInt+ at most 0.001. Where labels are made of a table of two fields and one of three, "
    "AutoInt beats FM, and attention goes to the planted partners more than to others. All arms have equally many trials.",
    bars={
        FM_LR: Bar(0.01),
        AUTO_FM: Bar(0.01),
        FLAT: Bar(0.0),
        RESIDUAL: Bar(0.0),
        FRAPPE_LR: Bar(0.0),
        FRAPPE_FM: Bar(0.0),
        FRAPPE_MLP: Bar(-0.003),
        FRAPPE_PLUS: Bar(-0.001),
        MASS: Bar(0.0),
        TRIPLES: Bar(0.0),
    },
    run=run,
    data=("ml-1m", "frappe"),
    paper=19,
    seeds=(0, 1, 2),
    minutes=20,
)
