"""Sums of rows chosen by ragged lists: distinct items, any order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.ragged import Ragged
from palate.kernels.rows import distinct_rows, distinct_rows_reference, sum_rows, sum_rows_reference

MATRIX = np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)


def test_by_hand():
    rows = Ragged.from_rows([[1, 0], [], [2, 2, 2]])
    matrix = np.array([[1, 0], [10, 1], [5, 5]], np.float32)
    assert sum_rows(rows.offsets, rows.values, matrix).tolist() == [[11, 1], [0, 0], [5, 5]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 11), max_size=9), max_size=6))
def test_equals_the_plain_form_and_forgets_order_and_repeats(lists):
    rows = Ragged.from_rows(lists)
    found = sum_rows(rows.offsets, rows.values, MATRIX)
    np.testing.assert_array_equal(found, sum_rows_reference(rows.offsets, rows.values, MATRIX))
    mixed = Ragged.from_rows([[*reversed(row), *row] for row in lists])
    assert found.tobytes() == sum_rows(mixed.offsets, mixed.values, MATRIX).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 11), max_size=9), max_size=6), st.integers(0, 3))
def test_rows_as_sets(lists, first):
    rows = Ragged.from_rows(lists).slice(min(first, len(lists)), len(lists))
    before = rows.values.copy()
    offsets, values = distinct_rows(rows.offsets, rows.values)
    wanted = distinct_rows_reference(rows.offsets, rows.values)
    np.testing.assert_array_equal(offsets, wanted[0])
    np.testing.assert_array_equal(values, wanted[1])
    np.testing.assert_array_equal(rows.values, before)
    assert rows.distinct.tolist() == [sorted(set(row)) for row in lists[first:]]
    assert values.dtype == rows.values.dtype
