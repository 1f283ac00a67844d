"""Correlated feature masking against no auxiliary task, random masks and others, where training pairs are few.

No arm ends while it still ranks by popularity: patience counts the looks at validation only once NDCG@10 is clearly above what
popularity reaches there (:mod:`palate.training.stopping`). Arms without an auxiliary task are the same system with its weight
at 0, the plain towers to the bit, so that the loss of the task can be told of every arm: by seed, under both kinds of masks, on
the same draws of items, and of towers before any training.

Answers in the tail are ranked among the items of the tail, new items among the new ones: of the whole catalogue the first 50
are nearly all in the head, whoever ranks, and an untrained tower finds as much of the tail there as a trained one (which the
tables show, too).

With all pairs batches are four times as large and passes fewer, so that fits may take about as many steps as with a tenth.
"""

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
from palate.contracts.recommender import Recommender
from palate.data.dataset import Dataset
from palate.data.features import with_graph_attributes
from palate.data.protocols import split as cut
from palate.data.ragged import Ragged
from palate.data.split import HeldOut, Split
from palate.runtime import generator
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import gain_difference, over_seeds, paired_gain
from palate.study.evaluate import evaluate
from palate.study.tune import blind, tune

METRICS = ("recall@10", "recall@50", "map@10", "map@50")
METRIC, COLD_METRIC, FEW, HEAD = "recall@50", "recall@10", 0.1, 0.2
#: What differs, and what each arm may choose beside what all may (the first setting tried is the system's own, so that feature
#: dropout may come out as none).
ARMS: dict[str, tuple[str, dict[str, Any], dict[str, Range]]] = {
    "plain": ("ssl_two_tower", {"alpha": 0.0}, {}),
    "feature dropout": ("ssl_two_tower", {"alpha": 0.0, "value_dropout": 0.1}, {"value_dropout": Range(0.05, 0.5)}),
    "spread-out": ("ssl_two_tower", {"task": "spread_out"}, {"alpha": Range(1e-3, 1.0, log=True)}),
    "random masks": ("ssl_two_tower", {"task": "rfm"}, {"alpha": Range(0.03, 3.0, log=True)}),
    "correlated masks": ("ssl_two_tower", {"task": "cfm"}, {"alpha": Range(0.03, 3.0, log=True)}),
    "popular items": (
        "ssl_two_tower", {"task": "cfm", "item_sampling": "popularity"}, {"alpha": Range(0.03, 3.0, log=True)}
    ),
}  # fmt: skip
OURS, RANDOM, PLAIN = "correlated masks", "random masks", "plain"
SHARED = {"lr": Range(5e-4, 5e-3, log=True), "temperature": Range(0.05, 0.15, log=True)}
TRIALS, PATIENCE = 4, 2
#: Most passes and pairs a batch, with few pairs and with all.
FEW_STEPS, ALL_STEPS = {"epochs": 20, "batch_size": 1024}, {"epochs": 10, "batch_size": 4096}
#: How a metric among some items only is called.
AMONG = "{}, among them"
OTHERS = ("ease", "ials", "item_knn", "popularity")
AGAINST = (PLAIN, RANDOM, "feature dropout", "spread-out")
DATA = ("ml-1m", "world")
#: What "at least as good" may lack.
LITTLE = -0.02


def sources(trial: Trial) -> dict[str, Dataset]:
    """Return data whose items have three fields or more (one small world for all, if reduced)."""
    size: dict[str, Any] = (
        {"users": 300, "items": 200, "events": 6_000} if trial.reduced else {"users": 5_000, "items": 3_000, "events": 300_000}
    )
    world = trial.used("world", World(**size, topics=16, focus=0.5).dataset(graphs=False, impressions=False))
    if trial.reduced:
        return dict.fromkeys(DATA, world)
    return {"ml-1m": with_years(with_graph_attributes(trial.dataset("ml-1m"))), "world": world}


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
    """One data set: its last-item split with few pairs and with all, settings chosen on each, and fits of any split."""

    def __init__(self, trial: Trial, data: Dataset, name: str) -> None:
        self.trial, self.name, self.data = trial, name, data
        self.share = 0.5 if trial.reduced else FEW
        self.whole = cut(data, "leave_one_out")
        self.few = thinned(self.whole, self.share)
        self.tail_items = np.ones(data.n_items, bool)
        self.tail_items[np.argsort(-self.whole.train.item_counts, kind="stable")[: round(HEAD * data.n_items)]] = False
        self.tail = answered_in(self.whole.held_out("test"), self.tail_items)

    def settings(self, arm: str, split: Split) -> dict[str, Any]:
        """Return the settings of an arm or a baseline that are best on the validation part of a last-item split."""
        found: dict[str, Any] = self.trial.kept(
            partial(self._best, arm, split), on=self.name, split=split.fingerprint, choose=arm
        )
        return found

    def _best(self, arm: str, split: Split) -> dict[str, Any]:
        """Return the best settings of as many tried."""
        small = self.trial.reduced
        quick = {"dim": 16, "field_dim": 8, "history_dim": 16, "hidden": (16,), "text_buckets": 256} if small else {}
        system, base, space = ARMS.get(arm, (arm, {}, space_of(arm)))
        if arm in ARMS:
            steps = {"epochs": 2} if small else ALL_STEPS if split is self.whole else FEW_STEPS
            shared = {**steps, "patience": PATIENCE, "user_attributes": False, **quick}
            base, space = {**shared, **{name: v for name, v in base.items() if small or name not in space}}, {**SHARED, **space}
        trials, seed = 1 if small else TRIALS, self.trial.seeds[0]
        return dict(tune(blind(split), system, trials=trials, seed=seed, metric=METRIC, space=space, base=base).settings)

    def fits(
        self,
        split: Split,
        arm: str,
        tuned_on: Split | None = None,
        seeds: int | None = None,
        among: np.ndarray | None = None,
        **change: Any,
    ) -> Fits:
        """Fit an arm with every seed, each fit answering the test part once; settings as chosen with few pairs, or on another.

        ``among``: the items among which their answers are ranked, too (the tail); ``change``: settings in place of the chosen.
        """
        settings = {**self.settings(arm, self.few if tuned_on is None else tuned_on), **change}
        table = split.train.items.attributes  # no part of a split's fingerprint
        columns = [] if table is None else table.column_names
        key = {"on": self.name, "split": split.fingerprint, "columns": columns, "arm": arm, "settings": settings, "fit": True}
        items = self.tail_items if among is None else among
        each = [
            self.trial.kept(partial(self._fit, split, arm, settings, items, seed), **key, seed=seed)
            for seed in self.trial.seeds[:seeds]
        ]
        return Fits({m: [values[m] for values, _ in each] for m in each[0][0]}, [facts for _, facts in each], settings)

    def _fit(
        self, split: Split, arm: str, settings: Mapping[str, Any], items: np.ndarray, seed: int
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the values of people on the test part, and what is told of the fit."""
        seen, system = blind(split), ARMS[arm][0] if arm in ARMS else arm
        model = create(system, **settings).fit(seen.train, seen.held_out("valid"), seed=seed, progress=self.trial.progress)
        values = judged(model, split, items)
        if arm not in ARMS:
            valid = evaluate(model, split.held_out("valid"), ["ndcg@10"], train=split.train)
            return values, {"best NDCG@10": valid.value("ndcg@10")}
        notes, cosine_and_rank = model.record_.notes, spread(model.item_vectors)
        losses = {f"L_self, {task}": model.self_loss(task) for task in ("cfm", "rfm")}
        passes = {"best pass": notes["best_epoch"], "passes": notes["epochs"], "best NDCG@10": notes["best_value"]}
        return values, {**losses, **passes, "mean cosine": cosine_and_rank[0], "effective rank": cosine_and_rank[1]}


def answered_in(held_out: HeldOut, items: np.ndarray) -> np.ndarray:
    """Say of each question whether its (first) answer is one of some items."""
    found: np.ndarray = items[held_out.truth.values[held_out.truth.offsets[:-1]]]
    return found


def judged(model: Recommender, split: Split, items: np.ndarray) -> dict[str, np.ndarray]:
    """Return people's values on the test part: in the whole catalogue, and among some items where the answer is one of them."""
    held_out, wanted = split.held_out("test"), np.flatnonzero(items).astype(np.int32)
    values = dict(evaluate(model, held_out, list(METRICS), train=split.train).per_user)
    rows = np.flatnonzero(answered_in(held_out, items))
    offered = Ragged(np.arange(len(rows) + 1) * len(wanted), np.tile(wanted, len(rows)))
    own = evaluate(model, held_out.take(rows), list(METRICS), train=split.train, candidates=offered, sampled="some items")
    for metric, found in own.per_user.items():
        values[AMONG.format(metric)] = np.full(len(held_out), np.nan)
        values[AMONG.format(metric)][rows] = found
    return values


@dataclass(frozen=True)
class Fits:
    """Values of each person by metric, one array a seed; what is told of each fit; and the settings."""

    values: dict[str, list[np.ndarray]]
    facts: list[dict[str, Any]]
    settings: dict[str, Any]

    def told(self, tail: np.ndarray | None = None) -> dict[str, Any]:
        """Return the means of all metrics (of answers in the head and in the tail, too), facts by seed, and settings."""
        table: dict[str, Any] = {metric: means(rows, tail) for metric, rows in self.values.items()}
        facts = {name: [fact[name] for fact in self.facts] for name in self.facts[0]}
        return {**table, **facts, "settings": self.settings}


def spread(vectors: np.ndarray) -> list[float]:
    """Return the mean cosine of two items, and the effective rank ``exp(entropy of shares of squared singular values)``."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    n = len(unit)
    cosine = (float(np.square(unit.sum(axis=0)).sum()) - n) / max(1, n * (n - 1))
    shares = np.linalg.eigvalsh((unit.T @ unit).astype(np.float64)).clip(1e-12)
    shares /= shares.sum()
    return [cosine, float(np.exp(-(shares * np.log(shares)).sum()))]


def last_items(bench: Bench, rng: np.random.Generator) -> tuple[dict[str, Effect], dict[str, Fits]]:
    """Return the effects on last items, with few pairs and with all, and the fits with few pairs."""
    few = {arm: bench.fits(bench.few, arm) for arm in ARMS}
    much = {arm: bench.fits(bench.whole, arm, bench.whole) for arm in (PLAIN, OURS)}
    table = {arm: fits.told(bench.tail) for arm, fits in few.items()}
    table |= {other: bench.fits(bench.few, other, seeds=1).told(bench.tail) for other in OTHERS}
    table["before training"] = bench.fits(bench.few, OURS, epochs=0).told(bench.tail)
    every = {arm: fits.told(bench.tail) for arm, fits in much.items()}
    every |= {other: bench.fits(bench.whole, other, bench.whole, seeds=1).told(bench.tail) for other in OTHERS}
    tail = {arm: fits.values[AMONG.format(METRIC)] for arm, fits in few.items()}
    effects = {
        TAIL.format(OURS, PLAIN): paired_gain(tail[OURS], tail[PLAIN], rng=rng, metric=AMONG.format(METRIC), table=table)
    }
    effects |= {TAIL.format(OURS, base): paired_gain(tail[OURS], tail[base], rng=rng) for base in AGAINST if base != PLAIN}
    effects[TAIL.format(RANDOM, PLAIN)] = paired_gain(tail[RANDOM], tail[PLAIN], rng=rng)
    effects[UNIFORM] = paired_gain(tail[OURS], tail["popular items"], rng=rng)
    full = {arm: fits.values[AMONG.format(METRIC)] for arm, fits in much.items()}
    effects[SCARCE] = gain_difference((tail[OURS], tail[PLAIN]), (full[OURS], full[PLAIN]), rng=rng, table=every)
    return effects, few


def cold_items(bench: Bench, rng: np.random.Generator) -> dict[str, Effect]:
    """Return the effects on items that nobody had in training."""
    whole = cut(bench.data, "held_out_items")
    new, split = whole.train.item_counts == 0, thinned(whole, bench.share)
    fits = {arm: bench.fits(split, arm, among=new) for arm in (PLAIN, RANDOM, OURS)}
    found = {arm: own.values[AMONG.format(COLD_METRIC)] for arm, own in fits.items()}
    facts = {"metric": AMONG.format(COLD_METRIC), "table": {arm: own.told() for arm, own in fits.items()}}
    pairs = ((OURS, PLAIN), (OURS, RANDOM), (RANDOM, PLAIN))
    return {COLD.format(*pair): gain_in(found, pair, rng, facts if pair == pairs[0] else {}) for pair in pairs}


def gain_in(
    found: Mapping[str, list[np.ndarray]], pair: tuple[str, str], rng: np.random.Generator, facts: Mapping[str, Any]
) -> Effect:
    """Return the gain of an arm over another, or that it can't be told where the other finds nothing at all."""
    if not np.nanmean(found[pair[1]]):
        return Effect.left_out(f"{pair[1]} finds nothing")
    return paired_gain(found[pair[0]], found[pair[1]], rng=rng, **facts)


def twin_fields(bench: Bench, few: Mapping[str, Fits], rng: np.random.Generator) -> dict[str, Effect]:
    """Return what a copy of a field takes from random masks, and from correlated ones (no more than a little)."""
    split = thinned(cut(doubled(bench.data), "leave_one_out"), bench.share)
    fits = {arm: bench.fits(split, arm) for arm in (PLAIN, RANDOM, OURS)}
    tail, twin = ({arm: own[arm].values[AMONG.format(METRIC)] for arm in fits} for own in (few, fits))
    gains = {arm: ((tail[arm], tail[PLAIN]), (twin[arm], twin[PLAIN])) for arm in (RANDOM, OURS)}
    table = {arm: own.told(bench.tail) for arm, own in fits.items()}
    table["before training"] = bench.fits(split, OURS, epochs=0).told(bench.tail)
    fallen = {arm: 1 - own_loss(fits[arm], arm) / own_loss(few[arm], arm) for arm in (RANDOM, OURS)}
    return {
        SHRINKS: gain_difference(*gains[RANDOM], rng=rng, table=table),
        KEEPS: gain_difference(*gains[OURS][::-1], rng=rng),
        TWIN: paired_gain(twin[OURS], twin[RANDOM], rng=rng),
        FALLS: over_seeds(fallen[RANDOM] - fallen[OURS], fallen={arm: part.tolist() for arm, part in fallen.items()}),
    }


def own_loss(fits: Fits, arm: str) -> np.ndarray:
    """Return ``L_self`` of each seed under the masks that the arm was trained with."""
    return np.array([fact[f"L_self, {ARMS[arm][1]['task']}"] for fact in fits.facts])


def run(trial: Trial) -> Mapping[str, Effect]:
    """Tune all arms alike on validation; then last items, cold items, and in the world a copy of a field."""
    effects: dict[str, Effect] = {}
    for name, data in sources(trial).items():
        bench, rng = Bench(trial, data, name), generator(0, "bootstrap", name)
        found, few = last_items(bench, rng)
        found |= cold_items(bench, rng)
        if name == "world":
            found |= twin_fields(bench, few, rng)
        effects |= {f"{name}: {what}": effect for what, effect in found.items()}
    return effects


def means(rows: list[np.ndarray], tail: np.ndarray | None) -> dict[str, float]:
    """Return the mean over seeds for all whose answers are ranked, and for answers in the head and in the tail."""
    mean = np.mean(rows, axis=0)
    found = {"all": float(np.nanmean(mean))}
    if tail is not None and not np.isnan(mean).any():
        found |= {"head": float(mean[~tail].mean()), "tail": float(mean[tail].mean())}
    return found


#: Names of effects.
TAIL, COLD = "tail, {} over {}", "cold items, {} over {}"
UNIFORM = "tail, items of the contrast drawn alike over by popularity"
SCARCE = "tail, gain with a tenth of the pairs over that with all"
SHRINKS, KEEPS = "copy of a field, what random masks' gain loses", "copy of a field, what correlated masks' gain keeps"
TWIN = "copy of a field, tail, correlated over random masks"
FALLS = "copy of a field, how much more of L_self it takes from random masks than from correlated ones"

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
    statement="Trained on a tenth of the training pairs of MovieLens 1M or of a world, two towers with the auxiliary contrast "
    "of correlated masks reach a higher Recall@50 (each person's last item out) than the same towers without it, with feature "
    "dropout and with spread-out items, for answers outside the 20% most chosen items, ranked among all of these, and at "
    "most 2% less than with random masks, which beat plain towers, too; so it is in Recall@10 of items that nobody had in "
    "training, ranked among those. Drawing the items of the contrast alike beats drawing them by popularity; the gain over "
    "plain towers is larger with a tenth of the pairs than with all, each chosen and tuned on its own pairs; where a field "
    "stands twice in the world, random masks lose gain and a larger share of their auxiliary loss, correlated ones keep "
    "their gain up to 2%, and stand above. Four settings for each arm and baseline, chosen on validation with few pairs "
    "(and anew with all), by Recall@50 in the whole catalogue; those with few pairs serve cold items and the copy, too. "
    "MovieLens gives order but few times, so the split is by person and order.",
    bars={
        **{f"{name}: {what}": bar for name in DATA for what, bar in BARS.items()},
        **{f"world: {what}": Bar(LITTLE if what == KEEPS else 0.0) for what in (SHRINKS, KEEPS, TWIN, FALLS)},
    },
    run=run,
    data=("ml-1m", "synthetic world"),
    paper=27,
    seeds=(0, 1, 2),
    minutes=75,
)
