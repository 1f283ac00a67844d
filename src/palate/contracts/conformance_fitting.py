"""Checks of making, fitting, saving and loading a recommender (see :mod:`palate.contracts.conformance`)."""

from __future__ import annotations

import pickle
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from palate.contracts.conformance_bench import Bench, K, answers_of, check, expect, raises, same_bits, state_of, well_formed
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, NonConformingError, NotFittedError
from palate.progress import ProgressEvent
from palate.runtime import set_threads, threads

#: Kinds of files that a bundle may hold.
SAFE_FILES = {".json", ".safetensors", ".parquet"}


@check
def constructor_stores_only(bench: Bench) -> None:
    """The constructor stores settings, and does nothing else."""
    model = bench.make()
    expect(not model.fitted, "a new model says that it is fitted")
    extra = sorted(set(vars(model)) - {"config"})
    expect(not extra, f"the constructor makes {', '.join(extra)}; it may only store settings")
    expect(type(model)(model.config).config == model.config, "a model made from its own config has another config")


@check
def unknown_setting_is_refused(bench: Bench) -> None:
    """A setting that doesn't exist is an error."""
    kind = type(bench.make())
    expect(raises(ConfigError, lambda: kind(no_such_setting=1)), "an unknown setting is accepted")


@check
def unfitted_is_refused(bench: Bench) -> None:
    """Before fit, every question is a clear error."""
    model, one = bench.make(), np.zeros((1, 1), np.int32)
    asks: dict[str, Callable[[], object]] = {
        "recommend": lambda: model.recommend(bench.requests.take(np.arange(1)), K),
        "score": lambda: model.score(bench.requests.take(np.arange(1)), one),
        "requests": lambda: model.requests([0]),
        "save": lambda: model.save(Path(tempfile.gettempdir()) / "never-written"),
    }
    for name, ask in asks.items():
        expect(raises(NotFittedError, ask), f"{name} of an unfitted model doesn't raise NotFittedError")


@check
def fit_returns_self(bench: Bench) -> None:
    """``fit`` returns the model, and leaves a record of the data behind."""
    model = bench.make()
    expect(model.fit(bench.dataset, seed=0) is model, "fit doesn't return self")
    expect(model.record_.data["fingerprint"] == bench.dataset.fingerprint, "the record names other data")


@check
def one_item_catalogue(bench: Bench) -> None:
    """A catalogue of one item is fitted and answered."""
    model = bench.make().fit(_one_item(), seed=0)
    ranking = model.recommend(Requests.of_histories([[0], []], exclude_seen=False), 3)
    expect(ranking.items.tolist() == [[0, -1, -1]] * 2, f"a catalogue of one item is answered by {ranking.items.tolist()}")
    seen = model.recommend(Requests.of_histories([[0]]), 3)
    expect(seen.items.tolist() == [[-1, -1, -1]], "the only item is offered although it is excluded")


@check
def saved_and_loaded_bit_equal(bench: Bench) -> None:
    """A bundle gives the same bits back, holds only safe files, and is read without pickle."""
    model = bench.model
    with tempfile.TemporaryDirectory() as folder:
        place = model.save(Path(folder) / "bundle")
        kinds = {path.suffix for path in place.rglob("*") if path.is_file()}
        expect(kinds <= SAFE_FILES, f"the bundle holds files of kind {sorted(kinds - SAFE_FILES)}")
        with mock.patch.object(pickle, "loads", _no_pickle), mock.patch.object(pickle, "load", _no_pickle):
            again = type(model).load(place)
        expect(again.config == model.config, "settings change on the way through a bundle")
        same_bits(state_of(model), state_of(again), "the state")
        first, second = model.recommend(bench.requests, K), again.recommend(bench.requests, K)
        same_bits({"items": first.items, "scores": first.scores}, {"items": second.items, "scores": second.scores}, "answers")


@check
def forgotten_people_leave_nothing(bench: Bench) -> None:
    """After ``forget`` a person is unknown, own rows are empty, others are still answered, and a bundle has lost the id."""
    model = bench.make().fit(bench.dataset, seed=0)
    gone = int(bench.requests.users[0])
    raw = model.users_.ids.raw[gone].as_py()
    expect(model.forget([raw, "nobody of this name"]) == 1, "forget doesn't count the people it knew")
    expect(len(model.requests([raw]).histories.items) == 0, "a forgotten person still has a history")
    expect(int(model.requests([raw]).users[0]) == -1, "a forgotten person still has a number")
    for name, array in model._state().items():
        own = np.asarray(array)
        if own.ndim and own.shape[0] == bench.dataset.n_users != bench.n_items:
            expect(not np.any(own[gone]), f"{name!r} keeps the row of a forgotten person")
    with tempfile.TemporaryDirectory() as folder:
        again = type(model).load(model.save(Path(folder) / "bundle"))
        expect(again.users_.ids.number(raw) == -1, "a bundle still names a forgotten person")
    well_formed(model.recommend(bench.requests.take(np.arange(1, 10)), K), 9, K, bench.n_items)


@check
def seed_is_repeatable(bench: Bench) -> None:
    """The same seed gives the same bits."""
    first, second = (bench.make().fit(bench.dataset, seed=7) for _ in range(2))
    same_bits(state_of(first), state_of(second), "two fits with one seed")
    same_bits(answers_of(first, bench), answers_of(second, bench), "answers of two fits with one seed")


@check
def threads_are_respected(bench: Bench) -> None:
    """One thread and two: a fitted model answers with the same bits, and fits are equal up to rounding."""
    before, model = threads(), bench.model
    fits, answers = [], []
    try:
        for count in (1, 2):
            set_threads(count)
            fits.append(state_of(bench.make().fit(bench.dataset, seed=3)))
            answers.append(answers_of(model, bench))
            expect(threads() == count, "the model changes the number of threads")
    finally:
        set_threads(before)
    same_bits(answers[0], answers[1], "answers with one and two threads")
    for name, array in fits[0].items():
        same = np.allclose(array, fits[1][name], rtol=1e-2, atol=1e-3, equal_nan=True)
        expect(same, f"fits with one and two threads differ in {name!r}")


@check
def global_randomness_is_left_alone(bench: Bench) -> None:
    """Generators are passed: the global ones of Python, NumPy and torch stand as before."""

    def states() -> list[Any]:
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        torch = sys.modules.get("torch")
        found = [random.getstate(), [part.tobytes() if isinstance(part, np.ndarray) else part for part in numpy_state]]
        return found + ([] if torch is None else [torch.get_rng_state().numpy().tobytes()])

    bench.make()
    before = states()
    answers_of(bench.make().fit(bench.dataset, seed=5), bench)
    after = states()
    for name, old, new in zip(("random", "numpy.random", "torch"), before, after, strict=False):
        expect(old == new, f"the global generator of {name} is used")


@check
def data_are_left_alone(bench: Bench) -> None:
    """Neither fit nor recommend writes into what it is given."""
    parts = (bench.requests.histories.items, bench.requests.users, bench.dataset.interactions.item, bench.dataset.item_counts)
    before = [part.tobytes() for part in parts]
    answers_of(bench.make().fit(bench.dataset, seed=0), bench)
    expect(before == [part.tobytes() for part in parts], "the data or the requests are changed")


@check
def progress_is_reported(bench: Bench) -> None:
    """Fitting calls the callback, and never with more done than there is."""
    events: list[ProgressEvent] = []
    bench.make().fit(bench.dataset, seed=0, progress=events.append)
    expect(bool(events), "fit never reports progress")
    expect(all(e.stage and e.done >= 0 for e in events), "a step has no name, or is negative")
    expect(all(e.total is None or e.done <= e.total for e in events), "more is done than there is to do")


def _one_item() -> Dataset:
    made = Dataset.from_columns(["a", "b", "c"], ["only"] * 3, time=[1, 2, 3])
    head, tail = np.array([[0, 1, 1], [1, 0, 2]], np.int32)
    ties = Graph(head, np.zeros(3, np.int32), tail, "user", "user", Vocabulary(pa.array(["knows"])))
    return made.derive({"step": "ties"}, graphs={"social": ties})


def _no_pickle(*_: Any, **__: Any) -> Any:
    raise NonConformingError("loading a bundle uses pickle.")
