"""Metrics: names, definitions and options; one module a family.

``ranking`` (accuracy of lists), ``beyond`` and ``catalogue`` (candidates: novelty, diversity, coverage), ``predictive``
(predicted values and probabilities), ``similarity`` (vectors, sets, lists), ``business`` (events and money).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from palate.evaluation.metrics import beyond, business, catalogue, fairness, predictive, ranking, sampling, similarity
from palate.evaluation.metrics.names import ALIASES, DEFINITIONS, Definition, Metric, define, parse_name

__all__ = [
    "ALIASES",
    "DEFAULT_METRICS",
    "DEFINITIONS",
    "Definition",
    "Metric",
    "Row",
    "beyond",
    "business",
    "catalogue",
    "fairness",
    "names",
    "parse",
    "predictive",
    "ranking",
    "sampling",
    "similarity",
]

#: What is judged when nothing is said: accuracy, coverage and novelty.
DEFAULT_METRICS = ("ndcg@10", "recall@10", "recall@20", "hit_rate@10", "mrr@10", "coverage@10", "novelty@10")

_FAMILIES = {
    fairness: "beyond accuracy",
    sampling: "ranking",
    predictive: "predictive",
    similarity: "similarity",
    business: "business",
}
for _module, _family in _FAMILIES.items():
    for _name in _module.__all__:
        _function: Callable[..., Any] = getattr(_module, _name)
        if not isinstance(_function, type):
            _taken = _name in DEFINITIONS
            define(Definition(f"{_family}.{_name}" if _taken else _name, _family, "arrays", _function, cut=False, better=0))


class Row(NamedTuple):
    """A line of the table of metrics.

    Attributes
    ----------
    name, family
        Name and family.
    how
        How to get it: a name for the judge, or the function to call.
    options
        Each option with its values, the default first.
    bounds
        Smallest and largest value of a metric of lists, as text.
    better
        ``"higher"``, ``"lower"`` or ``"—"``.
    text
        Formula and edge cases.
    """

    name: str
    family: str
    how: str
    options: str
    bounds: str
    better: str
    text: str


def parse(name: str | Metric) -> Metric:
    """Read a metric's name, such as ``"ndcg@10[gain=linear]"``.

    Raises
    ------
    ConfigError
        If the name, an option or a value is unknown; the nearest right one is named.
    """
    return parse_name(name)


def names(family: str | None = None) -> list[Row]:
    """Return the table of all metrics, or of one family (for the docs and the command line)."""
    return [_row(d) for d in DEFINITIONS.values() if family is None or d.family == family]


def _row(definition: Definition) -> Row:
    options = []
    for name, option in definition.options.items():
        others = [str(c) for c in option.choices or () if c != option.default]
        options.append(f"{name}={'|'.join([str(option.default), *others])}")
    if definition.kind == "arrays":
        how = f"{definition.function.__module__}.{definition.function.__name__}"
        return Row(definition.name, definition.family, how, "", "", "—", definition.text)
    how = f"{definition.name}@k" if definition.cut else definition.name
    better = {1: "higher", -1: "lower", 0: "—"}[definition.better]
    bounds = "{:g} to {:g}".format(*definition.bounds)
    return Row(definition.name, definition.family, how, "; ".join(options), bounds, better, definition.text)
