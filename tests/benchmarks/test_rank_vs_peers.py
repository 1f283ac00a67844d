"""The comparison of speed: the same models on all sides, and no side with work that the others lack."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("rank_vs_peers")


def test_every_model_is_on_all_sides_and_none_has_a_penalty(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"autoint", "autoint_plus"} <= set(program.OWN)
    assert set(program.OWN) == set(program.FUXICTR) == set(program.DEEPCTR)
    monkeypatch.setattr(program, "fuxictr_source", lambda: Path())
    for name in program.OWN:
        for load in (program.fuxictr_load(name), program.deepctr_load(name)):
            told = {key: value for key, value in load["settings"].items() if "reg" in key}
            assert told
            assert not any(told.values())
    assert program.REG == 0


def test_autoint_has_dense_layers_on_no_side(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "fuxictr_source", lambda: Path())
    assert not program.OWN["autoint"][1]["hidden"]
    for load in (program.fuxictr_load, program.deepctr_load):
        assert not load("autoint")["settings"]["dnn_hidden_units"]
        assert list(load("autoint_plus")["settings"]["dnn_hidden_units"]) == list(program.HIDDEN)
