"""AW-MoE: a gate of experts that reads what people did, and what a contrast of gates does for short histories (paper 15).

In the made world people are of four types, each with a preference of its own over price, brand and rating, which only what
they did shows; half of them did three things or fewer. People of the test part are new. In its control all types share one
preference. Category-MoE, the predecessor, weighs experts by brand there; there is no brand above it, so its hierarchy is idle.

On Amazon Beauty a person's next purchase stands beside one item drawn uniformly from those never bought: a scheme that makes
every ranker look strong, so only differences count. Category-MoE has the finest and the top category there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.errors import DataError
from palate.runtime import generator
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import gain_beyond, paired_gain
from palate.study.rows import tune_ranker

TYPES, BRANDS, ITEMS, SHOWN, LONGEST = 4, 6, 400, 20, 30
#: People of each part of the made world, and people of Amazon Beauty.
PEOPLE, BUYERS = {"train": 3_000, "valid": 500, "test": 2_000}, 10_000
THIN = 3
TRIALS = 4
SHARED: dict[str, Any] = {"epochs": 15, "patience": 2, "batch_size": 512, "dim": 8}
#: All arms search these; those of AW-MoE also how events are pooled and what the contrast weighs, with no more trials.
SPACE = {"lr": Range(1e-3, 1e-2, log=True), "embedding_reg": Range(1e-6, 1e-2, log=True), "dropout": Range(0.0, 0.3)}
POOL = {"pool": Range(choices=("sum", "mean", "softmax"))}
CATEGORIES = {"hierarchy": Range(1e-3, 1.0, log=True), "disagreement": Range(1e-3, 0.1, log=True), "kept": Range(1, 3)}
CONTRAST = {"contrast": Range(0.01, 1.0, log=True), "drop_events": Range(0.1, 0.6)}
AW: dict[str, Any] = {"experts": 4, "source": 16, "hidden": (32, 16), "attention_hidden": (16,), "gate_hidden": (16,)}
READS = {"AW-MoE", "no contrast", "input gate", "Category-MoE", "DIN"}
#: Within how many points of AUC two arms are alike.
ALIKE = 0.005
#: Arm: system, its settings, its space.
ARMS: dict[str, tuple[str, dict[str, Any], dict[str, Range]]] = {
    "AW-MoE": ("aw_moe", AW, SPACE | POOL | CONTRAST),
    "no contrast": ("aw_moe", {**AW, "contrast": 0.0}, SPACE | POOL),
    "input gate": ("aw_moe", {**AW, "contrast": 0.0, "gate": "input"}, SPACE),
    "Category-MoE": ("aw_moe", {**AW, "contrast": 0.0, "gate": "category"}, SPACE | CATEGORIES),
    "DIN": ("din", {"attention_hidden": (16,)}, SPACE | {"softmax": Range(choices=(False, True))}),
    "MMoE": ("mmoe", {"experts": 4, "tower": ()}, SPACE),
    "DNN": ("mlp", {}, SPACE),
}
#: Parameters beside vectors may differ by this share from those of AW-MoE.
SAME = 0.05


@dataclass(frozen=True)
class Data:
    """Rows of each part with the column ``person`` beside features; which columns are history, target and categories."""

    parts: Mapping[str, Rows]
    history: tuple[str, ...]
    target: tuple[str, ...]
    category: tuple[str, ...]
    top: tuple[str, ...] = ()
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def people(self) -> np.ndarray:
        """``int64[n]``: the person of each test row, from 0 on, in order."""
        names = np.array(self.parts["test"].features.column("person").to_pylist())
        found: np.ndarray = np.cumsum(np.append(False, names[1:] != names[:-1]))
        return found


def preferences(price: np.ndarray, brand: np.ndarray, rating: np.ndarray, *, alike: bool) -> np.ndarray:
    """Return ``float64[types, items]``: what each type likes, with mean 0 and spread 1 over items."""
    found = np.stack(
        [
            rating - price,
            np.where(brand < 2, price, -price),
            -4 * np.abs(price - 0.5) + rating * (brand % 2),
            np.sign(price - 0.5) * np.sign(rating - 0.5) + 0.5 * (brand == 5),
        ]
    )
    found = (found - found.mean(1, keepdims=True)) / found.std(1, keepdims=True)
    return np.repeat(found[3:], TYPES, 0) if alike else found


def made(people: Mapping[str, int], *, alike: bool, seed: int = 0) -> Data:
    """Return the made world."""
    rng = generator(seed, "made types of people")
    price, rating, brand = rng.random(ITEMS), rng.random(ITEMS), rng.integers(BRANDS, size=ITEMS)
    liked = preferences(price, brand, rating, alike=alike)
    parts, first, kinds = {}, 0, np.empty(0, np.int64)
    for part, n in people.items():
        kinds = rng.integers(TYPES, size=n)
        lengths = np.minimum(LONGEST, np.floor((1 - rng.random(n)) ** -2.0)).astype(int)
        chances = np.exp(1.5 * liked)
        chances /= chances.sum(1, keepdims=True)
        did = [rng.choice(ITEMS, size=t, p=chances[kind]) for t, kind in zip(lengths, kinds, strict=True)]
        person, item = np.repeat(np.arange(n), SHOWN), rng.integers(ITEMS, size=n * SHOWN)
        logit = 2 * liked[kinds[person], item] - 0.5
        click = (rng.random(len(item)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        columns = {
            "person": _names(first + person),
            "item": _names(item),
            "brand": _names(brand[item]),
            "price": price[item],
            "rating": rating[item],
            "history": [_names(did[p]) for p in person],
            "brands": [_names(brand[did[p]]) for p in person],
            "done": lengths[person],
        }
        parts[part], first = Rows(pa.table(columns), {"click": click}), first + n
    return Data(parts, ("history", "brands"), ("item", "brand"), ("brand",), facts={"kind": kinds, "done": lengths})


def beauty(trial: Trial) -> Data:
    """Return Amazon Beauty: before each purchase what was bought; the last one is the test, the one before the validation."""
    dataset = trial.dataset("amazon-beauty")
    attributes = dataset.items.attributes
    if attributes is None:
        raise DataError("the items have no attributes.", where="amazon-beauty", remedy="put items.tsv there")
    lists = [own or ["none"] for own in attributes.column("attribute_ids").to_pylist()]
    brand, top, category = (np.array([own[min(at, len(own) - 1)] for own in lists]) for at in (0, 1, 9))
    rng = generator(0, "buyers")
    lines: dict[str, list[tuple[int, np.ndarray, int, float]]] = {"train": [], "valid": [], "test": []}
    for person in np.sort(rng.permutation(dataset.n_users)[:BUYERS]):
        bought = dataset.histories.items[slice(*dataset.histories.offsets[person : person + 2])]
        for back in range(1, 5):  # the last purchase, the one before, and two to learn from
            part = {1: "test", 2: "valid"}.get(back, "train")
            if back < len(bought):
                before = bought[: len(bought) - back][-LONGEST:]
                other = int(rng.choice(np.setdiff1d(rng.integers(dataset.n_items, size=len(bought) + 8), bought)))
                lines[part] += [(person, before, int(bought[-back]), 1.0), (person, before, other, 0.0)]
    parts = {}
    for part, own in lines.items():
        item = np.array([i for _, _, i, _ in own])
        columns = {
            "person": [str(p) for p, _, _, _ in own],
            "item": _names(item),
            "brand": brand[item],
            "category": category[item],
            "top": top[item],
            "history": [_names(before) for _, before, _, _ in own],
            "brands": [brand[before].tolist() for _, before, _, _ in own],
            "categories": [category[before].tolist() for _, before, _, _ in own],
        }
        parts[part] = Rows(pa.table(columns), {"click": np.array([y for *_, y in own], np.float32)})
    done = np.array([len(before) for _, before, _, y in lines["test"] if y])
    what = ("item", "brand", "category")
    return Data(parts, ("history", "brands", "categories"), what, ("category",), ("top",), {"done": done})


def _names(numbers: np.ndarray) -> list[str]:
    return [str(number) for number in numbers]


def per_person(truth: np.ndarray, predicted: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Return ``float64[people]``: each person's AUC, NaN with one class only."""
    bounds = np.flatnonzero(np.diff(people, prepend=-1, append=people[-1] + 1))
    found = np.full(len(bounds) - 1, np.nan)
    for at, (start, stop) in enumerate(pairwise(bounds)):
        yes = truth[start:stop] > 0.5
        gap = predicted[start:stop][yes][:, None] - predicted[start:stop][~yes]
        if gap.size:
            found[at] = (gap > 0).mean() + 0.5 * (gap == 0).mean()
    return found


def base_of(arm: str, data: Data, small: Rows, reduced: bool) -> dict[str, Any]:
    """Return what an arm keeps fixed: its columns, and as many parameters beside vectors as AW-MoE has."""
    system, own, _ = ARMS[arm]
    base = {**SHARED, **own, **({"epochs": 2, "batch_size": 128, "dim": 4} if reduced else {})}
    aw = system == "aw_moe"
    base["leave_out"] = ("done",) if aw else ("done", "person")
    if arm in READS:
        base |= {"history": data.history, "target": data.target, "history_length": LONGEST}
    if own.get("gate") == "category":
        base |= {"category": data.category, "top_category": data.top}
    if aw:
        return {**base, "person": "person"}
    wanted = parameters("aw_moe", base_of("AW-MoE", data, small, reduced), small)
    low, high = 2, 512
    while low < high:  # the widest network with no more parameters
        middle = (low + high + 1) // 2
        fits = parameters(system, {**base, "hidden": (middle, max(1, middle // 2))}, small) <= wanted * (1 + SAME / 2)
        low, high = (middle, high) if fits else (low, middle - 1)
    base["hidden"] = (low, max(1, low // 2))
    share = parameters(system, base, small) / wanted
    if not reduced and abs(share - 1) > SAME:
        raise DataError("an arm has not as many parameters as AW-MoE.", where=arm, value=share)
    return base


def parameters(system: str, settings: Mapping[str, Any], small: Rows) -> int:
    """Return how many parameters a system has beside the vectors of values."""
    model = create(system, **{**settings, "epochs": 0}).fit(small)
    return sum(p.numel() for name, p in model.net_.named_parameters() if not name.endswith("table.table"))


def answers(
    trial: Trial, name: str, data: Data, arm: str, seeds: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return each test person's AUC ``float64[seeds, people]``, mean gates ``float64[seeds, people, k]``, and settings."""
    system, _, space = ARMS[arm]
    train, valid, test = (data.parts[part] for part in ("train", "valid", "test"))
    base = base_of(arm, data, train.slice(0, 200), trial.reduced)
    found = tune_ranker(
        train,
        valid,
        system,
        trials=1 if trial.reduced else TRIALS,
        seed=trial.seeds[0],
        space=space,
        base=base,
        progress=trial.progress,
        kept=lambda make, key: trial.kept(make, part="tuning", rows=name, arm=arm, **key),
    )
    tuned = {key: found.settings[key] for key in space if key in found.settings}

    def one(seed: int) -> list[np.ndarray]:
        model = create(system, **{**base, **tuned}).fit(train, valid, seed=seed, progress=trial.progress)
        own = per_person(test.labels["click"], model.predict(test).values[:, 0], data.people)
        if system != "aw_moe":
            return [own, np.zeros((len(own), 1))]
        gates = model.gates(test)
        counts = np.bincount(data.people)
        return [own, np.stack([np.bincount(data.people, gate) / counts for gate in gates.T], 1)]

    each = [trial.kept(partial(one, s), part="fit", rows=name, arm=arm, settings=tuned, seed=s) for s in seeds]
    return np.stack([e[0] for e in each]), np.stack([e[1] for e in each]), tuned


def rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Return the adjusted Rand index of two groupings (Hubert and Arabie 1985): 0 by chance, 1 where they are the same."""
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    pairs = [(x * (x - 1) / 2).sum() for x in (table, table.sum(1), table.sum(0))]
    chance = pairs[1] * pairs[2] / (len(first) * (len(first) - 1) / 2)
    return float((pairs[0] - chance) / ((pairs[1] + pairs[2]) / 2 - chance))


def gates_against_types(gates: np.ndarray, kinds: np.ndarray, known: np.ndarray, resamples: int) -> Effect:
    """Return how well groups of gates are the types of people, a mean over seeds; of the people in ``known``."""
    from scipy.cluster.vq import kmeans2

    scaled = (gates - gates.mean(1, keepdims=True)) / np.maximum(gates.std(1, keepdims=True), 1e-9)
    groups = [kmeans2(own[known], TYPES, minit="++", rng=generator(0, "groups", at))[1] for at, own in enumerate(scaled)]
    truth, rng = kinds[known], generator(0, "bootstrap")
    drawn = [rng.integers(len(truth), size=len(truth)) for _ in range(resamples)]
    values = [[rand_index(own[rows], truth[rows]) for own in groups] for rows in drawn]
    low, high = np.percentile(np.mean(values, 1), [2.5, 97.5])
    each = [rand_index(own, truth) for own in groups]
    return Effect(float(np.mean(each)), float(low), float(high), {"by seed": each, "people": len(truth)})


def run(trial: Trial) -> Mapping[str, Effect]:
    """Tune each arm on validation, fit it with every seed, open the test rows once."""
    people = {part: n // 25 for part, n in PEOPLE.items()} if trial.reduced else PEOPLE
    worlds = {name: made(people, alike=name == "alike") for name in ("types", "alike")}
    real = made(people, alike=False, seed=1) if trial.reduced else beauty(trial)
    for name, data in {**worlds, "Beauty": real}.items():
        trial.fingerprints[name] = fingerprint({part: fingerprint(rows.features) for part, rows in data.parts.items()})
    few = trial.seeds[:3]
    found, gates, chosen = {}, {}, {}
    for arm in ARMS:
        seeds = trial.seeds if arm in ("AW-MoE", "no contrast") else few
        found[arm], gates[arm], chosen[arm] = answers(trial, "types", worlds["types"], arm, seeds)
    alike = {arm: answers(trial, "alike", worlds["alike"], arm, few) for arm in ("AW-MoE", "DIN")}
    bought = {arm: answers(trial, "Beauty", real, arm, few) for arm in ("AW-MoE", "no contrast", "Category-MoE", "DIN", "DNN")}
    return {
        **made_effects(trial, found, gates, chosen, worlds["types"].facts),
        **alike_effects(found, alike),
        **bought_effects(bought, real),
    }


def made_effects(
    trial: Trial,
    found: Mapping[str, np.ndarray],
    gates: Mapping[str, np.ndarray],
    chosen: Mapping[str, Any],
    facts: Mapping[str, np.ndarray],
) -> dict[str, Effect]:
    """Return the effects of the world of types."""
    effects = {
        f"types: AUC of {better} over {worse}": _gain(found, better, worse, **_facts(found, chosen, at == 0))
        for at, (better, worse) in enumerate(PAIRS)
    }
    thin, resamples = facts["done"] <= THIN, 20 if trial.reduced else 500
    sides, rng = (list(found["AW-MoE"]), list(found["no contrast"])), generator(0, "bootstrap")
    effects["types: AUC by the contrast, few events"] = _gain(found, "AW-MoE", "no contrast", rows=thin)
    effects["types: AUC by the contrast, few events less many"] = gain_beyond(*sides, thin, rng=rng)
    for name, known in ((GROUPS_KNOWN, ~thin), (GROUPS_ALL, np.ones(len(thin), bool))):
        effects[name] = gates_against_types(gates["AW-MoE"], facts["kind"], known, resamples)
    return effects


def alike_effects(found: Mapping[str, np.ndarray], alike: Mapping[str, Any]) -> dict[str, Effect]:
    """Return how far AW-MoE and DIN lie apart where all types like the same, and how much farther where they don't."""
    own, settings = {arm: x[0] for arm, x in alike.items()}, {arm: x[2] for arm, x in alike.items()}
    pooled = {arm: np.concatenate([found[arm][: len(own[arm])], own[arm]], 1) for arm in own}
    apart = np.arange(pooled["DIN"].shape[1]) < found["DIN"].shape[1]
    sides, rng = (list(pooled["AW-MoE"]), list(pooled["DIN"])), generator(0, "bootstrap")
    return {
        GAIN_ALIKE: _gain(own, "AW-MoE", "DIN", **_facts(own, settings, True)),
        "AUC of AW-MoE over DIN: types less alike": gain_beyond(*sides, apart, rng=rng),
    }


def bought_effects(bought: Mapping[str, Any], real: Data) -> dict[str, Effect]:
    """Return the effects on Amazon Beauty."""
    own, settings = {arm: x[0] for arm, x in bought.items()}, {arm: x[2] for arm, x in bought.items()}
    short = real.facts["done"] <= np.quantile(real.facts["done"], 1 / 3)
    return {
        "Beauty: AUC of AW-MoE over DIN": _gain(own, "AW-MoE", "DIN", **_facts(own, settings, True)),
        "Beauty: AUC of DIN over DNN": _gain(own, "DIN", "DNN"),
        "Beauty: AUC of AW-MoE over Category-MoE": _gain(own, "AW-MoE", "Category-MoE"),
        "Beauty: AUC by the contrast, shortest third": _gain(own, "AW-MoE", "no contrast", rows=short),
    }


GAIN_ALIKE = "alike: AUC of AW-MoE over DIN"
GROUPS_KNOWN = f"types: groups of gates are types, people of over {THIN} events (adjusted Rand index)"
GROUPS_ALL = "types: groups of gates are types, all people (adjusted Rand index)"
#: Better, and than which, in the made world.
PAIRS = (("AW-MoE", "DIN"), ("DIN", "DNN"), ("AW-MoE", "MMoE"), ("AW-MoE", "input gate"), ("AW-MoE", "Category-MoE"))


def _gain(found: Mapping[str, np.ndarray], better: str, worse: str, *, rows: Any = slice(None), **details: Any) -> Effect:
    one, other = (list(found[arm][:, rows]) for arm in (better, worse))
    return paired_gain(one, other, rng=generator(0, "bootstrap"), relative=False, **details)


def _facts(found: Mapping[str, np.ndarray], chosen: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    """Return each arm's AUC, its spread over seeds, and settings, for the first effect of some data."""
    if not wanted:
        return {}
    each = {arm: np.nanmean(own, 1) for arm, own in found.items()}
    spread = {arm: float(own.std(ddof=1)) if len(own) > 1 else None for arm, own in each.items()}
    return {"arms": {arm: {"AUC": float(own.mean()), "sd": spread[arm], **chosen[arm]} for arm, own in each.items()}}


CLAIM = Claim(
    name="aw_moe",
    title="AW-MoE: a gate of what people did, which groups those of over three events by type; a contrast for short histories",
    statement="Where types of people differ in taste, AW-MoE has a higher AUC within people than DIN, and DIN than a DNN, at "
    "the same number of parameters, AW-MoE also than MMoE, than its own experts under a gate of their input, and than "
    "Category-MoE; where all like the same, AW-MoE and DIN (tuned there too) lie within 0.005 of each other, and the lead is "
    "larger where types differ; the contrast helps people of three events or fewer, and more than others; groups of gates are "
    "the types, with an adjusted Rand index over 0.3 for people of more than three events and over 0.1 for all people. On "
    "Amazon Beauty AW-MoE is above DIN and Category-MoE, DIN above a DNN, and the contrast helps short histories.",
    bars={
        **{f"types: AUC of {better} over {worse}": Bar(0.0) for better, worse in PAIRS},
        GAIN_ALIKE: Bar(-ALIKE, below=ALIKE),
        "AUC of AW-MoE over DIN: types less alike": Bar(0.0),
        "types: AUC by the contrast, few events": Bar(0.0),
        "types: AUC by the contrast, few events less many": Bar(0.0),
        GROUPS_KNOWN: Bar(0.3),
        GROUPS_ALL: Bar(0.1),
        "Beauty: AUC of AW-MoE over DIN": Bar(0.0),
        "Beauty: AUC of DIN over DNN": Bar(0.0),
        "Beauty: AUC of AW-MoE over Category-MoE": Bar(0.0),
        "Beauty: AUC by the contrast, shortest third": Bar(0.0),
    },
    run=run,
    data=("amazon-beauty",),
    paper=15,
    seeds=(0, 1, 2, 3, 4),
    minutes=25,
)
