"""Search box and feed in one model: do queries teach the feed, does translation help, does each help the other?

*Data.* Made-up apps (:mod:`palate.simulate.demands`), one a seed: events come of a taste that stays and a need of the moment.
Half of them begin with a query that names the need, half in the feed, where it stays unsaid. Everybody's last four events are
the test part, the two before them validation. Each answer is a question of its own; a person's value is the mean of theirs.

Then purchases on Amazon Beauty of 18,000 people, drawn at random into three parts, one a seed, so that every seed asks others:
five purchases or more a person and an item of a part, the last two the test part and the one before validation. A coin says of
each whether it begins with a search; its query is the words of the item's category path, the usual stand-in where there is no
log: it tells the category of the answer, and nobody typed it. Real logs of both scenarios (KuaiSAR) are not at hand here.

*Arms.* All are this model, with one of three pairs of step size and weight decay, chosen on validation with the first seed. All
take as many steps (more passes where rows are few), and keep the best of ten looks at questions of at most 400 people. Arms
of one scenario learn from its events alone and know these histories when asked; all leave out what the person had, whatever the
arm knew. *Control:* all events, but no queries: it tells what queries add from what more events add. Usual systems have three
settings each; these, and which system is best, are chosen on validation. In the apps alone scenarios are thinned.

*Metrics.* NDCG@5 over the full catalogue decides. Beside it stand HIT@5, MRR and GAUC (mean AUC of people; AUC, over questions,
stands in the table), and all of them among an answer and 99 drawn uniformly, as published (``sampled``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.filters import k_core
from palate.data.public import get as folder_of
from palate.data.ragged import Ragged
from palate.data.readers.delimited import DelimitedSource
from palate.data.readers.movielens import find
from palate.data.search_events import asked, searches_of_events
from palate.data.split import HeldOut, Split
from palate.errors import DataError
from palate.evaluation.judge import Facts, judge
from palate.kernels.topk import topk_rows
from palate.retrieval.bm25 import BM25
from palate.runtime import generator
from palate.simulate.demands import Demands
from palate.study.candidates import sample_candidates
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import paired_gain

METRICS, MAIN = ("ndcg@5", "hit_rate@5", "mrr", "auc"), "ndcg@5"
#: Events of everybody that are the test part, and that are validation, in a made-up app and on Amazon Beauty.
CUTS = {"app": (4, 2), "Beauty": (2, 1)}
#: People of Amazon Beauty a seed, before those with few purchases leave; people whose questions early stopping looks at.
BUYERS, LOOKS = 6_000, 400
NEGATIVES, THIN = 99, 0.1
SETTINGS: dict[str, Any] = {"dim": 32, "batch_size": 2048, "patience": 0}
#: Steps of every fit, however few its rows, how often early stopping looks, and step sizes with weight decays to choose from.
STEPS, TIMES = {"app": 800, "Beauty": 400}, 10
GRID = ((6e-3, 1e-5), (0.012, 1e-5), (0.012, 1.0))
#: What is done to the model, and which of its rows and questions there are.
ARMS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "joint": ({}, "all", ("feed", "search")),
    "guesses untaught": ({"sg_weight": 0.0}, "all", ("feed", "search")),
    "plain means": ({"translate": False}, "all", ("feed", "search")),
    "no contrast": ({"cl_weight": 0.0}, "all", ("feed", "search")),
    "own query counted": ({"leave_out": False}, "all", ("feed", "search")),
    "no queries": ({"require_searches": False}, "no queries", ("feed",)),
    "feed alone": ({"require_searches": False}, "feed", ("feed",)),
    "search alone": ({}, "search", ("search",)),
    "joint, little feed": ({}, "all, little feed", ("feed",)),
    "feed alone, little feed": ({"require_searches": False}, "feed, little feed", ("feed",)),
    "joint, little search": ({}, "all, little search", ("search",)),
    "search alone, little search": ({}, "search, little search", ("search",)),
}
#: Arms on Amazon Beauty.
REAL = ("joint", "guesses untaught", "plain means", "no contrast", "feed alone", "search alone")
#: Systems beside it, and the settings that each may choose from on validation.
BESIDE: dict[str, list[dict[str, Any]]] = {
    "popularity": [{}],
    "item_knn": [{"shrink": s} for s in (1.0, 10.0, 100.0)],
    "ease": [{"reg": r} for r in (5.0, 20.0, 80.0)],
    "ials": [{"dim": d} for d in (16, 32, 64)],
}

#: Values of people by name of the metric.
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """Questions of one scenario in one part: answers, their queries (or none), and what is ranked in the sampled form."""

    questions: HeldOut
    texts: list[str] | None
    ranked: Ragged
    sampled: str
    n_people: int

    @classmethod
    def of(cls, questions: HeldOut, texts: list[str] | None, n_people: int, n_items: int) -> Part:
        """Draw the candidates once for all arms."""
        ranked = sample_candidates(questions, n_items, min(NEGATIVES, n_items // 3), generator(0, "candidates", questions.part))
        return cls(questions, texts, *ranked, n_people)

    @property
    def counts(self) -> np.ndarray:
        """``int64[people]`` questions of each."""
        return np.bincount(self.questions.users, minlength=self.n_people)

    def means(self, found: Values) -> dict[str, float]:
        """Return means over people (of AUC: GAUC); AUC too, over questions."""
        table = {name.replace("auc", "gauc"): float(np.nanmean(values)) for name, values in found.items()}
        return {**table, "auc": float(np.nansum(found["auc"] * self.counts) / self.counts.sum())}

    def values(self, lists: np.ndarray, sampled: np.ndarray, facts: Facts) -> Values:
        """Judge lists over the catalogue and over the candidates; return the mean of each person's questions."""
        offered = facts.n_items - self.questions.histories.ragged.distinct.lengths
        whole = judge(lists, self.questions, METRICS, facts, n_candidates=offered).per_user
        how: dict[str, Any] = {"sampled": self.sampled, "n_candidates": self.ranked.lengths}
        few = judge(sampled, self.questions, METRICS, facts, **how).per_user
        rows = {**whole, **{f"{name}, sampled": few[name] for name in METRICS}}
        with np.errstate(invalid="ignore"):
            return {name: np.bincount(self.questions.users, v, self.n_people) / self.counts for name, v in rows.items()}


def app(trial: Trial, seed: int) -> Dataset:
    """Return a made-up app."""
    size: dict[str, Any] = {"users": 1_000, "items": 200, "topics": 10, "events": 26}
    size = {"users": 120, "items": 60, "topics": 6, "events": 16} if trial.reduced else size
    return trial.used(f"demands {seed}", Demands(**size, seed=seed).dataset())


def beauty(trial: Trial, seed: int) -> Dataset:
    """Return purchases of a seed's people, half of them after a query made of the words of the item's category path."""
    whole = trial.dataset("amazon-beauty")
    events, first = whole.interactions, trial.seeds.index(seed) * BUYERS
    people = generator(0, "buyers").permutation(whole.n_users)[first : first + BUYERS]
    data = k_core(whole.derive({"step": "people"}, interactions=events.take(np.flatnonzero(np.isin(events.user, people)))))
    table, events, names = data.items.attributes, data.interactions, category_names()
    if table is None:
        raise DataError("the items have no attributes.", where="amazon-beauty", remedy="put items.tsv there")
    paths = [
        " ".join(names.get(c, f"category{c}") for c in own[1:] or own) for own in table.column("attribute_ids").to_pylist()
    ]
    searched = np.flatnonzero(generator(seed, "searched").random(len(events)) < 0.5)
    searches = pa.table(
        {
            "user": pa.array(events.user[searched], pa.int32()),
            "query": [paths[item] for item in events.item[searched]],
            "items": pa.array([[item] for item in events.item[searched].tolist()], pa.list_(pa.int32())),
        }
    )
    told = [f"{title or ''} {path}" for title, path in zip(table.column("title").to_pylist(), paths, strict=True)]
    items = Entities(data.items.ids, pa.table({"title": told}))
    return trial.used(f"Beauty with queries, part {seed}", data.derive({"step": "queries"}, items=items, searches=searches))


def category_names() -> dict[str, str]:
    """Return the names of categories by number, of those that are known."""
    path = find(folder_of("amazon-beauty"), "attribute_names.tsv")
    if path is None:
        return {}
    rows = DelimitedSource(path, separator="\t").table().to_pylist()
    return {str(row["attribute_id"]): row["name"] for row in rows if row["name"]}


class Bench:
    """Data of two scenarios, their questions, and what was measured."""

    def __init__(self, trial: Trial, name: str, data: Dataset) -> None:
        self.trial, self.name, self.data = trial, name, data
        last, before = CUTS[name]
        events, lengths = self.data.interactions, self.data.histories.lengths
        left = np.repeat(self.data.histories.offsets[1:], lengths) - np.arange(len(events))
        cut = {"train": left > last + before, "valid": (left > last) & (left <= last + before), "test": left <= last}
        train, valid, test = (events.take(np.flatnonzero(rows)) for rows in cut.values())
        self.train = self.data.derive({"step": "train"}, interactions=train)
        self.split = Split(self.train, valid, test, {"protocol": "last events", "test": last, "valid": before})
        self.facts = Facts.of(self.train)
        self._parts: dict[str, dict[str, Part]] = {}
        self._models: dict[tuple[str, tuple[float, float], int], Recommender] = {}

    def part(self, name: Literal["valid", "test"]) -> dict[str, Part]:
        """Return the questions of a part by scenario; the test part is opened once, when everything is chosen."""
        if name not in self._parts:
            apart = asked(self.train, self.split.held_out(name))
            make = partial(Part.of, n_people=self.data.n_users, n_items=self.data.n_items)
            self._parts[name] = {"feed": make(apart.recommendation, None), "search": make(apart.search, apart.texts)}
        return self._parts[name]

    @cached_property
    def rows(self) -> dict[str, Dataset]:
        """What arms learn from, by name."""
        events, searched = self.train.interactions, searches_of_events(self.train) >= 0
        lucky = generator(0, "thin").random(len(events)) < THIN
        kept = {
            "all": np.ones(len(events), bool),
            "feed": ~searched,
            "search": searched,
            "all, little feed": searched | lucky,
            "feed, little feed": ~searched & lucky,
            "all, little search": ~searched | lucky,
            "search, little search": searched & lucky,
        }
        made = {
            name: self.train.derive({"step": name}, interactions=events.take(np.flatnonzero(k))) for name, k in kept.items()
        }
        silent = {"no queries": made["all"], "feed": made["feed"], "feed, little feed": made["feed, little feed"]}
        return {**made, **{name: replace(data, searches=None) for name, data in silent.items()}}

    def asked_of(self, model: Recommender, data: Dataset, part: Part) -> Values:
        """Ask a model, which knows the histories of its own data, the questions of a part."""
        questions, n = part.questions, self.data.n_items
        requests = Requests(questions.users, data.histories.take(questions.users), questions.histories.ragged, texts=part.texts)
        lists = model.recommend(requests, n).items
        sampled = model.recommend(replace(requests, candidates=part.ranked), min(n, NEGATIVES + 1)).items
        return part.values(lists, sampled, self.facts)

    def fitted(self, arm: str, own: tuple[float, float], seed: int, part: Literal["valid", "test"]) -> dict[str, Values]:
        """Fit an arm, and return what people got in each scenario."""
        changes, rows, scenarios = ARMS[arm]
        chosen = {**SETTINGS, **({"dim": 8} if self.trial.reduced else {}), **changes, "lr": own[0], "weight_decay": own[1]}
        steps = 6 if self.trial.reduced else STEPS[self.name]
        epochs = max(1, round(steps / -(-len(self.rows[rows].interactions) // SETTINGS["batch_size"])))
        chosen |= {"epochs": epochs, "eval_every": max(1, epochs // TIMES)}

        def make() -> dict[str, Values]:
            data, key = self.rows[rows], (arm, own, seed)
            if key not in self._models:
                model = create("uditsr", **chosen)
                self._models[key] = model.fit(data, self._looks(data, scenarios), seed=seed, progress=self.trial.progress)
            model = self._models[key]
            return {s: self.asked_of(model, data, self.part(part)[s]) for s in scenarios}

        key = {"data": self.name, "train": self.train.fingerprint, "arm": arm, "settings": chosen, "seed": seed, "part": part}
        return self.trial.kept(make, **key)

    def _looks(self, data: Dataset, scenarios: tuple[str, ...]) -> HeldOut:
        """Return validation answers of some people in some scenarios, of which the arm knows its own histories."""
        some = generator(0, "looks").permutation(self.data.n_users)[:LOOKS]
        whole = [self.part("valid")[s].questions for s in scenarios]
        found = [q.take(np.flatnonzero(np.isin(q.users, some))) for q in whole]
        users = np.concatenate([q.users for q in found])
        truth = Ragged(np.arange(len(users) + 1, dtype=np.int64), np.concatenate([q.truth.values for q in found]))
        return HeldOut(users, data.histories.take(users), truth)

    def chosen(self, name: str) -> tuple[float, float]:
        """Return the step size and weight decay of an arm that are best on validation, with the first seed."""
        grid, scenarios = GRID[1:2] if self.trial.reduced else GRID, ARMS[name][2]
        tried = [self.fitted(name, own, self.trial.seeds[0], "valid") for own in grid]
        return grid[int(np.argmax([np.mean([np.nanmean(v[s][MAIN]) for s in scenarios]) for v in tried]))]

    @cached_property
    def beside(self) -> tuple[dict[str, dict[str, Values]], str]:
        """The test values of usual systems, of the settings best on validation in the feed, and the best one there."""
        found, looked = {}, {}
        for name, options in BESIDE.items():
            models = [create(name, **chosen).fit(self.train, seed=0, progress=self.trial.progress) for chosen in options]
            values = [np.nanmean(self.asked_of(m, self.train, self.part("valid")["feed"])[MAIN]) for m in models]
            best = models[int(np.argmax(values))]
            looked[name] = max(values)
            found[name] = {s: self.asked_of(best, self.train, part) for s, part in self.part("test").items()}
        return found, max((name for name in BESIDE if name != "popularity"), key=lambda name: looked[name])

    @cached_property
    def by_words(self) -> Values:
        """The test values of BM25 over titles in search; what the person had is left out."""
        part, n = self.part("test")["search"], self.data.n_items
        index = BM25()
        titles = self.data.items.column("title")
        assert titles is not None and part.texts is not None
        index.add(np.arange(n), titles.to_pylist())
        lists, scores = index.search(part.texts, n, exclude=part.questions.histories.ragged)
        table = np.full((len(lists), n), -np.inf, np.float32)
        rows, places = np.nonzero(lists >= 0)
        table[rows, lists[rows, places]] = scores[rows, places]
        ranked = np.stack([part.ranked[row] for row in range(len(part.ranked))])
        few = topk_rows(ranked, np.maximum(np.take_along_axis(table, ranked, 1), -1), ranked.shape[1])[0]
        return part.values(lists, few, self.facts)


#: Data and seed of each fit that an arm has.
Runs = Sequence[tuple[Bench, int]]


def gain(treated: list[Values], base: list[Values], words: str, *, relative: bool = True, **details: Any) -> Effect:
    """Return the gain of those with questions, as many a seed as where they are fewest; other metrics stand in the details."""
    people, found = [np.flatnonzero(~np.isnan(v[MAIN])) for v in base], {}
    n = min(map(len, people))
    for name in treated[0]:
        pair = ([v[name][own[:n]] for v, own in zip(side, people, strict=True)] for side in (treated, base))
        found[name] = paired_gain(*pair, rng=generator(0, "bootstrap", words), relative=relative)
    rest = {
        name.replace("auc", "gauc"): [round(x, 4) for x in (e.value, e.low, e.high)]
        for name, e in found.items()
        if name != MAIN
    }
    main = found[MAIN]
    return Effect(main.value, main.low, main.high, {**main.details, "metric": MAIN, "other metrics": rest, **details})


def added(first: list[Values], second: list[Values]) -> list[Values]:
    """Return the sums of values of people, seed by seed."""
    return [{name: a[name] + b[name] for name in a} for a, b in zip(first, second, strict=True)]


def table_of(runs: Runs, found: dict[str, dict[str, list[Values]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the means of every arm and system in each scenario."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, scenarios in found.items():
        for s, each in scenarios.items():
            means = [bench.part("test")[s].means(values) for (bench, _), values in zip(runs, each, strict=True)]
            table.setdefault(name, {})[s] = {metric: float(np.mean([m[metric] for m in means])) for metric in means[0]}
    return table


def measured(runs: Runs, names: Sequence[str]) -> tuple[dict[str, dict[str, list[Values]]], dict[str, Effect]]:
    """Return the test values of arms, and the effects that both kinds of data have."""
    picked = {name: runs[0][0].chosen(name) for name in names}
    arms: dict[str, dict[str, list[Values]]] = {}
    for name, own in picked.items():
        fits = [bench.fitted(name, own, seed, "test") for bench, seed in runs]
        arms[name] = {s: [values[s] for values in fits] for s in ARMS[name][2]}
    usual = [bench.beside[0][bench.beside[1]]["feed"] for bench, _ in runs]
    words = [bench.by_words for bench, _ in runs]
    beside = {name: {s: [bench.beside[0][name][s] for bench, _ in runs] for s in ("feed", "search")} for name in BESIDE}
    table = table_of(runs, {**arms, **beside, "bm25": {"search": words}})
    joint, untaught = arms["joint"], arms["guesses untaught"]["feed"]
    effects = {
        "feed: guesses taught by queries": gain(joint["feed"], untaught, "taught", table=table, chosen=picked),
        "feed: best usual system": gain(joint["feed"], usual, "usual", systems=[bench.beside[1] for bench, _ in runs]),
        "search: BM25": gain(joint["search"], words, "words"),
    }
    for s in ("feed", "search"):
        effects[f"{s}: translation"] = gain(joint[s], arms["plain means"][s], f"{s} translation")
        effects[f"{s}: contrast of translations"] = gain(joint[s], arms["no contrast"][s], f"{s} contrast")
        effects[f"{s}: joint"] = gain(joint[s], arms[f"{s} alone"][s], f"{s} joint")
    return arms, effects


def run(trial: Trial) -> Mapping[str, Effect]:
    """Measure every arm, and what stands beside it, in made-up apps, one a seed, and on Amazon Beauty."""
    apps = [(Bench(trial, "app", app(trial, seed)), seed) for seed in trial.seeds]
    arms, effects = measured(apps, tuple(ARMS))
    joint = arms["joint"]
    effects["feed: same events without queries"] = gain(joint["feed"], arms["no queries"]["feed"], "no queries")
    effects["feed: own query left out of the lists"] = gain(joint["feed"], arms["own query counted"]["feed"], "left out")
    for s in ("feed", "search"):
        alone, little, thin = (arms[name][s] for name in (f"{s} alone", f"{s} alone, little {s}", f"joint, little {s}"))
        effects[f"{s}: joint where there is little"] = gain(thin, little, f"{s} little")
        more = gain(added(thin, alone), added(little, joint[s]), f"{s} more", relative=False)
        effects[f"{s}: joint gains more points where there is little"] = more
    real = [(Bench(trial, "Beauty", b.data if trial.reduced else beauty(trial, seed)), seed) for b, seed in apps]
    bought = measured(real, REAL)[1]
    return effects | {f"Beauty, {name}": effect for name, effect in bought.items()}


BOTH = (
    "feed: guesses taught by queries",
    "feed: translation",
    "search: translation",
    "feed: contrast of translations",
    "search: contrast of translations",
    "feed: joint",
    "search: joint",
    "feed: best usual system",
    "search: BM25",
)
BARS = (
    *BOTH,
    "feed: joint where there is little",
    "search: joint where there is little",
    "feed: joint gains more points where there is little",
    "search: joint gains more points where there is little",
    "feed: same events without queries",
    "feed: own query left out of the lists",
    *(f"Beauty, {name}" for name in BOTH),
)

CLAIM = Claim(
    name="uditsr",
    title="UDITSR: queries teach the feed, translation helps, and search box and feed help each other",
    statement="In three made-up apps where needs are named in the search box alone, NDCG@5 over the full catalogue is higher "
    "with than without guesses taught by queries (feed), with translation than with plain means (both), with than without the "
    "contrast of translations (both), with both scenarios learnt together than with one alone, by more where that one is "
    "thinned to a tenth, than with the same events without queries (feed), and with than without the own query left out of the "
    "lists (feed); and it beats the best of EASE, iALS and ItemKNN (chosen on validation) in the feed, and BM25 over titles in "
    "search. So it is on Amazon Beauty, three parts of 6,000 people cut to a core of five purchases, where words of category "
    "paths stand for the queries of half of the purchases (nothing is thinned there, and BM25 reads paths too).",
    bars={name: Bar(0.0) for name in BARS},
    run=run,
    data=("amazon-beauty",),
    paper=6,
    seeds=(0, 1, 2),
    minutes=50,
)
