"""Order by value: the best list for people who scan it from the top and take the first item that attracts them.

Each of the first candidates has a click chance ``u`` and a value ``w`` of a click; no click is worth ``rest``. Of all ordered
lists of ``k`` of them, the one of highest worth is found exactly (:mod:`palate.kernels.best_perm`)::

    Σ_i Π_{j<i} (1 - u_j) u_i w_i + Π_j (1 - u_j) rest

Its items stand by falling value, those of one value by falling chance. What is not in it follows in the order it had. Where
limits of exposure forbid that list, it is the best of those that keep to them (:mod:`palate.kernels.limited_perm`; pinned items
count), or one of which the trace says how far from the best it can be, where the limits are so many that the search is cut off.

    rates     u = (a + clicks) / (a + b + times shown), with the prior (a, b)
    score     u = 1 / (1 + exp(-(offset + slope score))), with the scores of the model that ranks
    expected  u = what the ranker expects, where that is the chance of a click (0 beyond its pool)
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from palate.errors import ConfigError
from palate.kernels.best_perm import best_perms
from palate.kernels.limited_perm import limited_perm
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.pipeline.caps import Room
from palate.serve.pipeline.config import OrderConfig, PipelineConfig
from palate.serve.pipeline.explorers import Rates


class Order(Protocol):
    """What puts the first candidates of a list in a new order."""

    def pool(self, k: int) -> int:
        """Return how many of the first candidates are looked at for a list of ``k``."""

    def places(self, k: int, rows: np.ndarray, scores: np.ndarray, catalogue: Catalogue, room: Room) -> tuple[np.ndarray, str]:
        """Return the places ``int64[p]`` of a pool in a new order, and what a trace should say.

        Parameters
        ----------
        k
            Length of the list.
        rows, scores
            Of the pool.
        room
            Limits of exposure in the pool.
        """


class CascadeOrder:
    """Orders by click chance and value (see the module's text)."""

    def __init__(self, config: OrderConfig, rates: Rates) -> None:
        self.config, self.rates = config, rates

    def pool(self, k: int) -> int:
        """Return how many of the first candidates are looked at."""
        return max(self.config.pool, k)

    def places(self, k: int, rows: np.ndarray, scores: np.ndarray, catalogue: Catalogue, room: Room) -> tuple[np.ndarray, str]:
        """Return the places of the pool: the best list of ``k`` within the limits, then the others as they were."""
        chances, (values, missing) = self._chances(rows, scores), self._values(rows, catalogue)
        by_chance = np.argsort(-chances, kind="stable")
        u, w, rest, m = chances[by_chance], values[by_chance], self.config.rest, min(k, len(rows))
        worths, lists = best_perms(u[None], w[None], np.array([rest]), m)
        worth, first, note = float(worths[0]), by_chance[lists[0][lists[0] >= 0]].astype(np.int64), ""
        if not room.holds(first):
            free = worth
            worth, bound, chosen = limited_perm(u, w, rest, m, room.member[by_chance], room.left)
            first = by_chance[chosen].astype(np.int64)
            note = f"; without limits {free:.4g}"
            if bound > worth:
                note += f"; the search was cut off, within limits no list is worth more than {bound:.4g}"
        others = np.setdiff1d(np.arange(len(rows)), first)
        behind = values[others] <= rest
        note = f"worth {worth:.4g} a visit{note}" + (f"; {missing} without a {self.config.value}, put last" if missing else "")
        return np.concatenate([first, others[~behind], others[behind]]), note

    def _chances(self, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return ``float64[p]`` click chances."""
        if self.config.chance == "rates":
            clicked, shown = self.rates.counts(rows)
            good, bad = self.config.prior
            rates: np.ndarray = (good + clicked) / (good + bad + np.maximum(shown, clicked))
            return rates
        if self.config.chance == "expected":
            return np.clip(scores, 0.0, 1.0)
        odds = np.clip(self.config.offset + self.config.slope * scores, -700, 700)
        chances: np.ndarray = 1 / (1 + np.exp(-odds))
        return chances

    def _values(self, rows: np.ndarray, catalogue: Catalogue) -> tuple[np.ndarray, int]:
        """Return ``float64[p]`` values of a click (0 where an item has none), and how many have none."""
        if not self.config.value:
            return np.ones(len(rows)), 0
        found = [_value(catalogue.items[row], self.config.value) for row in rows.tolist()]
        return np.array([0.0 if value is None else value for value in found]), found.count(None)


def _value(item: Item, name: str) -> float | None:
    """Return what a click on an item is worth, or ``None`` where that is no finite number."""
    value = item.price if name == "price" else item.attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        return None
    return float(value)


def order_of(config: PipelineConfig, rates: Rates) -> Order | None:
    """Return the order that a configuration names, or ``None``."""
    if config.order.kind == "none":
        return None
    chance, ranked = config.order.chance, config.rank.kind
    if chance != "rates" and ranked != {"score": "model", "expected": "ranker"}[chance]:
        raise ConfigError(
            "these scores say nothing of click chances.",
            where="pipeline.order.chance",
            value=f"{chance!r} with [pipeline.rank] kind = {ranked!r}",
            remedy="chance = 'score' with kind = 'model', 'expected' with 'ranker', or 'rates' with any",
        )
    return CascadeOrder(config.order, rates)
