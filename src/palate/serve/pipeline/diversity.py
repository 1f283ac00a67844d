"""Diversity of a list: which rule, on which idea of likeness, and what it is told about the person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.contracts.recommender import VectorRecommender
from palate.data.ragged import Ragged
from palate.errors import UnsupportedError
from palate.retrieval.diversify import Reordered, calibrate, dpp, mmr
from palate.serve.errors import NotFound
from palate.serve.people import Person
from palate.serve.pipeline.sources import World
from palate.serve.shelf import Loaded


def diversify(
    kind: str, level: float, rows: np.ndarray, scores: np.ndarray, person: Person, world: World
) -> tuple[np.ndarray, str]:
    """Return places ``int64[n]`` in a new order, and what a trace should say.

    Likeness is the cosine of the active model's item vectors, or, where it has none or doesn't know all the items, what
    categories two items share. A determinantal process needs vectors; calibration needs a person with a mix of categories.

    Parameters
    ----------
    kind
        ``mmr``, ``dpp`` or ``calibrate``.
    level
        0 leaves the order alone, 1 looks at diversity only.
    rows, scores
        Candidates, best first.
    """
    vectors = _vectors(rows, world)
    if kind == "calibrate":
        return _calibrated(level, rows, scores, person, world)
    if kind == "dpp":
        if vectors is None:
            return np.arange(len(rows)), "left out: the active model has no vector for every candidate"
        return _whole(dpp(scores, len(rows), vectors=vectors, trade=1 - level), len(rows)), "by vectors"
    if vectors is not None:
        return _whole(mmr(scores, len(rows), vectors=vectors, trade=1 - level), len(rows)), "by vectors"
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


def _vectors(rows: np.ndarray, world: World) -> np.ndarray | None:
    """Return the active model's vectors of rows, or ``None`` where it has none or doesn't know all of them."""
    try:
        loaded: Loaded = world.model("active")
    except (NotFound, UnsupportedError):
        return None
    if not isinstance(loaded.model, VectorRecommender):
        return None
    numbers = loaded.numbers(rows)
    return loaded.model.item_vectors[numbers] if len(numbers) == len(rows) else None


def _categories(rows: np.ndarray, world: World, known: Sequence[str] = ()) -> tuple[Ragged, list[str]]:
    """Return each row's categories as numbers, and their names."""
    number = {name: at for at, name in enumerate(known)}
    each = (world.catalogue.items[row].categories for row in rows.tolist())
    sets = [[number.setdefault(name, len(number)) for name in categories] for categories in each]
    return Ragged.from_rows(sets), list(number)
