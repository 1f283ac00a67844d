"""``palate data`` and ``palate split``: every protocol and filter from the command line, dropped rows, leaks, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from palate.cli.main import app
from palate.data.readers import read
from palate.data.split_files import read_split

runner = CliRunner()


def palate(*words: object, code: int = 0) -> Result:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{words}: {result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of 120 days, one after the other, with repeats and two bad rows at the end."""
    rng = np.random.default_rng(0)
    n = 1_500
    user, item = np.tile(np.arange(100), n // 100), (60 * rng.random(n) ** 2).astype(int)
    time = 1_600_000_000 + np.arange(n) * 6_912
    lines = [f"u{u},{i},{t},{v}" for u, i, t, v in zip(user, item, time, rng.integers(1, 6, n), strict=True)]
    path = tmp_path_factory.mktemp("data") / "events.csv"
    path.write_text("user_id,item_id,timestamp,rating\n" + "\n".join([*lines, "u2,,1600000000,3", "u1,4,soon,3"]) + "\n")
    return path


@pytest.mark.parametrize(
    "protocol", ["leave_one_out", "global_time", "user_ratio", "held_out_users", "held_out_items", "sessions"]
)
def test_every_protocol_writes_a_split_that_reads_back(protocol: str, events: Path, tmp_path: Path) -> None:
    more = ["--set", "gap=900000"] if protocol == "sessions" else []
    result = palate(
        "split",
        events,
        "--protocol",
        protocol,
        *more,
        "--dedup",
        "first",
        "--on-bad-rows",
        "drop",
        "--out",
        tmp_path / "s",
        "--json",
    )
    document = json.loads(result.stdout)
    made = read_split(tmp_path / "s")
    assert made.fingerprint == document["fingerprint"]
    assert made.spec["protocol"] == document["spec"]["protocol"] == protocol
    assert sum(document["rows_dropped"].values()) == 2
    assert document["audit"]["leaks"] == 0


def test_rolling_windows_are_a_split_each(events: Path, tmp_path: Path) -> None:
    common = ("split", events, "--protocol", "rolling", "--dedup", "first", "--on-bad-rows", "drop", "--out", tmp_path / "r")
    document = json.loads(palate(*common, "--set", "windows=2", "--set", "days=10", "--json").stdout)
    assert [Path(d["folder"]).name for d in document] == ["1", "2"]
    first, second = (read_split(tmp_path / "r" / name) for name in "12")
    assert first.spec["until"] == second.spec["test_at"]
    assert (first.fingerprint, second.fingerprint) == tuple(d["fingerprint"] for d in document)
    assert "'windows'" in palate(*common, "--set", "window=2", code=2).output


def test_published_parts_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"{u} {u % 7} {7 + u % 5} 12\n" for u in range(20)))
    (folder / "test.txt").write_text("".join(f"{u} {13 + u % 3}\n" for u in range(20)))
    document = json.loads(
        palate(
            "split",
            folder,
            "--protocol",
            "given",
            "--set",
            "valid=0.3",
            "--set",
            "order=time",
            "--out",
            tmp_path / "s",
            "--json",
        ).stdout
    )
    made = read_split(tmp_path / "s")
    assert (len(made.train), len(made.valid or ()), len(made.test_part or ())) == (40, 20, 20)
    assert document["spec"]["protocol"] == "given"
    assert (
        "published parts"
        in palate("split", folder, "--protocol", "given", "--k-core", 2, "--out", tmp_path / "t", code=2).output
    )
    assert not (tmp_path / "t").exists()


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """Write ratings that people chose to give, and of items shown by lot: 12 people, 8 items, item 7 liked by nobody."""
    folder = tmp_path / "shown"
    folder.mkdir()
    for part, items in (("train", range(5)), ("test", range(5, 8))):
        rows = [f"{u},{i},{1 if i == 7 else 1 + (u + i) % 5}\n" for u in range(12) for i in items]
        (folder / f"{part}.csv").write_text("user,item,rating\n" + "".join(rows))
    return folder


def test_published_ratings_can_say_which_are_choices(shown: Path, tmp_path: Path) -> None:
    common = ("split", shown, "--protocol", "given", "--positive", ":4", "--set", "valid=0.3")
    document = json.loads(palate(*common, "--out", tmp_path / "s", "--json").stdout)
    made = read_split(tmp_path / "s")
    for part in (made.train.interactions, made.valid, made.test_part):
        assert part is not None and part.value is not None and len(part) and part.value.min() == 4
    liked = {
        part: sum((u + i) % 5 >= 3 for u in range(12) for i in items) for part, items in (("train", range(5)), ("test", (5, 6)))
    }
    assert len(made.train) + len(made.valid or ()) == liked["train"] and len(made.test_part or ()) == liked["test"]
    assert made.train.n_items == 8, "what nobody liked stays in the catalogue"
    assert document["fingerprint"] == made.fingerprint
    assert "positive" in [step["step"] for step in made.train.spec]
    assert "'bought'" in palate(*common, "--positive", "bought", "--out", tmp_path / "t", code=1).output


def test_a_split_of_ratings_says_that_low_ones_count_too(shown: Path, tmp_path: Path) -> None:
    common = ("split", shown, "--protocol", "user_ratio", "--set", "test=0.3", "--set", "valid=0.3", "--out", tmp_path / "s")
    assert "of any value (1 to 5)" in palate(*common).output
    assert "of any value" not in palate(*common, "--positive", ":2").output
    assert "of any value" not in palate(*common, "--min-value", "2").output


def test_items_without_events_are_left_out_aloud(shown: Path, tmp_path: Path) -> None:
    (shown / "items.csv").write_text("item,title\n" + "".join(f"{i},Title {i}\n" for i in range(10)))
    common = ("split", shown, "--protocol", "given", "--positive", ":2", "--out", tmp_path / "s")
    told = palate(*common).output
    assert "Left out 2 items without events" in told and "keep_unseen=true" in told
    assert "Left out" not in palate(*common, "--read", "keep_unseen=true").output
    assert read_split(tmp_path / "s").train.n_items == 10


def test_filters_are_applied_in_order_and_recorded(events: Path, tmp_path: Path) -> None:
    filters = (
        "--min-value",
        2,
        "--start",
        "2020-09-20",
        "--end",
        "2020-12-01",
        "--dedup",
        "last",
        "--k-core",
        3,
        "--k-core-once",
    )
    palate("split", events, *filters, "--on-bad-rows", "drop", "--out", tmp_path / "s")
    steps = {step["step"]: step for step in json.loads((tmp_path / "s" / "split.json").read_text())["steps"]}
    assert [name for name in steps if name not in ("compact", "train")] == [
        "read",
        "min_value",
        "time_window",
        "dedup",
        "k_core",
    ]
    assert (steps["k_core"]["user"], steps["k_core"]["iterate"]) == (3, False)
    times = np.concatenate(
        [pq.read_table(tmp_path / "s" / f"{p}.parquet")["time"].to_numpy() for p in ("train", "valid", "test")]
    )
    assert times.min() >= np.datetime64("2020-09-20").astype("datetime64[s]").astype(int)
    assert times.max() < np.datetime64("2020-12-01").astype("datetime64[s]").astype(int)


def test_dropped_rows_are_reported_by_every_command(events: Path, tmp_path: Path) -> None:
    refused = palate("data", "convert", events, "--out", tmp_path / "c", code=1)
    assert f"{events}, line 1502" in refused.output.replace("\n", "")
    assert not (tmp_path / "c").exists()
    for words in (("data", "info", events), ("data", "convert", events, "--out", tmp_path / "c"), ("data", "audit", events)):
        result = palate(*words, "--on-bad-rows", "drop", *(["--accept", "answers-in-train"] if words[1] == "audit" else []))
        assert "Dropped 2 bad rows of events: 1 missing id of the item" in result.stderr
    facts = json.loads(palate("data", "info", events, "--on-bad-rows", "drop", "--json").stdout)
    assert sum(facts["rows dropped"].values()) == 2
    assert len(read(tmp_path / "c")) == 1_500


def test_how_to_read_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes("user\titem\n1\té\nx9\t10\n2\té\n".encode("latin-1"))
    assert "--read encoding=latin-1" in palate("data", "info", path, code=1).output.replace("\n", " ")
    assert "--read ids=text" in palate("data", "info", path, "--read", "encoding=latin-1", code=1).output.replace("\n", " ")
    palate("data", "convert", path, "--read", "encoding=latin-1", "--read", "ids=text", "--out", tmp_path / "c")
    assert read(tmp_path / "c").items.ids.raw.to_pylist() == ["é", "10"]
    assert "min_users must be a whole number" in palate("data", "info", path, "--read", "min_users=few", code=2).output


def test_a_leak_fails_unless_it_is_accepted(tmp_path: Path) -> None:
    rows = [f"{u},{i},{100 * u + i}" for u in range(30) for i in range(4)] + ["29,2,2902", "29,2,2902"]
    path = tmp_path / "e.csv"
    path.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    common = ("split", path, "--protocol", "leave_one_out", "--out", tmp_path / "s")
    failed = palate(*common, code=1)
    assert "--accept answers-in-train" in failed.output.replace("\n", " ")
    assert not (tmp_path / "s").exists()
    palate(*common, "--accept", "answers-in-train")
    palate("data", "audit", tmp_path / "s", code=1)
    palate("data", "audit", tmp_path / "s", "--accept", "answers-in-train")
