"""Whole or not at all: what stands beside an earlier writing is never lost."""

from pathlib import Path

import pytest

from palate.data.whole import whole_folder
from palate.errors import DataError


def write(folder: Path, *names: str) -> None:
    with whole_folder(folder, "sign.json", ["looks.jsonl"]) as work:
        for name in ("sign.json", *names):
            (work / name).write_text(name)


def test_an_earlier_writing_is_replaced_with_the_files_it_had_more(tmp_path: Path) -> None:
    write(tmp_path / "a", "one.parquet", "two.parquet")
    (tmp_path / "a" / "looks.jsonl").write_text("kept by the caller, or not")
    write(tmp_path / "a", "one.parquet")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["one.parquet", "sign.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("other", ["notes.md", "model/bundle.json"])
def test_what_somebody_put_beside_it_stays(tmp_path: Path, other: str) -> None:
    write(tmp_path / "a", "one.parquet", "two.parquet")
    (tmp_path / "a" / other).parent.mkdir(exist_ok=True)
    (tmp_path / "a" / other).write_text("mine")
    with pytest.raises(DataError, match=other.split("/")[0]):
        write(tmp_path / "a", "one.parquet")
    assert (tmp_path / "a" / other).read_text() == "mine" and (tmp_path / "a" / "two.parquet").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_folders_within_are_replaced_where_folders_are_written(tmp_path: Path) -> None:
    for windows in (3, 2):
        with whole_folder(tmp_path / "a", "sign.json") as work:
            (work / "sign.json").write_text("{}")
            for number in range(windows):
                (work / str(number)).mkdir()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["0", "1", "sign.json"]
