"""SlateTS in a market of slates with known truth: which likelihood, which prior of items, which way of exploring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from palate.catalog.registry import create
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.runtime import generator
from palate.simulate.slates import SlateMarket
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import over_seeds

#: Popular items stand in most slates; each of the rarest in hundreds.
SKEWED: dict[str, Any] = {"users": 1000, "items": 300, "groups": 15, "no_click": -2.5, "skew": 1.0, "exploration": 0.1}
#: So skewed, and so few slates, that a good part of the catalogue is hardly ever shown.
SPARSE: dict[str, Any] = {**SKEWED, "users": 300, "skew": 2.0, "exploration": 1e-3}
STEPS, RARE, JUDGED = {"skewed": 20, "sparse": 10}, 5, 300
#: Both arms of a comparison choose among these by their own likelihood of people held out.
GRID = (0.01, 0.03, 0.1)
MODEL: dict[str, Any] = {"dim": 10, "dynamics": "linear", "epochs": 80, "valid": 0.1}

#: Repeated rounds: newcomers see slates of a policy that was fitted to all slates so far. Here even a good slate is often left
#: without a click (else all policies would soon earn one on nearly every slate).
EXPLORING: dict[str, Any] = {**SPARSE, "users": 200, "no_click": -0.5}
ROUNDS, PEOPLE, VISITS, FIRST, SLATE = 20, 100, 10, 2, 10
POLICY: dict[str, Any] = {"dim": 10, "dynamics": "linear", "epochs": 30, "valid": 0.0, "draws": 32, "smoothing": 0.0}
ARMS = ("greedy", "thompson", "in_slate")


@dataclass(frozen=True)
class Size:
    """What the reduced form makes smaller."""

    market: Mapping[str, Any]
    model: Mapping[str, Any]
    grid: tuple[float, ...] = GRID
    rounds: int = ROUNDS
    people: int = PEOPLE
    judged: int = JUDGED


def size_of(trial: Trial) -> Size:
    """Return the size of a run."""
    if trial.reduced:
        return Size(
            {"users": 40, "items": 60, "groups": 5, "skew": 3.0, "exploration": 1e-6}, {"epochs": 4}, GRID[:1], 2, 20, 20
        )
    return Size({}, {})


# -- what is learnt from a log ----------------------------------------------------------------------------------------------


def rank_errors(policy: Any, market: SlateMarket, data: Dataset, judged: int) -> np.ndarray:
    """Return ``float64[items]``: how far an item's rank is from its true one, as a mean over people, over items.

    Ranks are by distance from the person's state after all that was clicked. Random ranks have a mean of a third. The mean over
    items is Spearman's footrule over the number of items.
    """
    people = np.flatnonzero(data.histories.lengths > 0)[:judged]
    requests, n = Requests.of_users(data, people, exclude_seen=False), market.config.items
    found = policy.act(requests, n, generator(0, "judge")).items.argsort(axis=1)
    far = np.linalg.norm(market.states[people][:, None] - market.vectors, axis=2)
    errors: np.ndarray = np.abs(found - far.argsort(axis=1).argsort(axis=1)).mean(axis=0) / n
    return errors


def learnt(market: SlateMarket, data: Dataset, arm: Mapping[str, Any], size: Size, seed: int) -> dict[str, Any]:
    """Fit an arm with every T of the grid; return rank errors of the one chosen, and what it is like."""
    settings = {**MODEL, **size.model, **arm, "strategy": "greedy"}
    fits = [create("slate_thompson", **{**settings, "tempering": t}).fit(data, seed=seed) for t in size.grid]
    values = [float(policy.record_.notes["round 1"]["best_value"]) for policy in fits]
    best = int(np.argmax(values))
    errors = rank_errors(fits[best], market, data, size.judged)
    scales = fits[best].posterior_scales()
    return {"errors": errors, "shown": fits[best].shown_, "tempering": size.grid[best], "scales": scales}


def compared(trial: Trial, name: str, settings: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what every arm learnt with every seed, on the same logs."""
    size = size_of(trial)
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for seed in trial.seeds:
        market = SlateMarket(**{**settings, **size.market, "seed": seed})
        data = trial.used(f"{name} market, seed {seed}", market.log(STEPS[name]))
        for arm, own in arms.items():
            make = partial(learnt, market, data, own, size, seed)
            found[arm].append(trial.kept(make, part=name, arm=arm, seed=seed))
    return found


# -- exploring --------------------------------------------------------------------------------------------------------------


def explored(size: Size, strategy: str, seed: int) -> dict[str, Any]:
    """Let a policy show slates in repeated rounds; return clicks a slate and distances within slates, round by round."""
    market = SlateMarket(**{**EXPLORING, **size.market, "seed": seed})
    first = market.log(FIRST)
    table = [[column] for column in columns(first)]
    clicks, distances, scales = [], [], []
    for number in range(size.rounds):
        data = market.dataset(*(np.concatenate(part) for part in table))
        policy = create("slate_thompson", **{**POLICY, **size.model, "strategy": strategy}).fit(data, seed=seed)
        scales.append(policy.posterior_scales())
        shown = visits(market, policy, size.people, number, seed)
        clicks.append(float((shown[3] > 0).mean()))
        distances.append(within(market.vectors, shown[1]))
        offset = (number + 1) * 10**6  # newcomers are people of their own
        for part, column in zip(table, (shown[0] + offset, *shown[1:]), strict=True):
            part.append(column)
    return {"clicks": np.array(clicks), "distances": np.array(distances), "scales": [scales[0], scales[-1]]}


def columns(data: Dataset) -> list[np.ndarray]:
    """Return users, slates, propensities and places clicked of a data set of slates of one length."""
    table = data.impressions
    assert table is not None
    wide = {name: table.column(name).to_numpy().reshape(-1, SLATE) for name in ("user", "item", "propensity", "click")}
    clicked = np.where(wide["click"].any(1), wide["click"].argmax(1) + 1, 0)
    return [wide["user"][:, 0], wide["item"], wide["propensity"].astype(float), clicked]


def visits(market: SlateMarket, policy: Any, people: int, number: int, seed: int) -> list[np.ndarray]:
    """Return users, slates, propensities and clicks of newcomers who see slates of a policy; a person's rows stand together."""
    users, rng = market.newcomers(people, number), generator(seed, "visits", number)
    histories: list[list[int]] = [[] for _ in range(people)]
    parts = []
    for _ in range(VISITS):
        slates = policy.act(Requests.of_histories(histories, exclude_seen=False), SLATE, rng)
        clicked = market.show(users, slates.items, rng)
        for row in np.flatnonzero(clicked):
            histories[row].append(int(slates.items[row, clicked[row] - 1]))
        parts.append((users, slates.items, slates.propensities, clicked))
    stacked = [np.stack(column, 1) for column in zip(*parts, strict=True)]
    return [column.reshape(people * VISITS, *column.shape[2:]) for column in stacked]


def within(vectors: np.ndarray, slates: np.ndarray) -> float:
    """Return the mean true distance between two items of a slate."""
    shown = vectors[slates]
    far = np.linalg.norm(shown[:, :, None] - shown[:, None], axis=3)
    k = slates.shape[1]
    return float(far.sum() / (len(slates) * k * (k - 1)))


# -- the claim --------------------------------------------------------------------------------------------------------------


def run(trial: Trial) -> Mapping[str, Effect]:
    """Run the three comparisons."""
    size = size_of(trial)
    skewed = compared(trial, "skewed", SKEWED, {"slate": {}, "unicand": {"likelihood": "unicand"}})
    footrule = {arm: np.array([f["errors"].mean() for f in found]) for arm, found in skewed.items()}
    sparse = compared(trial, "sparse", SPARSE, {"hier": {}, "flat": {"items": "flat"}})
    rare: dict[str, np.ndarray] = {}
    for arm, found in sparse.items():
        kept = [f["errors"][f["shown"] < RARE] for f in found]
        rare[arm] = np.array([k.mean() if len(k) else np.nan for k in kept])
    if not np.isfinite(rare["hier"]).all():
        raise DataError("a market has no rare item.", where="sparse market", remedy="make exposure more skewed")
    numbers = [int((f["shown"] < RARE).sum()) for f in sparse["hier"]]
    runs = {
        arm: [trial.kept(partial(explored, size, arm, seed), part="exploring", arm=arm, seed=seed) for seed in trial.seeds]
        for arm in ARMS
    }
    clicks = {arm: np.array([r["clicks"].mean() for r in own]) for arm, own in runs.items()}
    far = {arm: np.array([r["distances"].mean() for r in own]) for arm, own in runs.items()}
    told = {
        arm: {
            "clicks a slate": clicks[arm].mean(),
            "by round": np.mean([r["clicks"] for r in own], axis=0).round(4).tolist(),
            "distance within slates": far[arm].mean(),
            "posterior scales, first and last round": own[0]["scales"],
        }
        for arm, own in runs.items()
    }
    return {
        "gain in footrule of the slate likelihood": over_seeds(1 - footrule["slate"] / footrule["unicand"], **facts(skewed)),
        "gain in rank error of groups, rare items": over_seeds(1 - rare["hier"] / rare["flat"], rare=numbers, **facts(sparse)),
        "clicks: Thompson over greedy": over_seeds(clicks["thompson"] / clicks["greedy"] - 1, arms=told),
        "clicks: in-slate over greedy": over_seeds(clicks["in_slate"] / clicks["greedy"] - 1),
        "clicks: in-slate over Thompson": over_seeds(clicks["in_slate"] / clicks["thompson"] - 1),
        "distance within slates: in-slate over Thompson": over_seeds(far["in_slate"] / far["thompson"] - 1),
        "distance within slates: 0.1 less the gap of Thompson and greedy": over_seeds(
            0.1 - np.abs(far["thompson"] / far["greedy"] - 1)
        ),
    }


def facts(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what each arm is like, for the details of an effect."""
    return {
        arm: {
            "footrule by seed": [round(float(f["errors"].mean()), 4) for f in own],
            "tempering": [f["tempering"] for f in own],
            "posterior scales": own[0]["scales"],
        }
        for arm, own in found.items()
    }


CLAIM = Claim(
    name="slate_thompson",
    title="SlateTS: what was shown, groups of items, and exploring within a slate",
    statement="In a simulated market of slates, where truth is known: learnt from skewed exposure, the likelihood over the "
    "slate really shown ranks all items nearer to the truth than one over random candidates; items shown fewer than five times "
    "are ranked better with a prior by group than without; over 20 rounds of refitting, Thompson sampling earns more clicks "
    "than greedy slates, in-slate Thompson sampling not over 1% less than Thompson sampling, with slates more diverse.",
    bars={
        "gain in footrule of the slate likelihood": Bar(0.0),
        "gain in rank error of groups, rare items": Bar(0.0),
        "clicks: Thompson over greedy": Bar(0.0),
        "clicks: in-slate over greedy": Bar(0.0),
        "clicks: in-slate over Thompson": Bar(-0.01),
        "distance within slates: in-slate over Thompson": Bar(0.0),
        "distance within slates: 0.1 less the gap of Thompson and greedy": Bar(0.0),
    },
    run=run,
    paper=10,
    seeds=(0, 1, 2, 3, 4, 5),
    minutes=18,
)
