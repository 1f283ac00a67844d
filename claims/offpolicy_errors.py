"""Errors of off-policy estimators against the length of the log, with model and propensities right or wrong in turn.

Worlds of 2,000 people and 20 actions; a person is a mixture ``c`` of tastes, an action a mixture ``z`` of topics, and a reward
of 1 has chance ``cᵀ B z``. The log is made by a softmax of scores that go with these chances, and the candidate takes mostly
the action with the best of other such scores. Its value is known exactly, as a mean over people and actions::

    model right             ridge regression on c ⊗ z, in which rewards are linear          cross-fitted in three folds
    model wrong             ridge regression on z alone, as if all people were alike         likewise
    propensities right      those that drew the actions
    propensities wrong      those of a softmax of half the strength, as after a wrong entry in a configuration

Errors are pooled over the logs of a world and over worlds; variances are within worlds. Intervals resample worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from palate.evaluation.offpolicy.crossfit import modelled
from palate.evaluation.offpolicy.estimate import Floors, estimate
from palate.evaluation.offpolicy.log import Fitted, Log
from palate.progress import ProgressEvent
from palate.runtime import generator
from palate.study.claims import Bar, Claim, Effect, Trial

WORLDS, LOGS = 40, 30
SIZES = (250, 1_000, 4_000, 8_000, 16_000, 32_000, 64_000)
#: Sizes over which the exponent of an error is taken.
LATE = 5
PEOPLE, ACTIONS, TASTES, TOPICS = 2_000, 20, 4, 5
#: Strength of the logging softmax, and of the one whose chances are written down by mistake.
STRENGTH, MISTAKEN = 1.0, 0.5
#: Which of model and propensities are right.
CASES = {
    "both right": (True, True),
    "model wrong": (False, True),
    "propensities wrong": (True, False),
    "both wrong": (False, False),
}
TITLES = {"dm": "DM", "ips": "IPS", "snips": "SNIPS", "dr": "DR", "switch_dr": "SWITCH-DR"}
MRDR = "MRDR"
ALL = Floors(ess=0, terms=0, weight_errors=np.inf, weight_gap=np.inf)
#: Errors by case and estimator, ``float64[worlds, logs, sizes]``.
Errors = Mapping[tuple[str, str], np.ndarray]


@dataclass(frozen=True, eq=False)
class BanditLogs:
    """A world that makes logs of single actions."""

    tastes: np.ndarray
    topics: np.ndarray
    reward: np.ndarray
    scores: np.ndarray
    policy: np.ndarray

    @classmethod
    def made(cls, seed: int) -> BanditLogs:
        """Draw a world."""
        rng = generator(seed, "bandit logs")
        tastes, topics = rng.dirichlet(np.full(TASTES, 0.2), PEOPLE), rng.dirichlet(np.full(TOPICS, 0.2), ACTIONS)
        reward = tastes @ rng.beta(0.5, 1.0, (TASTES, TOPICS)) @ topics.T
        scores, other = (reward / reward.std() + rng.normal(0, noise, reward.shape) for noise in (1.0, 0.5))
        policy = np.full(reward.shape, 0.2 / ACTIONS)
        policy[np.arange(PEOPLE), other.argmax(axis=1)] += 0.8
        return cls(tastes, topics, reward, scores, policy)

    @property
    def value(self) -> float:
        """The candidate's true value."""
        return float((self.policy * self.reward).sum(axis=1).mean())

    def features(self, right: bool) -> np.ndarray:
        """Return ``float64[people, actions, d]``."""
        if not right:
            return np.broadcast_to(self.topics, (PEOPLE, ACTIONS, TOPICS))
        return np.einsum("pt,ak->patk", self.tastes, self.topics).reshape(PEOPLE, ACTIONS, TASTES * TOPICS)

    def drawn(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return people, actions and rewards of a log."""
        rng = generator(seed, "log")
        people = rng.integers(PEOPLE, size=n)
        upto = np.cumsum(special.softmax(STRENGTH * self.scores, axis=1), axis=1)[people]
        actions = np.minimum((rng.random((n, 1)) > upto).sum(axis=1), ACTIONS - 1)
        return people, actions, (rng.random(n) < self.reward[people, actions]).astype(np.float64)


def with_model(world: BanditLogs, log: Log, people: np.ndarray, actions: np.ndarray, right: bool, fitted: Fitted) -> Log:
    """Return the log with a cross-fitted reward model."""
    table = world.features(right)
    return modelled(log, table[people, actions], lambda rows: table[people[rows]], world.policy[people], fitted=fitted)


def judged(world: BanditLogs, sizes: tuple[int, ...], seed: int) -> dict[str, list[float]]:
    """Return the errors of all estimators in all cases on the first rows of one log, by size; and what is refused."""
    people, actions, reward = world.drawn(sizes[-1], seed)
    chances = {ok: special.softmax(s * world.scores, axis=1) for ok, s in ((True, STRENGTH), (False, MISTAKEN))}
    found: dict[str, list[float]] = {}
    for n in sizes:
        p, a = people[:n], actions[:n]
        logs = {ok: Log(reward[:n], chance[p, a], world.policy[p, a]) for ok, chance in chances.items()}
        models = {ok: with_model(world, logs[True], p, a, ok, "mean") for ok in (True, False)}
        for case, (model, propensity) in CASES.items():
            q_logged, q_target = models[model].q_logged, models[model].q_target
            assert q_logged is not None
            assert q_target is not None
            log = logs[propensity].with_model(q_logged, q_target)
            for e in estimate(log, list(TITLES), floors=ALL):
                found.setdefault(f"{case}, {TITLES[e.name]}", []).append(e.value - world.value)
            refused = estimate(log, ["dr"])[0].refused is not None
            found.setdefault(f"{case}, refused", []).append(float(refused))
        (robust,) = estimate(with_model(world, logs[True], p, a, False, "mrdr"), ["mrdr"], floors=ALL)
        found.setdefault(f"model wrong, {MRDR}", []).append(robust.value - world.value)
    return found


def errors_of(trial: Trial) -> tuple[dict[str, np.ndarray], tuple[int, ...], np.ndarray]:
    """Return errors ``float64[worlds, logs, sizes]`` by case and estimator, sizes, and the true values."""
    worlds, logs, sizes = (3, 4, SIZES[:3]) if trial.reduced else (WORLDS, LOGS, SIZES)
    found: dict[str, list[Any]] = {}
    values = []
    for number in range(worlds):
        seed = trial.seeds[0] + number
        world = BanditLogs.made(seed)
        values.append(world.value)

        def make(world: BanditLogs = world, seed: int = seed) -> dict[str, np.ndarray]:
            each = [judged(world, sizes, 1_000 * seed + log) for log in range(logs)]
            return {name: np.array([one[name] for one in each]) for name in each[0]}

        for name, part in trial.kept(make, part="errors", world=seed, logs=logs, sizes=sizes).items():
            found.setdefault(name, []).append(part)
        trial.progress(ProgressEvent("off-policy errors: worlds", number + 1, worlds))
    return {name: np.stack(parts) for name, parts in found.items()}, sizes, np.array(values)


# -- effects ----------------------------------------------------------------------------------------------------------------


def size_of_error(errors: np.ndarray) -> np.ndarray:
    """Return the root mean squared error by size, of ``float64[worlds, logs, sizes]``."""
    rmse: np.ndarray = np.sqrt((errors**2).mean(axis=(0, 1)))
    return rmse


def spread(errors: np.ndarray) -> np.ndarray:
    """Return the standard deviation within worlds by size."""
    within: np.ndarray = np.sqrt(errors.var(axis=1, ddof=1).mean(axis=0))
    return within


def over_worlds(measure: Callable[[np.ndarray], float], worlds: int, **details: Any) -> Effect:
    """Return a measure of some worlds' numbers, with a percentile interval over resampled worlds."""
    rng = generator(0, "bootstrap")
    drawn = [measure(rng.integers(worlds, size=worlds)) for _ in range(1_000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Effect(measure(np.arange(worlds)), float(low), float(high), details)


def exponent(errors: np.ndarray, sizes: tuple[int, ...], **details: Any) -> Effect:
    """Return ``e`` of an error that falls like ``n^-e``."""

    def measure(rows: np.ndarray) -> float:
        return -float(np.polyfit(np.log(sizes[-LATE:]), np.log(size_of_error(errors[rows])[-LATE:]), 1)[0])

    return over_worlds(measure, len(errors), **details)


def more(
    first: np.ndarray, second: np.ndarray, what: Callable[[np.ndarray], np.ndarray], power: int = 1, **details: Any
) -> Effect:
    """Return how much larger the error (or spread) of the first is, as a share of the second's, at the largest size."""

    def measure(rows: np.ndarray) -> float:
        return float((what(first[rows])[-1] / what(second[rows])[-1]) ** power) - 1

    return over_worlds(measure, len(first), **details)


def bias(errors: np.ndarray, values: np.ndarray) -> Effect:
    """Return the mean error at the largest size, as a share of the true value."""

    def measure(rows: np.ndarray) -> float:
        return float(errors[rows][:, :, -1].mean() / values[rows].mean())

    return over_worlds(measure, len(values), **{"mean true value": values.mean()})


def curves(found: Mapping[str, np.ndarray], case: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Return root mean squared error, mean error and spread by size, of every estimator in a case."""
    told: dict[str, Any] = {}
    for name, errors in found.items():
        if not name.startswith(f"{case}, ") or name.endswith("refused"):
            continue
        told[name.removeprefix(f"{case}, ")] = {
            "n": list(sizes),
            "error": size_of_error(errors).round(5).tolist(),
            "mean error": errors.mean(axis=(0, 1)).round(5).tolist(),
            "spread": spread(errors).round(5).tolist(),
        }
    return told


def run(trial: Trial) -> Mapping[str, Effect]:
    """Judge all estimators on all logs."""
    found, sizes, values = errors_of(trial)

    def of(case: str, name: str) -> np.ndarray:
        return found[f"{case}, {name}"]

    told = {case: curves(found, case, sizes) for case in CASES}
    refused = {case: of(case, "refused").mean(axis=(0, 1)).round(3).tolist() for case in CASES}
    effects: dict[str, Effect] = {}
    for case in CASES:
        effects[FALLS.format(case)] = exponent(
            of(case, "DR"), sizes, **{"curves by rows": told[case], "DR refused by size": refused[case]}
        )
    effects[STAYS.format("DM", "model wrong")] = exponent(of("model wrong", "DM"), sizes)
    for name in ("IPS", "SNIPS"):
        effects[STAYS.format(name, "propensities wrong")] = exponent(of("propensities wrong", name), sizes)
    for name in ("IPS", "DR"):
        effects[BIAS.format(name)] = bias(of("both right", name), values)
    right, wrong = (partial_of(found, case) for case in ("both right", "model wrong"))
    effects[VARIANCE.format("IPS", "SNIPS")] = more(right("IPS"), right("SNIPS"), spread, 2)
    effects[VARIANCE.format("IPS", "DM")] = more(right("IPS"), right("DM"), spread, 2)
    effects[VARIANCE.format("DR", "DM")] = more(right("DR"), right("DM"), spread, 2)
    for name in ("IPS", "SNIPS"):
        effects[WORSE.format(name, "DR", "both right")] = more(right(name), right("DR"), size_of_error)
    effects[WORSE.format("IPS", "SWITCH-DR", "both right")] = more(right("IPS"), right("SWITCH-DR"), size_of_error)
    effects[WORSE.format("DM", "DR", "model wrong")] = more(wrong("DM"), wrong("DR"), size_of_error)
    effects[WORSE.format("IPS", "DR", "model wrong")] = more(wrong("IPS"), wrong("DR"), size_of_error)
    return effects


def partial_of(found: Mapping[str, np.ndarray], case: str) -> Callable[[str], np.ndarray]:
    """Return what gives an estimator's errors in a case."""
    return lambda name: found[f"{case}, {name}"]


FALLS, STAYS = "{}: e of DR's error like n^-e", "{1}: e of the error of {0} like n^-e"
BIAS = "both right: mean error of {} as a share of the value"
VARIANCE, WORSE = "both right: variance of {} over that of {}, less 1", "{2}: error of {0} over that of {1}, less 1"
#: What falls by the root law; what stays.
ROOT, NO = Bar(0.4), Bar(-1.0, below=0.25)

CLAIM = Claim(
    name="offpolicy_errors",
    title="Errors of off-policy estimators by the length of the log: DR is right if model or propensities are",
    statement=f"In {WORLDS} worlds with {LOGS} logs each (softmax logger, mostly greedy candidate, 250 to 64,000 rows), the "
    "error of DR falls like a root of the length (n to a power below -0.4) where reward model and propensities are "
    "right, and where one of the two is wrong; where both are, it stays (a power above -0.25), as does that of DM "
    "with a wrong model and those of IPS and SNIPS with wrong propensities. With both right, IPS and DR are right in "
    "the mean (within 1% of the value); variance is less for SNIPS than for IPS, and less for DM than for either of "
    "IPS and DR; DR's error is below those of IPS and SNIPS, and SWITCH-DR's below that of IPS, at 64,000 rows. With "
    "a wrong model DR's error is less than half of DM's, and below that of IPS. Powers are of 4,000 to 64,000 rows; "
    "MRDR stands beside them in the details, without a bar.",
    bars={
        **{FALLS.format(case): ROOT for case in ("both right", "model wrong", "propensities wrong")},
        FALLS.format("both wrong"): NO,
        STAYS.format("DM", "model wrong"): NO,
        **{STAYS.format(name, "propensities wrong"): NO for name in ("IPS", "SNIPS")},
        **{BIAS.format(name): Bar(-0.01, below=0.01) for name in ("IPS", "DR")},
        **{VARIANCE.format(*pair): Bar(0.0) for pair in (("IPS", "SNIPS"), ("IPS", "DM"), ("DR", "DM"))},
        **{WORSE.format(*pair, "both right"): Bar(0.0) for pair in (("IPS", "DR"), ("SNIPS", "DR"), ("IPS", "SWITCH-DR"))},
        WORSE.format("DM", "DR", "model wrong"): Bar(1.0),
        WORSE.format("IPS", "DR", "model wrong"): Bar(0.0),
    },
    run=run,
    data=("synthetic worlds",),
    minutes=9,
)
