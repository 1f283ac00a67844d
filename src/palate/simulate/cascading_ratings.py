"""A cascade with states, made of ratings: what people of a taste like next, after what they liked last.

A state is a segment of people and the category of what they clicked last in this visit (or none)::

    segment      the category, of the ``segments`` most liked ones, that is most above the common share in a person's likes
    q(s, a)      share of ratings of a that are likes, in state s; shrunk to the segment's, that to the item's, that to all
    p(·|s, a)    the same segment, with a category of a (each alike, of the ``categories`` most liked ones; else none)
    p(·|s, ⊥)    the same segment; the last category is forgotten in half the cases

In the data the state before a rating is the segment of the person and the category of what they liked last before it, in time.
A visit begins in a segment by its share of people, with no last category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.simulate.cascading import CascadingWorld


def rated_world(
    dataset: Dataset,
    rng: np.random.Generator,
    *,
    items: int = 20,
    segments: int = 5,
    categories: int = 3,
    liked: float = 4.0,
    pool: int = 200,
    shrink: float = 10.0,
    horizon: int = 3,
    length: int = 3,
    column: str = "categories",
) -> CascadingWorld:
    """Return the world of a data set with ratings, times and categories of items.

    Parameters
    ----------
    dataset
        Ratings in ``interactions.value``.
    rng
        Draws the items from the ``pool`` most rated.
    items, segments, categories
        Sizes; there are ``segments * (categories + 1)`` states.
    liked
        Ratings from here on are likes.
    shrink
        Ratings by which a share is drawn to the coarser one.
    column
        Attribute of items with lists of categories.
    """
    value, kinds = dataset.interactions.value, dataset.items.column(column)
    if value is None or kinds is None:
        raise DataError("ratings, and categories of items, are needed.", where=dataset.name, remedy="such as ml-100k")
    names = [tuple(row or ()) for row in kinds.to_pylist()]
    likes = value >= liked
    user, item = dataset.interactions.user, dataset.interactions.item
    common = _most_liked(names, item[likes], max(segments, categories))
    if len(common) < max(segments, categories):
        raise DataError("there are too few categories.", where=column, value=len(common))
    belongs = np.array([[name in row for name in common] for row in names], float)
    segment = _segments(user, item, likes, belongs[:, :segments], dataset.n_users)
    own = belongs[:, :categories]
    none = own.sum(axis=1) == 0
    kind = np.concatenate([own, none[:, None]], axis=1)
    kind /= kind.sum(axis=1, keepdims=True)
    state = segment[user] * (categories + 1) + _last_kind(user, item, likes, kind)
    chosen = _drawn(dataset.item_counts, pool, items, rng)
    chances = _shares(state, item, likes, chosen, segments, categories + 1, shrink)
    start = np.zeros(segments * (categories + 1))
    start[categories :: categories + 1] = np.bincount(segment, minlength=segments) / len(segment)
    rewards = np.ones((len(start), items + 1))
    rewards[:, -1] = 0
    return CascadingWorld(chances, _moves(kind[chosen], segments), rewards, start, horizon, length)


def _most_liked(names: Sequence[tuple[str, ...]], liked: np.ndarray, most: int) -> list[str]:
    counts = np.bincount(liked, minlength=len(names))
    total: Counter[str] = Counter()
    for row, count in zip(names, counts.tolist(), strict=True):
        for name in row:
            total[name] += count
    return [name for name, _ in sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]


def _segments(user: np.ndarray, item: np.ndarray, likes: np.ndarray, belongs: np.ndarray, n_users: int) -> np.ndarray:
    """Return ``int64[n_users]``: the category that stands out most in what each person likes."""
    held = np.zeros((n_users, belongs.shape[1]))
    np.add.at(held, user[likes], belongs[item[likes]])
    base = held.sum(axis=0) / held.sum()
    found: np.ndarray = ((held + 5 * base) / (held.sum(axis=1, keepdims=True) + 5) / base).argmax(axis=1)
    return found


def _last_kind(user: np.ndarray, item: np.ndarray, likes: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return ``int64[n]``: the category (last: none) of what a person liked last before each rating."""
    at = np.where(likes, np.arange(len(user)), -1)
    last = np.concatenate([[-1], np.maximum.accumulate(at)[:-1]])
    first = np.searchsorted(user, user)  # events stand by person and time
    known = last >= first
    found = np.full(len(user), kind.shape[1] - 1)
    found[known] = kind[item[last[known]]].argmax(axis=1)
    return found


def _drawn(counts: np.ndarray, pool: int, items: int, rng: np.random.Generator) -> np.ndarray:
    most = np.argsort(-counts, kind="stable")[:pool]
    if len(most) < items:
        raise DataError("there are too few items.", where="pool", value=len(most), remedy=f"at least {items}")
    found: np.ndarray = rng.choice(most, items, replace=False)
    return found


def _shares(
    state: np.ndarray, item: np.ndarray, likes: np.ndarray, chosen: np.ndarray, segments: int, kinds: int, shrink: float
) -> np.ndarray:
    """Return ``float64[S, items]``: shrunk shares of likes."""
    number = np.full(int(item.max()) + 1, -1)
    number[chosen] = np.arange(len(chosen))
    here = number[item] >= 0
    cells = np.zeros((2, segments * kinds, len(chosen)))
    np.add.at(cells[0], (state[here], number[item[here]]), 1.0)
    np.add.at(cells[1], (state[here], number[item[here]]), likes[here])
    whole = float(likes.mean())
    of_item = (cells[1].sum(0) + shrink * whole) / (cells[0].sum(0) + shrink)
    by_segment = cells.reshape(2, segments, kinds, -1).sum(2)
    of_segment = (by_segment[1] + shrink * of_item) / (by_segment[0] + shrink)
    shares: np.ndarray = (cells[1] + shrink * np.repeat(of_segment, kinds, axis=0)) / (cells[0] + shrink)
    return shares


def _moves(kind: np.ndarray, segments: int) -> np.ndarray:
    """Return ``float64[S, n + 1, S]`` from each item's categories ``float64[n, kinds]``."""
    n, kinds = kind.shape
    moves = np.zeros((segments * kinds, n + 1, segments * kinds))
    for segment in range(segments):
        own = slice(segment * kinds, (segment + 1) * kinds)
        moves[own, :-1, own] = kind[None]
        moves[own, -1, own] = 0.5 * np.eye(kinds)
        moves[own, -1, own.stop - 1] += 0.5
    return moves
