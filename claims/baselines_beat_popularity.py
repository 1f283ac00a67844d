"""EASE, ItemKNN and iALS stand above Popularity on every data set tried, all tuned alike on validation.

Popularity has one setting to tune, its half-life. That needs times, which only ml-100k has here: on the other two all trials
but the first fail, and Popularity stands as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.runtime import generator
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.compare import compare
from palate.study.effects import paired_gain

#: Data sets, and which events are held out: where there is no order, random ones.
DATA: dict[str, Literal["time", "random"]] = {"ml-100k": "time", "lastfm-hetrec-2k": "random", "ml-1m": "time"}
SYSTEMS = {"EASE": "ease", "ItemKNN": "item_knn", "iALS": "ials"}
METRIC = "ndcg@10"
TRIALS = 8


def splits(trial: Trial) -> dict[str, Split]:
    """Cut each data set: a tenth of each person's events for the test, and a tenth for validation."""
    if trial.reduced:
        world = World(users=800, items=300, events=24_000, topics=10).dataset(text=False, graphs=False, impressions=False)
        return {name: cut(trial.used(name, world), "leave_one_out") for name in DATA}
    return {name: cut(trial.dataset(name), "user_ratio", order=order, seed=0) for name, order in DATA.items()}


def run(trial: Trial) -> Mapping[str, Effect]:
    """Compare on each data set, and take the paired gain of each system over Popularity."""
    effects = {}
    for name, split in splits(trial).items():
        report = compare(
            split,
            {"Popularity": "popularity", **SYSTEMS},
            metrics=[METRIC],
            trials=2 if trial.reduced else TRIALS,
            seeds=len(trial.seeds),
            seed=trial.seeds[0],
            progress=trial.progress,
        )
        popular = report.values("Popularity", METRIC)
        for title in SYSTEMS:
            rng = generator(0, "bootstrap", name, title)
            effects[f"{title} on {name}"] = paired_gain(report.values(title, METRIC), popular, rng=rng, metric=METRIC)
    return effects


CLAIM = Claim(
    name="baselines_beat_popularity",
    title="EASE, ItemKNN and iALS beat Popularity",
    statement="On every data set, each of EASE, ItemKNN and iALS has a higher NDCG@10 over the full catalogue than Popularity, "
    f"each tuned with {TRIALS} trials on validation; the bootstrap interval of the paired relative gain lies above zero.",
    bars={f"{title} on {name}": Bar(0.0) for name in DATA for title in SYSTEMS},
    run=run,
    data=tuple(DATA),
    seeds=(0,),
    minutes=20,
)
