"""Positive events: terms as they are written, what they keep, what a spec says of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.dataset import Dataset
from palate.data.filters import positive
from palate.data.positive import Positive, Term
from palate.data.readers import read
from palate.errors import ConfigError, DataError

DONE = [
    ("ann", "a", "view", 1.0),
    ("ann", "b", "rating", 5.0),
    ("ann", "c", "rating", 3.5),
    ("ben", "a", "buy", 20.0),
    ("ben", "d", "dislike", 1.0),
]


def shop() -> Dataset:
    columns = dict(zip(("user", "item", "action", "value"), (list(c) for c in zip(*DONE, strict=True)), strict=True))
    return replace(read(pa.table(columns)), name="shop")


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("buy", Term("buy")),
        (" rating:4 ", Term("rating", 4.0)),
        (":3.5", Term(None, 3.5)),
        ("video:play", Term("video:play")),
        ("video:play:-0.25", Term("video:play", -0.25)),
    ],
)
def test_terms_are_read_as_they_are_written(text: str, term: Term) -> None:
    assert Term.parse(text) == term == Term.parse(str(term))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_bound_is_written_to_the_last_bit(least: float) -> None:
    assert Term.parse(str(Term("rating", least))).least == least


@pytest.mark.parametrize("text", ["", " ", ":", "rating:nan", ":inf"])
def test_what_names_no_events_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="names no events"):
        Positive.parse([text])


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["buy"], [3]),
        (["rating:4"], [1]),
        (["rating:3.5", "buy"], [1, 2, 3]),
        ([":3.5"], [1, 2, 3]),
        (["view", "view"], [0]),
    ],
)
def test_the_events_that_count(texts: list[str], kept: list[int]) -> None:
    found = Positive.parse(texts)
    assert found is not None and np.flatnonzero(found.mask(shop())).tolist() == kept
    whole = found.select(shop())
    assert whole.interactions.file_order.tolist() == kept
    assert whole.n_items == 4 and whole.n_users == 2  # nobody and nothing goes
    assert Positive.of_spec(whole.spec) == found
    filtered = positive(shop(), texts)
    assert len(filtered) == len(kept) and filtered.item_counts.min() == 1
    assert Positive.of_spec(filtered.spec) == found


def test_nothing_said_lets_all_count() -> None:
    assert Positive.parse([]) is None and Positive.of_spec(shop().spec) is None


def test_an_event_without_a_value_counts_one() -> None:
    data = read(pa.table({"user": ["ann", "ben"], "item": ["a", "b"], "action": ["view", "buy"]}))
    one, two = Positive.parse([":1"]), Positive.parse([":2", "buy"])
    assert one is not None and one.mask(data).all()
    assert two is not None and two.mask(data).tolist() == [False, True]


def test_what_can_not_be_met_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"no events of this type[\s\S]*rating") as told:
        positive(shop(), ["ratings:4"])
    assert told.value.value == "ratings"
    with pytest.raises(DataError, match="no event is positive"):
        positive(shop(), ["rating:6"])
    bare = Dataset.from_columns(["ann"], ["a"])
    with pytest.raises(DataError, match="have no types"):
        positive(bare, ["buy"])
    with pytest.raises(DataError, match="have no values"):
        positive(bare, [":4"])
    with pytest.raises(ConfigError, match="no positive events are named"):
        positive(shop(), [])
