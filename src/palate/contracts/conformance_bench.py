"""The bench of the conformance suite: a small world, the table of checks, and the judgements that checks share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa

from palate.contracts.ranking import Ranking
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError, NonConformingError, PalateError
from palate.runtime import generator

#: Length of the lists that checks ask for.
K = 5


class Bench:
    """A maker of models, data to fit them, and questions to ask."""

    def __init__(self, make: Callable[[], Recommender], dataset: Dataset | None = None) -> None:
        self.make = make
        self.dataset = small_world() if dataset is None else dataset
        if self.n_items < 10 or int((self.dataset.histories.lengths > 0).sum()) < 10:
            raise DataError("the conformance suite needs ten items and ten people with a history.", where=repr(self.dataset))

    @cached_property
    def model(self) -> Recommender:
        """A fitted model, shared by checks that only ask."""
        return self.make().fit(self.dataset, seed=0)

    @cached_property
    def requests(self) -> Requests:
        """Ten known people with their own histories, seen items excluded."""
        users = np.flatnonzero(self.dataset.histories.lengths > 0)[:10].astype(np.int32)
        return Requests.of_users(self.dataset, users)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.dataset.n_items


#: Check functions by name, in the order in which they run.
CHECKS: dict[str, Callable[[Bench], None]] = {}
F = TypeVar("F", bound=Callable[[Bench], None])


def check(function: F) -> F:
    """Enter a check in the table, under the words of its name."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def small_world(n_users: int = 40, n_items: int = 24, seed: int = 0) -> Dataset:
    """Return a tiny data set: two tastes, times, ratings, a repeat, somebody without events, an item without
    events, ties between people, titles and categories of items, and triples that tell of all items but the last.
    """
    rng = generator(seed, "small world")
    tastes = np.arange(n_users - 1) % 2
    lengths = rng.integers(4, 9, n_users - 1)
    half = (n_items - 1) // 2
    users, items = [], []
    for user, (taste, length) in enumerate(zip(tastes, lengths, strict=True)):
        own = rng.choice(half, length, replace=False) + half * taste
        users += [user] * (length + 1)
        items += [*own.tolist(), int(own[0]) if user == 0 else (half * (1 - taste) + int(rng.integers(half)))]
    events = Interactions.sorted(
        np.array(users),
        np.array(items),
        time=1_600_000_000 + rng.integers(0, 86_400 * 90, len(users)),
        value=rng.integers(1, 6, len(users)).astype(np.float32),
    )
    people = Entities(Vocabulary(pa.array([f"u{n}" for n in range(n_users)])))
    things = Entities(Vocabulary(pa.array([f"i{n}" for n in range(n_items)])), _texts(n_items, half))
    graphs = {"social": _ties(tastes), "knowledge": _triples(n_items, half)}
    return Dataset(events, people, things, graphs=graphs, name="small world")


def _texts(n_items: int, half: int) -> pa.Table:
    """Return titles and categories that tell the taste of an item; nothing is known of the last one."""
    tastes = ["red" if n < half else "blue" for n in range(n_items - 1)]
    titles = [f"{taste} thing {'abcde'[n % 5] * 3}" for n, taste in enumerate(tastes)]
    categories = pa.array([*([taste] for taste in tastes), []], pa.list_(pa.string()))
    return pa.table({"title": pa.array([*titles, None]), "categories": categories})


def _ties(tastes: np.ndarray) -> Graph:
    """Return ties, mutual and one-way, mostly between people of one taste; the last person has none."""
    head = np.arange(len(tastes) - 1)
    pairs = [
        (head, (head + 2) % len(head)),
        ((head + 2) % len(head), head),
        (head, (head + 4) % len(head)),
        (head[::7], head[::7] + 1),
    ]
    ends = [np.concatenate([pair[side] for pair in pairs]).astype(np.int32) for side in (0, 1)]
    return Graph(ends[0], np.zeros(len(ends[0]), np.int32), ends[1], "user", "user", Vocabulary(pa.array(["knows"])))


def _triples(n_items: int, half: int) -> Graph:
    """Return triples from items to their taste and to one of four makers; none are known of the last item."""
    number = np.arange(n_items - 1, dtype=np.int32)
    head, relation = np.tile(number, 2), np.repeat(np.arange(2, dtype=np.int32), n_items - 1)
    tail = np.concatenate([number >= half, 2 + number % 4]).astype(np.int32)
    names, entities = Vocabulary(pa.array(["taste", "maker"])), Vocabulary(pa.array(["red", "blue", *"wxyz"]))
    return Graph(head, relation, tail, "item", "entity", names, entities)


def expect(condition: bool, reason: str) -> None:
    """Raise :class:`NonConformingError` with the reason unless the condition holds."""
    if not condition:
        raise NonConformingError(reason + ".")


def well_formed(ranking: Ranking, n: int, k: int, n_items: int) -> None:
    """Check types, shapes, order and padding of a ranking."""
    items, scores = ranking.items, ranking.scores
    expect(
        items.dtype == np.int32 and items.shape == (n, k), f"items are {items.dtype}{list(items.shape)}, not int32[{n}, {k}]"
    )
    expect(scores.dtype == np.float32 and scores.shape == (n, k), f"scores are {scores.dtype}{list(scores.shape)}")
    expect(ranking.cold.dtype == bool and ranking.cold.shape == (n,), "cold isn't bool[n]")
    expect(bool(((items >= -1) & (items < n_items)).all()), "an item number lies outside the catalogue")
    expect(not np.isnan(scores).any(), "a score is NaN")
    expect(bool((np.isneginf(scores) == (items == -1)).all()), "-inf scores and -1 items don't go together")
    expect(bool((scores[:, 1:] <= scores[:, :-1]).all()), "scores rise along a list")
    for row in items:
        offered = row[row >= 0]
        expect(len(np.unique(offered)) == len(offered), "an item is offered twice")


def same_ranking(first: Ranking, rows: np.ndarray, second: Ranking, reason: str) -> None:
    """Check that rows of one ranking are another, up to rounding of scores and the order of what rounding makes equal."""
    items, scores = first.items[rows], first.scores[rows]
    expect(bool((first.cold[rows] == second.cold).all()), reason + " (cold)")
    finite = np.isfinite(scores)
    expect(bool((finite == np.isfinite(second.scores)).all()), reason + " (length)")
    expect(np.allclose(scores[finite], second.scores[finite], rtol=1e-4, atol=1e-5), reason + " (scores)")
    for row, at in np.argwhere(items != second.items):
        near = np.isclose(scores[row], scores[row, at], rtol=1e-4, atol=1e-5)
        last = at >= np.flatnonzero(near).min() and near[-1]
        expect(bool(near.sum() > 1 or last), reason + " (items)")


def state_of(model: Recommender) -> dict[str, np.ndarray]:
    """Return the learnt arrays of a model."""
    return {name: np.asarray(array) for name, array in model._state().items()}


def answers_of(model: Recommender, bench: Bench) -> dict[str, np.ndarray]:
    """Return what a model says to the questions of the bench."""
    ranking = model.recommend(bench.requests, K)
    return {"items": ranking.items, "scores": ranking.scores}


def same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray], what: str) -> None:
    """Check that named arrays are equal in type, shape and every bit."""
    expect(first.keys() == second.keys(), f"{what}: different arrays, {sorted(set(first) ^ set(second))}")
    for name, array in first.items():
        other = second[name]
        same = array.dtype == other.dtype and array.shape == other.shape and array.tobytes() == other.tobytes()
        expect(same, f"{what} differ in {name!r}")


def raises(kind: type[PalateError], call: Callable[[], object]) -> bool:
    """Say whether a call raises an error of this kind, and no other."""
    try:
        call()
    except kind:
        return True
    except Exception:
        return False
    return False
