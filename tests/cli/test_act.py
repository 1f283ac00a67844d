"""``palate act``: slates of a policy from the command line, as a log that can be judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import Result


@pytest.fixture(scope="module")
def policy(work: Path, palate: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("policies") / "greedy")
    said = palate("fit", "epsilon_greedy", "--data", str(work / "split"), "--set", "epsilon=0.5", "--out", out)
    assert f"palate act {out} --history ''" in "".join(said.output.splitlines())
    return out


def test_a_slate_has_its_chances_and_a_seed_repeats_it(policy: str, palate: Callable[..., Result]) -> None:
    words = ("act", policy, "--history", "1,2,none", "-k", "3", "--json")
    first, again, other = (palate(*words, "--seed", seed) for seed in ("4", "4", "5"))
    rows = json.loads(first.stdout)
    assert first.stdout == again.stdout != other.stdout and "not in the catalogue: none" in first.stderr
    assert [row["position"] for row in rows] == [1, 2, 3] and all(0 < row["propensity"] <= 1 for row in rows)
    assert not {"1", "2"} & {str(row["item"]) for row in rows}
    everything = json.loads(palate(*words, "-k", "1000", "--include-seen").stdout)
    assert {"1", "2"} <= {str(row["item"]) for row in everything}
    shown = palate("act", policy, "--history", "", "-k", "2")
    assert "propensity" in shown.stdout and "left to chance" not in shown.stderr


def test_context_is_told_by_options_or_columns(work: Path, palate: Callable[..., Result], tmp_path: Path) -> None:
    out = str(tmp_path / "linucb")
    said = palate("fit", "linucb", "--data", str(work / "split"), "--set", 'context=["age"]', "--out", out)
    assert "--context age=0" in "".join(said.output.splitlines()).replace("  ", " ")
    act = ("act", out, "-k", "2", "--history", "1")
    assert len(json.loads(palate(*act, "--context", "age=30", "--json").stdout)) == 2
    assert "--context NAME=VALUE" in palate(*act, code=1).output
    assert "'age'" in palate(*act, "--context", "age=old", code=1).output
    people = pa.table({"user": ["p", "q"], "items": [["1"], ["2"]], "age": [30.0, 60.0]})
    pq.write_table(people, tmp_path / "people.parquet")
    many = ("act", out, "-k", "2", "--histories", str(tmp_path / "people.parquet"))
    assert len(json.loads(palate(*many, "--json").stdout)) == 4
    assert "--context would count for nothing" in palate(*many, "--context", "age=30", code=2).output


def test_choices_without_chance_are_told(work: Path, palate: Callable[..., Result]) -> None:
    assert "left to chance" in palate("act", str(work / "policy"), "--history", "1", "-k", "2").stderr


def test_slates_for_many_are_a_log_that_can_be_judged(policy: str, palate: Callable[..., Result], tmp_path: Path) -> None:
    people = pa.table({"user": [f"p{n}" for n in range(400)], "items": [["1", "2"]] * 400})
    pq.write_table(people, tmp_path / "people.parquet")
    said = palate(
        "act", policy, "--histories", str(tmp_path / "people.parquet"), "-k", "1", "--out", str(tmp_path / "slates.parquet")
    )
    assert "400 positions" in said.stderr
    log = pq.read_table(tmp_path / "slates.parquet")
    assert log.column_names == ["slate", "user", "position", "item", "propensity"]
    assert log["slate"].to_pylist() == list(range(400)) and log["user"][7].as_py() == "p7"
    # items drawn seldom are as frequent as their chance says
    often = max(set(log["propensity"].to_pylist()))
    assert np.mean(np.array(log["propensity"]) == often) == pytest.approx(often, abs=0.1)
    clicks = pa.array((np.arange(400) % 3 == 0).astype(float))
    pq.write_table(log.append_column("click", clicks).append_column("same", log["propensity"]), tmp_path / "log.parquet")
    words = ("--reward", "click", "--propensity", "propensity", "--target", "same", "--estimators", "ips", "--json")
    judged = json.loads(palate("off-policy", str(tmp_path / "log.parquet"), *words).stdout)
    assert judged["estimates"][0]["value"] == pytest.approx(np.mean(clicks))


def test_slates_of_several_positions_are_judged_as_slates(policy: str, palate: Callable[..., Result], tmp_path: Path) -> None:
    people = pa.table({"user": [f"p{n}" for n in range(200)], "items": [["1", "2"]] * 200})
    pq.write_table(people, tmp_path / "people.parquet")
    palate("act", policy, "--histories", str(tmp_path / "people.parquet"), "-k", "3", "--out", str(tmp_path / "slates.parquet"))
    log = pq.read_table(tmp_path / "slates.parquet")
    clicks = pa.array((np.arange(600) % 5 == 0).astype(float))
    pq.write_table(log.append_column("click", clicks).append_column("same", log["propensity"]), tmp_path / "log.parquet")
    words = ("off-policy", str(tmp_path / "log.parquet"), "--slate", "slate", "--reward", "click", "--target", "same")
    told = json.loads(palate(*words, "--unit", "user", "--json").stdout)
    assert told["rows"] == 200 and told["each"] == "slate" and told["logged"] == pytest.approx(0.6)
    values = {one["name"]: one["value"] for one in told["estimates"]}
    assert values == {name: pytest.approx(0.6) for name in ("sips", "rips", "snsips", "snrips")}
    assert "--slate slate" in palate(*words[:2], *words[4:]).stdout
    shown = palate(*words).stdout
    assert "a slate" in shown and "200 slates" in shown
    alone = palate(*words, "--chances", "marginal", "--estimators", "rips").stdout
    assert "refused" in alone and "conditional" in alone
    assert "--chances" in palate(*words, "--chances", "some", code=2).output


def test_mistakes_are_told(policy: str, work: Path, palate: Callable[..., Result], tmp_path: Path) -> None:
    assert "--history IDS or --histories" in palate("act", policy, code=2).output
    assert "ease" in palate("act", str(work / "model"), "--history", "1", code=2).output
    absent = palate("act", policy, "--histories", str(tmp_path / "none.parquet"), code=1)
    assert "none.parquet" in "".join(absent.output.split()) and not (tmp_path / "out.parquet").exists()
