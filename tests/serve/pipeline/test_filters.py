"""Filters as data: what passes, what is refused, and that nothing is ever evaluated as code."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from palate.errors import DataError
from palate.serve.memory.catalogue import Item
from palate.serve.pipeline.filters import Filter, compile_filter

ITEM = Item(
    "m1",
    title="Alien",
    text="In space",
    categories=("Horror", "Sci-Fi"),
    price=9.5,
    attributes={"year": 1979, "cast": ["Weaver"], "rated": True},
    created=100.0,
)
FREE = Item("m2")


def passes(node: Any, item: Item = ITEM) -> bool:
    return compile_filter(TypeAdapter(Filter).validate_python(node))(item)


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        ({"field": "price", "op": "<=", "value": 9.5}, True),
        ({"field": "price", "op": "<", "value": 9.5}, False),
        ({"field": "categories", "op": "has", "value": "Horror"}, True),
        ({"field": "categories", "op": "in", "value": ["Comedy", "Sci-Fi"]}, True),
        ({"field": "id", "op": "in", "value": ["m2"]}, False),
        ({"field": "attributes.year", "op": ">=", "value": 1979}, True),
        ({"field": "attributes.year", "op": ">", "value": "1979"}, False),
        ({"field": "attributes.rated", "op": "==", "value": True}, True),
        ({"field": "attributes.rated", "op": "==", "value": 1}, False),
        ({"field": "attributes.absent", "op": "!=", "value": 1}, False),
        ({"not": {"field": "attributes.absent", "op": "exists"}}, True),
        ({"any": [{"field": "title", "op": "==", "value": "x"}, {"field": "title", "op": "==", "value": "Alien"}]}, True),
        ({"all": [{"field": "title", "op": "exists"}, {"not": {"field": "price", "op": "exists"}}]}, False),
    ],
)
def test_conditions(node: Any, wanted: bool) -> None:
    assert passes(node) is wanted


def test_what_an_item_lacks_never_passes() -> None:
    for field in ("title", "text", "price", "image", "categories"):
        assert not passes({"field": field, "op": "exists"}, FREE)
        assert not passes({"field": field, "op": "!=", "value": "x"}, FREE)
    assert not passes({"field": "price", "op": "<", "value": 1e9}, FREE)


@pytest.mark.parametrize(
    "node",
    [
        {"field": "price", "op": "like", "value": 1},
        {"field": "price", "op": "<", "value": {"a": 1}},
        {"field": "price", "op": "<", "value": 1, "extra": 2},
        {"all": []},
        {"all": [{"field": "price", "op": "exists"}], "any": []},
        "item.price < 3",
        7,
    ],
)
def test_other_forms_are_refused(node: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Filter).validate_python(node)


@pytest.mark.parametrize(
    ("node", "word"),
    [
        ({"field": "__class__", "op": "exists"}, "unknown field"),
        ({"field": "attributes.", "op": "exists"}, "unknown field"),
        ({"field": "price", "op": "in", "value": 3}, "takes a list"),
        ({"field": "price", "op": "<", "value": True}, "a number or a text"),
        ({"field": "price", "op": "exists", "value": 3}, "takes no value"),
        ({"field": "price", "op": "=="}, "takes one value"),
    ],
)
def test_senseless_conditions_are_refused(node: Any, word: str) -> None:
    with pytest.raises(DataError, match=word):
        passes(node)


def test_large_and_deep_filters_are_refused() -> None:
    leaf: Any = {"field": "price", "op": "exists"}
    deep = leaf
    for _ in range(9):
        deep = {"not": deep}
    with pytest.raises(DataError, match="too large"):
        passes(deep)
    with pytest.raises(DataError, match="too large"):
        passes({"all": [{"any": [leaf] * 9}] * 9})
