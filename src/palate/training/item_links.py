"""Links between items that the same people had, sorted into kinds by the types of their ends, and balanced epochs over them.

    S = Rᵀ R        link (i, j), i < j:   S_ij ≥ min_support   and   S_ij n / (S_ii S_jj) ≥ min_lift        (n people)

``R`` holds the last ``max_items`` distinct items of each person: somebody with ``m`` items gives ``m²/2`` pairs, which would
let the busiest decide both the cost and the graph. ``S`` is made in blocks of items, never whole. With ``min_support=1`` and
``min_lift=0`` the links are all pairs that anybody had both of, which is nearly every pair of a busy catalogue.

The kind of a link is the pair of its ends' types. An epoch of :class:`LinkEpochs` takes equally many links of every kind, so a
mature type does not drown a new one, and its cost does not grow with the graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.ragged import in_sorted, offsets_of
from palate.errors import ConfigError, nearest
from palate.nn.knowledge import Edges

#: Most types of items; each pair of them has matrices of its own.
MOST_TYPES = 16
#: Products of two entries that a block of items may take.
WORK = 2**24


@dataclass(frozen=True, eq=False)
class ItemLinks:
    """Links between items.

    Attributes
    ----------
    first, second
        ``int32[m]`` ends, ``first < second``, in ascending order of the pair.
    support
        ``int32[m]`` people who had both.
    types
        ``int32[n_items]`` type of each item.
    names
        Names of the types.
    """

    first: np.ndarray
    second: np.ndarray
    support: np.ndarray
    types: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def kinds(self) -> np.ndarray:
        """``int32[m]``: ``s T + t`` of the types ``s ≤ t`` of the ends, where there are ``T`` types."""
        a, b = self.types[self.first], self.types[self.second]
        return np.minimum(a, b) * np.int32(len(self.names)) + np.maximum(a, b)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of links of each kind, under the names of its types."""
        found, counts = np.unique(self.kinds, return_counts=True)
        return {self._name(k): int(c) for k, c in zip(found.tolist(), counts, strict=True)}

    def _name(self, kind: int) -> str:
        return f"{self.names[kind // len(self.names)]} - {self.names[kind % len(self.names)]}"

    @cached_property
    def keys(self) -> np.ndarray:
        """``int64[m]`` ascending: ``first n_items + second``."""
        return self.first.astype(np.int64) * len(self.types) + self.second

    def joined(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Say of pairs of items (arrays that broadcast) whether they are linked."""
        low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b)
        return in_sorted(self.keys, low * len(self.types) + high)

    def take(self, kept: np.ndarray) -> ItemLinks:
        """Return the links of a boolean mask."""
        return ItemLinks(self.first[kept], self.second[kept], self.support[kept], self.types, self.names)

    def without(self, kinds: tuple[str, ...]) -> ItemLinks:
        """Return the links but for those of the kinds named as in :attr:`counts`.

        Raises
        ------
        ConfigError
            If there is no such pair of types.
        """
        t = len(self.names)
        known = {self._name(a * t + b): a * t + b for a in range(t) for b in range(a, t)}
        for name in kinds:
            if name not in known:
                raise ConfigError("there is no such kind of link.", where="skip", value=name, remedy=nearest(name, known))
        return self.take(~np.isin(self.kinds, [known[name] for name in kinds])) if kinds else self

    def edges(self) -> Edges:
        """Return the links both ways; relation ``s T + t`` leads from an item of type ``s`` to its neighbours of type ``t``."""
        m, n, t = len(self), len(self.types), len(self.names)
        head, tail = np.concatenate([self.first, self.second]), np.concatenate([self.second, self.first])
        relation = (self.types[head] * np.int32(t) + self.types[tail]).astype(np.int32)
        order = np.lexsort((tail, relation, head))
        place = np.empty(2 * m, np.int64)
        place[order] = np.arange(2 * m)
        inverse = place[(order + m) % max(1, 2 * m)]
        return Edges(offsets_of(np.bincount(head, minlength=n)), tail[order].astype(np.int32), relation[order], inverse, t * t)


def item_links(
    dataset: Dataset,
    *,
    item_type: str = "",
    weak: tuple[str, ...] = (),
    min_support: int = 2,
    min_lift: float = 1.0,
    max_items: int = 200,
) -> ItemLinks:
    """Return the links of a data set.

    Parameters
    ----------
    item_type
        The attribute whose values are the types; items without a value are a type of their own, named ``""``. Empty: one type.
    weak
        Names of actions that are no consumption, such as follows and previews; their events make no links.
    min_support, min_lift, max_items
        See the module's text.

    Raises
    ------
    ConfigError
        If there is no such attribute or action, or there are more than 16 types.
    """
    types, names = item_types(dataset.items, item_type)
    first, second, support = co_consumed(
        strong(dataset, weak).histories, dataset.n_items, min_support=min_support, min_lift=min_lift, max_items=max_items
    )
    return ItemLinks(first, second, support, types, names)


def strong(dataset: Dataset, weak: tuple[str, ...]) -> Dataset:
    """Return the data without the events whose action is one of those named."""
    if not weak:
        return dataset
    events, actions = dataset.interactions, dataset.actions
    if actions is None or events.action is None:
        raise ConfigError("the events have no actions.", where="weak", value=weak, remedy="weak=()")
    known = [str(name) for name in actions.raw.to_pylist()]
    for name in weak:
        if name not in known:
            raise ConfigError("there is no such action.", where="weak", value=name, remedy=nearest(name, known))
    kept = ~np.isin(events.action, [known.index(name) for name in weak])
    return dataset.derive({"step": "without actions", "actions": list(weak)}, interactions=events.take(kept))


def item_types(items: Entities, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``int32[n_items]`` types and their names, in order of the name (see :func:`item_links`)."""
    if not column:
        return np.zeros(len(items), np.int32), ("item",)
    values = items.column(column)
    if values is None:
        held = [] if items.attributes is None else items.attributes.column_names
        remedy = nearest(column, held) if held else "items have no attributes: leave it empty"
        raise ConfigError("there is no such attribute.", where="item_type", value=column, remedy=remedy)
    try:
        texts = pc.fill_null(values.cast(pa.string()), "").to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError("a type is one value.", where="item_type", value=str(values.type), remedy="name another") from None
    names = tuple(sorted(set(texts))) or ("item",)
    if len(names) > MOST_TYPES:
        raise ConfigError(
            f"an attribute with at most {MOST_TYPES} values can be the type.", where="item_type", value=f"{len(names)} values"
        )
    place = {name: at for at, name in enumerate(names)}
    return np.array([place[text] for text in texts], np.int32), names


def co_consumed(
    histories: Histories, n_items: int, *, min_support: int = 1, min_lift: float = 0.0, max_items: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ends ``int32[m]``, ``first < second``, and supports of the pairs that enough people had (the module's text)."""
    matrix = _recent(histories, n_items, max_items)
    turned = matrix.T.tocsr()
    counts = np.diff(turned.indptr).astype(np.float64)
    people = float((np.diff(matrix.indptr) > 0).sum())
    # Blocks of items whose products have about equal cost.
    work = np.cumsum(turned @ np.diff(matrix.indptr).astype(np.float64))
    cuts = np.flatnonzero(np.diff(work // WORK)) + 1
    parts = []
    for low, high in zip([0, *cuts], [*cuts, n_items], strict=True):
        found = (turned[low:high] @ matrix).tocoo()
        first, second, support = found.row + low, found.col, found.data
        kept = (first < second) & (support >= min_support)
        first, second, support = first[kept], second[kept], support[kept]
        if min_lift > 0:
            common = support * people >= min_lift * counts[first] * counts[second]
            first, second, support = first[common], second[common], support[common]
        order = np.lexsort((second, first))
        parts.append([column[order].astype(np.int32) for column in (first, second, support)])
    a, b, c = (np.concatenate([part[at] for part in parts]) for at in range(3))
    return a, b, c


class LinkEpochs:
    """Which links an epoch learns from.

    Each kind's links stand in a random order that is fixed by the seed, and epochs walk on through it, round and round: every
    link of a kind has its turn equally often, up to one, and none twice in an epoch that has no more than there are.

    Parameters
    ----------
    kinds
        ``int32[m]`` kind of each link.
    balanced
        Whether an epoch has as many links of every kind as the rarest kind has; else kinds count as one.
    least, most
        Fewest links of an epoch (links of a rare kind come again where it has too few), and the most of a kind (0 = no bound).
    rng
        Draws the orders.
    """

    def __init__(
        self, kinds: np.ndarray, *, balanced: bool = True, least: int = 0, most: int = 0, rng: np.random.Generator
    ) -> None:
        found = np.unique(kinds)
        groups = [np.flatnonzero(kinds == kind) for kind in found] if balanced else [np.arange(len(kinds))]
        self.orders = [rng.permutation(group) for group in groups if len(group)]
        self.size = min((len(order) for order in self.orders), default=0)
        if self.orders:
            self.size = max(self.size, math.ceil(least / len(self.orders)))
        if most:
            self.size = min(self.size, most if balanced else most * len(found))

    def __len__(self) -> int:
        return self.size * len(self.orders)

    def epoch(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Return ``int64``: the links of an epoch (from 1), in a random order."""
        walk = (number - 1) * self.size + np.arange(self.size)
        drawn = [order[walk % len(order)] for order in self.orders]
        return rng.permutation(np.concatenate([np.empty(0, np.int64), *drawn]))


def _recent(histories: Histories, n_items: int, most: int) -> sparse.csr_matrix:
    """Return the people x items matrix of ones of the last ``most`` distinct items of each person."""
    people = histories.ragged.row_numbers
    keys = people.astype(np.int64) * n_items + histories.items
    _, back = np.unique(keys[::-1], return_index=True)
    last = np.sort(len(keys) - 1 - back)
    people = people[last]
    ends = np.cumsum(np.bincount(people, minlength=len(histories)))
    kept = last[ends[people] - np.arange(len(last)) <= most]
    rows, items = histories.ragged.row_numbers[kept], histories.items[kept]
    ones = np.ones(len(kept), np.float32)
    return sparse.csr_matrix((ones, (rows, items)), shape=(len(histories), n_items))
