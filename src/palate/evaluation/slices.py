"""Slices: groups of people for whom a system may do better or worse than its mean says.

A slicing gives each person of a report one group: by how much they have done, by how popular what they chose is, by whether
anything is known of them, or by an attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from palate.data.dataset import Entities
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError, nearest
from palate.kernels.topk import tie_key

#: Most groups that an attribute of words is cut into; the rest is called "other".
MOST_GROUPS = 8


@dataclass(frozen=True, eq=False)
class Slicing:
    """One way of grouping people.

    Attributes
    ----------
    name
        Such as ``"activity"``.
    groups
        Names of the groups, in the order of tables.
    codes
        ``int32[n]`` group of each person, -1 for none.
    about
        How the groups are made, in one sentence.
    """

    name: str
    groups: tuple[str, ...]
    codes: np.ndarray
    about: str = ""

    def __post_init__(self) -> None:
        if len(self.codes) and not (self.codes.min() >= -1 and self.codes.max() < len(self.groups)):
            raise DataError("a code names no group.", where=f"slicing {self.name!r}", value=int(self.codes.max()))

    @classmethod
    def of_labels(cls, name: str, labels: Sequence[str | None], about: str = "") -> Slicing:
        """Group by words; groups stand in the order of the alphabet, ``None`` is no group."""
        groups = tuple(sorted({str(label) for label in labels if label is not None}))
        numbers = {group: at for at, group in enumerate(groups)}
        codes = np.array([-1 if label is None else numbers[str(label)] for label in labels], np.int32)
        return cls(name, groups, codes, about)

    def take(self, rows: np.ndarray) -> Slicing:
        """Return the slicing of some of the people."""
        return Slicing(self.name, self.groups, self.codes[rows], self.about)


def by_activity(lengths: np.ndarray, bins: int = 4) -> Slicing:
    """Group by quantiles of history length; people with equal lengths are never parted, so there may be fewer groups."""
    lengths = np.asarray(lengths, np.int64)
    about = f"people by events known when asked, cut at quantiles into at most {bins} groups"
    return _quantiles("activity", lengths.astype(np.float64), bins, about, unit=" events")


def by_popularity(truth: Ragged, item_counts: np.ndarray, shares: tuple[float, float] = (0.5, 0.8)) -> Slicing:
    """Group by how popular the answers are.

    The head is the fewest most popular items that hold ``shares[0]`` of training interactions, the middle goes on to
    ``shares[1]``, the tail is the rest, and items never seen in training are ``new``. A person with several answers belongs
    where most of them are; where equal, to the rarer kind. People without answers have no group.
    """
    if not 0 < shares[0] < shares[1] < 1:
        raise ConfigError("shares rise between 0 and 1.", where="shares", value=list(shares))
    counts = np.asarray(item_counts, np.int64)
    order = np.lexsort((tie_key(np.arange(len(counts))), -counts))
    before = np.cumsum(counts[order]) - counts[order]
    kind = np.empty(len(counts), np.int64)
    kind[order] = np.searchsorted(np.array(shares) * counts.sum(), before, side="right")
    kind[counts == 0] = 3
    votes = np.bincount(truth.row_numbers * 4 + kind[truth.values], minlength=4 * len(truth)).reshape(-1, 4)
    codes = np.where(truth.lengths > 0, 3 - np.argmax(votes[:, ::-1], axis=1), -1).astype(np.int32)
    low, high = (f"{share:.0%}" for share in shares)
    about = (
        f"people by what they chose: most popular items with {low} of events, up to {high}, the rest, never seen in training"
    )
    return _compact("popularity of the answers", ("head", "middle", "tail", "new"), codes, about)


def by_knowledge(lengths: np.ndarray) -> Slicing:
    """Group into cold (nothing known when asked) and warm people."""
    return _compact("cold and warm", ("cold", "warm"), (np.asarray(lengths) > 0).astype(np.int32), "is any event known?")


def by_attribute(people: Entities, name: str, users: np.ndarray, bins: int = 4) -> Slicing:
    """Group by a user attribute: words as they are (the rarest together as ``other``), numbers by quantiles.

    Words of which there are many, and which all are numbers (ages read as text), count as numbers.

    Parameters
    ----------
    people
        The users of the data set.
    name
        Name of the attribute.
    users
        ``int32[n]`` who was asked; people without a value have no group.
    """
    column = people.column(name)
    if column is None:
        known = people.attributes.column_names if people.attributes is not None else []
        advice = nearest(name, known) if known else "this data set has no user attributes"
        raise ConfigError("there is no such user attribute.", where="slices", value=name, remedy=advice)
    users = np.asarray(users, np.int64)
    cells = column.take(pa.array(np.maximum(users, 0)))
    about = f"people by their {name}"
    if pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type):
        values = cells.cast(pa.float64()).to_numpy().astype(np.float64)
        values[users < 0] = np.nan
        return _quantiles(name, values, bins, about)
    labels = [None if c is None or u < 0 else str(c) for c, u in zip(cells.to_pylist(), users, strict=True)]
    names, counts = np.unique([label for label in labels if label is not None], return_counts=True)
    if len(names) > MOST_GROUPS and all(_is_number(word) for word in names):
        values = np.array([np.nan if label is None else float(label) for label in labels])
        return _quantiles(name, values, bins, about)
    if len(names) > MOST_GROUPS:
        kept = set(names[np.argsort(-counts, kind="stable")[: MOST_GROUPS - 1]].tolist())
        labels = [label if label is None or label in kept else "other" for label in labels]
    return Slicing.of_labels(name, labels, about)


def standard_slices(
    held_out: HeldOut, item_counts: np.ndarray, people: Entities | None = None, attributes: Sequence[str] = ()
) -> list[Slicing]:
    """Return the slicings of every report: activity, popularity of the answers, cold and warm, and the attributes named.

    Slicings with a single group say nothing, and are left out (attributes are kept).
    """
    lengths = held_out.histories.lengths
    usual = [by_activity(lengths), by_popularity(held_out.truth, item_counts), by_knowledge(lengths)]
    kept = [slicing for slicing in usual if len(slicing.groups) > 1]
    if attributes and people is None:
        raise ConfigError("attributes need the table of people.", where="slices", remedy="give people=dataset.users")
    return kept + [by_attribute(people, name, held_out.users) for name in attributes if people is not None]


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text)).item()
    except ValueError:
        return False


def _quantiles(name: str, values: np.ndarray, bins: int, about: str, unit: str = "") -> Slicing:
    if bins < 1:
        raise ConfigError("there must be a bin.", where="bins", value=bins)
    known = values[~np.isnan(values)]
    if not len(known):
        return Slicing(name, (), np.full(len(values), -1, np.int32), about)
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
    codes = np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="left")).astype(np.int32)
    names = []
    for group in range(len(edges) + 1):
        own = values[codes == group]
        ends = (
            f"{own.min():g}" if len(own) and own.min() == own.max() else f"{own.min():g} to {own.max():g}" if len(own) else ""
        )
        names.append(ends + unit)
    return _compact(name, tuple(names), codes, about)


def _compact(name: str, groups: tuple[str, ...], codes: np.ndarray, about: str) -> Slicing:
    """Leave empty groups out."""
    used = np.unique(codes[codes >= 0])
    numbers = np.full(len(groups) + 1, -1, np.int32)
    numbers[used] = np.arange(len(used))
    return Slicing(name, tuple(groups[at] for at in used), numbers[codes].astype(np.int32), about)
