"""Rows dealt into parts: whole groups, time in order, looks counted, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from palate.data.row_split import is_row_split, read_row_split, split_rows
from palate.errors import ConfigError, DataError

N = 1_000


def rows(**more) -> pa.Table:
    rng = np.random.default_rng(0)
    own = {"x": np.arange(N), "click": rng.integers(2, size=N), "who": np.arange(N) // 7, "when": rng.permutation(N) // 3}
    return pa.table({**own, **more})


def parts(split) -> dict[str, pa.Table]:
    return {part: pa.concat_tables(split.tables(part)()) for part in ("train", "valid", "test")}


def test_every_row_goes_to_one_part_and_the_seed_decides(tmp_path: Path) -> None:
    split = split_rows(rows(), tmp_path / "a", seed=3)
    found = parts(split)
    assert sorted(x for part in found.values() for x in part.column("x").to_pylist()) == list(range(N))
    assert split.labels == ("click",) and 60 < found["test"].num_rows < 140 and 60 < found["valid"].num_rows < 140
    assert split_rows(rows(), tmp_path / "b", seed=3).fingerprint == split.fingerprint
    assert split_rows(rows(), tmp_path / "c", seed=4).fingerprint != split.fingerprint
    again = read_row_split(tmp_path / "a")
    assert again.fingerprint == split.fingerprint and again.spec["rows"]["train"] == found["train"].num_rows


def test_groups_stay_whole(tmp_path: Path) -> None:
    found = parts(split_rows(rows(), tmp_path / "a", group="who", how="group"))
    people = {part: set(table.column("who").to_pylist()) for part, table in found.items()}
    assert not (people["train"] & people["test"] or people["train"] & people["valid"] or people["valid"] & people["test"])
    assert all(len(own) for own in people.values())


def test_time_goes_forward_and_a_moment_stays_together(tmp_path: Path) -> None:
    found = parts(split_rows(rows(), tmp_path / "a", how="time", time="when", valid=0.2, test=0.1))
    times = {part: table.column("when").to_numpy() for part, table in found.items()}
    assert times["train"].max() < times["valid"].min() and times["valid"].max() < times["test"].min()
    assert 95 <= len(times["test"]) <= 105 and 190 <= len(times["valid"]) <= 210


def test_looks_at_the_test_part_are_counted(tmp_path: Path) -> None:
    split = split_rows(rows(), tmp_path / "a")
    list(split.tables("train")())
    assert split.looks == 0
    list(split.tables("test")())
    list(read_row_split(tmp_path / "a").tables("test")())
    assert split.looks == 2


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"valid": 0.6, "test": 0.5}, ConfigError, "shares"),
        ({"how": "group"}, ConfigError, "--group"),
        ({"group_is_field": True}, ConfigError, "--group"),
        ({"how": "time"}, ConfigError, "--time"),
        ({"labels": ["clicks"]}, DataError, "no such column"),
        ({"group": "whom"}, DataError, "no such column"),
        ({"group": "same", "how": "group"}, DataError, "has no rows"),
        ({"how": "time", "time": "empty"}, DataError, "row 0"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(given, error, words, tmp_path: Path) -> None:
    table = rows(same=np.zeros(N), empty=pa.nulls(N, pa.float64()))
    with pytest.raises(error, match=words):
        split_rows(table, tmp_path / "a", **given)
    assert not list(tmp_path.iterdir())


def test_a_label_must_be_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which column is the label"):
        split_rows(pa.table({"a": [1, 2]}), tmp_path / "a")


def test_other_folders_are_left_alone_and_broken_ones_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="something else"):
        split_rows(rows(), tmp_path / "a")
    assert not is_row_split(tmp_path / "a")
    with pytest.raises(DataError, match="no split of rows"):
        read_row_split(tmp_path / "a")
    split_rows(rows(), tmp_path / "b")
    (tmp_path / "b" / "valid.parquet").unlink()
    with pytest.raises(DataError, match=r"valid\.parquet"):
        read_row_split(tmp_path / "b")
    (tmp_path / "b" / "rows.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match="no split of rows"):
        read_row_split(tmp_path / "b")
