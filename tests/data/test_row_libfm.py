"""Rows in the form of libFM: fields by place, labels, and lines that are wrong."""

import gzip
from pathlib import Path

import pytest

from palate.data.row_libfm import read_libfm
from palate.errors import DataError

FIELDS = ("user", "item")


@pytest.mark.parametrize("packed", [False, True])
def test_fields_are_told_by_place(tmp_path: Path, packed: bool) -> None:
    text = b"-1 204:1 4798:1\n1 42:1 1572:1.0\n"
    path = tmp_path / ("rows.libfm.gz" if packed else "rows.libfm")
    path.write_bytes(gzip.compress(text) if packed else text)
    assert read_libfm(path, FIELDS).to_pylist() == [
        {"user": "204", "item": "4798", "label": 0.0},
        {"user": "42", "item": "1572", "label": 1.0},
    ]


def test_other_labels_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.libfm"
    path.write_text("4 1:1 2:1\n-0.5 1:1 2:1\n")
    assert read_libfm(path, FIELDS, label="stars").column("stars").to_pylist() == [4.0, -0.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 1:1 2:1\n1 1:1\n", "another number of fields"),
        ("1 1:1 2:1\n1 1:1 2:1 3:1\n", "row 2"),
        ("1 1:1 2:1\n1 1:1 2:0.5\n", r"field 'item', row 2"),
        ("1 1:1 two:1\n", "number:1"),
        ("yes 1:1 2:1\n", "a label is no number"),
        ("", "can't be read"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rows.libfm"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_libfm(path, FIELDS)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_libfm(tmp_path / "none", FIELDS)
