"""Columns of rows: lists that are the same in all rows are told, and give the codes of each row on its own."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from palate.data.row_columns import RowError, is_repeated, numbers_of, plain
from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        ([["a", "b"]] * 4, True),
        ([[]] * 3, True),
        ([["a", None]] * 3, True),
        ([["a", "b"], ["a", "b"], ["a", "c"]], False),
        ([["a", "b"], ["b", "a"]], False),
        ([["a"], ["a", "a"], ["a"]], False),
        ([["a"], None, ["a"]], False),
        ([["a"]], False),
    ],
)
def test_lists_that_are_the_same_in_all_rows(rows, same) -> None:
    column = pa.chunked_array([pa.array(rows, pa.list_(pa.string()))])
    assert is_repeated(column) is same
    padded = pa.chunked_array([pa.array([["x"], *rows, ["y", "z"]], pa.list_(pa.string())).slice(1, len(rows))])
    assert is_repeated(padded) is same
    if len(rows) > 2:
        assert is_repeated(pa.chunked_array([column.chunk(0).slice(0, 1), column.chunk(0).slice(1)])) is same


@pytest.mark.parametrize("kind", ["sequence", "list"])
def test_repeated_lists_have_the_codes_of_each_row(kind) -> None:
    rng = np.random.default_rng(0)
    known = pa.table({"h": [rng.choice(list("abcdef"), 4).tolist() for _ in range(30)]})
    encoder = RowEncoder.learn([RowField("h", kind, max_length=3)], lambda: [known])
    for one in (["a", "b", None, "q"], [], ["c"]):
        whole = encoder.encode(pa.table({"h": pa.array([one] * 5, pa.list_(pa.string()))})).codes
        alone = encoder.encode(pa.table({"h": pa.array([one], pa.list_(pa.string()))})).codes
        np.testing.assert_array_equal(whole, np.repeat(alone, 5, axis=0))


def test_empty_texts_are_missing() -> None:
    assert plain(pa.array(["a", "", None])).to_pylist() == ["a", None, None]
    assert plain(pa.array([None, None], pa.string())).null_count == 2
    assert plain(pa.array(["a", "b"])).null_count == 0


def test_an_error_of_a_row_can_be_counted_anew_and_sent() -> None:
    with pytest.raises(RowError, match="infinite") as caught:
        numbers_of(pa.chunked_array([[1.0, float("inf")]]), "price", 40)
    error = caught.value
    assert (error.row, error.where) == (1, "column 'price', row 41")
    assert error.counted(7).where == "column 'price', row 7" and error.counted(7).remedy == error.remedy
    sent = pickle.loads(pickle.dumps(error))
    assert (sent.row, str(sent)) == (error.row, str(error))
