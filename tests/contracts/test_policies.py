"""The conformance suite of policies on every one of the catalogue, and on policies that break one promise each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import systems
from palate.contracts.conformance_policy import CHECKS, check_policy
from palate.contracts.policy import Feedback, NextChances, Policy, Slate
from palate.contracts.requests import Requests
from palate.errors import NonConformingError, UnsupportedError
from palate.explore.epsilon_greedy import EpsilonGreedy, EpsilonGreedyConfig
from palate.runtime import generator, threads

OURS = [system for system in systems().values() if system.verb == "explore" and system.status == "works"]


def quick(system: Any) -> dict[str, Any]:
    """Settings to learn fast: few epochs and short vectors, unless the catalogue says otherwise."""
    usual = {"epochs": 2, "dim": 8}
    known = system.load().Settings.model_fields
    return {key: value for key, value in usual.items() if key in known} | dict(system.quick)


@pytest.fixture(scope="module")
def suites() -> dict[str, dict[str, Callable[[], None]]]:
    """Checks of each system, sharing one policy that has learnt."""
    return {s.name: dict(check_policy(lambda s=s: s.load()(**quick(s)))) for s in OURS}


@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_every_policy_conforms(system: Any, check: str, suites: dict[str, dict[str, Callable[[], None]]]) -> None:
    if "torch" in system.needs:
        pytest.importorskip("torch")
    suites[system.name][check]()


@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_what_the_catalogue_says_of_abilities_is_true(system: Any) -> None:
    if "torch" in system.needs:
        pytest.importorskip("torch")
    kind = system.load()
    assert kind.name == system.name and issubclass(kind, Policy)
    assert ("propensities" in system.abilities) == (kind.propensities is not Policy.propensities)
    assert ("incremental" in system.abilities) == kind.can_update


# -- policies that break one promise each ---------------------------------------------------------------


class Good(EpsilonGreedy):
    """Keeps every promise; the others differ from it in one place."""

    name = "good"


class StoresMore(Good):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.cache = np.zeros(3)


class LooseSettings(EpsilonGreedyConfig):
    model_config = EpsilonGreedyConfig.model_config | {"extra": "ignore"}

    @classmethod
    def parse(cls, settings, *, system=""):
        return cls.model_validate(dict(settings))


class AcceptsAnything(Good):
    Settings = LooseSettings


class AnswersUnfitted(Good):
    def _check_fitted(self) -> None:
        self.rounds_ = getattr(self, "rounds_", np.zeros(1, np.int64))


class Remembers(Good):
    def _clear(self, dataset: Any, fitting: Any) -> None:
        if not hasattr(self, "trials_"):
            super()._clear(dataset, fitting)


class SavesLess(Good):
    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "gains": self.gains_.astype(np.float16)}

    def _restore(self, state: Any) -> None:
        super()._restore({**state, "gains": state["gains"].astype(np.float64), "trials": state["trials"] + 0.5})


class ReadsPickle(Good):
    def _restore(self, state: Any) -> None:
        super()._restore(pickle.loads(pickle.dumps(dict(state))))


class DrawsByItself(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        return super().act(requests, k, np.random.default_rng())


class DrawsGlobally(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        np.random.random()  # noqa: NPY002
        return super().act(requests, k, rng)


class CountsThreads(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        rng.random(threads())
        return super().act(requests, k, rng)


class TakesAnyLength(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        return super().act(requests, max(k, 1), rng)


class IgnoresExclude(Good):
    def _allowed(self, requests: Requests) -> np.ndarray:
        return super()._allowed(replace(requests, exclude=None))


class WrapsAround(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        return super().act(requests, min(k, self.n_items), rng)


class NeedsTwoItems(Good):
    def _clear(self, dataset: Any, fitting: Any) -> None:
        if dataset.n_items < 2:
            raise ValueError("too few items")
        super()._clear(dataset, fitting)


class NeedsAHistory(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        if len(requests) and not requests.histories.lengths.all():
            raise ValueError("no history")
        return super().act(requests, k, rng)


class LearnsFromItself(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        slate = super().act(requests, k, rng)
        np.add.at(self.trials_, slate.items[slate.items >= 0], 1.0)
        return slate


class DrawsForTheBatch(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        rng.random(int(rng.integers(3)))
        return super().act(requests, k, rng)


class LogsAnything(Good):
    """Logs the chance of the best item for each."""

    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        slate = super().act(requests, k, rng)
        return Slate(slate.items, np.where(slate.items >= 0, 1 - self._epsilon, 1.0))

    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        raise UnsupportedError("can't say")


class StatesAnother(Good):
    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        return super().propensities(requests, items) * 0.9


class FillsOtherwise(Good):
    def next_chances(self, request: Requests) -> NextChances:
        return lambda taken, left: np.full(len(left), 1 / len(left))


class LogsMarginalsOfNothing(Good):
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        slate = super().act(requests, k, rng)
        return Slate(slate.items, slate.propensities, np.where(slate.items >= 0, 0.01, 1.0))


class LearnsNothing(Good):
    def _learn(self, *_: Any) -> None:
        pass


class LearnsInSecret(Good):
    can_update = False


class DrawsAnew(Good):
    """Even draws without return, whose chances it logs times ``share``."""

    fixed_draws = False
    share = 1.0

    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        allowed = np.broadcast_to(self._allowed(requests), (len(requests), self.n_items))
        items = np.argsort(rng.random(allowed.shape) - 2.0 * allowed, axis=1)[:, :k]
        shown = np.take_along_axis(allowed, items, axis=1)
        left = np.maximum(allowed.sum(axis=1, keepdims=True) - np.arange(items.shape[1]), 1)
        return Slate(np.where(shown, items, -1).astype(np.int32), np.where(shown, self.share / left, 1.0))


class LogsTooLow(DrawsAnew):
    share = 0.5


class LearnsTheUnobserved(Good):
    def update(self, requests: Requests, feedback: Feedback) -> None:
        rewards = np.nan_to_num(feedback.rewards)
        super().update(requests, Feedback(feedback.slate, rewards, feedback.examined))


class TakesAnyFeedback(Good):
    def update(self, requests: Requests, feedback: Feedback) -> None:
        rows = np.arange(min(len(requests), len(feedback)))
        super().update(
            requests.take(rows),
            Feedback(
                feedback.slate.take(rows),
                feedback.rewards[rows],
                None if feedback.examined is None else feedback.examined[rows],
            ),
        )


class HalfAnUpdate(Good):
    def update(self, requests: Requests, feedback: Feedback) -> None:
        self.trials_ = self.trials_ + 1.0
        super().update(requests, feedback)


BROKEN: list[tuple[type[Good], str]] = [
    (StoresMore, "constructor stores only"),
    (AcceptsAnything, "unknown setting is refused"),
    (AnswersUnfitted, "unfitted is refused"),
    (Remembers, "fit returns self and begins anew"),
    (SavesLess, "saved and loaded bit equal"),
    (ReadsPickle, "saved and loaded bit equal"),
    (DrawsByItself, "seed is repeatable"),
    (CountsThreads, "threads are respected"),
    (DrawsGlobally, "global randomness is left alone"),
    (TakesAnyLength, "slates are well formed"),
    (IgnoresExclude, "exclude and candidates are obeyed"),
    (WrapsAround, "k may exceed the catalogue"),
    (NeedsTwoItems, "one item catalogue"),
    (NeedsAHistory, "unknown people are served"),
    (LearnsFromItself, "acting teaches nothing"),
    (DrawsForTheBatch, "batch equals one by one"),
    (StatesAnother, "logged propensities are those stated"),
    (StatesAnother, "stated chances sum to one"),
    (FillsOtherwise, "next chances are those stated"),
    (LogsAnything, "frequencies match propensities"),
    (LogsMarginalsOfNothing, "frequencies match propensities"),
    (LogsTooLow, "frequencies match propensities"),
    (LearnsNothing, "update learns"),
    (LearnsInSecret, "update learns"),
    (LearnsTheUnobserved, "what was not observed is not learnt"),
    (TakesAnyFeedback, "wrong feedback is refused"),
    (HalfAnUpdate, "wrong feedback is refused"),
]


@pytest.mark.parametrize("check", list(CHECKS))
def test_a_good_policy_passes(check: str) -> None:
    dict(check_policy(lambda: Good(epsilon=0.3)))[check]()


def test_draws_that_are_made_anew_are_weighed() -> None:
    dict(check_policy(DrawsAnew))["frequencies match propensities"]()


@pytest.mark.parametrize(("kind", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_promise_is_found(kind: type[Good], check: str) -> None:
    with pytest.raises((NonConformingError, ValueError)):
        dict(check_policy(lambda: kind(epsilon=0.3)))[check]()


def test_every_check_has_a_policy_that_fails_it() -> None:
    assert {check for _, check in BROKEN} == set(CHECKS)


def test_rows_of_policies_are_known_by_their_seed() -> None:
    """Two fits with different seeds may draw differently, and neither changes the other."""
    one, two = (Good(epsilon=0.5).fit(_world(), seed=seed) for seed in (0, 1))
    asked = Requests.of_histories([[]] * 5)
    before = two.act(asked, 3, generator(0)).items
    one.update(asked, Feedback(one.act(asked, 3, generator(1)), np.zeros((5, 3))))
    np.testing.assert_array_equal(two.act(asked, 3, generator(0)).items, before)


def _world() -> Any:
    from palate.contracts.conformance_bench import small_world

    return small_world()
