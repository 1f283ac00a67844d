"""The bench of the conformance suite of policies: a catalogue, questions, teaching, and the judgements that checks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from palate.contracts.conformance_bench import expect, same_bits, small_world
from palate.contracts.policy import Feedback, Policy, Slate
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.errors import UnsupportedError
from palate.runtime import generator

#: Positions of a slate, rounds of teaching, and slates drawn to compare chances with frequencies.
K, ROUNDS, DRAWN = 4, 30, 4_000
#: Standard errors that a frequency may lie from its chance.
ERRORS = 5.0

#: Check functions by name, in the order in which they run.
CHECKS: dict[str, Callable[[PolicyBench], None]] = {}


class PolicyBench:
    """A policy under test, a catalogue, and questions."""

    def __init__(
        self, make: Callable[[], Policy], dataset: Dataset | None = None, ask: Callable[[int], Requests] | None = None
    ) -> None:
        self.make, self.ask = make, ask
        self.dataset = small_world() if dataset is None else dataset

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.dataset.n_items

    def asked(self, n: int) -> Requests:
        """Return ``n`` requests, the same each time."""
        if self.ask is not None:
            return self.ask(n)
        users = np.flatnonzero(self.dataset.histories.lengths > 0).astype(np.int32)
        return Requests.of_users(self.dataset, np.resize(users, n), exclude_seen=False)

    def fitted(self, *, seed: int = 0, rounds: int = ROUNDS) -> Policy:
        """Return a policy that has learnt from some rounds in which the first items are clicked most."""
        policy = self.make().fit(self.dataset, seed=seed)
        rng = generator(seed, "teaching")
        for _ in range(rounds):
            self.teach(policy, rng)
        return policy

    def teach(self, policy: Policy, rng: np.random.Generator) -> None:
        """Let a policy act once and learn from cascading clicks."""
        asked = self.asked(3)
        slate = policy.act(asked, K, rng)
        policy.update(asked, Feedback(slate, clicks(slate, rng)))

    @cached_property
    def taught(self) -> Policy:
        """A policy that has learnt, shared by checks that only ask."""
        return self.fitted()

    def few(self, n: int) -> Requests:
        """Return the same question ``n`` times, with four candidates."""
        one = self.asked(1).take(np.zeros(n, np.int64))
        return replace(one, candidates=Ragged.from_rows([[0, 3, 5, 8]] * n))


def clicks(slate: Slate, rng: np.random.Generator) -> np.ndarray:
    """Return a click at the first position that attracts; low item numbers attract more."""
    attracts = (rng.random(slate.items.shape) < 1.0 / (1.0 + np.maximum(slate.items, 0))) & (slate.items >= 0)
    return (attracts & (np.cumsum(attracts, axis=1) == 1)).astype(np.float64)


def check(function: Callable[[PolicyBench], None]) -> Callable[[PolicyBench], None]:
    """Enter a check in the table, under the words of its name."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def well_formed(slate: Slate, n: int, k: int, n_items: int) -> None:
    """Check shapes, types and numbers of a slate (its own making checks propensities and that items are distinct)."""
    expect(slate.items.shape == (n, k), f"items have the shape {slate.items.shape}, not {(n, k)}")
    expect(np.issubdtype(slate.items.dtype, np.integer), f"items are {slate.items.dtype}")
    expect(bool(((slate.items >= -1) & (slate.items < n_items)).all()), "an item number lies outside the catalogue")
    expect(slate.propensities.dtype == np.float64, f"propensities are {slate.propensities.dtype}")


def state_of(policy: Policy) -> dict[str, np.ndarray]:
    """Return a copy of what a policy has learnt."""
    return {name: np.array(array) for name, array in policy._state().items()}


def same_slates(slates: list[Slate]) -> None:
    """Check that two answers are equal to the bit."""
    first, second = ({"items": s.items, "propensities": s.propensities} for s in slates)
    same_bits(first, second, "slates")


def stated(policy: Policy, requests: Requests, items: np.ndarray) -> np.ndarray | None:
    """Return what a policy says of slates, or ``None`` where it can't say."""
    try:
        return policy.propensities(requests, items)
    except UnsupportedError:
        return None
