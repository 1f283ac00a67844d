"""Wrong words, bad places, absent parts and our own faults: what, where, value, next step, exit code, never a trace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from palate.catalog.papers import PAPERS
from palate.cli.main import app

PLANNED = next(system.name for system in PAPERS if system.status == "planned")
CORE_ONLY = ("torch", "optuna", "matplotlib", "jinja2", "pandas", "ranx", "sklearn")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("fit EASE --data {split} --out {new}", 2, "did you mean 'ease'"),
        (f"fit {PLANNED} --data {{split}} --out {{new}}", 2, "planned"),
        ("fit ease --data {split} --set reg --out {new}", 2, "--set key=value"),
        ("fit ease --data {split} --config {events} --out {new}", 2, "TOML where the name ends"),
        ("fit ease --data {split} --config no.json --out {new}", 2, "No such file"),
        ("fit ease --data {split} --seed -1 --out {new}", 2, "--seed"),
        ("fit ease --data {split} --out {events}", 1, "a file stands where"),
        ("fit ease --data {split} --out {events}/x", 1, "a file stands where"),
        ("split {events} --protocol globaltime --out {new}", 2, "did you mean 'global_time'"),
        ("split {events} --on-bad-rows wat --out {new}", 2, "drop, error"),
        ("split {events} --out {events}/x", 1, "a file stands where"),
        ("data convert {events} --to csv --out {new}", 2, "parquet, recbole"),
        ("data get ml-100", 2, "did you mean 'ml-100k'"),
        ("models --verb recomend", 2, "did you mean 'recommend'"),
        ("models --status done", 2, "planned, works"),
        ("models no-such-model", 2, "choose one of"),
        ("recommend {model} --user u1 --history 1", 2, "--split DIR"),
        ("recommend {model} --user u1 --format csv", 2, "--format"),
        ("recommend {model} --user u1 --format parquet", 2, "--out FILE.parquet"),
        ("recommend {model} --users no-such-file", 1, "one user id a line"),
        ("recommend {model} --user u1 --format jsonl --out {split}", 1, "a folder stands where"),
        ("similar {model} nothing", 1, "ids look like"),
        ("similar {popular} 1", 1, "popularity can't"),
        ("explain {model} --item 1", 2, "--history IDS"),
        ("evaluate {model} --split {split} --metrics ndgc@10", 2, "did you mean 'ndcg'"),
        ("evaluate {model} --split {split} --metrics ,", 2, "--metrics"),
        ("evaluate {model} --split {split} --part train", 2, "test, valid"),
        ("evaluate {events} --split {split}", 1, "line 1"),
        ("compare {split} --models ease,eas", 2, "did you mean 'ease'"),
        ("compare {split} --models ,", 2, "--models"),
        ("compare {split} --models ease --out report.pdf", 2, ".html"),
        ("tune ease --data {events}", 1, "palate split"),
        ("claims list --folder {split}", 2, "in a checkout of Palate"),
        ("claims run --folder no-such-folder", 2, "in a checkout of Palate"),
        ("bench --folder {split}", 2, "in a checkout of Palate"),
        ("--threads 0 doctor", 2, "--threads"),
    ],
)
def test_bad_input_is_told_plainly(words: str, code: int, told: str, work: Path, tmp_path: Path, palate: Callable) -> None:
    places = {name: work / name for name in ("split", "model", "popular")}
    result = palate(*words.format(**places, events=work / "events.csv", new=tmp_path / "new").split(), code=code)
    assert told in result.output
    assert "Traceback" not in result.output and not result.stdout
    assert not (tmp_path / "new").exists()


def test_a_report_that_can_not_be_written_costs_no_look_at_the_test_part(work: Path, palate: Callable) -> None:
    before = {p.name: p.read_bytes() for p in (work / "split").iterdir()}
    palate("evaluate", str(work / "model"), "--split", str(work / "split"), "--out", "report.pdf", code=2)
    assert before == {p.name: p.read_bytes() for p in (work / "split").iterdir()}


def test_a_fault_of_ours_is_told_in_one_piece(work: Path, palate: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise KeyError("something")

    monkeypatch.setattr("palate.study.health.check_health", broken)
    result = palate("doctor", code=1)
    assert "a fault in Palate: KeyError" in result.output and __file__ in result.output
    assert "PALATE_DEBUG=1" in result.output
    monkeypatch.setenv("PALATE_DEBUG", "1")
    assert isinstance(CliRunner().invoke(app, ["doctor"]).exception, KeyError)


def test_brackets_in_names_are_no_markup(work: Path, tmp_path: Path, palate: Callable) -> None:
    out = tmp_path / "[red]model[/]"
    assert str(out) in palate("fit", "ease", "--data", str(work / "split"), "--out", str(out)).stdout


HIDE = f"""
import sys

class Absent:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in {CORE_ONLY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
from palate.cli.main import main
main()
"""


def core(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as where only the core is installed."""
    return subprocess.run([sys.executable, "-c", HIDE, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("model", ["sasrec", "lightgcn", "bpr_mf", "gru4rec"])
def test_without_torch_its_models_name_the_install_command(model: str, work: Path, tmp_path: Path) -> None:
    done = core("fit", model, "--data", str(work / "split"), "--out", str(tmp_path / "new"))
    assert done.returncode == 1 and 'pip install "palate[torch]"' in done.stderr
    assert "torch, which is not installed" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("compare {split} --models ease --out {new}.html", "report"),
        ("tune ease --data {split} --trials 2", "tune"),
        ("demo --out {new}", "torch"),
        ("models sasrec", "torch"),
    ],
)
def test_absent_parts_are_named_before_the_work(words: str, extra: str, work: Path, tmp_path: Path) -> None:
    done = core(*words.format(split=work / "split", new=tmp_path / "new").split())
    assert done.returncode == 1 and f'pip install "palate[{extra}]"' in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "doctor",
        "models",
        "data info {events}",
        "split {events} --dedup first --out {new}",
        "fit ials --data {split} --set epochs=1 --out {new}",
        "fit item_knn --data {events} --out {new}",
        "recommend {model} --user u1",
        "evaluate {model} --split {split} --out {new}.json",
        "compare {split} --models popularity,ease,item_knn,ials",
    ],
)
def test_the_core_works_alone(words: str, work: Path, tmp_path: Path) -> None:
    places = {"split": work / "split", "model": work / "model", "events": work / "events.csv"}
    done = core(*words.format(**places, new=tmp_path / "new").split())
    assert done.returncode == 0, done.stderr
