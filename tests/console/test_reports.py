"""Reports and training curves on their pages, in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

pytestmark = pytest.mark.slow


def test_a_report_is_opened_and_read(tour: Any, report: Any, reports: Path) -> None:
    report.to_json(reports / "small-world.json")
    page = tour.go("models")
    tour.press("Open the report")
    tour.sees("300 people asked")
    accuracy = page.get_by_role("table", name=re.compile("^Accuracy: value"))
    assert "★" in accuracy.inner_text()
    pairs = page.get_by_role("table", name=re.compile("^Pairs on NDCG@10"))
    pairs.wait_for()
    assert pairs.get_by_role("row").count() == 7
    assert "differs" in pairs.inner_text()
    page.get_by_role("img", name="NDCG@10 against diversity@10").wait_for()
    page.get_by_role("img", name="NDCG@10 against time of 1,000 answers (ms)").wait_for()
    tour.choose("Beside it", "Coverage@10")
    page.get_by_role("img", name="NDCG@10 against coverage@10").wait_for()
    tour.choose("Metric", "Recall@10")
    page.get_by_role("table", name=re.compile("^Pairs on Recall@10")).wait_for()
    tour.check("models-report")


def test_a_report_of_another_machine_is_uploaded(tour: Any, report: Any, reports: Path, tmp_path: Path) -> None:
    report.to_json(tmp_path / "theirs.json")
    page = tour.go("models")
    tour.sees(re.compile("holds none yet"))
    page.get_by_label("Or a report file (JSON)").set_input_files(str(tmp_path / "theirs.json"))
    page.get_by_role("img", name="NDCG@10 against diversity@10").locator("canvas").first.wait_for()
    (tmp_path / "none.json").write_text("{}")
    page.get_by_label("Or a report file (JSON)").set_input_files(str(tmp_path / "none.json"))
    tour.sees(re.compile("This file is not a report"))


def test_a_fit_draws_its_curve_and_the_bundle_keeps_it(tour: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    liked = [2 * rng.permutation(20)[:15] + n % 2 for n in range(40)]
    rows = [f"n{n},i{liked[n][at]},{1_690_000_000 + 3_600 * (40 * at + n)}" for at in range(15) for n in range(40)]
    file = tmp_path / "events.csv"
    file.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    page = tour.go("data")
    page.get_by_label("File", exact=True).set_input_files(str(file))
    tour.press("Read the file")
    tour.press("Cut and audit")
    tour.sees("No leak was found.")
    tour.choose("System", "LightGCN")
    page.get_by_label("Settings that differ").fill("epochs=80, batch_size=32, dim=8, eval_every=5, patience=0")
    page.evaluate(
        """() => { window.seen = 0; new MutationObserver(() => {
             const chart = document.querySelector('[aria-label="Training curve of LightGCN"]');
             if (chart && document.querySelector('[aria-label="Progress"]')) window.seen += 1;
           }).observe(document.body, {subtree: true, childList: true, attributes: true}) }"""
    )
    tour.press("Fit the model")
    tour.sees(re.compile("Saved as lightgcn-upload"), timeout=30_000)
    assert page.evaluate("window.seen") > 0, "no curve was drawn while it learnt"
    page.get_by_role("img", name="Training curve of LightGCN").wait_for()
    tour.check("data-curve")
    tour.press("Publish the model")
    tour.sees("lightgcn-upload is published")
    page = tour.go("models")
    tour.choose("Model", "lightgcn-upload")
    tour.sees(re.compile(r"lightgcn-upload: best at epoch \d+ of 80"))
    log = tmp_path / "other.jsonl"
    log.write_text("".join(json.dumps({"epoch": n, "loss": 1 / n, "value": 0.3 - 0.1 / n}) + "\n" for n in range(1, 400)))
    page.get_by_label("A log of epochs (JSON lines)").set_input_files(str(log))
    tour.sees("other.jsonl: best at epoch 399 of 399")
    tour.check("models-curves")
