"""The comparison of rankers with FuxiCTR: how both sides are searched, and what a kept fit depends on."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.errors import TrainingError
from palate.study.kept import Kept

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("rank_auc")
    monkeypatch.setattr(found, "KEPT", Kept(tmp_path / "kept" / "fits"))
    return found


def cut(program: Any, folder: Path, *, last_label: int = 1) -> Any:
    folder.mkdir()
    label = [*([0.0, 1.0] * 20)[:-1], float(last_label)]
    table = pa.table(
        {"a": [str(i % 3) for i in range(40)], "b": [str(i % 5) for i in range(40)], "label": np.array(label, np.float32)}
    )
    return program.Cut.of("tiny", table, folder)


def fit(program: Any, side: str = "palate", name: str = "fm") -> Any:
    return program.Fit(side, name, "tiny", 1e-3, 1e-6, 0, program.EPOCHS)


@pytest.mark.parametrize(
    ("lr", "penalty", "found", "on_edge"),
    [
        (1e-2, 1e-4, (1e-2, 1e-4), []),
        (3e-3, 4e-4, (3e-3, 3.2e-4), []),
        (1e-3, 3e-3, (1e-3, 3.2e-3), ["lr"]),
        (1e-1, 1e-9, (3e-2, 3.2e-7), ["lr", "penalty"]),
    ],
)
def test_the_search_ends_nearest_the_best_and_says_when_that_is_an_edge(
    program: Any, lr: float, penalty: float, found: tuple[float, float], on_edge: list[str]
) -> None:
    asked = []

    def valid(trial: Any) -> float:
        asked.append(trial)
        return 1 - abs(math.log(trial.lr / lr)) - abs(math.log(trial.penalty / penalty))

    best, tried = program.searched(fit(program), program.GRID, valid)
    assert (best.lr, best.penalty) == found
    assert len(asked) == len(set(asked)) == len(tried) == 10
    assert program.edges(best, tried) == on_edge


def test_a_fit_depends_on_rows_settings_and_the_code_of_its_side(
    program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows, other = cut(program, tmp_path / "rows"), cut(program, tmp_path / "other", last_label=0)
    keys = {side: fit(program, side).key(rows) for side in ("palate", "fuxictr")}
    for side, key in keys.items():
        assert fit(program, side).key(cut(program, tmp_path / f"again {side}")) == key
        assert fit(program, side).key(other) != key
        assert replace(fit(program, side), penalty=1e-5).key(rows) != key
    monkeypatch.setattr(program, "own_code", lambda: ["changed"])
    assert fit(program).key(rows) != keys["palate"]
    assert fit(program, "fuxictr").key(rows) == keys["fuxictr"]
    monkeypatch.setattr(program, "peer_code", lambda: ["changed"])
    assert fit(program, "fuxictr").key(rows) != keys["fuxictr"]
    assert "embedding_reg_on" in keys["palate"]["settings"]


@pytest.mark.parametrize(("side", "worker"), [("palate", None), ("fuxictr", "fuxictr_worker.py")])
def test_the_code_of_a_side_is_all_that_makes_its_fits(program: Any, side: str, worker: str | None) -> None:
    told = {"palate": program.own_code, "fuxictr": program.peer_code}[side]()
    if worker is None:
        assert program.state_of_code() in told
    else:
        assert program.FUXICTR_COMMIT in told
        assert program.file_sha256(BENCHMARKS / "peers" / worker) in told
    assert any(f"def {side}(" in part for part in told)


def test_a_fit_is_made_once_and_anew_for_other_rows(program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def fitted(_: Any, given: Any) -> dict[str, float]:
        calls.append(given.fingerprint)
        return {"valid": 0.5}

    monkeypatch.setattr(program, "palate", fitted)
    rows, other = cut(program, tmp_path / "rows"), cut(program, tmp_path / "other", last_label=0)
    monkeypatch.setattr(program, "own_code", lambda: ["as it is"])
    for given in (rows, rows, other, rows):
        assert program.made(fit(program), given, None) == {"valid": 0.5}
    assert calls == [rows.fingerprint, other.fingerprint]
    short = replace(fit(program), epochs=2)
    program.made(short, rows, None)
    program.made(short, rows, None)
    assert len(calls) == 4


def test_a_fit_that_diverges_is_the_worst_and_other_failures_end_the_run(
    program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows, text = cut(program, tmp_path / "rows"), "the loss is not a number"

    def fail(*_: Any, **__: Any) -> None:
        raise TrainingError(text, where="FM")

    monkeypatch.setattr(program.SYSTEMS["fm"].own, "fit", fail)
    assert program.palate(fit(program), rows) == program.DIVERGED
    text = "the disk is full"
    with pytest.raises(TrainingError, match="disk"):
        program.palate(fit(program), rows)


def test_palates_settings_are_ones_that_its_classes_know(program: Any) -> None:
    for name, system in program.SYSTEMS.items():
        model = system.own(**fit(program, name=name).settings)
        assert model.config.embedding_reg_on == "table"
