"""A person as of this moment: what they did, as rows of the catalogue, most recent last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from palate.serve.memory.catalogue import Catalogue


@dataclass(frozen=True)
class Person:
    """Whom an answer is for.

    Attributes
    ----------
    id
        Id of the user, or ``None`` for somebody who is known by a history only.
    rows
        ``int32[m]`` rows of what they chose, most recent last.
    times
        ``int64[m]`` seconds since 1970.
    """

    id: str | None
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    times: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, user: str | None, items: Sequence[str], times: Sequence[float] | None, catalogue: Catalogue) -> Person:
        """Build from ids of items, most recent last; those unknown to the catalogue are left out."""
        row = catalogue.row
        kept = [(at, found) for at, item in enumerate(items) if (found := row.get(item)) is not None]
        rows = np.fromiter((found for _, found in kept), np.int32, len(kept))
        when = np.zeros(len(kept), np.int64)
        if times is not None:
            when = np.fromiter((int(times[at]) for at, _ in kept), np.int64, len(kept))
        return cls(user, rows, when)

    def after(self, base: Person) -> Person:
        """Return the person with an older history put before this one."""
        if not len(base.rows):
            return self
        return Person(self.id, np.concatenate([base.rows, self.rows]), np.concatenate([base.times, self.times]))

    @cached_property
    def seen(self) -> np.ndarray:
        """``int32[s]`` distinct rows, ascending."""
        return np.unique(self.rows)

    def mix(self, catalogue: Catalogue) -> Mapping[str, float]:
        """Return the share of each category in what they chose (an item's weight is split over its categories)."""
        shares: defaultdict[str, float] = defaultdict(float)
        for row in self.rows.tolist():
            categories = catalogue.items[row].categories
            for category in categories:
                shares[category] += 1 / len(categories)
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()} if total else {}
