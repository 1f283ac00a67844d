"""Off-policy intervals cover the true value of a policy that never ran, in worlds whose truth is known.

Each of many independent worlds logs slates of three slots by its own policy, with known propensities and position-biased
clicks. In half of its slots the candidate shows what the person would choose, which is known exactly::

    π(i | u) = (π_logging(i) + P(i | u)) / 2
    V(π)     = mean over people and positions of   examination_k Σ_i π(i | u) relevance(u, i)

DR's reward model is logistic on what a platform sees (popularity, the person's share of events in the item's topics, position);
it is cross-fitted by person, and misspecified, because clicks are a product and not a logistic function.

DM, and the estimators that cut weights, are biased, and their intervals span that of DR or IPS; what their own spread alone
would have covered stands in the details.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from palate.evaluation.offpolicy.crossfit import crossfit
from palate.evaluation.offpolicy.estimate import check_support, estimate
from palate.evaluation.offpolicy.log import Log, SlateLog
from palate.progress import ProgressEvent
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial

WORLDS = 2_000
SETTINGS: dict[str, Any] = {
    "users": 1_000,
    "items": 30,
    "topics": 8,
    "events": 10_000,
    "slates": 2.0,
    "slate": 3,
    "background": 0.2,
}
SLATES = ("rips",)
#: Titles of the estimators in the table of effects; of those whose intervals are their own, and of those that are biased.
UNBIASED = {"ips": "IPS", "snips": "SNIPS", "dr": "DR", "rips": "RIPS of slates"}
BIASED = {
    "dm": "DM",
    "clipped_ips": "clipped IPS",
    "clipped_dr": "clipped DR",
    "switch_dr": "SWITCH-DR",
    "dros": "DRos",
}
TITLES = UNBIASED | BIASED
SINGLE = tuple(name for name in TITLES if name not in SLATES)
COVERED = "coverage of 95% intervals, {}"
SAVING = "how much narrower DR is than IPS"
TELLING = "share of worlds whose intervals all lie above the logging policy's value"


def candidate(world: World) -> np.ndarray:
    """Return ``float64[users, items]``: the chance that the candidate puts an item in a slot."""
    chance = world.truth.preference(np.arange(world.config.users)).astype(np.float64)
    return (world.truth.logging_policy() + chance / chance.sum(axis=1, keepdims=True)) / 2


def values(world: World, policy: np.ndarray) -> tuple[float, float]:
    """Return the true clicks a slot of a policy ``float64[users, items]``, and of the policy that logged."""
    relevance = world.truth.relevance(np.arange(world.config.users)).astype(np.float64)
    position = np.arange(1, world.config.slate + 1.0) ** -world.config.position_decay
    logging = world.truth.logging_policy()
    return float(position.mean() * (policy * relevance).sum(1).mean()), float(position.mean() * (relevance @ logging).mean())


def observed_features(world: World) -> np.ndarray:
    """Return ``float64[users, items, 3]``: popularity, topic share of the person's events, and their product."""
    events, items = world.events(0), world.items
    shares = np.zeros((world.config.users, world.config.topics))
    np.add.at(shares, (events.user, items.topics[events.item, 0]), 1.0)
    shares = (shares + 1 / world.config.topics) / (shares.sum(1, keepdims=True) + 1)
    match = shares[:, items.topics[:, 0]] * items.weights[:, 0] + shares[:, items.topics[:, 1]] * items.weights[:, 1]
    popular = np.log1p(np.bincount(events.item, minlength=world.config.items))
    return np.stack([np.broadcast_to(popular, match.shape), np.log(match), popular * match], axis=2)


def logs(world: World, policy: np.ndarray) -> tuple[Log, SlateLog, np.ndarray]:
    """Return the log of slots (whose units are slates) with DR's reward model, that of slates, and the person of each slot."""
    table = world.impressions(0)
    shown = {name: table[name].to_numpy() for name in table.column_names}
    user, item, click = shown["user"], shown["item"], shown["click"].astype(np.float64)
    propensity, target = world.truth.logging_policy()[item], policy[user, item]
    features = observed_features(world)
    position = (shown["position"][:, None] == np.arange(2, world.config.slate + 1)).astype(np.float64)

    def every(rows: np.ndarray) -> np.ndarray:
        at = np.broadcast_to(position[rows][:, None], (len(rows), world.config.items, position.shape[1]))
        return np.concatenate([features[user[rows]], at], axis=2)

    logged = np.concatenate([features[user, item], position], axis=1)
    model = crossfit(logged, click, every, policy[user], kind="logistic", unit=user, seed=world.config.seed)
    single = Log(click, propensity, target, model.q_logged, model.q_target, unit=shown["slate"])
    wide = (-1, world.config.slate)
    return single, SlateLog(click.reshape(wide), propensity.reshape(wide), target.reshape(wide), chances="both"), user


def judge(seed: int) -> tuple[dict[str, tuple[float, float, float]], float, float]:
    """Return each estimator's value and interval in one world, and the true values of candidate and logging policy.

    Biased ones stand twice: ``"dm"`` with the interval that is given, ``"dm alone"`` with that of its own spread.
    """
    world = World(**SETTINGS, seed=seed)
    policy = candidate(world)
    truth, logging = values(world, policy)
    single, slates, user = logs(world, policy)
    found = {}
    for log, names in ((single, SINGLE), (slates, SLATES)):
        slots = len(single) // len(log)
        support = check_support(world.truth.logging_policy(), policy[user[::slots]])
        for e in estimate(log, names, support=support):
            found[e.name] = (e.value / slots, e.low / slots, e.high / slots)  # NaN where refused: covers nothing
    for e in estimate(single, tuple(BIASED), span=False):
        found[f"{e.name} alone"] = (e.value, e.low, e.high)
    return found, truth, logging


def run(trial: Trial) -> Mapping[str, Effect]:
    """Count how often each interval covers, over independent worlds."""
    count = 20 if trial.reduced else WORLDS
    first = World(**SETTINGS, seed=trial.seeds[0] * WORLDS)
    trial.used("first world", first.dataset(text=False, graphs=False))
    judged = []
    for number in range(count):
        judged.append(judge(trial.seeds[0] * WORLDS + number))
        trial.progress(ProgressEvent("off-policy: world", number + 1, count))
    truth, logging = np.array([j[1] for j in judged]), np.array([j[2] for j in judged])
    found = {name: np.array([j[0][name] for j in judged]) for name in judged[0][0]}
    effects = {}
    for name, title in TITLES.items():
        value, low, high = found[name].T
        inside = (low <= truth) & (truth <= high)
        alone = found[f"{name} alone"] if name in BIASED else found[name]
        effects[COVERED.format(title)] = share(
            inside,
            mean_true_value=truth.mean(),
            mean_error=np.nanmean(value - truth),
            rmse=np.sqrt(np.nanmean((value - truth) ** 2)),
            mean_width=np.nanmean(high - low),
            covered_alone=((alone[:, 1] <= truth) & (truth <= alone[:, 2])).mean(),
            refused=np.isnan(value).mean(),
            missed_below=(high < truth).mean(),
            missed_above=(low > truth).mean(),
        )
    lowest = np.min([found[name][:, 1] for name in UNBIASED], axis=0)
    effects[TELLING] = share(lowest > logging, mean_logging_value=logging.mean())
    narrower = 1 - np.divide(*((found[name][:, 2] - found[name][:, 1]) for name in ("dr", "ips")))
    narrower = narrower[~np.isnan(narrower)]
    half = 1.96 * narrower.std(ddof=1) / np.sqrt(len(narrower))
    effects[SAVING] = Effect(float(narrower.mean()), float(narrower.mean() - half), float(narrower.mean() + half))
    return effects


def share(hits: np.ndarray, **details: float) -> Effect:
    """Return a share with its exact binomial (Clopper-Pearson) interval."""
    n, k = len(hits), int(hits.sum())
    low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return Effect(k / n, float(low), float(high), {"worlds": n, **{name: float(v) for name, v in details.items()}})


CLAIM = Claim(
    name="offpolicy_covers",
    title="Off-policy intervals cover the truth",
    statement=f"Over {WORLDS:,} independent synthetic worlds, the 95% intervals of IPS, SNIPS and cross-fitted DR from some "
    "6,000 logged slots, and of RIPS from their slates, cover the true value of a policy that never ran at their nominal rate "
    "(the binomial interval of the coverage lies above 0.92; a refusal counts as a miss), and so do those of DM, clipped IPS, "
    "clipped DR, SWITCH-DR and DRos, which span the interval of DR or IPS. Those of the first four are narrow enough to show "
    "in nine worlds of ten that it is better than the policy that ran, and DR's are over 5% narrower than those of IPS.",
    bars={**{COVERED.format(title): Bar(0.92) for title in TITLES.values()}, TELLING: Bar(0.9), SAVING: Bar(0.05)},
    run=run,
    data=("synthetic worlds",),
    minutes=4,
)
