"""Training curves: from bundles, logs and fits under way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.catalog.registry import create
from palate.console import charts, curves
from palate.contracts.bundle import read_manifest
from palate.data.protocols import split
from palate.errors import DataError
from palate.progress import ProgressEvent
from palate.simulate.world import World, WorldConfig
from palate.training.callbacks import JsonLog


def _event(done: int, title: str = "Net", **metrics: float) -> ProgressEvent:
    return ProgressEvent(f"{title}: epoch", done, 9, metrics)


def test_a_fit_tells_the_same_curve_by_progress_log_and_bundle(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="a system that learns in epochs needs torch")
    parts = split(World(WorldConfig(users=80, items=40, events=1_200, seed=1)).dataset(), "leave_one_out")
    told: list[ProgressEvent] = []
    model = create("bpr_mf", dim=8, epochs=4, eval_every=2)
    model.fit(parts.train, parts.held_out("valid"), progress=told.append, callbacks=[JsonLog(tmp_path / "log.jsonl")])
    log = curves.of_log(tmp_path / "log.jsonl", "log")
    kept = curves.of_bundle(model.save(tmp_path / "bundle"), "bundle")
    live = curves.of_progress(told)
    assert kept is not None and live is not None
    assert kept.epochs == live.epochs == log.epochs == (1, 2, 3, 4)
    assert kept.loss == live.loss == log.loss
    assert kept.value == live.value == log.value
    assert [value is None for value in log.value] == [True, False, True, False]
    assert log.best == kept.best == (model.record_.notes["best_epoch"], model.record_.notes["best_value"])
    assert live.metric == "valid_ndcg@10"


def test_a_system_that_learns_in_one_go_keeps_none(tmp_path: Path) -> None:
    data = World(WorldConfig(users=40, items=20, events=400, seed=1)).dataset()
    assert curves.of_bundle(create("ease").fit(data).save(tmp_path / "ease"), "ease") is None


def test_the_epoch_on_record_is_best_though_a_long_curve_was_thinned_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = {"curve": [[1, 0.9, 0.1], [400, 0.2, 0.3]], "best_epoch": 123, "best_value": 0.4}
    monkeypatch.setattr(curves, "read_manifest", lambda _: {"fit": {"notes": notes}})
    found = curves.of_bundle(tmp_path, "long")
    assert found is not None and found.best == (123, 0.4)


def test_a_damaged_curve_of_a_bundle_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = World(WorldConfig(users=40, items=20, events=400, seed=1)).dataset()
    folder = create("ease").fit(data).save(tmp_path / "ease")
    manifest = {**read_manifest(folder), "fit": {"notes": {"curve": [[1, 0.5]]}}}
    monkeypatch.setattr(curves, "read_manifest", lambda _: manifest)
    with pytest.raises(DataError, match="damaged"):
        curves.of_bundle(folder, "ease")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no epoch"),
        ("hello\n", "no log"),
        ("[1, 2]\n", "no epoch"),
        ('{"epoch": 1}\n', "is no epoch"),
        ('{"epoch": 2, "loss": 1}\n{"epoch": 2, "loss": 1}\n', "don't rise"),
    ],
)
def test_what_is_no_log_is_told_in_words(text: str, word: str, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=word):
        curves.of_log(file, "log.jsonl")


def test_of_several_fits_the_last_one_is_followed() -> None:
    assert curves.of_progress([]) is None
    told = [_event(1, loss=3.0), _event(2, loss=2.0), _event(1, loss=9.0), ProgressEvent("Gate", 1, 2)]
    found = curves.of_progress(told)
    assert found is not None and (found.epochs, found.loss, found.best) == ((1,), (9.0,), None)
    other = curves.of_progress([*told, _event(2, "Other", loss=1.0)])
    assert other is not None and (other.title, other.epochs) == ("Other", (2,))


def test_the_first_of_equal_epochs_is_best() -> None:
    lines = [{"epoch": n, "loss": 1.0, "value": value} for n, value in ((1, 0.1), (2, 0.3), (3, 0.3), (4, None))]
    assert curves.of_history("net", lines).best == (2, 0.3)


def test_values_get_a_drawing_of_their_own_below_the_losses() -> None:
    plain = curves.of_history("plain", [{"epoch": n, "loss": 1.0 / n} for n in (1, 2)])
    both = curves.of_history("both", [{"epoch": n, "loss": 1.0 / n, "value": 0.1 * n} for n in (1, 2)])
    alone, together = charts.epochs(False, [plain]), charts.epochs(True, [plain, both])
    json.dumps([alone, together])
    assert (len(alone["grid"]), len(together["grid"])) == (1, 2)
    assert [line["yAxisIndex"] for line in together["series"]] == [0, 0, 1]
    assert together["series"][2]["markPoint"]["data"] == [{"coord": [2, 0.2]}]
    assert charts.epoch_rows([both])[0] == ["both", "1", "1", "0.1"]
    assert charts.epochs_height([plain]) < charts.epochs_height([plain, both])
