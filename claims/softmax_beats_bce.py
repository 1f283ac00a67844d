"""SASRec trained with a softmax loss against the paper's binary cross-entropy with one negative, both tuned alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.data.dataset import Dataset
from palate.data.protocols import split as cut
from palate.runtime import generator
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import paired_gain
from palate.study.evaluate import evaluate
from palate.study.tune import blind, tune

METRIC = "ndcg@10"
#: What differs: the loss with its own scale of scores. All else is SASRec's defaults.
ARMS: dict[str, dict[str, Any]] = {
    "softmax": {"loss": "sampled_softmax"},
    "bce": {"loss": "bce", "n_negatives": 1, "similarity": "dot", "temperature": 1.0},
}
#: Both arms search the same space with the same budget.
SPACE = {"lr": Range(5e-4, 5e-3, log=True), "dropout": Range(0.1, 0.5)}
TRIALS, EPOCHS, PATIENCE, BATCH = 2, 30, 3, 4096


def data(trial: Trial) -> Dataset:
    """Return MovieLens 1M, or a small world with sessions."""
    if trial.reduced:
        world = World(users=400, items=200, events=8_000, topics=10, focus=0.7)
        return trial.used("world", world.dataset(text=False, graphs=False, impressions=False))
    return trial.dataset("ml-1m")


def run(trial: Trial) -> Mapping[str, Effect]:
    """Tune both arms on validation, fit them with every seed, open the test part once."""
    split = cut(data(trial), "leave_one_out")
    seen = blind(split)
    shared = {"epochs": 2 if trial.reduced else EPOCHS, "patience": PATIENCE, "batch_size": BATCH}
    fitted: dict[str, list[Any]] = {}
    chosen: dict[str, Any] = {}
    for arm, settings in ARMS.items():
        found = tune(
            seen,
            "sasrec",
            trials=1 if trial.reduced else TRIALS,
            seed=trial.seeds[0],
            metric=METRIC,
            space=SPACE,
            base={**shared, **settings},
            progress=trial.progress,
        )
        fitted[arm] = [
            create("sasrec", **found.settings).fit(seen.train, seen.held_out("valid"), seed=s, progress=trial.progress)
            for s in trial.seeds
        ]
        chosen[arm] = {**found.settings, "best epochs": [model.record_.notes["best_epoch"] for model in fitted[arm]]}
    held_out = split.held_out("test")
    values = {arm: [per_user(model, held_out, split.train) for model in models] for arm, models in fitted.items()}
    gain = paired_gain(values["softmax"], values["bce"], rng=generator(0, "bootstrap"), metric=METRIC, settings=chosen)
    return {"relative gain in NDCG@10": gain}


def per_user(model: Any, held_out: Any, train: Dataset) -> np.ndarray:
    """Return each person's metric over the full catalogue."""
    return evaluate(model, held_out, [METRIC], train=train).per_user[METRIC]


CLAIM = Claim(
    name="softmax_beats_bce",
    title="SASRec: softmax beats BCE with one negative by over 15%",
    statement="On MovieLens 1M (last item out, full ranking), SASRec with sampled softmax reaches over 15% more NDCG@10 than "
    "the same network with binary cross-entropy and one negative a position, both tuned with the same budget on validation.",
    bars={"relative gain in NDCG@10": Bar(0.15)},
    run=run,
    data=("ml-1m",),
    seeds=(0, 1),
    minutes=40,
)
