"""RLMRec against its backbone where events are few: does the content of the texts help, or only having more to learn?

Each arm is tuned with the same budget on validation. Controls keep the settings of the contrastive form and all its parameters,
with texts dealt to other rows, or with noise in their place. Profiles are templates and the encoder is TF-IDF, so no language
model has a part in the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.runtime import generator
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import paired_gain
from palate.study.evaluate import evaluate
from palate.study.tune import blind, tune

METRIC, MOST, NOISE = "recall@20", 8, 0.2
DATA = ("ml-1m", "amazon-beauty", "world")
OTHERS = ("ease", "ials", "item_knn", "popularity")
SHARED = {"lr": Range(2e-3, 2e-2, log=True), "reg": Range(1e-6, 1e-3, log=True)}
ALIGNED = {"weight": Range(3e-3, 0.5, log=True), "temperature": Range(0.1, 0.5, log=True)}
#: What differs, and what each arm may choose beside what all may; controls take over the settings of another arm.
ARMS: dict[str, tuple[dict[str, Any], dict[str, Range]]] = {
    "backbone": ({"mode": "none"}, {}),
    "con": ({"mode": "con"}, ALIGNED),
    "gen": ({"mode": "gen"}, ALIGNED),
}
CONTROLS = ("shuffled", "random")
TRIALS, EPOCHS, PATIENCE = 6, 60, 4


def sources(trial: Trial) -> dict[str, Dataset]:
    """Return data whose items have texts (one small world for all, if reduced)."""
    size = {"users": 150, "items": 80, "events": 2_500} if trial.reduced else {"users": 4_000, "items": 2_000, "events": 80_000}
    world = World(**size, topics=12, focus=0.7).dataset(graphs=False, impressions=False)
    world = trial.used("world", world)
    if trial.reduced:
        return dict.fromkeys(DATA, world)
    return {"ml-1m": trial.dataset("ml-1m"), "amazon-beauty": trial.dataset("amazon-beauty"), "world": world}


def thinned(data: Dataset, most: int) -> Dataset:
    """Return data with at most so many events of a person, drawn at random."""
    events = data.interactions
    order = np.lexsort((generator(0, "thinned").random(len(events)), events.user))
    starts = np.searchsorted(events.user[order], events.user[order])
    kept = np.sort(order[np.arange(len(order)) - starts < most])
    return data.derive({"step": "thinned", "most": most}, interactions=events.take(kept))


def noisy(split: Split, share: float) -> Split:
    """Return the split with random pairs added to the training events."""
    data, rng = split.train, generator(0, "noise")
    events, extra = data.interactions, round(share * len(data))
    user = np.concatenate([events.user, rng.integers(0, data.n_users, extra)])
    item = np.concatenate([events.item, rng.integers(0, data.n_items, extra)])
    added = Interactions.sorted(user, item)
    return replace(split, train=data.derive({"step": "noise", "share": share}, interactions=added))


def run(trial: Trial) -> Mapping[str, Effect]:
    """Tune, fit with every seed, and open the test part once a data set."""
    done: dict[int, dict[str, Effect]] = {}
    effects: dict[str, Effect] = {}
    for name, data in sources(trial).items():
        if id(data) not in done:
            done[id(data)] = gains(trial, data, noise=name == "world" or trial.reduced)
        effects |= {f"{what} on {name}": effect for what, effect in done[id(data)].items() if f"{what} on {name}" in BARS}
    return effects


def gains(trial: Trial, data: Dataset, *, noise: bool) -> dict[str, Effect]:
    """Return the gains over the backbone and over the controls, with what all systems reach beside them."""
    # The last two events of a person are the answers.
    split = cut(thinned(data, MOST + 2), "leave_one_out")
    settings = {arm: chosen(trial, split, arm) for arm in ARMS}
    settings |= {control: {**settings["con"], "control": control} for control in CONTROLS}
    values = {arm: fits(trial, split, "rlmrec", given) for arm, given in settings.items()}
    others = {name: fits(trial, split, name, {}, seeds=1) for name in OTHERS}
    slices = parts(split)
    table = {
        arm: {name: float(np.nanmean(np.mean(rows, axis=0)[kept])) for name, kept in slices.items()}
        for arm, rows in {**values, **others}.items()
    }
    extra = {"metric": METRIC, "table": table, "settings": settings}

    def gain(over: str, kept: str = "all", arm: str = "con") -> Effect:
        rng = generator(0, "bootstrap", over, kept, arm)
        ours, theirs = (only(values[one], slices[kept]) for one in (arm, over))
        return paired_gain(ours, theirs, rng=rng, relative=False, **extra)

    effects = {
        "gain": gain("backbone"),
        "gain of gen": gain("backbone", arm="gen"),
        "gain for few events": gain("backbone", "few events"),
        "gain for rare answers": gain("backbone", "rare answers"),
        "gain over shuffled texts": gain("shuffled"),
        "gain over random texts": gain("random"),
    }
    if noise:
        harmed = noisy(split, NOISE)
        values |= {f"{arm}, noise": fits(trial, harmed, "rlmrec", settings[arm]) for arm in ("backbone", "con")}
        effects["gain under noise"] = gain("backbone, noise", arm="con, noise")
    return effects


def parts(split: Split) -> dict[str, np.ndarray]:
    """Return the people of each slice: all, the third with the fewest events, those whose answer is of the rarest third."""
    asked = split.held_out("test")
    answers = asked.truth.values[asked.truth.offsets[:-1]]
    counts = split.train.item_counts[answers]
    events = split.train.histories.lengths[asked.users]
    few, rare = events <= np.quantile(events, 1 / 3), counts <= np.quantile(counts, 1 / 3)
    return {"all": np.ones(len(answers), bool), "few events": few, "rare answers": rare}


def chosen(trial: Trial, split: Split, arm: str) -> dict[str, Any]:
    """Return the best settings of an arm on validation."""
    return trial.kept(lambda: best(trial, split, arm), split=split.fingerprint, choose=arm)


def best(trial: Trial, split: Split, arm: str) -> dict[str, Any]:
    """Find them."""
    base, space = ARMS[arm]
    quick = {"dim": 8, "text_dim": 16, "batch_size": 256} if trial.reduced else {"batch_size": 4096}
    found = tune(
        blind(split),
        "rlmrec",
        trials=1 if trial.reduced else TRIALS,
        seed=trial.seeds[0],
        metric=METRIC,
        space={**SHARED, **space},
        base={"epochs": 3 if trial.reduced else EPOCHS, "patience": PATIENCE, **quick, **base},
        progress=trial.progress,
    )
    return dict(found.settings)


def fits(trial: Trial, split: Split, system: str, settings: Mapping[str, Any], seeds: int | None = None) -> list[np.ndarray]:
    """Return each person's metric, one array a seed."""
    seen = blind(split)

    def measure(seed: int) -> np.ndarray:
        model = create(system, **settings).fit(seen.train, seen.held_out("valid"), seed=seed, progress=trial.progress)
        found: np.ndarray = evaluate(model, split.held_out("test"), [METRIC], train=split.train).per_user[METRIC]
        return found

    key = {"split": split.fingerprint, "system": system, "settings": settings}
    return [trial.kept(partial(measure, seed), **key, seed=seed) for seed in trial.seeds[:seeds]]


def only(rows: list[np.ndarray], kept: np.ndarray) -> list[np.ndarray]:
    """Return values with those of other people undefined."""
    return [np.where(kept, row, np.nan) for row in rows]


BARS = {
    **{f"gain on {name}": Bar(0.0) for name in DATA},
    **{f"gain for few events on {name}": Bar(0.0) for name in DATA},
    **{f"gain for rare answers on {name}": Bar(0.0) for name in DATA},
    **{f"gain over {control} texts on {name}": Bar(0.0) for name in DATA for control in CONTROLS},
    "gain of gen on world": Bar(0.0),
    "gain under noise on world": Bar(0.0),
}

CLAIM = Claim(
    name="rlmrec",
    title="Profiles help a graph recommender where events are few, by their content",
    statement="With at most 8 training events a person, LightGCN aligned with template profiles by contrast reaches a higher "
    "Recall@20 (full ranking, last item out) than LightGCN, both tuned with the same budget on validation: over all people, "
    "the third with the fewest events, and those whose answer is of the rarest third; and higher than with the texts dealt to "
    "other rows or replaced by noise. On made-up data the generative form gains too, and with 20% random pairs added the gain "
    "stays.",
    bars=BARS,
    run=run,
    data=("ml-1m", "amazon-beauty", "synthetic world"),
    paper=2,
    seeds=(0, 1, 2),
    minutes=90,
)
