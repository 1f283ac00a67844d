"""Who goes to films that nobody has seen: a learnt metric against text alone, plain CML, regressed factors and shuffled texts.

Films are cut by release: those before the cut train, those of the next year set the number of epochs and the margin, and those
after it are asked about. No event of a film after the cut is seen by anything that learns, nor is its text by the vectoriser.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.features import learn_schema
from palate.data.public import cache_folder
from palate.errors import DataError
from palate.evaluation.metrics.predictive import auc, expected_calibration_error, log_loss
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.texts import ItemTexts, item_texts
from palate.retrieval.tokens import tokens
from palate.runtime import generator
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import paired_gain

SYSTEM, CUT, LEAST, EPOCH = "cml_theatrical", 1999, 10, 1_000_000_000
GRID: tuple[dict[str, Any], ...] = tuple({"margin": m, "epochs": e} for m in (0.3, 1.0) for e in (3, 8))
ARMS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "end to end": {"places": "text", "loss": "logistic"},
    "free": {"places": "free"},
    "no titles": {"texts": ("plot",)},
    "same weeks": {"weeks": 8.0},
}
RIDGE = (0.3, 3.0, 30.0, 300.0)
OTHERS = ("ease", "ials", "item_knn", "popularity")
DATA = ("ml-1m", "world")


class Season:
    """Events of old films, the new ones with their events (``bool[people, new]``), and how an oracle would rank people."""

    def __init__(self, train: Dataset, new: np.ndarray, went: np.ndarray, oracle: np.ndarray | None = None) -> None:
        self.train, self.new, self.went, self.oracle = train, new, went, oracle

    @cached_property
    def asked(self) -> Requests:
        """Everybody with a history."""
        users = np.flatnonzero(self.train.histories.lengths > 0).astype(np.int32)
        return Requests.of_users(self.train, users, exclude_seen=False)

    @cached_property
    def table(self) -> np.ndarray:
        """``bool[asked, new]``."""
        found: np.ndarray = self.went[self.asked.users]
        return found


def season(data: Dataset, released: np.ndarray, start: float, stop: float, oracle: np.ndarray | None = None) -> Season:
    """Return the data cut so that films released from ``start`` on, before ``stop``, are new; later ones don't exist."""
    events, counts = data.interactions, data.item_counts
    new = np.flatnonzero((released >= start) & (released < stop) & (counts >= LEAST)).astype(np.int32)
    old = released[events.item] < start
    if events.time is not None:  # days since the first one: nothing that came after the cut
        old &= events.time < EPOCH + 86_400 * start
    train = data.derive({"step": "released before", "start": start}, interactions=events.take(np.flatnonzero(old)))
    went = np.asarray(data.matrix()[:, new].toarray() > 0)
    return Season(train, new, went, None if oracle is None else oracle[:, new])


def movies(trial: Trial) -> tuple[Dataset, np.ndarray]:
    """Return MovieLens 1M with the year out of the title, plots where they are known by title and year, and the years."""
    data = trial.dataset("ml-1m")
    table, plots = data.items.attributes, known_plots()
    assert table is not None
    keys = [key(str(title)) for title in table.column("title").to_pylist()]
    texts = [next((plots[name, y] for y in (year, year - 1, year + 1) if (name, year and y) in plots), None)
             for name, year in keys]  # fmt: skip
    plain = [re.sub(r"\s*\(\d{4}\)\s*$", "", str(title)) for title in table.column("title").to_pylist()]
    columns = {"title": plain, "plot": pa.array(texts, pa.string()), "categories": table.column("categories")}
    items = Entities(data.items.ids, pa.table(columns))
    return data.derive({"step": "plots"}, items=items), np.array([year for _, year in keys], float)


def known_plots() -> dict[tuple[str, int], str]:
    """Return the plots of the films of ReDial by title and year, from ``redial`` in ``PALATE_DATA`` or the cache."""
    folders = [Path(os.environ["PALATE_DATA"])] if os.environ.get("PALATE_DATA") else []
    path = next((p for base in (*folders, cache_folder()) for p in sorted((base / "redial").glob("id2info.json*"))), None)
    if path is None:
        raise DataError("there are no plots.", where="redial/id2info.json", remedy="put ReDial's file into PALATE_DATA")
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return {key(film["name"]): film["plot"] for film in json.loads(raw).values() if film.get("plot")}


def key(title: str) -> tuple[str, int]:
    """Return a title in small letters without its article and marks, and its year (0 where there is none)."""
    found = re.match(r"(.*?)\s*(?:\((\d{4})\))?\s*$", title)
    assert found is not None
    name = re.sub(r"\(.*?\)", "", found.group(1).casefold()).strip()
    name = re.sub(r"^(the|a|an) |, (the|a|an)$", "", name)
    return re.sub(r"\W+", " ", name).strip(), int(found.group(2) or 0)


def planted(trial: Trial, seed: int = 0) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return people with eight tastes, films whose text tells 50 topics of which 10 matter, release days, and the oracle.

    A film tells twelve words of each of three topics; two of the three are of no matter to anybody. People come with tiers of
    frequency, and go to films in the hundred days after their release.
    """
    rng = generator(seed, "planted")
    people, films = (400, 120) if trial.reduced else (4_000, 900)
    tastes, useful = rng.standard_normal((people, 8)) * 1.2, rng.integers(10, size=films)
    direction = rng.standard_normal((10, 8))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    liking = tastes @ direction[useful].T
    tier = rng.choice([0.02, 0.06, 0.15], people, p=[0.5, 0.35, 0.15])
    chance = 1 / (1 + np.exp(-(np.log(tier / (1 - tier))[:, None] + 1.5 * liking - 1)))
    user, item = np.nonzero(rng.random(chance.shape) < chance)
    day = np.sort(rng.integers(0, 1_500, films))
    time = EPOCH + 86_400 * (day[item] + rng.integers(0, 100, len(item)))
    noise = rng.integers(10, 50, (films, 2))
    words = [f"t{topic}w{w}" for topic in range(50) for w in range(30)]
    told = [
        " ".join(words[30 * t + w] for t in (useful[f], *noise[f]) for w in rng.integers(30, size=12)) for f in range(films)
    ]
    data = Dataset.from_columns(user, item, time=time, name="planted")
    films_known, people_known = data.items.ids.raw.to_numpy(), data.users.ids.raw.to_numpy()
    items = Entities(data.items.ids, pa.table({"plot": [told[f] for f in films_known]}))
    return (
        trial.used("world", replace(data, items=items)),
        day[films_known].astype(float),
        liking[np.ix_(people_known, films_known)],
    )


def seasons(trial: Trial, name: str) -> tuple[Season, Season]:
    """Return the season that chooses settings, and the one that is asked about."""
    if name == "ml-1m" and not trial.reduced:
        data, year = movies(trial)
        return season(data, year, CUT, CUT + 1), season(data, year, CUT + 1, np.inf)
    data, day, oracle = planted(trial)
    early, late = np.quantile(day, 0.75), np.quantile(day, 0.87)
    return season(data, day, early, late, oracle), season(data, day, late, np.inf, oracle)


def scores(model: Any, asked: Season) -> np.ndarray:
    """Return ``float32[asked, new]``, in blocks of people."""
    parts = [model.score(block, np.tile(asked.new, (len(block), 1))) for block in asked.asked.blocks(4096)]
    found: np.ndarray = np.concatenate(parts)
    return found


def by_text(asked: Season) -> np.ndarray:
    """Return the cosine of each new film to the mean text (and genres) of a person's films: nothing is learnt of people."""
    vectors = described(asked)
    mean = np.asarray(asked.train.matrix()[asked.asked.users] @ vectors)
    return np.asarray(mean @ vectors[asked.new].T / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9))


def described(asked: Season, *, only_genres: bool = False) -> np.ndarray:
    """Return ``float32[n_items, d]``: text vectors beside genres, each part of length one."""
    items, old = asked.train.items, np.flatnonzero(asked.train.item_counts)
    assert items.attributes is not None
    columns = tuple(c for c in ("title", "plot") if c in items.attributes.column_names)
    texts = item_texts(items, ItemTexts(columns=columns, labels=False))
    text = TfidfEncoder().fit([texts[i] for i in old if texts[i]]).encode(texts)
    genres = np.zeros((len(items), 0), np.float32)
    if "categories" in items.attributes.column_names:
        table = items.attributes.select(["categories"])
        schema = learn_schema(table.take(pa.array(old)))
        bags = schema.encode(table, len(items), tokens).bags
        genres = np.zeros((len(items), int(schema.bases[-1])), np.float32)
        genres[bags.row_numbers, bags.values] = 1
    kept = (genres,) if only_genres else (text, genres)
    parts = [p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-9) for p in kept]
    return np.concatenate(parts, 1).astype(np.float32)


def regressed(asked: Season, seed: int, reduced: bool, ridge: float = 3.0) -> np.ndarray:
    """Return scores by iALS factors of films, regressed (ridge) on text and genres for the new ones."""
    model = create("ials", **({"dim": 8, "epochs": 3} if reduced else {})).fit(asked.train, seed=seed)
    old, x = asked.train.item_counts > 0, described(asked).astype(float)
    gram = x[old].T @ x[old] + ridge * np.eye(x.shape[1])
    new = x[asked.new] @ np.linalg.solve(gram, x[old].T @ model.item_vectors[old])
    return np.asarray(model.request_vectors(asked.asked) @ new.T)


def per_film(asked: Season, found: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the AUC of each new film over people (all, or some rows)."""
    return np.array([auc(asked.table[rows, f], found[rows, f]) for f in range(len(asked.new))])


def tiers(asked: Season) -> dict[str, np.ndarray]:
    """Return the rows of people by how much they had before: thirds."""
    order = np.argsort(asked.asked.histories.lengths, kind="stable")
    return dict(zip(("casual", "regular", "frequent"), np.array_split(order, 3), strict=True))


def by_genre(asked: Season) -> np.ndarray:
    """Return how many of a person's films are of a genre of each new film."""
    genres = described(asked, only_genres=True) > 0
    shared = (genres.astype(np.float32) @ genres[asked.new].T.astype(np.float32) > 0).astype(np.float32)
    return np.asarray(asked.train.matrix()[asked.asked.users] @ shared)


def within(asked: Season, found: np.ndarray) -> float:
    """Return the mean AUC over new films of each person who went to some and not to all."""
    rows = np.flatnonzero(asked.table.any(1) & ~asked.table.all(1))
    return float(np.mean([auc(asked.table[u], found[u]) for u in rows]))


def shuffled(asked: Season) -> Season:
    """Return the season with the texts and genres dealt out anew among films."""
    items = asked.train.items
    assert items.attributes is not None
    table = items.attributes.take(pa.array(generator(0, "shuffled").permutation(len(items))))
    train = asked.train.derive({"step": "shuffled"}, items=Entities(items.ids, table))
    return Season(train, asked.new, asked.went, asked.oracle)


def settings(trial: Trial, valid: Season, arm: str) -> dict[str, Any]:
    """Return the settings of an arm that do best on the films of the season before; all arms choose from as many."""
    base: dict[str, Any] = {"head_films": 0.0, "lr": 5e-3, "half_life": 0.0, **ARMS[arm]}
    if trial.reduced:
        return {"dim": 8, "hidden": 16, "text_dim": 32, "epochs": 4, "batch_size": 256, **base, "lr": 0.02}
    values = [np.nanmean(per_film(valid, scores(create(SYSTEM, **base, **g).fit(valid.train, seed=0), valid))) for g in GRID]
    return {**base, **GRID[int(np.argmax(values))]}


def penalty(trial: Trial, valid: Season) -> float:
    """Return the ridge penalty that does best on the films of the season before."""
    if trial.reduced:
        return RIDGE[0]
    return RIDGE[int(np.argmax([np.nanmean(per_film(valid, regressed(valid, 0, False, ridge))) for ridge in RIDGE]))]


def run(trial: Trial) -> Mapping[str, Effect]:
    """Choose settings on one season, answer the next with every seed and arm."""
    effects: dict[str, Effect] = {}
    for name in DATA:
        valid, test = seasons(trial, name)
        has_titles = test.train.items.column("title") is not None
        arms = [a for a in ARMS if a not in ("no titles", "same weeks") or (a == "no titles") == has_titles]  # times, or titles
        chosen = {arm: trial.kept(partial(settings, trial, valid, arm), on=name, choose=arm) for arm in arms}
        chosen["regressed"] = {"ridge": trial.kept(partial(penalty, trial, valid), on=name, choose="ridge")}
        effects |= {f"{what} on {name}": effect for what, effect in answers(trial, name, test, chosen).items()}
    return effects


def answers(trial: Trial, name: str, test: Season, chosen: dict[str, dict[str, Any]]) -> dict[str, Effect]:
    """Return the effects of one data set."""
    rng, found = generator(0, "bootstrap", name), dict[str, list[np.ndarray]]()
    plots, has_titles = test.train.items.column("plot"), test.train.items.column("title") is not None
    assert plots is not None

    def answer(arm: str, seed: int) -> np.ndarray:
        if arm == "regressed":
            return regressed(test, seed, trial.reduced, **chosen[arm])
        on, own = (shuffled(test), chosen["hybrid"]) if arm == "shuffled" else (test, chosen[arm])
        return scores(create(SYSTEM, **own).fit(on.train, seed=seed), on)

    for seed in trial.seeds:
        for arm in (*chosen, "shuffled"):
            found.setdefault(arm, []).append(trial.kept(partial(answer, arm, seed), on=name, arm=arm, seed=seed))
    found["text"] = [by_text(test)]
    if has_titles:  # films with genres
        found["popularity by genre"] = [by_genre(test)]
    found["frequency"] = [np.repeat(test.train.histories.lengths[test.asked.users][:, None], len(test.new), 1).astype(float)]
    for other in OTHERS:
        model = create(other, **({"dim": 8} if trial.reduced and other == "ials" else {})).fit(test.train, seed=0)
        found[other] = [scores(model, test)]
    films = {arm: [per_film(test, rows) for rows in values] for arm, values in found.items()}
    table: dict[str, dict[str, float]] = {}
    for arm, values in found.items():
        table[arm] = {"film AUC": float(np.nanmean(films[arm])), "within people": within(test, np.mean(values, axis=0))}
        table[arm] |= {
            f"film AUC, {tier}": float(np.nanmean(per_film(test, values[0], rows))) for tier, rows in tiers(test).items()
        }
    if test.oracle is not None:
        table["oracle"] = {"film AUC": float(np.nanmean(per_film(test, test.oracle[test.asked.users])))}
    extra: dict[str, Any] = {
        "metric": "AUC of a film over people, films resampled",
        "table": table,
        "settings": chosen,
        "new": len(test.new),
        "with a plot": len(plots.take(pa.array(test.new)).drop_null()),
    }

    def gain(over: str) -> Effect:
        return paired_gain(films["hybrid"], films[over], rng=rng, relative=False, **extra)

    return {**{f"film AUC over {over}": gain(over) for over in ("text", "free", "regressed", "shuffled")},
            **heads(trial, test, chosen["hybrid"], rng)}  # fmt: skip


def heads(trial: Trial, test: Season, chosen: dict[str, Any], rng: np.random.Generator) -> dict[str, Effect]:
    """Return how much log loss a film saves by the whole head over the distance alone, and over frequency and recency alone."""
    told: dict[str, dict[str, Any]] = {
        "all": {},
        "the distance alone": {"head_facts": ("distance",)},
        "frequency and recency": {"head_facts": ("frequency", "recency")},
    }
    saved: dict[str, list[np.ndarray]] = {kind: [] for kind in told}
    facts: dict[str, Any] = {}
    asked, items = test.asked, np.tile(test.new, (len(test.asked), 1))
    for seed in trial.seeds:
        for kind, own in told.items():
            model: Any = create(SYSTEM, **{**chosen, "head_films": 0.15, **own}).fit(test.train, seed=seed)
            p = model.probability(asked, items)
            saved[kind].append(-np.array([log_loss(test.table[:, f], p[:, f]) for f in range(len(test.new))]))
            facts[f"ECE, {kind}"] = expected_calibration_error(test.table.ravel(), p.ravel())
            facts[f"expected / went, {kind}"] = float(p.sum() / test.table.sum())
    return {f"log loss saved over {kind}": paired_gain(saved["all"], saved[kind], rng=rng, relative=False, **facts)
            for kind in told if kind != "all"}  # fmt: skip


CLAIM = Claim(
    name="cml_theatrical",
    title="A metric learnt from audiences finds the people of films that nobody has seen",
    statement="For films released after a cut, of which no event was seen, the learnt metric on plots, titles and genres ranks "
    "people better (mean AUC of a film) than the cosine of the same texts, plain CML, iALS factors regressed on the same "
    "texts, and itself with shuffled texts; the head on distance, frequency, recency and norm has a lower log loss than the "
    "distance alone and than frequency and recency alone.",
    bars={
        f"{what} on {name}": Bar(0.0)
        for name in DATA
        for what in (
            *(f"film AUC over {over}" for over in ("text", "free", "regressed", "shuffled")),
            "log loss saved over the distance alone",
            "log loss saved over frequency and recency",
        )
    },
    run=run,
    data=("ml-1m", "redial", "synthetic world"),
    paper=61,
    seeds=(0, 1, 2),
    minutes=60,
)
