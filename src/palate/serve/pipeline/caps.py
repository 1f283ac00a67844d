"""Limits of exposure: at most so many items of one category, maker or other value in a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.pipeline.config import CapConfig


class Caps:
    """Counts what a list holds, and tells what still fits."""

    def __init__(self, configs: Sequence[CapConfig], catalogue: Catalogue, pool: np.ndarray) -> None:
        self.configs = configs
        self._values = [[_values(catalogue.items[row], c.field) for row in pool.tolist()] for c in configs]
        self._held = [Counter[Any]() for _ in configs]

    def fits(self, taken: int, left: np.ndarray) -> np.ndarray:
        """Note the place that was taken; return ``bool[n]``: which of the places left still fit."""
        good = np.ones(len(left), bool)
        for config, values, held in zip(self.configs, self._values, self._held, strict=True):
            held.update(values[taken])
            full = {value for value, count in held.items() if count >= config.most}
            if full:
                good &= np.array([full.isdisjoint(values[at]) for at in left.tolist()], bool)
        return good


@dataclass(frozen=True)
class Room:
    """What limits leave of a pool of candidates.

    Attributes
    ----------
    member
        ``bool[p, g]``: which limits (of one value each) a candidate counts against.
    left
        ``int64[g]``: how many more candidates of that value a list may hold.
    """

    member: np.ndarray
    left: np.ndarray

    def holds(self, places: np.ndarray) -> bool:
        """Say whether these candidates may stand in one list."""
        return bool((self.member[places].sum(axis=0) <= self.left).all())


def room_for(configs: Sequence[CapConfig], catalogue: Catalogue, taken: Sequence[int], pool: np.ndarray) -> Room:
    """Return the limits that the pool could break, after some rows were taken."""
    columns, left = [], []
    for config in configs:
        values = [_values(catalogue.items[row], config.field) for row in pool.tolist()]
        held = Counter(value for row in taken for value in _values(catalogue.items[row], config.field))
        for value, count in sorted(Counter(value for own in values for value in own).items()):
            if held[value] + count > config.most:
                columns.append(np.array([value in own for own in values], bool))
                left.append(max(0, config.most - held[value]))
    member = np.stack(columns, 1) if columns else np.zeros((len(pool), 0), bool)
    return Room(member, np.array(left, np.int64))


def _values(item: Item, field: str) -> frozenset[str]:
    """Return the values of an item that count against a limit."""
    if field == "categories":
        return frozenset(item.categories)
    found = item.attributes.get(field)
    if found is None:
        return frozenset()
    return frozenset(map(str, found)) if isinstance(found, (list, tuple)) else frozenset([str(found)])
