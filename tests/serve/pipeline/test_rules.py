"""Rules in CEL: what they see, what they can't reach, and what they can't do."""

from __future__ import annotations

import pytest

from palate.errors import ConfigError
from palate.serve.memory.catalogue import Item
from palate.serve.pipeline.rules import Rule

ITEM = Item("m1", title="Alien", categories=("Horror",), price=9.5, attributes={"country": "us", "year": 1979})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("item.price < 10.0", True),
        ('"Horror" in item.categories', True),
        ('has(item.attributes.country) && item.attributes.country == "us"', True),
        ("item.attributes.year > 1980", False),
        ('item.categories.exists(c, c == "Comedy")', False),
    ],
)
def test_rules(text: str, wanted: bool) -> None:
    assert Rule(text).allows(ITEM, {}) is wanted


def test_a_rule_may_look_at_the_situation() -> None:
    rule = Rule("item.attributes.country == context.country")
    assert rule.personal
    assert rule.allows(ITEM, {"country": "us"})
    assert not rule.allows(ITEM, {"country": "de"})


def test_what_cant_be_answered_keeps_the_item_out_and_is_counted() -> None:
    rule = Rule("item.attributes.absent > 3")
    assert not rule.allows(ITEM, {})
    assert rule.failed == 1


def test_answers_are_remembered_until_the_item_changes() -> None:
    rule = Rule("item.attributes.absent > 3")
    for _ in range(3):
        rule.allows(ITEM, {})
    assert rule.failed == 1
    rule.allows(Item("m1", title="changed"), {})
    assert rule.failed == 2


@pytest.mark.parametrize(
    "text",
    [
        "item.price <",
        "x" * 400,
        "users.size() > 0",
        "item.categories.map(a, item.categories.map(b, a + b)).size() > 0",
        "__import__('os')",
        "item.price = 3",
        'item.title.matches("^(a+)+$")',
        "item.id.format() == 'x'",
    ],
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Rule(text).allows(ITEM, {})


def test_no_python_object_is_within_reach() -> None:
    for text in ("item.__class__ == 1", "item.attributes.__init__ == 1"):
        rule = Rule(text)
        assert not rule.allows(ITEM, {})
        assert rule.failed == 1
