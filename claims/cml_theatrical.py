"""Who goes to films that nobody has seen: a learnt metric against text, CML with features, two towers, regressed factors.

Films are cut by release: those before the cut train, those of the next year set what every arm may choose (as many tries for
each), and those after it are asked about. No event of a film after the cut is seen by anything that learns, nor is its text by
the vectoriser. The learnt metric has two forms, CML with text and the probability end to end; the one that does better on the
year before is asked. Systems of events alone give all people one score for such a film, whatever their settings, as plain CML
does but for the people's own places: they stand in the table, and no bar is set against them. Of MovieLens a third of the
people are taken, drawn at random: films are what is resampled, and a fit takes a third of the time.

MovieLens 1M comes without times, so weeks (and recency) matter in the made-up season alone, which has the oracle too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from palate.catalog.registry import create
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.features import learn_schema
from palate.data.filters import subset_users
from palate.data.protocols import split as cut
from palate.data.public.redial_plots import known_plots, title_key
from palate.evaluation.metrics.predictive import auc
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.texts import ItemTexts, item_texts
from palate.retrieval.tokens import tokens
from palate.runtime import generator
from palate.simulate.releases import DAY, START, releases
from palate.study.claims import Bar, Claim, Effect, Trial, beside
from palate.study.effects import paired_gain
from palate.study.evaluate import evaluate
from palate.study.tune import blind, tune

_heads = beside(__file__, "_cml_theatrical_heads")
tiers, heads = _heads.tiers, _heads.heads

SYSTEM, CUT, LEAST, PEOPLE = "cml_theatrical", 1999, 10, 2_000
BASE: dict[str, Any] = {"head_films": 0.0, "lr": 5e-3, "half_life": 0.0}
#: System, what an arm begins with, and what it may choose.
ARMS: dict[str, tuple[str, dict[str, Any], dict[str, tuple[float, ...]]]] = {
    "hybrid": (SYSTEM, BASE, {"margin": (0.3, 1.0), "epochs": (3, 8)}),
    "end to end": (SYSTEM, {**BASE, "places": "text", "loss": "logistic"}, {"lr": (2e-3, 5e-3), "epochs": (3, 8)}),
    "free": (SYSTEM, {**BASE, "places": "free"}, {"margin": (0.3, 1.0), "epochs": (3, 8)}),
    "features": ("cml", {}, {"margin": (0.3, 1.0), "feature_weight": (0.1, 1.0), "epochs": (4, 8)}),
    "two towers": ("two_tower", {"user_attributes": False}, {"use_ids": (False, True), "epochs": (3, 8)}),
    "regressed": ("ials", {}, {"ridge": (0.3, 3.0, 30.0, 300.0), "dim": (32, 64)}),
}
FORMS = ("hybrid", "end to end")
#: What the learnt metric is held against by the AUC of films.
OVER = ("text", "features", "two towers", "regressed", "shuffled")
OTHERS = ("ease", "ials", "item_knn", "popularity")
DATA, FREE = ("ml-1m", "world"), "lastfm-hetrec-2k"
#: What both of these stop by: 20 passes without gain, once clearly above popularity. No other arm stops by itself.
STOPS = {"epochs": 150, "patience": 20}
#: How much of the gain over text shuffled texts may keep, and tries of plain CML and BPR-MF.
NOTHING, TRIALS = 0.02, 4


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
        return np.asarray(self.went[self.asked.users])


def season(data: Dataset, released: np.ndarray, start: float, stop: float, oracle: np.ndarray | None = None) -> Season:
    """Return the data cut so that films released from ``start`` on, before ``stop``, are new; later ones don't exist."""
    events, counts = data.interactions, data.item_counts
    new = np.flatnonzero((released >= start) & (released < stop) & (counts >= LEAST)).astype(np.int32)
    old = released[events.item] < start
    if events.time is not None:  # days since the first one: nothing that came after the cut
        old &= events.time < START + DAY * start
    train = data.derive({"step": "released before", "start": start}, interactions=events.take(np.flatnonzero(old)))
    went = np.asarray(data.matrix()[:, new].toarray() > 0)
    return Season(train, new, went, None if oracle is None else oracle[:, new])


def movies(trial: Trial) -> tuple[Dataset, np.ndarray]:
    """Return MovieLens 1M with the year out of the title, plots where they are known by title and year, and the years."""
    data = subset_users(trial.dataset("ml-1m"), PEOPLE)
    table, plots = data.items.attributes, known_plots()
    assert table is not None
    keys = [title_key(str(title)) for title in table.column("title").to_pylist()]
    texts = [next((plots[name, y] for y in (year, year - 1, year + 1) if (name, year and y) in plots), None)
             for name, year in keys]  # fmt: skip
    plain = [re.sub(r"\s*\(\d{4}\)\s*$", "", str(title)) for title in table.column("title").to_pylist()]
    columns = {"title": plain, "plot": pa.array(texts, pa.string()), "categories": table.column("categories")}
    items = Entities(data.items.ids, pa.table(columns))
    return data.derive({"step": "plots"}, items=items), np.array([year for _, year in keys], float)


def seasons(trial: Trial, name: str) -> tuple[Season, Season]:
    """Return the season that chooses settings, and the one that is asked about."""
    if name == "ml-1m" and not trial.reduced:
        data, year = movies(trial)
        return season(data, year, CUT, CUT + 1), season(data, year, CUT + 1, np.inf)
    data, day, oracle = releases(*((400, 120) if trial.reduced else (4_000, 900)))
    trial.used("world", data)
    early, late = np.quantile(day, 0.75), np.quantile(day, 0.87)
    return season(data, day, early, late, oracle), season(data, day, late, np.inf, oracle)


def scores(model: Any, asked: Season) -> np.ndarray:
    """Return ``float32[asked, new]``, in blocks of people."""
    parts = [model.score(block, np.tile(asked.new, (len(block), 1))) for block in asked.asked.blocks(4096)]
    return np.asarray(np.concatenate(parts))


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


def regressed(asked: Season, seed: int, *, ridge: float, **own: Any) -> np.ndarray:
    """Return scores by iALS factors of films, regressed (ridge) on text and genres for the new ones."""
    model = create("ials", **own).fit(asked.train, seed=seed)
    old, x = asked.train.item_counts > 0, described(asked).astype(float)
    gram = x[old].T @ x[old] + ridge * np.eye(x.shape[1])
    new = x[asked.new] @ np.linalg.solve(gram, x[old].T @ model.item_vectors[old])
    return np.asarray(model.request_vectors(asked.asked) @ new.T)


def per_film(asked: Season, found: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the AUC of each new film over people (all, or some rows)."""
    return np.array([auc(asked.table[rows, f], found[rows, f]) for f in range(len(asked.new))])


def by_genre(asked: Season) -> np.ndarray:
    """Return how many of a person's films are of a genre of each new film."""
    genres = described(asked, only_genres=True) > 0
    shared = (genres.astype(np.float32) @ genres[asked.new].T.astype(np.float32) > 0).astype(np.float32)
    return np.asarray(asked.train.matrix()[asked.asked.users] @ shared)


def within(asked: Season, found: np.ndarray) -> float:
    """Return the mean AUC over new films of each person who went to some and not to all."""
    rows = np.flatnonzero(asked.table.any(1) & ~asked.table.all(1))
    return float(np.mean([auc(asked.table[u], found[u]) for u in rows]))


def recall(asked: Season, found: np.ndarray, k: int = 20) -> np.ndarray:
    """Return each person's Recall@k among the new films (NaN for somebody who went to none)."""
    top = np.argsort(-found, axis=1, kind="stable")[:, :k]
    went = asked.table.sum(1)
    return np.asarray(np.take_along_axis(asked.table, top, 1).sum(1) / np.where(went > 0, went, np.nan))


def near_oracle(asked: Season, found: np.ndarray) -> np.ndarray:
    """Return the rank correlation with the oracle over people, of each new film."""
    assert asked.oracle is not None
    truth = asked.oracle[asked.asked.users]
    return np.array([spearmanr(found[:, f], truth[:, f]).statistic for f in range(len(asked.new))])


def shuffled(asked: Season) -> Season:
    """Return the season with the texts and genres dealt out anew among films."""
    items = asked.train.items
    assert items.attributes is not None
    table = items.attributes.take(pa.array(generator(0, "shuffled").permutation(len(items))))
    train = asked.train.derive({"step": "shuffled"}, items=Entities(items.ids, table))
    return Season(train, asked.new, asked.went, asked.oracle)


def answer(asked: Season, arm: str, own: Mapping[str, Any], seed: int) -> np.ndarray:
    """Fit an arm and return its scores of people for the new films."""
    if arm == "regressed":
        return regressed(asked, seed, **own)
    table = asked.train.items.attributes
    assert table is not None
    told = {"features": tuple(table.column_names)} if arm == "features" else {}
    return scores(create(ARMS[arm][0], **own, **told).fit(asked.train, seed=seed), asked)


def chosen(trial: Trial, valid: Season, arm: str) -> tuple[dict[str, Any], float]:
    """Return the settings of an arm that do best on the films of the season before, and their mean AUC of a film."""
    system, base, grid = ARMS[arm]
    tries = [{**base, **dict(zip(grid, values, strict=True))} for values in product(*grid.values())]
    if trial.reduced:
        small: dict[str, Any] = {"dim": 8, "epochs": 4} | ({} if system == "ials" else {"batch_size": 256})
        small |= {} if system in ("ials", "two_tower") else {"hidden": 16}
        tries = [{**tries[0], **small, **({"text_dim": 32, "lr": 0.02} if system == SYSTEM else {})}]
    values = [float(np.nanmean(per_film(valid, answer(valid, arm, own, 0)))) for own in tries]
    return tries[int(np.argmax(values))], max(values)


def run(trial: Trial) -> Mapping[str, Effect]:
    """Choose settings on one season, answer the next with every seed and arm."""
    effects = {"Recall@20 of plain CML over BPR-MF": plain(trial)}
    for name in DATA:
        valid, test = seasons(trial, name)
        found = {arm: trial.kept(partial(chosen, trial, valid, arm), on=name, choose=arm) for arm in ARMS}
        form = max(FORMS, key=lambda arm: found[arm][1])
        own = {arm: settings for arm, (settings, _) in found.items()}
        effects |= {f"{what} on {name}": effect for what, effect in answers(trial, name, test, own, form).items()}
        effects |= {f"{what} on {name}": effect for what, effect in heads(trial, name, test, own[form]).items()}
    return {what: effects[what] for what in BARS}


def plain(trial: Trial) -> Effect:
    """Return how much better CML without text ranks than BPR-MF, both tuned alike, on events alone."""
    data = releases(150, 60)[0] if trial.reduced else trial.dataset(FREE)
    split = cut(data, "user_ratio", seed=0, valid=0.1, test=0.2, order="random")
    seen, metric = blind(split), "recall@20"

    def one(system: str) -> dict[str, Any]:
        base = {"epochs": 3, "dim": 8} if trial.reduced else STOPS
        tuned = tune(seen, system, trials=1 if trial.reduced else TRIALS, metric=metric, base=base).settings
        fits = [create(system, **tuned).fit(seen.train, seen.held_out("valid"), seed=seed) for seed in trial.seeds]
        values = [evaluate(m, split.held_out("test"), [metric], train=split.train).per_user[metric] for m in fits]
        return {"settings": dict(tuned), "values": values}

    found = {system: trial.kept(partial(one, system), on=FREE, system=system) for system in ("cml", "bpr_mf")}
    values, own = ({system: row[what] for system, row in found.items()} for what in ("values", "settings"))
    return paired_gain(values["cml"], values["bpr_mf"], rng=generator(0, "bootstrap", FREE), settings=own)


def answers(trial: Trial, name: str, test: Season, own: dict[str, dict[str, Any]], form: str) -> dict[str, Effect]:
    """Return the effects of one data set that are about order."""
    rng, mixed = generator(0, "bootstrap", name), shuffled(test)
    table = test.train.items.attributes
    assert table is not None
    fits = {arm: (test, arm, own[arm]) for arm in ARMS} | {"shuffled": (mixed, form, own[form])}
    if "title" in table.column_names:
        fits["no titles"] = (test, form, {**own[form], "texts": ("plot",)})
    found = {
        arm: [trial.kept(partial(answer, *what, seed), on=name, arm=arm, own=what[2], seed=seed) for seed in trial.seeds]
        for arm, what in fits.items()
    }
    found["learnt"], found["text"] = found[form], [by_text(test)]
    if "categories" in table.column_names:
        found["popularity by genre"] = [by_genre(test)]
    found["frequency"] = [np.repeat(test.train.histories.lengths[test.asked.users][:, None], len(test.new), 1).astype(float)]
    for other in OTHERS:
        model = create(other, **({"dim": 8} if trial.reduced and other == "ials" else {})).fit(test.train, seed=0)
        found[other] = [scores(model, test)]
    films = {arm: [per_film(test, rows) for rows in values] for arm, values in found.items()}
    people = {arm: [recall(test, rows) for rows in values] for arm, values in found.items()}
    extra: dict[str, Any] = {
        "metric": "AUC of a film over people, films resampled",
        "table": {arm: told(test, values, films[arm], people[arm]) for arm, values in found.items()},
        "settings": own,
        "form": form,
        "new": len(test.new),
        "with a plot": len(table.column("plot").take(pa.array(test.new)).drop_null()),
    }
    gain = partial(paired_gain, rng=rng, relative=False)
    effects = {f"film AUC over {over}": gain(films["learnt"], films[over], **extra)
               for over in OVER}  # fmt: skip
    effects["film AUC of text over shuffled texts"] = gain(films["text"], films["shuffled"])
    effects["Recall@20 over text"] = gain(people["learnt"], people["text"], metric="of people among the new films")
    if test.oracle is not None:
        ranks = {arm: [near_oracle(test, rows) for rows in found[arm]] for arm in ("learnt", "text", *FORMS)}
        means = {arm: float(np.nanmean(rows)) for arm, rows in ranks.items()}
        means["film AUC of the oracle"] = float(np.nanmean(per_film(test, test.oracle[test.asked.users])))
        effects["Spearman to the oracle"] = gain(ranks["learnt"], np.zeros(len(test.new)), means=means)
        effects["Spearman to the oracle over text"] = gain(ranks["learnt"], ranks["text"])
    return effects


def told(test: Season, values: list[np.ndarray], films: list[np.ndarray], people: list[np.ndarray]) -> dict[str, float]:
    """Return what stands in the table of an arm."""
    by_tier = {f"film AUC, {tier}": float(np.nanmean(per_film(test, values[0], rows))) for tier, rows in tiers(test).items()}
    whole = {"film AUC": float(np.nanmean(films)), "Recall@20": float(np.nanmean(people))}
    return {**whole, "within people": within(test, np.mean(values, axis=0)), **by_tier}


BARS = {
    "Recall@20 of plain CML over BPR-MF": Bar(-0.1),
    **{
        f"{what} on {name}": Bar(0.0)
        for name in DATA
        for what in (
            *(f"film AUC over {over}" for over in OVER),
            "Recall@20 over text",
            "log loss saved over the distance alone",
            "log loss saved over frequency and recency",
            "log loss saved by distance, regular over casual",
            "log loss saved by distance, regular over frequent",
        )
    },
    **{f"film AUC of text over shuffled texts on {name}": Bar(-NOTHING) for name in DATA},
    "Spearman to the oracle on world": Bar(0.8),
    "Spearman to the oracle over text on world": Bar(0.0),
    "ECE saved by negatives of the same weeks on world": Bar(0.0),
}

CLAIM = Claim(
    name="cml_theatrical",
    title="A metric learnt from audiences finds the people of films that nobody has seen",
    statement="For films released after a cut, of which no event was seen, the learnt metric on plots, titles and genres ranks "
    "people better (mean AUC of a film) than the cosine of the same texts, CML whose items are placed by a network of the same "
    "attributes, two towers on the same attributes, iALS factors regressed on the same texts, and itself with shuffled texts, "
    "which keep at most 0.02 of the gain over the cosine; its Recall@20 among the new films is higher than the cosine's. The "
    "head on distance, frequency, recency and norm has a lower log loss than the distance alone and than frequency and recency "
    "alone, and the distance saves most for the middle third of people by frequency. In a made-up season the rank correlation "
    "with an oracle is over 0.8 and higher than the cosine's, and negatives of the same weeks make the head's expected "
    "calibration error lower than even ones. Without text, CML has at least 90% of BPR-MF's Recall@20 on Last.FM. Plain CML "
    "and systems of events alone, which have no place for a film that nobody has seen, stand in the table without a bar.",
    bars=BARS,
    run=run,
    data=("ml-1m", "redial", FREE, "synthetic world"),
    paper=61,
    seeds=(0, 1, 2),
    minutes=50,
)
