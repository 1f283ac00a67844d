"""Pages made from the program itself say what the program knows."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest

from palate.catalog.registry import systems

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generated", ROOT / "docs" / "generated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_catalogue_has_a_row_for_every_system(pages: ModuleType) -> None:
    rows = [line for line in pages.catalogue().splitlines() if line.startswith("| `")]
    assert len(rows) == len(systems())
    assert sum("| planned |" in row for row in rows) == sum(s.status == "planned" for s in systems().values())


def test_every_system_that_works_shows_its_equation_and_settings(pages: ModuleType) -> None:
    pytest.importorskip("torch")
    parts = pages.systems().split("\n## ")[1:]
    working = [s for s in systems().values() if s.status == "works"]
    assert [part.splitlines()[0] for part in parts] == [s.title for s in working]
    for system, part in zip(working, parts, strict=True):
        assert "\n    " in part and "=" in part, f"{system.name}: no equation"
        assert "``" not in part and ":mod:" not in part
        assert all(f"| `{key}` |" in part for key in system.load().Settings.model_fields)


def test_evidence_shows_results_with_their_date(pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert "No claim has been run yet" in pages.evidence()
    (tmp_path / "claims" / "results").mkdir(parents=True)
    result = {"name": "one", "statement": "1 > 0", "verdict": "holds", "summary": "gap 1", "finished": "2026-01-02"}
    (tmp_path / "claims" / "results" / "one.json").write_text(json.dumps(result))
    assert "| `one` | 1 > 0 | holds | gap 1 | 2026-01-02 |" in pages.evidence()


def test_accuracy_puts_the_best_first(pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert "Not measured yet" in pages.accuracy()
    rows = [
        {
            "question": "new people",
            "data": "songs",
            "system": name,
            **dict.fromkeys(("ndcg@10", "recall@20", "coverage@10"), value),
            "ndcg@10 interval": [value - 0.01, value + 0.03],
            "recall@20 interval": [0.0, 1.0],
            "slices of ndcg@10": {"activity: 3 to 5 events": value / 2, "popularity of the answers: tail": 0.03},
            "epochs trained": [9, 7],
            "best epoch": [4, None],
            "fit seconds": 1.5,
        }
        for name, value in (("weak", 0.1), ("strong", 0.4))
    ]
    rows.append({"question": "new people", "data": "songs", "system": "broken", "failed": "tuning: DataError: no ties"})
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    result = {"what": "All.", "command": "run", "machine": {"cpu": "one"}, "seeds": [0], "rows": rows}
    (tmp_path / "benchmarks" / "results" / "systems_table.json").write_text(json.dumps(result))
    lines = [line for line in pages.accuracy().splitlines() if line.startswith("| `")]
    assert lines[0] == "| `strong` | 0.4000 ± 0.0200 | 0.4000 ± 0.5000 | 0.4 | 0.2 | 0.03 | 4 of 9 | 1.5 |"
    assert lines[1].startswith("| `weak` | 0.1000 ± 0.0200 |") and "## New people, songs" in pages.accuracy()
    assert "`broken` failed: tuning: DataError: no ties" in pages.accuracy()
    assert "systems_table" not in pages.benchmarks() and "Not made yet" not in pages.accuracy()
    result["notes"] = {"not made yet": ["new items, songs, weak"]}
    (tmp_path / "benchmarks" / "results" / "systems_table.json").write_text(json.dumps(result))
    assert "\nNot made yet: new items, songs, weak.\n" in pages.accuracy()


def test_curves_of_results_are_drawn(pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    arms = {
        "UCB": {"rounds": [0, 10, 100], "regret": [0.0, 5.0, 9.0], "half": [0.0, 1.0, 2.0]},
        "TS": {"visits": [1, 10], "regret": [1, 2]},
    }
    result = {
        "name": "one",
        "effects": {
            "gap": {"details": {"curves": arms, "curves at c = 1": arms}},
            "other": {"details": {"curves": {"a": {"1": 2.0}}}},
        },
    }
    text = pages.curves(result)
    assert "## one: gap\n" in text and "evidence/one-0.svg" in text and "## one: gap (at c = 1)\n" in text
    picture = (tmp_path / "evidence" / "one-0.svg").read_text()
    assert picture.startswith("<svg") and "UCB" in picture and "TS" in picture and "regret" in picture
    errors = {"IPS": {"rows": [10, 100, 1000], "error": [0.3, 0.1, 0.03], "spread": [0.3, 0.1, 0.03]}}
    assert "by rows" in pages.curves({"name": "two", "effects": {"fall": {"details": {"curves by rows": errors}}}})
    assert "rows" in (picture := (tmp_path / "evidence" / "two-0.svg").read_text()) and "slope -0.5" in picture


def test_steepness_of_a_power_is_its_exponent(pages: ModuleType) -> None:
    across = [1.0, 10.0, 20.0, 50.0, 100.0]
    assert pages.steepness(across, [3 * x**0.4 for x in across]) == pytest.approx(0.4)
    assert math.isnan(pages.steepness([1.0, 100.0], [1.0, 2.0]))


def test_a_row_of_memory_names_a_moment_for_each_of_its_values() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "serve.json").read_text(encoding="utf-8"))
    rows = [row for row in result["rows"] if "MB" in row]
    assert len(rows) == 2
    for row in rows:
        assert len(row["what"].rpartition(": ")[2].split(", ")) == len(row["MB"]), row["what"]


def test_decisions_are_numbered_and_formed_alike() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in files] == list(range(1, len(files) + 1))
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. ") and "**Decision.**" in text and "**Why.**" in text, path.name
