"""Slices: groups by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Entities
from palate.data.ragged import Ragged
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError
from palate.evaluation.slices import Slicing, by_activity, by_attribute, by_knowledge, by_popularity, standard_slices


def named(slicing: Slicing) -> list[str | None]:
    return [None if code < 0 else slicing.groups[code] for code in slicing.codes]


def test_activity_by_hand() -> None:
    slicing = by_activity(np.array([1, 2, 3, 4, 5, 6, 7, 8]), bins=4)
    assert slicing.groups == ("1 to 2 events", "3 to 4 events", "5 to 6 events", "7 to 8 events")
    assert slicing.codes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_activity_parts_nobody_alike(lengths: list[int], bins: int) -> None:
    slicing = by_activity(np.array(lengths), bins)
    assert set(slicing.codes) == set(range(len(slicing.groups))) and len(slicing.groups) <= bins
    for length in set(lengths):
        assert len(set(slicing.codes[np.array(lengths) == length])) == 1
    order = np.argsort(lengths)
    assert (np.diff(slicing.codes[order]) >= 0).all()


def test_popularity_by_hand() -> None:
    # events 50, 30, 20, 0: item 0 is the head, 1 the middle (up to 80%), 2 the tail, 3 was never seen
    counts = np.array([50, 30, 20, 0])
    truth = Ragged.from_rows([[0], [1], [2], [3], [], [0, 0, 2], [0, 1], [3, 2, 2]])
    assert named(by_popularity(truth, counts)) == ["head", "middle", "tail", "new", None, "head", "middle", "tail"]


def test_popularity_leaves_empty_groups_out() -> None:
    assert by_popularity(Ragged.from_rows([[1]]), np.array([9, 1])).groups == ("tail",)
    with pytest.raises(ConfigError):
        by_popularity(Ragged.from_rows([[1]]), np.array([9, 1]), shares=(0.8, 0.5))


def test_knowledge() -> None:
    assert named(by_knowledge(np.array([0, 3, 0]))) == ["cold", "warm", "cold"]


def people(**columns: list) -> Entities:
    n = len(next(iter(columns.values())))
    return Entities(Vocabulary.range(n), pa.table(columns))


def test_attributes_of_words_and_numbers() -> None:
    known = people(job=["cook", None, "judge", "cook"], age=[10.0, 20.0, None, 40.0])
    asked = np.array([3, 2, 1, 0, -1])
    assert named(by_attribute(known, "job", asked)) == ["cook", "judge", None, "cook", None]
    assert named(by_attribute(known, "age", asked, bins=2)) == ["40", None, "10 to 20", "10 to 20", None]


def test_rare_words_go_together() -> None:
    known = people(city=[f"c{n}" for n in range(20)] + ["c0"] * 5 + ["c1"] * 4)
    groups = by_attribute(known, "city", np.arange(29)).groups
    assert len(groups) == 8 and {"c0", "c1", "other"} <= set(groups)


def test_many_words_that_are_numbers_are_numbers() -> None:
    known = people(age=[str(n) for n in range(20, 36)])
    assert by_attribute(known, "age", np.arange(16), bins=2).groups == ("20 to 27", "28 to 35")
    assert by_attribute(known, "age", np.arange(3)).groups == ("20", "21", "22")


def test_unknown_attribute_is_refused() -> None:
    with pytest.raises(ConfigError, match="job"):
        by_attribute(people(job=["cook"]), "jub", np.array([0]))
    with pytest.raises(ConfigError, match="no user attributes"):
        by_attribute(Entities(Vocabulary.range(1)), "job", np.array([0]))


def test_standard_slices_leave_single_groups_out(small_split: Split) -> None:
    held_out = small_split.held_out("valid")
    found = standard_slices(held_out, small_split.train.item_counts)
    assert [s.name for s in found] == ["popularity of the answers"]
    with pytest.raises(ConfigError, match="people"):
        standard_slices(held_out, small_split.train.item_counts, attributes=["age"])


def test_codes_must_name_groups() -> None:
    with pytest.raises(DataError, match="names no group"):
        Slicing("x", ("a",), np.array([0, 1], np.int32))
