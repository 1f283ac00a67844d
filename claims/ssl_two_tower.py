"""Correlated feature masking against no auxiliary task, random masks and others, where training pairs are few."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.catalog.spaces import Range, space_of
from palate.data.dataset import Dataset
from palate.data.features import with_graph_attributes
from palate.data.filters import subset_users
from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.runtime import generator
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import gain_difference, paired_gain
from palate.study.evaluate import evaluate
from palate.study.tune import blind, tune

METRIC, COLD_METRIC, FEW, HEAD = "recall@50", "recall@10", 0.1, 0.2
#: What differs, and what each arm may choose beside what all may.
ARMS: dict[str, tuple[str, dict[str, Any], dict[str, Range]]] = {
    "plain": ("two_tower", {}, {}),
    "feature dropout": ("two_tower", {"value_dropout": 0.1}, {"value_dropout": Range(0.05, 0.5)}),
    "spread-out": ("ssl_two_tower", {"task": "spread_out"}, {"alpha": Range(1e-3, 1.0, log=True)}),
    "random masks": ("ssl_two_tower", {"task": "rfm"}, {"alpha": Range(0.03, 3.0, log=True)}),
    "correlated masks": ("ssl_two_tower", {"task": "cfm"}, {"alpha": Range(0.03, 3.0, log=True)}),
    "popular items": (
        "ssl_two_tower", {"task": "cfm", "item_sampling": "popularity"}, {"alpha": Range(0.03, 3.0, log=True)}
    ),
}  # fmt: skip
OURS, RANDOM, PLAIN = "correlated masks", "random masks", "plain"
SHARED = {"lr": Range(5e-4, 5e-3, log=True), "temperature": Range(0.05, 0.15, log=True)}
TRIALS, EPOCHS, PATIENCE = 4, 30, 2
#: People of MovieLens 1M: fits with all pairs are what costs, and 3,000 last items tell enough.
PEOPLE = 3_000
OTHERS = ("ease", "ials", "item_knn", "popularity")
AGAINST = (PLAIN, RANDOM, "feature dropout", "spread-out")
DATA = ("ml-1m", "world")
#: What "at least as good" may lack.
LITTLE = -0.02


def sources(trial: Trial) -> dict[str, Dataset]:
    """Return data whose items have three fields or more (one small world for all, if reduced)."""
    size: dict[str, Any] = (
        {"users": 300, "items": 200, "events": 6_000} if trial.reduced else {"users": 6_000, "items": 4_000, "events": 120_000}
    )
    world = trial.used("world", World(**size, topics=16, focus=0.5).dataset(graphs=False, impressions=False))
    if trial.reduced:
        return dict.fromkeys(DATA, world)
    movies = subset_users(with_years(with_graph_attributes(trial.dataset("ml-1m"))), PEOPLE)
    return {"ml-1m": trial.used(f"ml-1m, {PEOPLE} people", movies), "world": world}


def with_years(data: Dataset) -> Dataset:
    """Return films whose year stands in a column of its own instead of the title."""
    table = data.items.attributes
    assert table is not None
    titles = [str(title) for title in table.column("title").to_pylist()]
    years = [int(found.group(1)) if (found := re.search(r"\((\d{4})\)\s*$", title)) else None for title in titles]
    plain = [re.sub(r"\s*\(\d{4}\)\s*$", "", title) for title in titles]
    table = table.drop_columns(["title"]).append_column("title", pa.array(plain)).append_column("year", pa.array(years))
    return data.derive({"step": "years"}, items=replace(data.items, attributes=table))


def doubled(data: Dataset) -> Dataset:
    """Return items whose categories stand in a second column, too."""
    table = data.items.attributes
    assert table is not None
    table = table.append_column("copy", table.column("categories"))
    return data.derive({"step": "copy of a field"}, items=replace(data.items, attributes=table))


def thinned(split: Split, share: float) -> Split:
    """Return the split with a random share of the training pairs; questions keep their whole histories."""
    events = split.train.interactions
    kept = np.flatnonzero(generator(0, "thinned").random(len(events)) < share)
    return replace(split, train=split.train.derive({"step": "thinned", "share": share}, interactions=events.take(kept)))


class Bench:
    """One data set: settings of all arms, chosen with few pairs of its last-item split, and fits of any split."""

    def __init__(self, trial: Trial, data: Dataset, name: str) -> None:
        self.trial, self.name, self.data = trial, name, data
        self.share = 0.5 if trial.reduced else FEW
        self.whole = cut(data, "leave_one_out")
        self.few = thinned(self.whole, self.share)
        head = np.zeros(data.n_items, bool)
        head[np.argsort(-self.whole.train.item_counts, kind="stable")[: round(HEAD * data.n_items)]] = True
        held_out = self.whole.held_out("test")
        self.tail = ~head[held_out.truth.values[held_out.truth.offsets[:-1]]]
        self.settings = {
            arm: trial.kept(partial(self._best, arm), on=name, split=self.few.fingerprint, choose=arm)
            for arm in (*ARMS, *OTHERS)
        }

    def _best(self, arm: str) -> dict[str, Any]:
        """Return the best settings of an arm or a baseline on validation, of as many tried."""
        small = self.trial.reduced
        quick = {"dim": 16, "field_dim": 8, "history_dim": 16, "hidden": (16,), "text_buckets": 256} if small else {}
        system, base, space = ARMS.get(arm, (arm, {}, space_of(arm)))
        if arm in ARMS:
            shared = {"epochs": 2 if small else EPOCHS, "patience": PATIENCE, "user_attributes": False, **quick}
            base, space = {**shared, **base}, {**SHARED, **space}
        trials, seed = 1 if small else TRIALS, self.trial.seeds[0]
        return dict(tune(blind(self.few), system, trials=trials, seed=seed, metric=METRIC, space=space, base=base).settings)

    def fits(self, split: Split, arm: str, what: str, metric: str = METRIC, seeds: int | None = None) -> Fits:
        """Fit an arm on a split with every seed; let each fit answer the test part once."""
        seen, settings, system = blind(split), self.settings[arm], ARMS[arm][0] if arm in ARMS else arm
        held_out = split.held_out("test")

        def measure(seed: int) -> tuple[np.ndarray, list[float]]:
            model = create(system, **settings).fit(seen.train, seen.held_out("valid"), seed=seed, progress=self.trial.progress)
            values: np.ndarray = evaluate(model, held_out, [metric], train=split.train).per_user[metric]
            return values, spread(model.item_vectors) if arm in ARMS else []

        key = {"on": self.name, "what": what, "split": split.fingerprint, "arm": arm, "settings": settings, "metric": metric}
        found = [self.trial.kept(partial(measure, seed), **key, seed=seed) for seed in self.trial.seeds[:seeds]]
        return Fits([f[0] for f in found], np.mean([f[1] for f in found], axis=0).round(4).tolist())


@dataclass(frozen=True)
class Fits:
    """Values of each person, one array a seed, and how spread item vectors are (mean cosine, effective rank)."""

    values: list[np.ndarray]
    spread: list[float]


def spread(vectors: np.ndarray) -> list[float]:
    """Return the mean cosine of two items, and the effective rank ``exp(entropy of shares of squared singular values)``."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    n = len(unit)
    cosine = (float(np.square(unit.sum(axis=0)).sum()) - n) / max(1, n * (n - 1))
    shares = np.linalg.eigvalsh((unit.T @ unit).astype(np.float64)).clip(1e-12)
    shares /= shares.sum()
    return [cosine, float(np.exp(-(shares * np.log(shares)).sum()))]


def last_items(bench: Bench, rng: np.random.Generator) -> tuple[dict[str, Effect], dict[str, list[np.ndarray]]]:
    """Return the effects on last items, with few pairs and with all, and the values in the tail with few pairs."""
    few = {arm: bench.fits(bench.few, arm, "few") for arm in ARMS}
    much = {arm: bench.fits(bench.whole, arm, "all") for arm in (PLAIN, OURS)}
    table: dict[str, Any] = {arm: {**means(f.values, bench.tail), "spread": f.spread} for arm, f in few.items()}
    table |= {other: means(bench.fits(bench.few, other, "few", seeds=1).values, bench.tail) for other in OTHERS}
    table |= {f"{arm}, all pairs": {**means(f.values, bench.tail), "spread": f.spread} for arm, f in much.items()}
    facts: dict[str, Any] = {"metric": METRIC, "table": table, "settings": bench.settings}
    tail = {arm: only(f.values, bench.tail) for arm, f in few.items()}
    effects = {TAIL.format(OURS, base): paired_gain(tail[OURS], tail[base], rng=rng, **facts) for base in AGAINST}
    effects[TAIL.format(RANDOM, PLAIN)] = paired_gain(tail[RANDOM], tail[PLAIN], rng=rng)
    effects[UNIFORM] = paired_gain(tail[OURS], tail["popular items"], rng=rng)
    full = {arm: only(f.values, bench.tail) for arm, f in much.items()}
    effects[SCARCE] = gain_difference((tail[OURS], tail[PLAIN]), (full[OURS], full[PLAIN]), rng=rng)
    return effects, tail


def cold_items(bench: Bench, rng: np.random.Generator) -> dict[str, Effect]:
    """Return the effects on items that nobody had in training."""
    split = thinned(cut(bench.data, "held_out_items"), bench.share)
    found = {arm: bench.fits(split, arm, "cold", COLD_METRIC).values for arm in (PLAIN, RANDOM, OURS)}
    facts = {"metric": COLD_METRIC, "means": {arm: float(np.nanmean(rows)) for arm, rows in found.items()}}
    pairs = ((OURS, PLAIN), (OURS, RANDOM), (RANDOM, PLAIN))
    return {COLD.format(*pair): gain_in(found, pair, rng, facts) for pair in pairs}


def gain_in(
    found: Mapping[str, list[np.ndarray]], pair: tuple[str, str], rng: np.random.Generator, facts: Mapping[str, Any]
) -> Effect:
    """Return the gain of an arm over another, or that it can't be told where the other finds nothing at all."""
    if not np.nanmean(found[pair[1]]):
        return Effect.left_out(f"{pair[1]} finds nothing")
    return paired_gain(found[pair[0]], found[pair[1]], rng=rng, **facts)


def twin_fields(bench: Bench, tail: Mapping[str, list[np.ndarray]], rng: np.random.Generator) -> dict[str, Effect]:
    """Return what a copy of a field takes from random masks, and from correlated ones (no more than a little)."""
    few = thinned(cut(doubled(bench.data), "leave_one_out"), bench.share)
    twin = {arm: only(bench.fits(few, arm, "copy").values, bench.tail) for arm in (PLAIN, RANDOM, OURS)}
    gains = {arm: ((tail[arm], tail[PLAIN]), (twin[arm], twin[PLAIN])) for arm in (RANDOM, OURS)}
    return {
        SHRINKS: gain_difference(*gains[RANDOM], rng=rng),
        KEEPS: gain_difference(*gains[OURS][::-1], rng=rng),
        TWIN: paired_gain(twin[OURS], twin[RANDOM], rng=rng),
    }


def run(trial: Trial) -> Mapping[str, Effect]:
    """Tune all arms alike on validation with few pairs; then last items, cold items, and in the world a copy of a field."""
    effects: dict[str, Effect] = {}
    for name, data in sources(trial).items():
        bench, rng = Bench(trial, data, name), generator(0, "bootstrap", name)
        found, tail = last_items(bench, rng)
        found |= cold_items(bench, rng)
        if name == "world":
            found |= twin_fields(bench, tail, rng)
        effects |= {f"{name}: {what}": effect for what, effect in found.items()}
    return effects


def only(rows: list[np.ndarray], kept: np.ndarray) -> list[np.ndarray]:
    """Return values with those of other people undefined."""
    return [np.where(kept, row, np.nan) for row in rows]


def means(rows: list[np.ndarray], tail: np.ndarray) -> dict[str, float]:
    """Return the mean over seeds for all, for answers in the head and in the tail."""
    mean = np.mean(rows, axis=0)
    return {"all": float(mean.mean()), "head": float(mean[~tail].mean()), "tail": float(mean[tail].mean())}


#: Names of effects.
TAIL, COLD = "tail, {} over {}", "cold items, {} over {}"
UNIFORM = "tail, items of the contrast drawn alike over by popularity"
SCARCE = "tail, gain with a tenth of the pairs over that with all"
SHRINKS, KEEPS = "copy of a field, what random masks' gain loses", "copy of a field, what correlated masks' gain keeps"
TWIN = "copy of a field, tail, correlated over random masks"

BARS = {
    **{TAIL.format(OURS, base): Bar(LITTLE if base == RANDOM else 0.0) for base in AGAINST},
    TAIL.format(RANDOM, PLAIN): Bar(0.0),
    UNIFORM: Bar(0.0),
    SCARCE: Bar(0.0),
    COLD.format(OURS, PLAIN): Bar(0.0),
    COLD.format(OURS, RANDOM): Bar(LITTLE),
    COLD.format(RANDOM, PLAIN): Bar(0.0),
}

CLAIM = Claim(
    name="ssl_two_tower",
    title="Correlated feature masking helps the tail where training pairs are few",
    statement="Trained on a tenth of the training pairs of 3,000 people of MovieLens 1M or of a world, two towers with the "
    "auxiliary contrast of correlated masks reach a higher Recall@50 (full ranking, each person's last item out) than the same "
    "towers without it, with feature dropout and with spread-out items, for answers outside the 20% most chosen items, and at "
    "most 2% less than with random masks, which beat plain towers, too; so it is in Recall@10 of items that nobody had in "
    "training. Drawing the items of the contrast alike beats drawing them by popularity; the gain over plain towers is larger "
    "with a tenth of the pairs than with all; where a field stands twice in the world, random masks lose gain, correlated ones "
    "keep theirs up to 2%, and stand above. Four settings for each arm and baseline, chosen on validation with few pairs and "
    "used throughout. MovieLens gives order but few times, so the split is by person and order.",
    bars={
        **{f"{name}: {what}": bar for name in DATA for what, bar in BARS.items()},
        **{f"world: {what}": Bar(LITTLE if what == KEEPS else 0.0) for what in (SHRINKS, KEEPS, TWIN)},
    },
    run=run,
    data=("ml-1m", "synthetic world"),
    paper=27,
    seeds=(0, 1, 2),
    minutes=45,
)
