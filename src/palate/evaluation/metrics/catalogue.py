"""Beyond accuracy, one value for all lists: how recommendations spread over the catalogue.

Every function takes a :class:`Tally` (whole numbers, so blocks add up exactly), :class:`~palate.evaluation.facts.Facts`
and options.
``p_i`` is an item's share of the slots; ``weight="exposure"`` takes its share of the exposure ``Σ 1 / log2(1 + rank)``
instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.errors import DataError
from palate.evaluation.facts import Facts
from palate.evaluation.metrics.names import Definition, define
from palate.kernels.list_metrics import EXPOSURE_UNIT, count_slots

INFINITE = float("inf")
Weight = Literal["slots", "exposure"]


@dataclass(frozen=True, eq=False)
class Tally:
    """How often each item was recommended.

    Attributes
    ----------
    k
        The cut.
    n_items
        Size of the catalogue.
    lists
        Lists that are not empty.
    items
        ``int32[m]`` items recommended at least once, ascending.
    counts
        ``int64[m]`` slots of each.
    exposure
        ``int64[m]`` exposure of each, in units of 2⁻³².
    """

    k: int
    n_items: int
    lists: int
    items: np.ndarray
    counts: np.ndarray
    exposure: np.ndarray

    @classmethod
    def of(cls, items: np.ndarray, k: int, n_items: int) -> Tally:
        """Count the first ``k`` slots of lists ``int32[n, width]`` (-1 is padding)."""
        counts, exposure = count_slots(items, k, n_items)
        used = np.flatnonzero(counts)
        lists = int((items[:, 0] >= 0).sum()) if items.shape[1] else 0
        return cls(k, n_items, lists, used.astype(np.int32), counts[used], exposure[used])

    @classmethod
    def merge(cls, parts: Sequence[Tally]) -> Tally:
        """Add tallies of the same cut and catalogue."""
        first = parts[0]
        if any((p.k, p.n_items) != (first.k, first.n_items) for p in parts):
            raise DataError("tallies of different cuts or catalogues can't be added.", where="Tally.merge")
        counts, exposure = np.zeros(first.n_items, np.int64), np.zeros(first.n_items, np.int64)
        for part in parts:
            counts[part.items] += part.counts
            exposure[part.items] += part.exposure
        used = np.flatnonzero(counts)
        lists = sum(p.lists for p in parts)
        return cls(first.k, first.n_items, lists, used.astype(np.int32), counts[used], exposure[used])

    def shares(self, weight: Weight = "slots") -> np.ndarray:
        """Return ``float64[m]``, the shares of the recommended items."""
        amounts = self.counts if weight == "slots" else self.exposure
        return amounts / max(int(amounts.sum()), 1)

    def exposures(self) -> np.ndarray:
        """Return ``float64[n_items]``, ``Σ 1 / log2(1 + rank)`` of each item."""
        out = np.zeros(self.n_items)
        out[self.items] = self.exposure * EXPOSURE_UNIT
        return out


CatalogueMetric = Callable[..., float]


def _catalogue(bounds: tuple[float, float] = (0.0, 1.0), better: int = 1) -> Callable[[CatalogueMetric], CatalogueMetric]:
    def enter(function: CatalogueMetric) -> CatalogueMetric:
        define(Definition(function.__name__, "beyond accuracy", "catalogue", function, bounds, better))
        return function

    return enter


@_catalogue()
def coverage(tally: Tally, facts: Facts, *, of: Literal["catalogue", "train"] = "catalogue") -> float:
    """Catalogue coverage: ``|∪ L| / N``.

    ``of="train"`` counts, above and below, only items with a training interaction.
    """
    if of == "catalogue":
        return len(tally.items) / max(tally.n_items, 1)
    return float((facts.item_counts[tally.items] > 0).sum() / max((facts.item_counts > 0).sum(), 1))


@_catalogue((0.0, INFINITE))
def aggregate_diversity(tally: Tally, facts: Facts) -> float:
    """Aggregate diversity: ``|∪ L|``, the number of different items recommended."""
    return float(len(tally.items))


@_catalogue((0.0, INFINITE))
def entropy(tally: Tally, facts: Facts, *, weight: Weight = "slots", form: Literal["bits", "normalised"] = "bits") -> float:
    """Distributional coverage: ``-Σ p_i log2 p_i``, at most ``log2 N``; ``"normalised"`` divides by that. NaN without lists."""
    p = tally.shares(weight)
    if not len(p):
        return float("nan")
    bits = max(float(-(p * np.log2(p)).sum()), 0.0)
    return bits if form == "bits" else bits / max(float(np.log2(max(tally.n_items, 1))), 1e-300)


@_catalogue(better=-1)
def gini(
    tally: Tally, facts: Facts, *, weight: Weight = "slots", over: Literal["catalogue", "recommended"] = "catalogue"
) -> float:
    """Gini index: ``Σ_i (2i - n - 1) p_(i) / n`` with shares ascending; 0 is even, towards 1 is all on one item.

    ``over="catalogue"`` counts items never recommended as shares of 0; ``"recommended"`` leaves them out. NaN without lists.
    """
    p = np.sort(tally.shares(weight))
    if not len(p):
        return float("nan")
    n = tally.n_items if over == "catalogue" else len(p)
    place = np.arange(n - len(p) + 1, n + 1)
    return max(float(((2 * place - n - 1) * p).sum() / n), 0.0)


@_catalogue(better=-1)
def herfindahl(tally: Tally, facts: Facts, *, weight: Weight = "slots") -> float:
    """Herfindahl index: ``Σ p_i²``. NaN without lists."""
    p = tally.shares(weight)
    return float((p * p).sum()) if len(p) else float("nan")


@_catalogue()
def personalization(tally: Tally, facts: Facts) -> float:
    """Inter-list diversity: ``1 - |L_u ∩ L_v| / k``, mean over all pairs of people with a list.

    Exact from the counts ``c_i`` of items over lists: the overlaps of all pairs add up to ``Σ_i c_i (c_i - 1) / 2``. ``k``
    is at most the size of the catalogue. NaN below two lists.
    """
    if tally.lists < 2:
        return float("nan")
    overlap = sum(c * (c - 1) // 2 for c in tally.counts.tolist())
    pairs = tally.lists * (tally.lists - 1) // 2
    return 1 - overlap / (pairs * min(tally.k, tally.n_items))
