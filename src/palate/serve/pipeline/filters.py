"""Filters as data: conditions on items that a caller may send, checked by a schema and never evaluated as code.

    {"field": "price", "op": "<=", "value": 20}
    {"all": [{"field": "categories", "op": "has", "value": "Comedy"}, {"not": {"field": "attributes.age", "op": "exists"}}]}

A condition on something that an item doesn't have is false (``!=`` included); ask for its absence with
``{"not": {"field": "price", "op": "exists"}}``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag

from palate.errors import DataError
from palate.serve.memory.catalogue import Item

#: Conditions in one filter, and how deep they may stand in one another.
MOST_CONDITIONS, MOST_DEPTH = 64, 8
#: What may be compared with.
Plain = StrictBool | StrictInt | StrictFloat | Annotated[str, Field(max_length=500)]
#: Says whether an item passes.
Test = Callable[[Item], bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FIELDS = ("id", "title", "text", "price", "created", "image", "categories")


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Condition(_Node):
    """One comparison."""

    field: str = Field(max_length=120, description="id, title, text, price, created, image, categories or attributes.NAME")
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "has", "exists"] = Field(description="comparison")
    value: Plain | Annotated[list[Plain], Field(max_length=1_000)] | None = Field(
        None, description="what to compare with; a list for 'in', nothing for 'exists'"
    )


class Every(_Node):
    """All must hold."""

    all: Annotated[list[Filter], Field(min_length=1, max_length=MOST_CONDITIONS)]


class Some(_Node):
    """At least one must hold."""

    any: Annotated[list[Filter], Field(min_length=1, max_length=MOST_CONDITIONS)]


class Not(_Node):
    """Must not hold."""

    not_: Filter = Field(alias="not")


def _kind(value: Any) -> str | None:
    """Tell the kind of a node by its key, so that a wrong one is complained about once."""
    if isinstance(value, dict):
        return next((key for key in ("all", "any", "not") if key in value), "field")
    kinds: dict[type, str] = {Every: "all", Some: "any", Not: "not", Condition: "field"}
    return kinds.get(type(value))


Filter = Annotated[
    Annotated[Every, Tag("all")]
    | Annotated[Some, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Condition, Tag("field")],
    Discriminator(_kind),
]
for _model in (Every, Some, Not):
    _model.model_rebuild()


def compile_filter(node: Filter) -> Test:
    """Turn a filter into a test of an item.

    Raises
    ------
    DataError
        If it is too large or too deep, names a field that items don't have, or compares what can't be compared.
    """
    _measure(node)
    return _compile(node)


def _measure(node: Filter) -> None:
    """Refuse filters that would be slow to run."""
    level: list[Filter] = [node]
    total = depth = 0
    while level:
        total, depth = total + len(level), depth + 1
        if total > MOST_CONDITIONS or depth > MOST_DEPTH:
            raise DataError(
                "the filter is too large.",
                where="filter",
                remedy=f"at most {MOST_CONDITIONS} conditions, {MOST_DEPTH} deep",
            )
        level = [below for parent in level for below in _below(parent)]


def _below(node: Filter) -> Iterable[Filter]:
    if isinstance(node, Every):
        return node.all
    if isinstance(node, Some):
        return node.any
    return (node.not_,) if isinstance(node, Not) else ()


def _compile(node: Filter) -> Test:
    if isinstance(node, Condition):
        return _condition(node)
    tests = [_compile(below) for below in _below(node)]
    if isinstance(node, Every):
        return lambda item: all(test(item) for test in tests)
    if isinstance(node, Some):
        return lambda item: any(test(item) for test in tests)
    return lambda item: not tests[0](item)


def _condition(node: Condition) -> Test:
    get = _getter(node.field)
    op, value = node.op, node.value
    _check_value(node)
    if op == "exists":
        return lambda item: get(item) is not None
    if op == "in":
        assert isinstance(value, list)
        choices = {_key(v) for v in value}
        return lambda item: any(_key(v) in choices for v in _listed(get(item)))
    if op == "has":
        return lambda item: any(_key(v) == _key(value) for v in _listed(get(item)))
    if op in ("==", "!="):
        wanted = op == "=="
        return lambda item: (found := get(item)) is not None and (_key(found) == _key(value)) is wanted
    compare = _ORDER[op]
    text = isinstance(value, str)

    def ordered(item: Item) -> bool:
        found = get(item)
        if isinstance(found, bool) or not isinstance(found, str if text else (int, float)):
            return False
        return compare(found, value)

    return ordered


def _check_value(node: Condition) -> None:
    op, value = node.op, node.value
    if op == "in":
        good, wanted = isinstance(value, list), "a list"
    elif op == "exists":
        good, wanted = value is None, "no value"
    elif op in _ORDER:
        good, wanted = isinstance(value, (int, float, str)) and not isinstance(value, bool), "a number or a text"
    else:
        good, wanted = value is not None and not isinstance(value, list), "one value"
    if not good:
        raise DataError(f"{op!r} takes {wanted}.", where=f"filter on {node.field}", value=value)


def _getter(field: str) -> Callable[[Item], Any]:
    if field.startswith("attributes.") and len(field) > 11:
        name = field[11:]
        return lambda item: item.attributes.get(name)
    if field not in _FIELDS:
        raise DataError(
            "the filter names an unknown field.",
            where="filter",
            value=field,
            remedy=f"use one of: {', '.join(_FIELDS)}, attributes.NAME",
        )
    get = operator.attrgetter(field)
    return lambda item: get(item) or None if field in ("title", "text", "image", "categories") else get(item)


def _listed(found: Any) -> Iterable[Any]:
    if found is None:
        return ()
    return found if isinstance(found, (list, tuple)) else (found,)


def _key(value: Any) -> Any:
    """Return a form in which true is not 1, and lists can be compared."""
    if isinstance(value, bool):
        return ("bool", value)
    return tuple(_key(v) for v in value) if isinstance(value, (list, tuple)) else value
