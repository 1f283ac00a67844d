"""Mixtures: ids, events and texts of several data sets side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.mixture import DOMAIN, mixed
from palate.errors import DataError


def named(data: Dataset, **columns: pa.Array) -> Dataset:
    return data.derive({"step": "texts"}, items=replace(data.items, attributes=pa.table(columns)))


@pytest.fixture
def pair() -> dict[str, Dataset]:
    films = Dataset.from_columns(["a", "a", "b"], ["x", "y", "x"], time=[3, 1, 2])
    books = Dataset.from_columns([1, 2], [7, 7], time=[5, 4])
    films = named(films, title=pa.array(["X", "Y"]), genres=pa.array([["war", "sea"], ["sea"]]), year=pa.array([1990, 1991]))
    return {"films": films, "books": named(books, title=pa.array(["Seven"]), genres=pa.array(["crime"]), maker=pa.array(["M"]))}


def test_everybody_and_everything_stays_apart(pair: dict[str, Dataset]) -> None:
    whole = mixed(pair)
    assert whole.users.ids.raw.to_pylist() == ["films:a", "films:b", "books:1", "books:2"]
    assert whole.items.ids.raw.to_pylist() == ["films:x", "films:y", "books:7"]
    rows = [
        whole.histories.items[a:b].tolist() for a, b in zip(whole.histories.offsets, whole.histories.offsets[1:], strict=False)
    ]
    assert rows == [[1, 0], [0], [2], [2]]
    assert whole.interactions.time is not None and whole.item_counts.tolist() == [2, 1, 2]


def test_texts_meet_in_one_table(pair: dict[str, Dataset]) -> None:
    table = mixed(pair).items.attributes
    assert table is not None and "year" not in table.column_names
    assert table.column("genres").to_pylist() == ["war; sea", "sea", "crime"]
    assert table.column("maker").to_pylist() == [None, None, "M"]
    assert table.column(DOMAIN).to_pylist() == ["films", "films", "books"]


def test_lists_stay_lists_where_all_have_them_and_times_go_where_one_lacks_them(pair: dict[str, Dataset]) -> None:
    other = named(Dataset.from_columns(["u"], ["i"]), genres=pa.array([["war"]]).cast(pa.list_(pa.large_string())))
    whole = mixed({"films": pair["films"], "more": other})
    assert whole.items.attributes is not None and whole.interactions.time is None
    assert whole.items.attributes.column("genres").to_pylist() == [["war", "sea"], ["sea"], ["war"]]


def test_one_without_attributes_and_none_at_all() -> None:
    bare = Dataset.from_columns(["u"], ["i"])
    table = mixed({"bare": bare}).items.attributes
    assert table is not None and table.column_names == [DOMAIN]
    assert np.array_equal(mixed({"bare": bare}).item_counts, [1])
    with pytest.raises(DataError, match="needs a data set"):
        mixed({})
