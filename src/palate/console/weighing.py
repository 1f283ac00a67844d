"""Trade-offs of systems: what each gains and costs on several scales, and which of them no other beats on two at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from palate.console.charts import Estimate

#: From this many times the lowest figure on, a scale is logarithmic.
WIDE = 20.0


@dataclass(frozen=True)
class Scale:
    """What systems are weighed on.

    Attributes
    ----------
    name
        With its unit.
    better
        1 where more is better, -1 where less is, 0 where neither.
    values
        Title of a system to its figure; those without one are missing.
    """

    name: str
    better: int
    values: Mapping[str, Estimate]

    @property
    def wide(self) -> bool:
        """Whether the figures reach over so many magnitudes that a logarithmic scale shows more."""
        found = [one.low for one in self.values.values()] + [one.high for one in self.values.values()]
        return bool(found) and min(found) > 0 and max(found) >= WIDE * min(found)


def unbeaten(x: Scale, y: Scale) -> list[str]:
    """Return the systems that no other equals or beats on both scales at once while beating them on one.

    Empty where a scale has no better end.
    """
    if not x.better or not y.better:
        return []
    points = {name: (x.better * x.values[name].value, y.better * y.values[name].value) for name in x.values if name in y.values}
    return [
        name
        for name, own in points.items()
        if not any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in points.values())
    ]


def pairs(scales: Sequence[Scale]) -> list[tuple[Scale, Scale]]:
    """Return the pairs of scales that have a system in common, each as (x, y)."""
    return [(x, y) for y, x in combinations(scales, 2) if set(x.values) & set(y.values)]
