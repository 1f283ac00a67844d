"""SlateTS in a market of slates with known truth: which likelihood, which prior of items, which way of exploring.

The tempering T of every arm is chosen among as many values by the arm's own likelihood of people held out. That is the
likelihood of the slate shown for most arms, and of the clicked item among random ones for ``unicand``: values in other units,
which are compared within an arm only. Arms are compared by what they were not chosen for, the order of items. Every fit to a
log trains until 20 looks at people held out brought nothing, for at most 300 epochs, and keeps the best: learning from random
candidates takes thrice as long as from the slates shown. Policies that explore have the default T, the same for all three.

Log-likelihoods of people held out are those of slates in the form of FINN.no's files: of these files where they are (folder
``finn-slates`` of ``PALATE_DATA``), else of a market that is written in their form and read again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import create
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.readers.finn import read_finn_slates
from palate.data.slates import NO_CLICK, UNKNOWN, SlateLog
from palate.errors import DataError
from palate.runtime import generator
from palate.simulate.finn import write_finn_slates
from palate.simulate.slates import SlateMarket
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.effects import over_seeds

#: Popular items stand in most slates; each of the rarest in hundreds.
SKEWED: dict[str, Any] = {"users": 1000, "items": 300, "groups": 15, "no_click": -2.5, "skew": 1.0, "exploration": 0.1}
#: So skewed, and so few slates, that a good part of the catalogue is hardly ever shown.
SPARSE: dict[str, Any] = {**SKEWED, "users": 300, "skew": 2.0, "exploration": 1e-3}
STEPS, RARE, JUDGED = {"skewed": 20, "sparse": 10}, 5, 300
#: Seeds of what is learnt from logs; policies that explore have all, as clicks vary by a hundredth from seed to seed.
LOGS = 6
#: Clicks are no less where they are at most this share below others.
NO_LESS = -0.01
#: Both arms of a comparison choose among these by their own likelihood of people held out.
GRID = (0.01, 0.03, 0.1)
MODEL: dict[str, Any] = {"dim": 10, "dynamics": "linear", "epochs": 300, "patience": 20, "valid": 0.1}
#: The recurrent unit has two rounds, each as long as the one of linear movement.
GRU: dict[str, Any] = {"dynamics": "gru", "epochs": 600}

#: People whose slates are read in FINN.no's form; the first slates of people held out, which are learnt from; their share.
FINN: dict[str, Any] = {**SKEWED, "users": 20_000}
GIVEN, HELD, MODEL_LENGTH = 5, 0.1, 20

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
    policy, tempering = best_fit(data, arm, size, seed)
    errors = rank_errors(policy, market, data, size.judged)
    return {"errors": errors, "shown": policy.shown_, "tempering": tempering, "scales": policy.posterior_scales()}


def best_fit(data: Dataset, arm: Mapping[str, Any], size: Size, seed: int) -> tuple[Any, float]:
    """Return the fit of an arm that does best on people held out of ``data``, by its own likelihood, and its T."""
    settings = {**MODEL, **arm, **size.model, "strategy": "greedy"}
    fits = [create("slate_thompson", **{**settings, "tempering": t}).fit(data, seed=seed) for t in size.grid]
    last = "round 2" if settings["dynamics"] == "gru" else "round 1"
    best = int(np.argmax([float(policy.record_.notes[last]["best_value"]) for policy in fits]))
    return fits[best], size.grid[best]


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


# -- people held out ----------------------------------------------------------------------------------------------------------


def finn(trial: Trial, seed: int) -> Dataset:
    """Return slates of FINN.no, or of a market that was written in their form and read again."""
    folder = Path(os.environ.get("PALATE_DATA", "")) / "finn-slates"
    if not trial.reduced and (folder / "data.npz").is_file():
        return trial.used(f"FINN.no, sample {seed}", read_finn_slates(folder, users=FINN["users"], seed=seed))
    market = SlateMarket(**{**FINN, **size_of(trial).market, "seed": seed})
    with TemporaryDirectory() as home:
        return trial.used(
            f"market in FINN.no's form, seed {seed}", read_finn_slates(write_finn_slates(Path(home) / "finn", market))
        )


def parted(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return what is learnt from (all of most people, the first slates of the others), and the slates of the others."""
    table = data.impressions
    assert table is not None
    held = (generator(seed, "people held out").random(data.n_users) < HELD)[table.column("user").to_numpy()]
    early = table.column("time").to_numpy() < GIVEN
    parts = {"learnt from": ~held | early, "held out": held}
    first, second = (data.derive({"step": name}, impressions=table.filter(pa.array(kept))) for name, kept in parts.items())
    return first, second


def by_counting(learnt_from: Dataset, held_out: Dataset) -> dict[str, np.ndarray]:
    """Return log probabilities of the later events of people held out, by counts of those learnt from.

    ``even`` gives no click and every known item of a slate the same. The others give no click its share among slates of that
    length, and items shares in proportion to their clicks and one more (``popularity``), or to their clicks each time that they
    were shown (``click rate``, drawn to the mean rate by ten showings: much shown items have many clicks, but need not be
    better than what stands beside them).
    """
    known, asked = SlateLog.of(learnt_from), SlateLog.of(held_out)
    clicks = np.bincount(known.clicked_items[known.clicked >= 0], minlength=learnt_from.n_items).astype(float)
    shown = np.bincount(known.items.values, minlength=learnt_from.n_items)
    weights = {"popularity": clicks + 1, "click rate": (clicks + 10 * clicks.sum() / shown.sum()) / (shown + 10)}
    longest = int(max(known.lengths.max(), asked.lengths.max())) + 1
    told = known.clicked != UNKNOWN
    silent = np.bincount(known.lengths[told], known.clicked[told] == NO_CLICK, longest) + 1.0
    silent /= np.bincount(known.lengths[told], minlength=longest) + 2.0
    starts = asked.windows(MODEL_LENGTH)
    place = np.arange(len(asked)) - np.repeat(starts[:-1], np.diff(starts))
    no, real = asked.clicked == NO_CLICK, asked.clicked >= 0
    none = np.where(asked.items.lengths > 0, silent[asked.lengths], 1.0)
    rows = (place >= GIVEN) & (no | real)
    found = {"even": -np.log(1.0 + asked.items.lengths[rows])}
    for name, weight in weights.items():
        upto = np.concatenate([[0.0], np.cumsum(weight[asked.items.values])])
        total = np.where(asked.items.lengths > 0, upto[asked.items.offsets[1:]] - upto[asked.items.offsets[:-1]], 1.0)
        share = (1 - none) * weight[np.maximum(asked.clicked_items, 0)] / total
        found[name] = np.log(np.where(no, none, np.where(real, share, 1.0)))[rows]
    return found


def predicted(data: Dataset, size: Size, seed: int) -> dict[str, Any]:
    """Return mean log probabilities of what people held out clicked, by the model and by counting."""
    learnt_from, held_out = parted(data, seed)
    policy, tempering = best_fit(learnt_from, {}, size, seed)
    values = {"slate_thompson": policy.log_likelihood(held_out, given=GIVEN), **by_counting(learnt_from, held_out)}
    if len({len(v) for v in values.values()}) > 1:
        raise DataError("events that are asked about differ.", value={name: len(v) for name, v in values.items()})
    return {**{name: float(v.mean()) for name, v in values.items()}, "events": len(held_out), "tempering": tempering}


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
    size, logs = size_of(trial), replace(trial, seeds=trial.seeds[:LOGS])
    unicand = {"likelihood": "unicand"}
    skewed_arms = {"slate": {}, "unicand": unicand, "gru": GRU, "gru, unicand": {**GRU, **unicand}}
    skewed = compared(logs, "skewed", SKEWED, skewed_arms)
    footrule = {arm: np.array([f["errors"].mean() for f in found]) for arm, found in skewed.items()}
    sparse = compared(logs, "sparse", SPARSE, {"hier": {}, "flat": {"items": "flat"}})
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
    held = [trial.kept(partial(predicted, finn(trial, seed), size, seed), part="held out", seed=seed) for seed in logs.seeds]
    likelihood = {name: np.array([one[name] for one in held]) for name in ("slate_thompson", *COUNTED)}
    means = {name: values.round(4).tolist() for name, values in likelihood.items()}
    tempering = [one["tempering"] for one in held]
    return {
        "gain in footrule of the slate likelihood": over_seeds(
            1 - footrule["slate"] / footrule["unicand"], **facts(skewed), **{"about T": UNITS}
        ),
        "gain in footrule of the slate likelihood, recurrent": over_seeds(1 - footrule["gru"] / footrule["gru, unicand"]),
        **{
            LIKELIER.format(name): over_seeds(likelihood["slate_thompson"] - likelihood[name], means=means, T=tempering)
            for name in COUNTED
        },
        "gain in rank error of groups, rare items": over_seeds(1 - rare["hier"] / rare["flat"], rare=numbers, **facts(sparse)),
        "clicks: Thompson over greedy": over_seeds(clicks["thompson"] / clicks["greedy"] - 1, arms=told),
        "clicks: in-slate over greedy": over_seeds(clicks["in_slate"] / clicks["greedy"] - 1),
        "clicks: in-slate over Thompson": over_seeds(clicks["in_slate"] / clicks["thompson"] - 1),
        "distance within slates: in-slate over Thompson": over_seeds(far["in_slate"] / far["thompson"] - 1),
        "distance within slates: Thompson over greedy": over_seeds(far["thompson"] / far["greedy"] - 1),
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


COUNTED = ("even", "popularity", "click rate")
LIKELIER = "log-likelihood held out: model less {}"
UNITS = (
    "T of unicand is chosen by the likelihood of the clicked item among random ones, of the others by that of the slate: "
    "these likelihoods are in different units and compared within an arm only"
)

CLAIM = Claim(
    name="slate_thompson",
    title="SlateTS: what was shown, groups of items, and exploring within a slate",
    statement="In a simulated market of slates, where truth is known: learnt from skewed exposure, the likelihood over the "
    "slate really shown ranks all items nearer to the truth than one over random candidates, with linear and with recurrent "
    "movement; items shown fewer than five times are ranked better with a prior by group than without; what people held out "
    "click on slates in FINN.no's form is likelier by the model than by even chances, by popularity and by click rates; over "
    "20 rounds of refitting (ten seeds), Thompson sampling earns at least as many clicks as greedy slates (to 1%), in-slate "
    "Thompson sampling as many as both, with slates more diverse than those of Thompson sampling, which are as diverse as "
    "greedy ones (to 10%). FINN.no's own files are taken where they are; where not, a market stands for them.",
    bars={
        "gain in footrule of the slate likelihood": Bar(0.0),
        "gain in footrule of the slate likelihood, recurrent": Bar(0.0),
        **{LIKELIER.format(name): Bar(0.0) for name in COUNTED},
        "gain in rank error of groups, rare items": Bar(0.0),
        "clicks: Thompson over greedy": Bar(NO_LESS),
        "clicks: in-slate over greedy": Bar(NO_LESS),
        "clicks: in-slate over Thompson": Bar(NO_LESS),
        "distance within slates: in-slate over Thompson": Bar(0.0),
        "distance within slates: Thompson over greedy": Bar(-0.1, below=0.1),
    },
    run=run,
    paper=10,
    seeds=tuple(range(10)),
    minutes=45,
)
