"""Limits of exposure: at most so many items of one category, maker or other value in a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.serve.catalogue import Catalogue, Item
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


def _values(item: Item, field: str) -> frozenset[str]:
    """Return the values of an item that count against a limit."""
    if field == "categories":
        return frozenset(item.categories)
    found = item.attributes.get(field)
    if found is None:
        return frozenset()
    return frozenset(map(str, found)) if isinstance(found, (list, tuple)) else frozenset([str(found)])
