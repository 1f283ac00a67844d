"""Checks of making, fitting, saving and loading a policy (see :mod:`palate.contracts.conformance_policy`)."""

from __future__ import annotations

import pickle
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate.contracts.conformance_bench import expect, raises, same_bits
from palate.contracts.conformance_fitting import SAFE_FILES
from palate.contracts.conformance_policy_bench import K, PolicyBench, check, same_slates, state_of
from palate.contracts.policy import Feedback, Slate
from palate.errors import ConfigError, NonConformingError, NotFittedError
from palate.runtime import generator, set_threads, threads


@check
def constructor_stores_only(bench: PolicyBench) -> None:
    """The constructor stores settings, and does nothing else."""
    policy = bench.make()
    expect(not policy.fitted, "a new policy says that it is fitted")
    extra = sorted(set(vars(policy)) - {"config"})
    expect(not extra, f"the constructor makes {', '.join(extra)}; it may only store settings")
    expect(type(policy)(policy.config).config == policy.config, "a policy made from its own config has another config")


@check
def unknown_setting_is_refused(bench: PolicyBench) -> None:
    """A setting that doesn't exist is an error."""
    kind = type(bench.make())
    expect(raises(ConfigError, lambda: kind(no_such_setting=1)), "an unknown setting is accepted")


@check
def unfitted_is_refused(bench: PolicyBench) -> None:
    """Before fit, every question is a clear error."""
    policy, one = bench.make(), bench.asked(1)
    slate = Slate(np.zeros((1, 1), np.int32), np.ones((1, 1)))
    asks: dict[str, Callable[[], object]] = {
        "act": lambda: policy.act(one, K, generator(0)),
        "update": lambda: policy.update(one, Feedback(slate, np.zeros((1, 1)))),
        "save": lambda: policy.save(Path(tempfile.gettempdir()) / "never-written"),
    }
    for name, ask in asks.items():
        expect(raises(NotFittedError, ask), f"{name} of an unfitted policy doesn't raise NotFittedError")


@check
def fit_returns_self_and_begins_anew(bench: PolicyBench) -> None:
    """``fit`` returns the policy, leaves a record, and forgets what was learnt before."""
    policy = bench.make()
    expect(policy.fit(bench.dataset, seed=0) is policy, "fit doesn't return self")
    expect(policy.record_.data["fingerprint"] == bench.dataset.fingerprint, "the record names other data")
    expect(policy.n_items == bench.n_items, "the policy knows another number of items")
    fresh = state_of(policy)
    bench.teach(policy, generator(0, "before"))
    same_bits(fresh, state_of(policy.fit(bench.dataset, seed=0)), "two beginnings")


@check
def saved_and_loaded_bit_equal(bench: PolicyBench) -> None:
    """A bundle gives the same bits back, holds only safe files, and goes on learning in the same way."""
    policy = bench.fitted()
    with tempfile.TemporaryDirectory() as folder:
        place = policy.save(Path(folder) / "bundle")
        kinds = {path.suffix for path in place.rglob("*") if path.is_file()}
        expect(kinds <= SAFE_FILES, f"the bundle holds files of kind {sorted(kinds - SAFE_FILES)}")
        with mock.patch.object(pickle, "loads", _no_pickle), mock.patch.object(pickle, "load", _no_pickle):
            again = type(policy).load(place)
    expect(again.config == policy.config, "settings change on the way through a bundle")
    for step in range(3):
        same_bits(state_of(policy), state_of(again), f"the states after {step} more rounds")
        slates = [p.act(bench.asked(20), K, generator(step, "act")) for p in (policy, again)]
        same_slates(slates)
        for p in (policy, again):
            bench.teach(p, generator(step, "more"))


@check
def seed_is_repeatable(bench: PolicyBench) -> None:
    """The same seeds give the same bits."""
    first, second = (bench.fitted(seed=7, rounds=5) for _ in range(2))
    same_bits(state_of(first), state_of(second), "two lives with one seed")
    slates = [p.act(bench.asked(20), K, generator(3)) for p in (first, second)]
    same_slates(slates)


@check
def threads_are_respected(bench: PolicyBench) -> None:
    """One thread and two choose the same slates."""
    before, policy, found = threads(), bench.taught, []
    try:
        for count in (1, 2):
            set_threads(count)
            found.append(policy.act(bench.asked(20), K, generator(3)))
            expect(threads() == count, "the policy changes the number of threads")
    finally:
        set_threads(before)
    same_slates(found)


@check
def global_randomness_is_left_alone(bench: PolicyBench) -> None:
    """Generators are passed: the global ones of Python and NumPy stand as before."""

    def states() -> list[Any]:
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        return [random.getstate(), [p.tobytes() if isinstance(p, np.ndarray) else p for p in numpy_state]]

    before = states()
    bench.fitted(rounds=2)
    for name, old, new in zip(("random", "numpy.random"), before, states(), strict=True):
        expect(old == new, f"the global generator of {name} is used")


def _no_pickle(*_: Any, **__: Any) -> Any:
    raise NonConformingError("loading a bundle uses pickle.")
