"""Diversity of a list: which rule, on which idea of likeness, and what it is told about the person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.contracts.recommender import VectorRecommender
from palate.data.ragged import Ragged
from palate.errors import UnsupportedError
from palate.retrieval.diversify import Reordered, calibrate, dpp, mmr
from palate.serve.errors import NotFound
from palate.serve.memory.people import Person
from palate.serve.models.loaded import Loaded
from palate.serve.pipeline.sources import World


def diversify(
    kind: str, level: float, rows: np.ndarray, scores: np.ndarray, person: Person, world: World
) -> tuple[np.ndarray, str]:
    """Return places ``int64[n]`` in a new order, and what a trace should say.

    Likeness is the cosine of the active model's item vectors. Candidates that it has no vector for (new ones) keep their
    places. Where it has none at all, or for less than half of them, likeness is by what the items say where that is known of
    at least half (see :mod:`palate.serve.search.content`), else by what categories two items share; a determinantal process
    needs vectors, and calibration needs a person with a mix of categories.

    Parameters
    ----------
    kind
        ``mmr``, ``dpp`` or ``calibrate``.
    level
        0 leaves the order alone, 1 looks at diversity only.
    rows, scores
        Candidates, best first.
    """
    if kind == "calibrate":
        return _calibrated(level, rows, scores, person, world)
    known, vectors, words = _vectors(rows, world)
    if vectors is not None:
        method = dpp if kind == "dpp" else mmr
        found = _whole(method(scores[known], len(known), vectors=vectors, trade=1 - level), len(known))
        order = np.arange(len(rows))
        order[known] = known[found]
        missing = len(rows) - len(known)
        return order, words if not missing else f"{words}; {missing} without a vector keep their places"
    if kind == "dpp":
        return np.arange(len(rows)), "left out: neither the active model nor texts give vectors for half of the candidates"
    categories, names = _categories(rows, world)
    if not names:
        return np.arange(len(rows)), "left out: neither vectors nor categories are known"
    return _whole(mmr(scores, len(rows), categories=categories, trade=1 - level), len(rows)), "by categories"


def _calibrated(level: float, rows: np.ndarray, scores: np.ndarray, person: Person, world: World) -> tuple[np.ndarray, str]:
    mix = person.mix(world.catalogue)
    if not mix:
        return np.arange(len(rows)), "left out: no mix of categories is known of the person"
    categories, names = _categories(rows, world, known=list(mix))
    wanted = np.array([mix.get(name, 0.0) for name in names])
    found = calibrate(scores, len(rows), categories=categories, wanted=wanted, trade=1 - level)
    return _whole(found, len(rows)), f"to a mix of {len(mix)} categories"


def _whole(found: Reordered, n: int) -> np.ndarray:
    """Return the new order with what it left out behind it."""
    order = found.order.astype(np.int64)
    return np.concatenate([order, np.setdiff1d(np.arange(n), order)])


def _vectors(rows: np.ndarray, world: World) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return the places that have a vector, the vectors, and whose they are; ``None`` where less than half have one."""
    found = _of_model(rows, world)
    if found is not None and 2 * len(found[0]) >= len(rows):
        return *found, "by vectors"
    said = world.content.vectors(rows)
    if said is not None and 2 * np.count_nonzero(said[1]) >= len(rows):
        return np.flatnonzero(said[1]), said[0][said[1]], "by what the items say"
    return np.empty(0, np.int64), None, ""


def _of_model(rows: np.ndarray, world: World) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the places of rows that the active model knows, and its vectors; ``None`` where it has none."""
    try:
        loaded: Loaded = world.model("active")
    except (NotFound, UnsupportedError):
        return None
    if not isinstance(loaded.model, VectorRecommender):
        return None
    known = np.flatnonzero(loaded.knows(rows))
    return known, loaded.model.item_vectors[loaded.numbers(rows[known])]


def _categories(rows: np.ndarray, world: World, known: Sequence[str] = ()) -> tuple[Ragged, list[str]]:
    """Return each row's categories as numbers, and their names."""
    number = {name: at for at, name in enumerate(known)}
    each = (world.catalogue.items[row].categories for row in rows.tolist())
    sets = [[number.setdefault(name, len(number)) for name in categories] for categories in each]
    return Ragged.from_rows(sets), list(number)
