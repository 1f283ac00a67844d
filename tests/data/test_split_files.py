"""Split files: what is written comes back, what was changed is refused by name, looks are counted for good."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.protocols import rebuild, rolling, split
from palate.data.split import Split
from palate.data.split_files import LOOKS, SPEC, read_split, write_rolling, write_split
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError


def rich() -> Dataset:
    """Return data with every kind of column, attributes, names, graphs and a log."""
    n = 60
    rng = np.random.default_rng(0)
    data = Dataset.from_columns([f"u{i}" for i in rng.integers(0, 6, n)], rng.integers(0, 20, n), time=rng.integers(0, 40, n))
    events = Interactions.sorted(
        data.interactions.user,
        data.interactions.item,
        time=data.interactions.time,
        value=rng.random(n).astype(np.float32),
        action=rng.integers(0, 2, n),
        session=rng.integers(0, 2, n),
        row=data.interactions.file_order,
    )
    m = data.n_items
    item_entity = np.arange(m, dtype=np.int32)
    item_entity[0] = -1
    links = [np.array(c, np.int32) for c in ([0, 1], [0, 1], [2, 0])]
    knowledge = Graph(*links, "entity", "entity", Vocabulary(pa.array(["by", "of"])), Vocabulary.range(m), item_entity)
    social = Graph(*links, "user", "user", Vocabulary.range(2), weight=np.array([0.5, 2], np.float32))
    return replace(
        data,
        interactions=events,
        items=Entities(data.items.ids, pa.table({"title": [f"T{i}" for i in range(m)], "tags": [["a", "b"]] * m})),
        graphs={"knowledge": knowledge, "social": social},
        actions=Vocabulary(pa.array(["view", "buy"])),
        searches=pa.table({"query": ["x", "y"]}),
        name="rich",
    )


def damage_json(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        spec = json.loads(path.read_text())
        change(spec)
        path.write_text(json.dumps(spec))

    return edit


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("leave_one_out", {}),
        ("global_time", {"valid": 0.2, "test": 0.2}),
        ("held_out_users", {"valid": 0.3, "test": 0.3}),
        ("held_out_items", {"valid": 0.3, "test": 0.3, "min_events": 1}),
        ("sessions", {"test": 0.2}),
    ],
)
def test_a_split_comes_back_whole(protocol: str, options: dict[str, float], tmp_path: Path) -> None:
    data = rich()
    made = split(data, protocol, seed=3, **options)
    back = read_split(write_split(made, tmp_path / "made"))
    assert back.fingerprint == made.fingerprint
    assert dict(back.spec) == made.spec
    assert rebuild(data, back.spec).fingerprint == made.fingerprint
    ours, theirs = made.held_out("test"), back.held_out("test")
    assert ours.truth.tolist() == theirs.truth.tolist()
    assert np.array_equal(ours.histories.items, theirs.histories.items), "ties keep file order"
    assert np.array_equal(ours.histories.values, theirs.histories.values)
    assert back.train.items.attributes is not None
    assert back.train.items.attributes.to_pylist() == data.items.attributes.to_pylist()
    assert back.train.n_items == data.n_items, "items unseen in training stay"
    assert back.train.actions == data.actions
    assert back.train.searches is not None and back.train.searches.equals(data.searches)
    assert back.train.name == "rich"
    knowledge = back.train.graphs["knowledge"]
    assert knowledge.item_entity is not None and knowledge.item_entity[0] == -1
    if protocol != "sessions":
        assert back.train.graphs["social"].weight.tolist() == [0.5, 2]


def test_parts_are_plain_tables_of_raw_ids(tmp_path: Path) -> None:
    made = split(rich(), "leave_one_out")
    folder = write_split(made, tmp_path / "made")
    table = pq.read_table(folder / "test.parquet")
    assert table.column_names == ["user", "item", "time", "value", "action", "session", "row"]
    assert table.column("user").to_pylist() == sorted(table.column("user").to_pylist(), key=made.train.users.ids.number)
    assert set(table.column("action").to_pylist()) <= {"view", "buy"}
    spec = json.loads((folder / SPEC).read_text())
    assert spec["protocol"] == "leave_one_out"
    assert spec["fingerprint"] == made.fingerprint
    assert spec["counts"]["test"] == table.num_rows
    assert {"palate", "spec", "files", "users", "items"} <= set(spec)


@pytest.mark.parametrize("name", ["train.parquet", "valid.parquet", "test.parquet", "users.parquet", "items.parquet"])
def test_a_changed_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = write_split(split(rich(), "leave_one_out"), tmp_path / "made")
    table = pq.read_table(folder / name)
    pq.write_table(table.slice(0, table.num_rows - 1), folder / name)
    with pytest.raises(DataError, match="changed") as caught:
        read_split(folder)
    assert name in str(caught.value)


def test_truncated_and_missing_files_are_named(tmp_path: Path) -> None:
    folder = write_split(split(rich(), "leave_one_out"), tmp_path / "made")
    whole = (folder / "valid.parquet").read_bytes()
    (folder / "valid.parquet").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"valid\.parquet"):
        read_split(folder)
    (folder / "valid.parquet").unlink()
    with pytest.raises(DataError, match=r"missing[\s\S]*valid\.parquet"):
        read_split(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (damage_json(lambda s: s["spec"].update(seed=9)), "changed"),
        (damage_json(lambda s: s["files"].clear()), "changed"),
        (damage_json(lambda s: s.update(fingerprint="0" * 16)), "changed"),
        (damage_json(lambda s: s.update(schema=99)), "another version"),
        (lambda path: path.write_text("{"), "can't be read"),
        (lambda path: path.write_text("[1]"), "can't be read"),
        (lambda path: path.unlink(), "no split here"),
    ],
)
def test_a_changed_description_is_refused(edit: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = write_split(split(rich(), "leave_one_out"), tmp_path / "made")
    edit(folder / SPEC)
    with pytest.raises(DataError, match=message):
        read_split(folder)


def test_looks_are_counted_across_readings(tmp_path: Path) -> None:
    made = split(rich(), "leave_one_out")
    folder = write_split(made, tmp_path / "made")
    assert read_split(folder).looks == 0
    first, second = read_split(folder), read_split(folder)
    first.held_out("valid")
    first.people("test")
    assert not (folder / LOOKS).exists(), "only answers of the test part count"
    first.held_out("test")
    second.held_out("test")
    made.held_out("test")
    assert (first.looks, second.looks, made.looks) == (1, 2, 3), "looks of others are seen when one looks"
    assert read_split(folder).looks == 3
    lines = [json.loads(line) for line in (folder / LOOKS).read_text().splitlines()]
    assert {line["fingerprint"] for line in lines} == {made.fingerprint}
    assert all(line["when"].endswith("+00:00") for line in lines)


def test_looks_survive_rewriting_and_copying(tmp_path: Path) -> None:
    made = split(rich(), "leave_one_out")
    made.held_out("test")
    folder = write_split(made, tmp_path / "made")
    assert read_split(folder).looks == 1, "looks from before the writing"
    write_split(made, folder)
    assert read_split(folder).looks == 1
    again = split(rich(), "leave_one_out")
    write_split(again, folder)
    assert again.looks == 1, "an equal split inherits the ledger"
    copy = write_split(read_split(folder), tmp_path / "copy")
    assert read_split(copy).looks == 1
    write_split(split(rich(), "user_ratio", test=0.3), folder)
    assert read_split(folder).looks == 0, "another split starts anew"


def test_looks_without_numbers_are_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for counted in (split(rich(), "leave_one_out"), read_split(write_split(split(rich(), "leave_one_out"), folder))):
        with pytest.raises(KeyboardInterrupt), counted.looking():
            counted.held_out("test")
            raise KeyboardInterrupt
        assert counted.looks == 0
        with pytest.raises(ZeroDivisionError), counted.looking():
            raise ZeroDivisionError  # before anything was opened
        with counted.looking():
            counted.held_out("test")
        with pytest.raises(ZeroDivisionError), counted.looking():
            counted.held_out("test")
            counted.held_out("test")
            raise ZeroDivisionError
        assert counted.looks == 1
    assert read_split(folder).looks == 1
    write_split(read_split(folder), tmp_path / "copy")
    assert read_split(tmp_path / "copy").looks == 1
    lines = [json.loads(line) for line in (folder / LOOKS).read_text().splitlines()]
    assert [line.get("withdrawn") for line in lines] == [
        None,
        "KeyboardInterrupt",
        None,
        None,
        None,
        "ZeroDivisionError",
        "ZeroDivisionError",
    ]


def test_a_look_that_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    folder = write_split(split(rich(), "leave_one_out"), tmp_path / "made")
    made = read_split(folder)
    (folder / LOOKS).mkdir()
    with pytest.raises(DataError, match="can't be recorded"):
        made.held_out("test")


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = split(rich(), "leave_one_out")
    folder = write_split(made, tmp_path / "made")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("palate.data.split_files._write_entities", fail)
    with pytest.raises(OSError, match="disk full"):
        write_split(split(rich(), "global_time"), folder)
    with pytest.raises(OSError, match="disk full"):
        write_split(made, tmp_path / "new")
    assert read_split(folder).fingerprint == made.fingerprint
    assert os.listdir(tmp_path) == ["made"], "nothing half-written is left"


def test_rolling_windows_are_written_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 60
    data = Dataset.from_columns(np.arange(n) % 7, np.arange(n) % 5, time=np.arange(n) * 86_400)
    windows = rolling(data, windows=3, days=10)
    homes = write_rolling(windows, tmp_path / "roll")
    assert [home.name for home in homes] == ["1", "2", "3"]
    windows[0].held_out("test")
    for home, made in zip(homes, windows, strict=True):
        again = read_split(home)
        assert (again.fingerprint, again.looks) == (made.fingerprint, int(home.name == "1"))
    write_rolling(rolling(data, windows=3, days=10), tmp_path / "roll")
    assert read_split(homes[0]).looks == 1, "writing the same windows again forgets no look"

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("palate.data.split_files._write_entities", fail)
    with pytest.raises(OSError, match="disk full"):
        write_rolling(windows, tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["roll"]


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("five years")
    with pytest.raises(DataError):
        write_split(split(rich(), "leave_one_out"), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "five years"


def test_parts_that_lack_columns(tmp_path: Path, small_split: Split) -> None:
    small_split.valid = None
    back = read_split(write_split(small_split, tmp_path / "made"))
    assert back.valid is None
    assert not (tmp_path / "made" / "valid.parquet").exists()
    assert back.fingerprint == small_split.fingerprint
