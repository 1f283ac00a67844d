"""LLMRec: when do picks of an augmentor help, when does pruning help, and whom do profiles help?

*Data.* MovieLens, thinned: 70% of the people are cut to 12 random events (about 5 to learn from), the others to 40. 40% of what
remains is the test part and 20% is what an oracle may know. Histories of questions hold what was learnt from, so that all forms
are asked the same; lists leave out what the oracle knew, too.

*Oracle.* It picks, with probability q, a candidate that the person really had (never one of the test part), else a random one;
the disliked one is the last that they are not known to have had. It stands for language models of any quality, and says what
quality is worth asking for.

*Control.* Language models know what is popular; an augmentor that picks the most and the least popular candidate knows that
and nothing else. All fits take the same number of epochs: what the oracle knew must not decide when to stop. Step size and L2
of every form are one of four pairs, chosen by the recall of a fifth of the people, whom nothing else is asked of. There is no
patience that could end a fit while it ranks by popularity; how far each form is above popularity is in the details.
The pairs were set by looks (seed 0) at what the fit without picks reaches for those who choose, over five step sizes and four
L2; 60 epochs were kept from an earlier form, which had been tried on the test part. All forms have the same.

*A language model.* Picks, attributes and profiles of a few people of MovieLens 100K are written by one of 0.5 billion
parameters, and by the rule for the same people. They are few: step size and L2 are chosen on what an oracle would know, and
all are asked of the test part. Where the model is not installed its effects are left out, and the result says so. How often a
pick is true (something that the person had, outside training) is told of it, and of the rule on all data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from palate.catalog.registry import create
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.filters import compact, k_core, random_places, subset_users
from palate.data.protocols import split as cut
from palate.data.ragged import Ragged
from palate.data.split import HeldOut, Split
from palate.evaluation.judge import Facts, judge
from palate.language.downloads import lacking
from palate.progress import Progress, silent
from palate.recommend.llmrec_augment import Augmentor, Candidates, Picks, RuleAugmentor
from palate.runtime import generator
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial, beside
from palate.study.effects import gain_beyond, gain_difference, paired_gain
from palate.study.tune import blind, tune

METRIC = "recall@20"
DATA = ("ml-100k", "ml-1m")
BESIDE = ("popularity", "item_knn", "ease", "ials", "lightgcn")
#: Share of people cut to few events, events that they and the others keep, and what counts as few to learn from.
COLD, FEW, MANY, LITTLE = 0.7, 12, 40, 5
#: Qualities of the oracle; a low one; candidates that it chooses from; epochs of all fits.
QUALITIES, LOW, CANDIDATES, EPOCHS = (0.0, 0.25, 0.5, 0.75, 1.0), 0.25, 50, 60
#: Quality with 30% wrong picks; share that pruning leaves out; what counts as no help.
MIXED, PRUNE, NO_HELP = 0.7, 0.2, -0.01
#: Step sizes and L2 tried; share of the people that choose; most people of a data set (tuning multiplies the fits).
TRIED = ({"lr": 2e-3, "reg": 1e-3}, {"lr": 2e-3, "reg": 5e-2}, {"lr": 5e-3, "reg": 5e-2}, {"lr": 1e-2, "reg": 1e-2})
CHOOSERS, PEOPLE = 0.2, 2_000
#: The few people whom a language model is asked about; an item of theirs was had by so many of them.
FEW_PEOPLE, LEAST = 50, 4

LEARNT = ("llmrec", "lightgcn")
TOLD = beside(__file__, "_llmrec_told")

#: Each person's metric, one array a seed.
Values = list[np.ndarray]


class Oracle(Augmentor):
    """Picks a candidate that the person really had with probability q; whoever had none of the candidates gets no pick."""

    name = "oracle"

    def __init__(self, known: Ragged, quality: float, seed: int) -> None:
        self.known, self.quality, self.seed = known, quality, seed

    def pick(self, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
        """Return the picks; the draws of one person are the same for every quality."""
        liked, disliked = (np.full(len(candidates), -1, np.int32) for _ in range(2))
        rng = generator(self.seed, "oracle")
        for row, user in enumerate(candidates.users):
            own = candidates.items[row][candidates.items[row] >= 0]
            luck, place = rng.random(2)
            right = np.isin(own, self.known[user])
            if right.any() and (~right).sum() > 1:
                *others, last = own[~right]
                choices = own[right] if luck < self.quality else others
                liked[row], disliked[row] = choices[int(place * len(choices))], last
        return Picks(liked, disliked)

    def item_attributes(self, dataset: Dataset, *, progress: Progress = silent) -> dict[str, list[str]]:
        """Return nothing: the oracle knows picks only."""
        return {}

    def user_profiles(self, dataset: Dataset, *, progress: Progress = silent) -> list[str]:
        """Return nothing."""
        return [""] * dataset.n_users


class PopularityPick(RuleAugmentor):
    """Picks the most and the least popular candidate."""

    name = "popularity pick"

    def pick(self, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
        """Return the picks; of equally popular ones the first."""
        offered, rows = candidates.items, np.arange(len(candidates))
        counts = np.where(offered >= 0, dataset.item_counts[offered], -1)
        best = counts.argmax(axis=1)
        worst = np.where(offered >= 0, counts, np.iinfo(np.int64).max).argmin(axis=1)
        told = counts[rows, best] > counts[rows, worst]
        liked, disliked = (np.where(told, offered[rows, at], -1).astype(np.int32) for at in (best, worst))
        return Picks(liked, disliked)


def thinned(dataset: Dataset) -> Dataset:
    """Keep few random events of most people, and more of the others."""
    rng, events = generator(0, "thin"), dataset.interactions
    kept = np.where(rng.random(dataset.n_users) < COLD, FEW, MANY)
    rows = np.flatnonzero(random_places(dataset, rng) < kept[events.user])
    return dataset.derive({"step": "thin", "share": COLD, "few": FEW, "many": MANY}, interactions=events.take(rows))


def splits(trial: Trial) -> dict[str, Split]:
    """Return the splits by name: training, what the oracle knows (valid), test."""
    if trial.reduced:
        world = World(users=150, items=80, events=4_000, topics=8, focus=0.8)
        whole = {name: thinned(world.dataset(graphs=False, impressions=False)) for name in DATA}
    else:
        whole = {name: thinned(subset_users(trial.dataset(name), PEOPLE)) for name in DATA}
    people = subset_users(whole[DATA[0]], FEW_PEOPLE)
    whole[FEW_NAME] = compact(k_core(people, 1, LEAST, iterate=False))
    found = {}
    for name, data in whole.items():
        data = trial.used(f"{name}, thinned", data)
        found[name] = cut(data, "user_ratio", valid=0.2, test=0.4, order="random")
    return found


class Bench:
    """One data set, its questions, and what was measured so far."""

    def __init__(self, trial: Trial, split: Split, name: str) -> None:
        self.trial, self.split, self.name, train = trial, split, name, split.train
        held_out: HeldOut = split.held_out("test")
        valid = split.held_out("valid")
        rows: list[Any] = [[]] * train.n_users
        for row, user in enumerate(valid.users):
            rows[user] = valid.truth[row]
        self.known = Ragged.from_rows(rows)
        self.truth = dict(zip(held_out.users.tolist(), (held_out.truth[row] for row in range(len(held_out))), strict=True))
        choosers = generator(0, "choosers").random(len(held_out)) < CHOOSERS
        self.choosers, self.held_out = (held_out.take(np.flatnonzero(rows)) for rows in (choosers, ~choosers))
        if name == FEW_NAME:
            self.choosers, self.held_out = valid, held_out
        self.facts = Facts.of(train)
        self.values: dict[str, Values] = {}
        self.chosen: dict[str, Any] = {}

    @property
    def little(self) -> np.ndarray:
        """``bool[n]``: people of whom little is known."""
        return np.asarray(self.split.train.histories.lengths[self.held_out.users] <= LITTLE)

    def had(self, user: int) -> np.ndarray:
        """Return what a person had outside training."""
        return np.concatenate([self.known[user], self.truth.get(user, np.zeros(0, np.int32))])

    def recall(self, name: str, system: str = "llmrec", quality: float | None = None, **settings: Any) -> Values:
        """Return each person's metric, one array a seed; measured once a name."""
        if name not in self.values:
            best = {**settings, **self._best(name, system, quality, settings)}
            self.chosen[name] = best
            key = {"on": self.name, "arm": name, "settings": {k: v for k, v in best.items() if k != "augmentor"}}
            self.values[name] = [
                self.trial.kept(partial(self._recall, self.held_out, system, quality, seed, best), **key, seed=seed)
                for seed in self.trial.seeds[: None if system in LEARNT else 1]
            ]
        return self.values[name]

    def _best(self, name: str, system: str, quality: float | None, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the step size and L2 that do best for those who choose; settings of baselines are chosen on validation."""
        first, small = self.trial.seeds[0], self.trial.reduced
        if system not in LEARNT:
            trials = 1 if small else len(TRIED)
            find = partial(tune, blind(self.split), system, trials=trials, metric=METRIC)
            return self.trial.kept(lambda: dict(find().settings), on=self.name, arm=name)
        tried = TRIED[: 1 if small else None]

        def mean(own: Mapping[str, float]) -> float:
            return float(np.nanmean(self._recall(self.choosers, system, quality, first, {**settings, **own})))

        found = [self.trial.kept(partial(mean, own), on=self.name, arm=name, tried=own) for own in tried]
        return dict(tried[int(np.argmax(found))])

    def _recall(
        self, people: HeldOut, system: str, quality: float | None, seed: int, settings: Mapping[str, Any]
    ) -> np.ndarray:
        given = dict(settings)
        if quality is not None:
            given["augmentor"] = Oracle(self.known, quality, seed)
        if system in LEARNT:
            small = self.trial.reduced
            given = {"epochs": 2 if small else EPOCHS, "dim": 8 if small else 64, "layers": 2, **given}
        model = create(system, **given).fit(self.split.train, seed=seed, progress=self.trial.progress)
        asked = Requests(people.users, self.split.train.histories.take(people.users), people.histories.ragged)
        lists = model.recommend(asked, 20).items
        found: np.ndarray = judge(lists, people, [METRIC], self.facts).per_user[METRIC]
        return found

    def oracle(self, quality: float, share: float = 0.1, prune: float = 0.0, by: str = "noise_dropped") -> Values:
        """Return the metric with the oracle's picks and nothing else, so that picks alone make the difference."""
        name = f"oracle q={quality:g} share={share:g} prune={prune:g} {by}"
        return self.recall(
            name, quality=quality, share=share, prune=prune, prune_by=by, candidates=CANDIDATES, text_weight=0.0, mask=0.0
        )

    @property
    def plain(self) -> Values:
        """The metric without any augmentation: the baseline that an oracle has to beat."""
        return self.recall("plain", augmentor="none", share=0.0, prune=0.0, text_weight=0.0, mask=0.0)

    def gain(self, treated: Values, base: Values, words: str, **details: Any) -> Effect:
        """Return the gain (relative, if nothing else is said) with its interval."""
        rng = generator(0, "bootstrap", self.name, words)
        return paired_gain(treated, base, rng=rng, metric=METRIC, **details)


def crossing(qualities: Sequence[float], values: Sequence[float], base: float) -> float | None:
    """Return the least quality at which the line through the values reaches the base, or ``None``."""
    if values[0] >= base:
        return qualities[0]
    for at in range(1, len(values)):
        if values[at] >= base:
            low, high = values[at - 1], values[at]
            return float(qualities[at - 1] + (base - low) / (high - low) * (qualities[at] - qualities[at - 1]))
    return None


def measured(bench: Bench) -> dict[str, Effect]:
    """Return all effects of a data set."""
    sweep = [bench.oracle(q) for q in QUALITIES]
    means = [float(np.nanmean(values)) for values in sweep]
    facts: dict[str, Any] = {"recall by quality": means, "q0": crossing(QUALITIES, means, float(np.nanmean(bench.plain)))}
    low, best = bench.oracle(LOW), sweep[-1]
    low_pruned, best_pruned = bench.oracle(LOW, prune=PRUNE), bench.oracle(1.0, prune=PRUNE)
    hardest = bench.oracle(LOW, prune=PRUNE, by="hardest_kept")
    mixed, mixed_pruned = bench.oracle(MIXED), bench.oracle(MIXED, prune=PRUNE)
    mixed_hardest = bench.oracle(MIXED, prune=PRUNE, by="hardest_kept")
    half, whole = bench.oracle(0.5), bench.oracle(0.5, share=1.0)
    rule: dict[str, Any] = {"share": 0.1, "prune": 0.0}
    full, without = bench.recall("rule", **rule), bench.recall("rule, no profile", profile_weight=0.0, **rule)
    popular = bench.recall("popularity picks", augmentor=PopularityPick(), **rule)
    bench.recall("defaults")
    bench.recall("as published", prune=0.71, prune_by="hardest_kept")
    for system in BESIDE:
        bench.recall(system, system)
    everything = {name: float(np.nanmean(values)) for name, values in bench.values.items()}
    facts["over popularity"] = {name: value / everything["popularity"] - 1 for name, value in everything.items()}
    facts["settings"] = {
        name: {k: str(getattr(v, "name", v)) for k, v in chosen.items()} for name, chosen in bench.chosen.items()
    }
    full_little, without_little = ([one[bench.little] for one in values] for values in (full, without))
    rng = generator(0, "bootstrap", bench.name, "differences")
    found = {
        "right picks over none": bench.gain(best, bench.plain, "right", **facts, all_systems=everything),
        "none over wrong picks": bench.gain(bench.plain, sweep[0], "wrong"),
        "pruning noise at low quality": bench.gain(low_pruned, low, "prune"),
        "pruning helps more at low quality": gain_difference((low_pruned, low), (best_pruned, best), rng=rng, relative=False),
        "right picks need no pruning": bench.gain(best, best_pruned, "prune right"),
        "30% wrong: dropping the largest over no pruning": bench.gain(mixed_pruned, mixed, "mixed dropped"),
        "30% wrong: no pruning over keeping the largest": bench.gain(mixed, mixed_hardest, "mixed hardest"),
        "dropping the largest over keeping them": bench.gain(low_pruned, hardest, "direction"),
        "profiles for people of few items": bench.gain(full_little, without_little, "profiles"),
        "profiles help them most": gain_beyond(full, without, bench.little, rng=rng),
        "share 0.1 over 1 at half quality": bench.gain(half, whole, "share"),
        "rule over popularity picks": bench.gain(full, popular, "control"),
        "no picks over popularity": bench.gain(bench.plain, bench.recall("popularity", "popularity"), "floor"),
        **true_picks(bench),
    }
    for at, higher in enumerate(QUALITIES[1:]):
        found[RISES.format(QUALITIES[at], higher)] = bench.gain(sweep[at + 1], sweep[at], f"rise to {higher:g}")
    return {f"{bench.name}: {words}": effect for words, effect in found.items()}


def true_picks(bench: Bench) -> dict[str, Effect]:
    """Return how often the rule's picks are true, with those by popularity in the details."""
    train, popular = bench.split.train, PopularityPick()
    control = np.nanmean(TOLD.proposed(bench.trial, train, popular, bench.had, bench.name), axis=(0, 2))
    beside = dict(zip(("liked", "disliked", "chance"), control.tolist(), strict=True))
    by_rule = TOLD.proposed(bench.trial, train, RuleAugmentor(), bench.had, bench.name)
    found: dict[str, Effect] = TOLD.agreements(by_rule, "picks of the rule", by_popularity=beside)
    return found


def told(bench: Bench) -> dict[str, Effect]:
    """Return what a language model's augmentation brings, and the rule's, for the same few people."""
    trial, train = bench.trial, bench.split.train
    why = "" if trial.reduced else lacking(TOLD.MODEL)
    ask = TOLD.told_by_rule if trial.reduced else TOLD.told_by_model
    said = {"the rule": TOLD.told_by_rule(train)}
    if not why:
        said["a language model"] = trial.kept(partial(ask, train), on=bench.name, told=TOLD.MODEL)
    offered = TOLD.propose(train, TOLD.BASE, TOLD.OFFERED)
    same = {"share": 0.1, "prune": 0.0, "base": TOLD.BASE, "candidates": TOLD.OFFERED}
    none = bench.recall("told nothing", augmentor="none", **{**same, "share": 0.0})
    popular = float(np.nanmean(bench.recall("popularity", "popularity")))
    facts: dict[str, Any] = {"items": train.n_items, "popularity": popular}
    found: dict[str, Effect] = {}
    for who, own in said.items():
        values = bench.recall(f"told by {who}", augmentor=TOLD.Given(own), **same)
        more = {
            **facts,
            "settings": {
                "none": bench.chosen["told nothing"],
                "told": {k: v for k, v in bench.chosen[f"told by {who}"].items() if k != "augmentor"},
            },
        }
        found[f"augmentation by {who}"] = bench.gain(values, none, who, relative=False, told=TOLD.quality(own), **more)
        true = TOLD.agreement(offered, Picks(own["liked"], own["disliked"]), bench.had)
        found |= TOLD.agreements([true], f"picks of {who}")
    effects = {words: found.get(words, Effect.left_out(why)) for words in TOLD_WORDS}
    return {f"{bench.name}: {words}": effect for words, effect in effects.items()}


def run(trial: Trial) -> Mapping[str, Effect]:
    """Measure on every data set."""
    effects: dict[str, Effect] = {}
    for name, split in splits(trial).items():
        bench = Bench(trial, split, name)
        effects |= told(bench) if name == FEW_NAME else measured(bench)
    return effects


FEW_NAME = "few people"
AGREE = tuple(f"picks of {{}}: liked over {other}" for other in ("chance", "disliked"))
TOLD_WORDS = tuple(words.format(who) for who in ("the rule", "a language model") for words in ("augmentation by {}", *AGREE))
RISES = "recall rises from q={:g} to {:g}"
#: Effects that need only be no help: their bar is a little below zero.
NEUTRAL = ("right picks need no pruning", "30% wrong: no pruning over keeping the largest")
WORDS = (
    "right picks over none",
    "none over wrong picks",
    *(RISES.format(low, high) for low, high in pairwise(QUALITIES)),
    "30% wrong: dropping the largest over no pruning",
    *NEUTRAL,
    "pruning noise at low quality",
    "pruning helps more at low quality",
    "dropping the largest over keeping them",
    "profiles for people of few items",
    "profiles help them most",
    "share 0.1 over 1 at half quality",
    "rule over popularity picks",
    "no picks over popularity",
    *(words.format("the rule") for words in AGREE),
)

CLAIM = Claim(
    name="llmrec",
    title="LLMRec: augmentation helps where it is right, pruning where it is wrong",
    statement="On MovieLens thinned to about 5 training items for most people (of 1M, 2,000 people), recall@20 over the full "
    "catalogue rises with every quarter of the picks that is right, from below the fit without picks (no pick right) to above "
    "it (all right); leaving out the largest 20% of losses helps where 25% of the picks are right, more than where all are, "
    "and more than keeping the largest does, and brings less than 1% where all are right; where 30% are wrong it helps, and "
    "keeping the largest brings less than 1%; profiles help people of at most 5 items, and those most; a share of 0.1 is "
    "better than 1 where half of the picks are right; and picks by content beat picks by popularity, and are true oftener than "
    "candidates by chance and than the disliked ones. For about 50 people of MovieLens 100K augmentation by a language model "
    "of 0.5 billion parameters helps, and by the rule beside it, in points of recall, and the picks of both are true oftener "
    "than chance and the disliked ones. Every form has four pairs of step size and L2, chosen by people apart, and without "
    "picks recall is above popularity's. Images take no part: Palate has no encoder of them (MovieLens 100K has posters).",
    bars={
        **{f"{name}: {words}": Bar(NO_HELP if words in NEUTRAL else 0.0) for name in DATA for words in WORDS},
        **{f"{FEW_NAME}: {words}": Bar(0.0) for words in TOLD_WORDS},
    },
    run=run,
    data=DATA,
    paper=13,
    seeds=(0, 1, 2),
    minutes=40,
)
