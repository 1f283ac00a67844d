"""Lookup: every kind of Arrow array finds its place."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.row_lookup import Lookup


def test_texts_of_slices_and_with_nulls() -> None:
    lookup = Lookup(pa.array(["skip", "red", "blue", "grün"]).slice(1))
    column = pa.array(["x", "blue", None, "red", "grün", "grün ", ""]).slice(1)
    found = lookup.places(column)
    assert found[[0, 2, 3, 4, 5]].tolist() == [1, 0, 2, -1, -1]
    assert lookup.places(pa.array([], pa.string())).tolist() == []
    assert lookup.places(pa.array([None, None], pa.string())).tolist() == [-1, -1]
    assert Lookup(pa.array([], pa.string())).places(pa.array(["a"])).tolist() == [-1]


def test_numbers_of_slices_and_with_nulls() -> None:
    lookup = Lookup(pa.array([9, 5, -3], pa.int64()).slice(1))
    column = pa.array([1, -3, None, 5, 9], pa.int64()).slice(1)
    assert lookup.places(column)[[0, 2, 3]].tolist() == [1, 0, -1]
    assert lookup.places(pa.array([], pa.int64())).tolist() == []


def test_other_types_are_compared_as_texts() -> None:
    assert Lookup(pa.array([7, 8], pa.int64())).places(pa.array(["8", "9"])).tolist() == [1, -1]
    assert Lookup(pa.array(["7", "8"])).places(pa.array([8, 9], pa.int64())).tolist() == [1, -1]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
def test_places_are_those_of_arrow(kind: pa.DataType) -> None:
    rng = np.random.default_rng(0)
    values = pa.array(rng.permutation(5_000)).cast(kind)
    column = pa.array(rng.integers(0, 9_000, 20_000)).cast(kind)
    truth = pa.compute.index_in(column, value_set=values).fill_null(-1).to_numpy()
    np.testing.assert_array_equal(Lookup(values).places(column), truth)
