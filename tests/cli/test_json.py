"""``--json`` on every command: one document on standard output, and nothing else; errors are documents, too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.catalog.papers import PAPERS

PLANNED = next(system.name for system in PAPERS if system.status == "planned")
COMMANDS = {
    "doctor": "doctor",
    "data list": "data list",
    "data info": "data info {events}",
    "data audit": "data audit {split}",
    "data convert": "data convert {events} --out {new}",
    "split": "split {events} --protocol leave_one_out --dedup first --accept time-ties --out {new}",
    "models": "models",
    "models NAME": "models ease",
    "models PLANNED": f"models {PLANNED}",
    "fit": "fit ease --data {split} --out {new}",
    "tune": "tune ease --data {split} --trials 2 --out {new}",
    "recommend --user": "recommend {model} --user u1",
    "recommend --history": "recommend {model} --history 1,2",
    "recommend --split": "recommend {model} --split {split} -k 3",
    "recommend to a file": "recommend {model} --split {split} --format trec --out {new}",
    "similar": "similar {model} 1",
    "act": "act {policy} --history 1,2 -k 3",
    "explain": "explain {model} --user u1 --item 1",
    "evaluate": "evaluate {model} --split {split} --out {new}.html",
    "compare": "compare {split} --models popularity,ease",
    "off-policy": "off-policy {log} --unit person",
    "claims list": "claims list --folder {claims}",
    "claims run": "claims run easy --folder {claims}",
    "publish": "publish {model} --store {store} --activate",
    "rollback": "rollback --store {filled}",
    "retrain": "retrain --publish-undecided --store {filled} --models {new}",
    "store load": "store load {events} --store {store}",
    "store info": "store info --store {filled}",
    "store export": "store export {new} --store {filled}",
    "store import": "store import {exported} --store {store}",
    "keys add": "keys add app --store {store}",
    "keys list": "keys list --store {filled}",
    "keys revoke": "keys revoke app --store {filled}",
    "lm status": "lm status --no-check",
    "bench": "bench --folder {claims}",
    "bench NAME": "bench loud --folder {benchmarks}",
}


@pytest.fixture
def places(work: Path, tmp_path: Path) -> dict[str, str]:
    claims, benchmarks = tmp_path / "claims", tmp_path / "benchmarks"
    claims.mkdir()
    benchmarks.mkdir()
    claim = 'CLAIM = Claim("easy", "One is more than none", "1 > 0", {"gap": Bar(0)}, lambda trial: {"gap": Effect.exact(1)})'
    (claims / "easy.py").write_text(f'"""Easy."""\nfrom palate.study.claims import Bar, Claim, Effect\n{claim}\n')
    log = tmp_path / "log.csv"
    log.write_text("person,reward,propensity,target\n" + "".join(f"u{n // 2},{n % 3 == 0:d},0.5,0.5\n" for n in range(600)))
    (benchmarks / "loud.py").write_text('"""Loud."""\nprint("I speak on standard output")\n')
    return {
        "store": f"sqlite:///{tmp_path / 'new.db'}",
        "filled": f"sqlite:///{tmp_path / 'filled.db'}",
        "exported": str(tmp_path / "exported"),
        "events": str(work / "events.csv"),
        "log": str(log),
        "split": str(work / "split"),
        "model": str(work / "model"),
        "policy": str(work / "policy"),
        "new": str(tmp_path / "new"),
        "claims": str(claims),
        "benchmarks": str(benchmarks),
    }


def test_every_command_is_here() -> None:
    from palate.cli.main import app

    named = {command.name or command.callback.__name__ for command in app.registered_commands}
    named |= {
        f"{group.name} {(command.name or command.callback.__name__)}"
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands
    }
    here = {
        " ".join(words.split()[: 2 if words.split()[0] in ("data", "claims", "store", "keys", "lm") else 1])
        for words in COMMANDS.values()
    }
    # tests/language/test_lm_downloads.py, tests/cli/test_rows.py, tests/serve/http/test_rankers.py
    elsewhere = {"lm get", "lm ask", "predict", "store rows", "suspicious"}
    assert named - here == {"demo", "data get", "serve"} | elsewhere, "two need research data, one doesn't end (test_serve)"


def fill(places: dict[str, str], palate: Callable) -> None:
    """Make a store with events, two models and a key, and an export of it."""
    url = places["filled"]
    palate("store", "load", places["events"], "--store", url)
    for system in ("ease", "popularity"):
        palate("retrain", system, "--store", url, "--models", places["new"] + "-models", "--no-gate")
    palate("keys", "add", "app", "--store", url)
    palate("store", "export", places["exported"], "--store", url)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_all_that_is_printed(name: str, places: dict[str, str], palate: Callable) -> None:
    if "{filled}" in COMMANDS[name] or "{exported}" in COMMANDS[name]:
        fill(places, palate)
    words = [word.format(**places) for word in COMMANDS[name].split()]
    assert json.loads(palate(*words, "--json").stdout) is not None


def test_what_a_benchmark_prints_stands_aside(places: dict[str, str]) -> None:
    words = ["bench", "loud", "--folder", places["benchmarks"], "--json"]
    done = subprocess.run([sys.executable, "-m", "palate.cli.main", *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"loud": 0} and "I speak" in done.stderr


def test_trials_of_a_search_are_documents(places: dict[str, str], palate: Callable) -> None:
    found = json.loads(palate("tune", "ease", "--data", places["split"], "--trials", "2", "--json").stdout)
    assert [set(trial) for trial in found["trials"]] == [{"settings", "value", "seconds", "error"}] * 2
    assert found["value"] == max(trial["value"] for trial in found["trials"])


def test_a_wrong_option_is_a_document() -> None:
    words = [sys.executable, "-m", "palate.cli.main", "similar", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bundle" in json.loads(done.stdout)["what"].casefold()


def test_exit_codes_are_the_same_with_json() -> None:
    for words, code in (("models --verb recomend", 2), ("data info no-such-file.csv", 1), ("--version", 0)):
        command = [sys.executable, "-m", "palate.cli.main", *words.split(), *(["--json"] if code else [])]
        assert subprocess.run(command, capture_output=True, check=False).returncode == code
