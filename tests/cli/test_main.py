"""The command line from end to end, on events that the test makes: outputs, files, exit codes, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from palate.cli.main import app

runner = CliRunner()


def palate(*words: str, code: int = 0) -> Result:
    result = runner.invoke(app, list(words))
    assert result.exit_code == code, f"{words}: {result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events, a split and a fitted bundle."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(80), 15)
    items = (40 * rng.random(len(users)) ** 2).astype(int)
    times = 1_600_000_000 + rng.permutation(len(users)) * 3600
    lines = [f"u{u},{i},{t},{v}" for u, i, t, v in zip(users, items, times, rng.integers(1, 6, len(users)), strict=True)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp,rating\n" + "\n".join(lines) + "\n")
    palate("split", str(folder / "events.csv"), "--protocol", "global_time", "--dedup", "first", "--out", str(folder / "split"))
    palate("fit", "ease", "--data", str(folder / "split"), "--set", "reg=20", "--out", str(folder / "model"))
    return folder


def test_split_writes_the_promised_files(work: Path) -> None:
    for part in ("train", "valid", "test"):
        table = pq.read_table(work / "split" / f"{part}.parquet")
        assert {"user", "item", "time", "value"} <= set(table.column_names)
        assert table.column("user")[0].as_py().startswith("u")
    assert json.loads((work / "split" / "split.json").read_text())["spec"]["protocol"] == "global_time"


def test_recommend_to_somebody_known(work: Path) -> None:
    document = json.loads(palate("recommend", str(work / "model"), "--user", "u3", "-k", "4", "--json").stdout)
    assert len(document) == 1 and len(document[0]["items"]) == 4 and document[0]["cold"] is False
    train = pq.read_table(work / "split" / "train.parquet").to_pydict()
    seen = {i for u, i in zip(train["user"], train["item"], strict=True) if u == "u3"}
    assert not seen & {offer["item"] for offer in document[0]["items"]}


def test_recommend_to_somebody_new_and_to_nobody(work: Path) -> None:
    new = json.loads(palate("recommend", str(work / "model"), "--history", "1,2,3", "--json").stdout)
    assert new[0]["cold"] is False and not {1, 2, 3} & {offer["item"] for offer in new[0]["items"]}
    nobody = json.loads(palate("recommend", str(work / "model"), "--user", "stranger", "--json").stdout)
    assert nobody[0]["cold"] is True and nobody[0]["items"]


def test_a_run_is_judged_like_the_bundle_that_wrote_it(work: Path) -> None:
    run = work / "run.trec"
    palate("recommend", str(work / "model"), "--split", str(work / "split"), "--format", "trec", "-k", "20", "--out", str(run))
    judged = [
        json.loads(
            palate("evaluate", str(what), "--split", str(work / "split"), "--metrics", "ndcg@10,recall@20", "--json").stdout
        )
        for what in (work / "model", run)
    ]
    bundle, foreign = ({name: m["value"] for name, m in report["systems"][0]["metrics"].items()} for report in judged)
    assert bundle["ndcg@10"] == pytest.approx(foreign["ndcg@10"], abs=1e-9)
    assert 0 < bundle["recall@20"] <= 1


@pytest.mark.parametrize("format", ["jsonl", "parquet", "trec", "table"])
def test_every_format_is_written_whole(work: Path, format: str) -> None:
    out = work / f"offers.{format}"
    palate("recommend", str(work / "model"), "--user", "u1", "--user", "u2", "--format", format, "--out", str(out))
    assert out.stat().st_size > 0 and not list(work.glob(".offers*"))
    if format == "parquet":
        assert pq.read_table(out).column_names == ["user", "item", "rank", "score"]


def test_similar_and_explain(work: Path) -> None:
    similar = json.loads(palate("similar", str(work / "model"), "1", "-k", "3", "--json").stdout)
    assert len(similar["similar"]) == 3 and 1 not in {offer["item"] for offer in similar["similar"]}
    why = json.loads(palate("explain", str(work / "model"), "--history", "1,2", "--item", "5", "--json").stdout)
    assert why["exact"] and sum(r["weight"] for r in why["reasons"]) == pytest.approx(why["score"], abs=1e-5)


def test_compare_writes_a_report(work: Path) -> None:
    out = work / "report.json"
    result = palate("compare", str(work / "split"), "--models", "popularity,ease", "--out", str(out))
    assert "EASE" in result.stdout and json.loads(out.read_text())["systems"]


def test_models_lists_everything_and_shows_settings() -> None:
    rows = json.loads(palate("models", "--json").stdout)
    papers = {row["paper"] for row in rows if row["paper"] is not None}
    assert papers == set(range(1, 62))
    shown = json.loads(palate("models", "ease", "--json").stdout)
    assert "reg" in shown["settings"]["properties"]


def test_data_list_and_info(work: Path) -> None:
    assert "ml-100k" in {row["name"] for row in json.loads(palate("data", "list", "--json").stdout)}
    facts = json.loads(palate("data", "info", str(work / "events.csv"), "--json").stdout)
    assert facts["users"] == 80 and facts["interactions"] == 1200


def test_convert(work: Path) -> None:
    palate("data", "convert", str(work / "events.csv"), "--to", "recbole", "--out", str(work / "atomic"))
    facts = json.loads(palate("data", "info", str(work / "atomic"), "--json").stdout)
    assert facts["interactions"] == 1200


def test_doctor_is_well() -> None:
    assert json.loads(palate("doctor", "--json").stdout)["well"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["fit", "eese", "--data", "x", "--out", "y"], 2, "did you mean 'ease'"),
        (["fit", "ease", "--data", "x", "--out", "y", "--set", "regg=1"], 2, "did you mean 'reg'"),
        (["fit", "ease", "--data", "x", "--out", "y", "--set", "reg=-1"], 2, "reg"),
        (["fit", "ease", "--data", "no-such-file.csv", "--out", "y"], 1, "no-such-file.csv"),
        (["recommend", "no-such-bundle", "--user", "1"], 1, "no bundle"),
        (["recommend", "no-such-bundle"], 2, "--user"),
        (["evaluate", "run.trec", "--split", "no-such-split"], 1, "palate split"),
        (["evaluate", "run.trec"], 2, "--split"),
        (["no-such-command"], 2, "no-such-command"),
    ],
)
def test_errors_name_the_next_step(
    words: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in palate(*words, code=code).output


def test_errors_are_json_on_request(tmp_path: Path) -> None:
    result = palate("recommend", str(tmp_path / "none"), "--user", "1", "--json", code=1)
    assert json.loads(result.stdout)["error"] == "BundleError"


def test_a_failed_fit_writes_nothing(work: Path) -> None:
    palate(
        "fit", "popularity", "--data", str(work / "events.csv"), "--set", "window_days=-1", "--out", str(work / "bad"), code=2
    )
    assert not (work / "bad").exists()


def seconds(*words: str) -> float:
    """Processor time of a command (wall time would count the tests that run beside this one)."""
    taken = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(taken)


def test_start_is_quick() -> None:
    bare = seconds("-c", "pass")
    assert seconds("-c", "import palate") - bare < 0.2
    assert seconds("-m", "palate.cli.main", "--help") - bare < 0.5


def test_import_loads_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "numba", "polars", "pyarrow")
    code = f"import sys, palate, palate.cli.main; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
