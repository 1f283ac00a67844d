"""The conformance suite of recommenders: what every system must do, as plain functions that anybody can call.

A system enters the catalogue when it passes::

    for name, check in check_recommender(lambda: MyModel(epochs=2)):
        check()

Each check raises :class:`~palate.errors.NonConformingError` with the reason. ``make`` returns a new unfitted model with
settings under which it fits a few dozen people in about a second.
"""

from __future__ import annotations

import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np

from palate.contracts.conformance_data import Bench, K, expect, same_ranking, state_of, well_formed
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import ConfigError, DataError, NonConformingError, NotFittedError, PalateError, UnsupportedError
from palate.progress import ProgressEvent
from palate.runtime import set_threads, threads

__all__ = ["CHECKS", "NonConformingError", "check_recommender"]

#: Check functions by name, in the order in which they run.
CHECKS: dict[str, Callable[[Bench], None]] = {}
#: Kinds of files that a bundle may hold.
SAFE_FILES = {".json", ".safetensors", ".parquet"}
F = TypeVar("F", bound=Callable[[Bench], None])


def check_recommender(
    make: Callable[[], Recommender], *, dataset: Dataset | None = None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check and a function that runs it.

    Parameters
    ----------
    make
        Returns a new unfitted model, quick to fit.
    dataset
        Training data with at least ten items and as many people who have a history; a small world by default.
    """
    bench = Bench(make, dataset)
    for name, check in CHECKS.items():
        yield name, lambda check=check: check(bench)  # type: ignore[misc]


def _check(function: F) -> F:
    CHECKS[function.__name__.lstrip("_").replace("_", " ")] = function
    return function


@_check
def constructor_stores_only(bench: Bench) -> None:
    """The constructor stores settings, and does nothing else."""
    model = bench.make()
    expect(not model.fitted, "a new model says that it is fitted")
    extra = sorted(set(vars(model)) - {"config"})
    expect(not extra, f"the constructor makes {', '.join(extra)}; it may only store settings")
    expect(type(model)(model.config).config == model.config, "a model made from its own config has another config")


@_check
def unknown_setting_is_refused(bench: Bench) -> None:
    """A setting that doesn't exist is an error."""
    kind = type(bench.make())
    expect(_raises(ConfigError, lambda: kind(no_such_setting=1)), "an unknown setting is accepted")


@_check
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
        expect(_raises(NotFittedError, ask), f"{name} of an unfitted model doesn't raise NotFittedError")


@_check
def fit_returns_self(bench: Bench) -> None:
    """``fit`` returns the model, and leaves a record of the data behind."""
    model = bench.make()
    expect(model.fit(bench.dataset, seed=0) is model, "fit doesn't return self")
    expect(model.record_.data["fingerprint"] == bench.dataset.fingerprint, "the record names other data")


@_check
def answers_are_well_formed(bench: Bench) -> None:
    """Types, shapes, descending scores, no item twice."""
    well_formed(bench.model.recommend(bench.requests, K), len(bench.requests), K, bench.n_items)


@_check
def no_questions_no_answers(bench: Bench) -> None:
    """An empty batch has an empty answer."""
    well_formed(bench.model.recommend(bench.requests.take(np.arange(0)), K), 0, K, bench.n_items)


@_check
def batch_equals_one_by_one(bench: Bench) -> None:
    """The company in which a question is asked doesn't matter."""
    together = bench.model.recommend(bench.requests, K)
    for row in range(len(bench.requests)):
        alone = bench.model.recommend(bench.requests.take(np.array([row])), K)
        same_ranking(together, np.array([row]), alone, f"request {row} is answered otherwise alone than in a batch")


@_check
def unseen_users_are_served(bench: Bench) -> None:
    """A person unknown in training, with a history, gets an answer of the model's own."""
    asked = replace(bench.requests, users=np.full(len(bench.requests), -1, np.int32))
    ranking = bench.model.recommend(asked, K)
    well_formed(ranking, len(asked), K, bench.n_items)
    expect(not ranking.cold[asked.histories.lengths > 0].any(), "a person with a history is treated as cold")


@_check
def unknown_ids_are_served(bench: Bench) -> None:
    """Raw ids that training never saw are an ordinary case; numbers outside the catalogue are an error."""
    model = bench.model
    strangers = model.requests(["nobody of that name"])
    expect(len(strangers.histories.items) == 0, "an unknown user has a history")
    well_formed(model.recommend(strangers, K), 1, K, bench.n_items)
    known = bench.dataset.items.ids.raw[0].as_py()
    mixed = model.requests(histories=[["no such item", known]])
    expect(mixed.histories.items.tolist() == [0], "unknown items are not left out of a history")
    well_formed(model.recommend(mixed, K), 1, K, bench.n_items)
    for number in (bench.n_items, -1):
        beyond = Requests.of_histories([[number]], exclude_seen=False)
        expect(_raises(DataError, lambda asked=beyond: model.recommend(asked, K)), f"item number {number} is accepted")  # type: ignore[misc]


@_check
def empty_history_is_served(bench: Bench) -> None:
    """Somebody of whom nothing is known gets a full list, and the answer says if it was training popularity."""
    nobody = Requests(np.full(2, -1, np.int32), Histories.empty(2))
    ranking = bench.model.recommend(nobody, K)
    well_formed(ranking, 2, K, bench.n_items)
    expect(bool((ranking.items >= 0).all()), "a person without a history gets less than a full list")
    if ranking.cold.all():
        counts = bench.dataset.item_counts[ranking.items]
        expect(bool((np.diff(counts, axis=1) <= 0).all()), "a cold answer isn't in the order of training popularity")
    mixed = Requests(np.full(2, -1, np.int32), Histories.from_rows([[], [0, 1]]))
    both = bench.model.recommend(mixed, K)
    same_ranking(both, np.array([0]), bench.model.recommend(nobody.take(np.array([0])), K), "cold and warm people mix badly")


@_check
def repeated_items_are_served(bench: Bench) -> None:
    """A history may hold an item many times."""
    asked = Requests.of_histories([[1, 1, 1, 2, 1], [3] * 40], exclude_seen=True)
    ranking = bench.model.recommend(asked, K)
    well_formed(ranking, 2, K, bench.n_items)
    expect(not np.isin(ranking.items[0], [1, 2]).any(), "a repeated item of the history is offered again")


@_check
def one_item_catalogue(bench: Bench) -> None:
    """A catalogue of one item is fitted and answered."""
    model = bench.make().fit(_one_item(), seed=0)
    ranking = model.recommend(Requests.of_histories([[0], []], exclude_seen=False), 3)
    expect(ranking.items.tolist() == [[0, -1, -1]] * 2, f"a catalogue of one item is answered by {ranking.items.tolist()}")
    seen = model.recommend(Requests.of_histories([[0]]), 3)
    expect(seen.items.tolist() == [[-1, -1, -1]], "the only item is offered although it is excluded")


@_check
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
        _same_bits(state_of(model), state_of(again), "the state")
        first, second = model.recommend(bench.requests, K), again.recommend(bench.requests, K)
        _same_bits({"items": first.items, "scores": first.scores}, {"items": second.items, "scores": second.scores}, "answers")


@_check
def seed_is_repeatable(bench: Bench) -> None:
    """The same seed gives the same bits."""
    first, second = (bench.make().fit(bench.dataset, seed=7) for _ in range(2))
    _same_bits(state_of(first), state_of(second), "two fits with one seed")
    _same_bits(_answers(first, bench), _answers(second, bench), "answers of two fits with one seed")


@_check
def threads_are_respected(bench: Bench) -> None:
    """One thread and two: a fitted model answers with the same bits, and fits are equal up to rounding."""
    before, model = threads(), bench.model
    fits, answers = [], []
    try:
        for count in (1, 2):
            set_threads(count)
            fits.append(state_of(bench.make().fit(bench.dataset, seed=3)))
            answers.append(_answers(model, bench))
            expect(threads() == count, "the model changes the number of threads")
    finally:
        set_threads(before)
    _same_bits(answers[0], answers[1], "answers with one and two threads")
    for name, array in fits[0].items():
        same = np.allclose(array, fits[1][name], rtol=1e-2, atol=1e-3, equal_nan=True)
        expect(same, f"fits with one and two threads differ in {name!r}")


@_check
def exclude_is_obeyed(bench: Bench) -> None:
    """Excluded items are never offered; all others can be."""
    everything = bench.model.recommend(replace(bench.requests, exclude=None), bench.n_items)
    banned = Ragged.from_rows([row[:3] for row in everything.items])
    ranking = bench.model.recommend(replace(bench.requests, exclude=banned), bench.n_items)
    for row in range(len(ranking)):
        offered = ranking.items[row]
        expect(not np.isin(offered, banned[row]).any(), f"request {row} is offered an excluded item")
        missing = set(everything.items[row].tolist()) - set(offered.tolist()) - set(banned[row].tolist())
        expect(not missing, f"request {row} lacks items {sorted(missing)[:3]}, which nobody excluded")


@_check
def candidates_are_obeyed(bench: Bench) -> None:
    """Only candidates are offered, in the order of the whole list, without those excluded."""
    n = len(bench.requests)
    chosen = Ragged.from_rows([[0, 2, 4, 6, 8]] * n)
    asked = replace(bench.requests, candidates=chosen, exclude=Ragged.from_rows([[4]] * n))
    ranking = bench.model.recommend(asked, K)
    well_formed(ranking, n, K, bench.n_items)
    for row in range(n):
        offered = ranking.items[row][ranking.items[row] >= 0].tolist()
        expect(sorted(offered) == [0, 2, 6, 8], f"request {row} may have 0, 2, 6, 8 and is offered {offered}")
    whole = bench.model.score(bench.requests, np.maximum(ranking.items, 0))
    listed = ranking.items >= 0
    close = np.allclose(whole[listed], ranking.scores[listed], rtol=1e-4, atol=1e-5)
    expect(close, "candidates are scored otherwise")


@_check
def k_may_exceed_the_catalogue(bench: Bench) -> None:
    """More ranks than items: every item once, then -1."""
    k = bench.n_items + 5
    ranking = bench.model.recommend(replace(bench.requests, exclude=None), k)
    well_formed(ranking, len(bench.requests), k, bench.n_items)
    expect(bool((ranking.items[:, bench.n_items :] == -1).all()), "ranks beyond the catalogue are not -1")
    expect(bool((ranking.items[:, : bench.n_items] >= 0).all()), "items are missing when the whole catalogue is asked for")
    expect(_raises(DataError, lambda: bench.model.recommend(bench.requests, 0)), "k = 0 is accepted")


@_check
def score_agrees_with_recommend(bench: Bench) -> None:
    """The scores of a list are those that ``score`` gives; -1 scores ``-inf``."""
    ranking = bench.model.recommend(bench.requests, K)
    items = ranking.items.copy()
    items[:, -1] = -1
    scores = bench.model.score(bench.requests, items)
    expect(scores.dtype == np.float32 and scores.shape == items.shape, "score gives another type or shape than float32[n, m]")
    expect(bool(np.isneginf(scores[:, -1]).all()), "the score of item -1 isn't -inf")
    close = np.allclose(scores[:, :-1], ranking.scores[:, :-1], rtol=1e-4, atol=1e-5)
    expect(close, "score and recommend disagree")


@_check
def similar_works_or_refuses(bench: Bench) -> None:
    """Similar items leave the item itself out, or the model says that it has no such notion."""
    asked = np.array([0, 3, 5], np.int32)
    try:
        ranking = bench.model.similar(asked, K)
    except UnsupportedError as refusal:
        expect(bool(refusal.what), "the refusal says nothing")
        return
    well_formed(ranking, 3, K, bench.n_items)
    expect(not (ranking.items == asked[:, None]).any(), "an item is called similar to itself")


@_check
def explanations_add_up(bench: Bench) -> None:
    """An exact explanation sums to the score; another says how it was made; a model that can't explain refuses."""
    for row in range(4):
        one = bench.requests.take(np.array([row]))
        item = int(bench.model.recommend(one, 1).items[0, 0])
        try:
            found = bench.model.explain(one, item)
        except UnsupportedError as refusal:
            expect(bool(refusal.what), "the refusal says nothing")
            return
        score = float(bench.model.score(one, np.array([[item]], np.int32))[0, 0])
        expect(found.item == item and bool(found.method), "an explanation is of another item, or doesn't say its method")
        expect(
            bool(np.isclose(found.score, score, rtol=1e-3, atol=1e-4)), f"it explains {found.score:g}; the score is {score:g}"
        )
        total = sum(reason.weight for reason in found.evidence) + found.rest
        if found.exact:
            fits = np.isclose(total, found.score, rtol=1e-3, atol=1e-4)
            expect(bool(fits), f"exact reasons add up to {total:g}, not to {found.score:g}")
        subjects = [reason.subject for reason in found.evidence if reason.kind == "history"]
        expect(set(subjects) <= set(one.histories.items.tolist()), "a reason names an item that isn't in the history")


@_check
def global_randomness_is_left_alone(bench: Bench) -> None:
    """Generators are passed: the global ones of Python, NumPy and torch stand as before."""

    def states() -> list[Any]:
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        torch = sys.modules.get("torch")
        found = [random.getstate(), [part.tobytes() if isinstance(part, np.ndarray) else part for part in numpy_state]]
        return found + ([] if torch is None else [torch.get_rng_state().numpy().tobytes()])

    bench.make()
    before = states()
    _answers(bench.make().fit(bench.dataset, seed=5), bench)
    after = states()
    for name, old, new in zip(("random", "numpy.random", "torch"), before, after, strict=False):
        expect(old == new, f"the global generator of {name} is used")


@_check
def data_are_left_alone(bench: Bench) -> None:
    """Neither fit nor recommend writes into what it is given."""
    parts = (bench.requests.histories.items, bench.requests.users, bench.dataset.interactions.item, bench.dataset.item_counts)
    before = [part.tobytes() for part in parts]
    _answers(bench.make().fit(bench.dataset, seed=0), bench)
    expect(before == [part.tobytes() for part in parts], "the data or the requests are changed")


@_check
def progress_is_reported(bench: Bench) -> None:
    """Fitting calls the callback, and never with more done than there is."""
    events: list[ProgressEvent] = []
    bench.make().fit(bench.dataset, seed=0, progress=events.append)
    expect(bool(events), "fit never reports progress")
    expect(all(e.stage and e.done >= 0 for e in events), "a step has no name, or is negative")
    expect(all(e.total is None or e.done <= e.total for e in events), "more is done than there is to do")


def _one_item() -> Dataset:
    return Dataset.from_columns(["a", "b", "c"], ["only"] * 3, time=[1, 2, 3])


def _answers(model: Recommender, bench: Bench) -> dict[str, np.ndarray]:
    ranking = model.recommend(bench.requests, K)
    return {"items": ranking.items, "scores": ranking.scores}


def _same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray], what: str) -> None:
    expect(first.keys() == second.keys(), f"{what}: different arrays, {sorted(set(first) ^ set(second))}")
    for name, array in first.items():
        other = second[name]
        same = array.dtype == other.dtype and array.shape == other.shape and array.tobytes() == other.tobytes()
        expect(same, f"{what} differ in {name!r}")


def _raises(kind: type[PalateError], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    except Exception:
        return False
    return False


def _no_pickle(*_: Any, **__: Any) -> Any:
    raise NonConformingError("loading a bundle uses pickle.")
