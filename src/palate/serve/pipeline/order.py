"""Order by value: the best list for people who scan it from the top and take the first item that attracts them.

Each of the first candidates has a click chance ``u`` and a value ``w`` of a click; no click is worth ``rest``. Of all ordered
lists of ``k`` of them, the one of highest worth is found exactly (:mod:`palate.kernels.best_perm`)::

    Σ_i Π_{j<i} (1 - u_j) u_i w_i + Π_j (1 - u_j) rest

Its items stand by falling value, those of one value by falling chance. What is not in it follows in the order it had.

    rates     u = (a + clicks) / (a + b + times shown), with the prior (a, b)
    score     u = 1 / (1 + exp(-(offset + slope score))), with the scores of the model that ranks
    expected  u = what the ranker expects, where that is the chance of a click (0 beyond its pool)
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from palate.errors import ConfigError
from palate.kernels.best_perm import best_perms
from palate.serve.catalogue import Catalogue, Item
from palate.serve.pipeline.config import OrderConfig, PipelineConfig
from palate.serve.pipeline.explorers import Rates


class Order(Protocol):
    """What puts the first candidates of a list in a new order."""

    def places(self, k: int, rows: np.ndarray, scores: np.ndarray, catalogue: Catalogue) -> tuple[np.ndarray, str]:
        """Return places ``int64[p]`` in a new order, and what a trace should say."""


class CascadeOrder:
    """Orders by click chance and value (see the module's text)."""

    def __init__(self, config: OrderConfig, rates: Rates) -> None:
        self.config, self.rates = config, rates

    def places(self, k: int, rows: np.ndarray, scores: np.ndarray, catalogue: Catalogue) -> tuple[np.ndarray, str]:
        """Return the places of the first ``max(pool, k)`` rows: the best list of ``k``, then the others as they were."""
        pool = rows[: max(self.config.pool, k)]
        chances, (values, missing) = self._chances(pool, scores[: len(pool)]), self._values(pool, catalogue)
        by_chance = np.argsort(-chances, kind="stable")
        rest = np.array([self.config.rest])
        worth, lists = best_perms(chances[by_chance][None], values[by_chance][None], rest, min(k, len(pool)))
        first = by_chance[lists[0][lists[0] >= 0]].astype(np.int64)
        others = np.setdiff1d(np.arange(len(pool)), first)
        behind = values[others] <= self.config.rest
        note = f"worth {worth[0]:.4g} a visit" + (f"; {missing} without a {self.config.value}, put last" if missing else "")
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
