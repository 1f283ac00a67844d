"""Names of metrics: ``ndcg@10``, ``recall@20[denominator=capped]``; what each means, its options and its range.

A name is a word, a cut ``@k`` and options in brackets. A definition is a function whose docstring holds the formula; its
keyword arguments are the options.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from palate.errors import ConfigError, nearest

#: ``rows``: accuracy from ranks of relevant items; ``lists``: one value a list from facts; ``catalogue``: one value from
#: counts over all lists; ``arrays``: a function of plain arrays, not for lists.
Kind = Literal["rows", "lists", "catalogue", "arrays"]

_NAME = re.compile(r"^\s*([A-Za-z][\w\-.]*)\s*(?:@\s*(\d+))?\s*(?:\[([^\]]*)\])?\s*$")


@dataclass(frozen=True)
class Option:
    """One convention that can be chosen.

    Attributes
    ----------
    default
        Its value when it is not named.
    choices
        The words allowed, or ``None`` for a number.
    low, high
        Range of a number.
    """

    default: Any
    choices: tuple[str, ...] | None = None
    low: float = float("-inf")
    high: float = float("inf")

    def read(self, text: str, where: str) -> Any:
        """Turn text into a value of this option, or raise :class:`ConfigError`."""
        if self.choices is not None:
            if text not in self.choices:
                raise ConfigError("unknown value of an option.", where=where, value=text, remedy=nearest(text, self.choices))
            return text
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not self.low <= number <= self.high:
            raise ConfigError(
                "an option is out of range.",
                where=where,
                value=text,
                remedy=f"give a number from {self.low:g} to {self.high:g}",
            )
        return number


@dataclass(frozen=True, eq=False)
class Definition:
    """One metric.

    Attributes
    ----------
    name, family
        ``"ndcg"``, ``"ranking"``.
    kind
        How it is computed.
    function
        The function that holds the formula.
    bounds
        Smallest and largest value.
    better
        1: higher is better; -1: lower; 0: neither.
    cut
        Whether a name may carry ``@k``.
    summary
        How values of people become one: ``"mean"`` (weighted where the metric has weights) or ``"median"``.
    plan
        For kind ``rows``: options to (code, parameter) of :func:`palate.kernels.ranking_metrics.measure`.
    weights
        For kind ``rows``: lists and options to the weight of each person, or ``None``.
    """

    name: str
    family: str
    kind: Kind
    function: Callable[..., Any]
    bounds: tuple[float, float] = (0.0, 1.0)
    better: int = 1
    cut: bool = True
    summary: Literal["mean", "median"] = "mean"
    plan: Callable[..., tuple[int, float]] | None = None
    weights: Callable[..., Any] | None = None

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """The options, read from the function's keyword arguments."""
        source = self.plan or self.function
        if self.kind == "arrays":
            return {}
        hints = get_type_hints(source, include_extras=True)
        arguments = inspect.signature(source).parameters.values()
        return {a.name: _option(a.default, hints[a.name]) for a in arguments if a.kind is a.KEYWORD_ONLY}

    @property
    def text(self) -> str:
        """The docstring: formula, edge cases, source."""
        return inspect.getdoc(self.plan or self.function) or ""


@dataclass(frozen=True)
class Metric:
    """A metric with its cut and options, as parsed from a name."""

    definition: Definition
    k: int | None
    chosen: tuple[tuple[str, Any], ...]

    @property
    def options(self) -> dict[str, Any]:
        """All options with their values, defaults included."""
        return {name: option.default for name, option in self.definition.options.items()} | dict(self.chosen)

    @property
    def name(self) -> str:
        """The shortest name that means this: defaults left out, options in the order of the alphabet."""
        cut = "" if self.k is None else f"@{self.k}"
        words = ",".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.chosen)
        return f"{self.definition.name}{cut}" + (f"[{words}]" if words else "")

    def __str__(self) -> str:
        return self.name


#: Every metric by name; filled by the modules of this package.
DEFINITIONS: dict[str, Definition] = {}
#: Other names of the same thing.
ALIASES = {
    "hit": "hit_rate",
    "hits_rate": "hit_rate",
    "hr": "hit_rate",
    "session_coverage": "hit_rate",
    "rr": "mrr",
    "reciprocal_rank": "mrr",
    "ap": "map",
    "average_precision": "map",
    "basket_recall": "recall",
    "catalog_coverage": "coverage",
    "catalogue_coverage": "coverage",
    "distributional_coverage": "entropy",
    "ild": "diversity",
    "intra_list_diversity": "diversity",
    "intra_list_similarity": "ils",
    "popularity_bias": "arp",
    "inter_list_diversity": "personalization",
    "personalisation": "personalization",
    "delta_gap": "popularity_lift",
    "mpr": "percentile_rank",
    "a_ndcg": "alpha_ndcg",
    "self_information": "novelty",
}


def define(definition: Definition) -> Definition:
    """Enter a definition in the table."""
    if definition.name in DEFINITIONS:
        raise ValueError(f"metric {definition.name!r} is defined twice")
    DEFINITIONS[definition.name] = definition
    return definition


def parse_name(name: str | Metric) -> Metric:
    """Read a metric's name.

    Raises
    ------
    ConfigError
        If the name, an option or a value is unknown (the nearest right one is named), or the cut is wrong.
    """
    if isinstance(name, Metric):
        return name
    match = _NAME.match(name) if isinstance(name, str) else None
    if match is None:
        raise ConfigError(
            "a metric's name can't be read.", where="metrics", value=name, remedy="write it as ndcg@10 or ndcg@10[gain=linear]"
        )
    word, cut, rest = match.groups()
    definition = _find(word)
    if cut is not None and not definition.cut:
        raise ConfigError("this metric takes no cut.", where="metrics", value=name, remedy=f"write {definition.name}")
    if cut is not None and int(cut) < 1:
        raise ConfigError("a cut is at least 1.", where="metrics", value=name, remedy=f"write {definition.name}@10")
    return Metric(definition, None if cut is None else int(cut), _chosen(definition, rest, name))


def _find(word: str) -> Definition:
    key = word.lower().replace("-", "_")
    definition = DEFINITIONS.get(ALIASES.get(key, key))
    known = [d.name for d in DEFINITIONS.values() if d.kind != "arrays"]
    if definition is None:
        raise ConfigError("unknown metric.", where="metrics", value=word, remedy=nearest(key, [*known, *ALIASES]))
    if definition.kind == "arrays":
        place = f"{definition.function.__module__}.{definition.function.__name__}"
        raise ConfigError("this metric is not one of ranked lists.", where="metrics", value=word, remedy=f"call {place}")
    return definition


def _chosen(definition: Definition, rest: str | None, where: str) -> tuple[tuple[str, Any], ...]:
    chosen = {}
    for part in filter(None, (p.strip() for p in (rest or "").split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        option = definition.options.get(key)
        if option is None or not equals:
            advice = nearest(key, definition.options) if definition.options else "this metric has no options"
            raise ConfigError("unknown option of a metric.", where=where, value=part, remedy=advice)
        read = option.read(value, f"option {key} of {definition.name}")
        if read != option.default:
            chosen[key] = read
    return tuple(sorted(chosen.items()))


def _option(default: Any, hint: Any) -> Option:
    if get_origin(hint) is Literal:
        return Option(default, tuple(get_args(hint)))
    if get_origin(hint) is Annotated:
        low, high = get_args(hint)[1]
        return Option(float(default), None, low, high)
    return Option(float(default))
