"""The command line from end to end, on events that the test makes: outputs, files, exit codes, messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest


def test_split_writes_the_promised_files(work: Path) -> None:
    for part in ("train", "valid", "test"):
        table = pq.read_table(work / "split" / f"{part}.parquet")
        assert {"user", "item", "time", "value"} <= set(table.column_names)
        assert table.column("user")[0].as_py().startswith("u")
    assert json.loads((work / "split" / "split.json").read_text())["spec"]["protocol"] == "global_time"


def test_settings_that_count_for_nothing_are_told(work: Path, palate: Callable, tmp_path: Path) -> None:
    words = ["fit", "gru4rec", "--data", str(work / "split"), "--set", "epochs=0", "--set", "reg=0.5"]
    told = " ".join(palate(*words, "--out", str(tmp_path / "one")).output.split())
    assert "Setting 'reg' counts for nothing here: it counts with loss=bpr_max." in told
    quiet = palate(*words, "--set", "loss=bpr_max", "--out", str(tmp_path / "two")).output
    assert "counts for nothing" not in quiet


def test_recommend_to_somebody_known(work: Path, palate: Callable) -> None:
    document = json.loads(palate("recommend", str(work / "model"), "--user", "u3", "-k", "4", "--json").stdout)
    assert len(document) == 1 and len(document[0]["items"]) == 4 and document[0]["cold"] is False
    train = pq.read_table(work / "split" / "train.parquet").to_pydict()
    seen = {i for u, i in zip(train["user"], train["item"], strict=True) if u == "u3"}
    assert not seen & {offer["item"] for offer in document[0]["items"]}


def test_recommend_to_somebody_new_and_to_nobody(work: Path, palate: Callable) -> None:
    new = json.loads(palate("recommend", str(work / "model"), "--history", "1,2,3", "--json").stdout)
    assert new[0]["cold"] is False and not {1, 2, 3} & {offer["item"] for offer in new[0]["items"]}
    nobody = json.loads(palate("recommend", str(work / "model"), "--user", "stranger", "--json").stdout)
    assert nobody[0]["cold"] is True and nobody[0]["items"]


def test_a_run_is_judged_like_the_bundle_that_wrote_it(work: Path, palate: Callable) -> None:
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


def test_a_run_answers_everybody_in_test_from_train_and_validation(work: Path, tmp_path: Path, palate: Callable) -> None:
    run = tmp_path / "run.trec"
    palate(
        "recommend", str(work / "popular"), "--split", str(work / "split"), "--format", "trec", "-k", "100", "--out", str(run)
    )
    parts = {name: pq.read_table(work / "split" / f"{name}.parquet").to_pydict() for name in ("train", "valid", "test")}
    offered: dict[str, set[str]] = {}
    for line in run.read_text().splitlines():
        user, _, item, *_ = line.split()
        offered.setdefault(user, set()).add(item)
    assert set(offered) == set(parts["test"]["user"])
    catalogue = {str(i) for part in parts.values() for i in part["item"]}
    for user, items in offered.items():
        known = [(p["user"], p["item"]) for p in (parts["train"], parts["valid"])]
        seen = {str(i) for users, column in known for u, i in zip(users, column, strict=True) if u == user}
        assert items == catalogue - seen


def test_ids_come_in_the_type_of_the_data(work: Path, tmp_path: Path, palate: Callable) -> None:
    (tmp_path / "numbers.csv").write_text("user,item\n1,10\n1,11\n2,10\n2,12\n3,11\n")
    palate("fit", "ease", "--data", str(tmp_path / "numbers.csv"), "--out", str(tmp_path / "model"))
    for users, wanted in ((["1", "3"], [1, 3]), (["1", "stranger"], ["1", "stranger"])):
        (tmp_path / "users.txt").write_text("\n".join(users))
        out = tmp_path / "offers.parquet"
        command = ["recommend", str(tmp_path / "model"), "--users", str(tmp_path / "users.txt"), "--format", "parquet"]
        palate(*command, "--out", str(out))
        assert list(dict.fromkeys(pq.read_table(out).column("user").to_pylist())) == wanted


def test_seen_items_come_only_when_asked_for(work: Path, palate: Callable) -> None:
    words = ("recommend", str(work / "model"), "--history", "1,2,3", "-k", "100", "--json")
    fresh, every = (json.loads(palate(*words, *more).stdout)[0]["items"] for more in ((), ("--include-seen",)))
    assert {offer["item"] for offer in every} - {offer["item"] for offer in fresh} == {1, 2, 3}


def test_settings_of_a_file_give_way_to_those_of_the_command(work: Path, tmp_path: Path, palate: Callable) -> None:
    (tmp_path / "settings.toml").write_text('reg = 7.0\nprecision = "float64"\n')
    words = ("fit", "ease", "--data", str(work / "split"), "--config", str(tmp_path / "settings.toml"))
    fitted = json.loads(palate(*words, "--set", "reg=9", "--out", str(tmp_path / "model"), "--json").stdout)
    assert fitted["settings"] == {"reg": 9.0, "precision": "float64"}


def test_a_seed_fixes_a_fit(work: Path, tmp_path: Path, palate: Callable) -> None:
    def vectors(seed: str, name: str) -> bytes:
        words = ("fit", "ials", "--data", str(work / "split"), "--set", "epochs=1", "--set", "dim=4", "--seed", seed)
        palate(*words, "--out", str(tmp_path / name))
        return (tmp_path / name / "state.safetensors").read_bytes()

    assert vectors("3", "a") == vectors("3", "b") != vectors("4", "c")


def test_a_log_holds_a_line_an_epoch(work: Path, tmp_path: Path, palate: Callable) -> None:
    log, split = tmp_path / "log.jsonl", str(work / "split")
    small = ("--set", "epochs=2", "--set", "dim=4", "--set", "layers=1")
    palate("fit", "lightgcn", "--data", split, *small, "--out", str(tmp_path / "a"), "--log", str(log))
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
    done = palate("fit", "ease", "--data", split, "--out", str(tmp_path / "b"), "--log", str(tmp_path / "none.jsonl"))
    assert "No log was written" in done.stdout and not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("120", 120), (None, 160)])
def test_tables_fit_the_width(work: Path, columns: str | None, widest: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    if columns is not None:
        environment["COLUMNS"] = columns
    split = str(work / "split")
    compare = [] if columns is None else [["compare", split, "--models", "ease,popularity"]]
    for words in (["models"], ["models", "sasrec"], ["data", "list"], *compare):
        command = [sys.executable, "-m", "palate.cli.main", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        table = [line for line in done.stdout.splitlines() if "   " in line.strip() or "──" in line]
        assert table and max(map(len, table)) <= widest, words
        assert not re.search(r"[a-z_]…", done.stdout), "a word was cut"


@pytest.mark.parametrize("format", ["jsonl", "parquet", "trec", "table"])
def test_every_format_is_written_whole(work: Path, format: str, palate: Callable) -> None:
    out = work / f"offers.{format}"
    palate("recommend", str(work / "model"), "--user", "u1", "--user", "u2", "--format", format, "--out", str(out))
    assert out.stat().st_size > 0 and not list(work.glob(".offers*"))
    if format == "parquet":
        assert pq.read_table(out).column_names == ["user", "item", "rank", "score"]


def test_similar_and_explain(work: Path, palate: Callable) -> None:
    similar = json.loads(palate("similar", str(work / "model"), "1", "-k", "3", "--json").stdout)
    assert len(similar["similar"]) == 3 and 1 not in {offer["item"] for offer in similar["similar"]}
    why = json.loads(palate("explain", str(work / "model"), "--history", "1,2", "--item", "5", "--json").stdout)
    assert why["exact"] and sum(r["weight"] for r in why["reasons"]) == pytest.approx(why["score"], abs=1e-5)
    common = ("explain", str(work / "model"), "--history", "1,2", "--item", "5")
    assert "adds up exactly)" in palate(*common).stdout
    left = why["score"] - why["reasons"][0]["weight"]
    told = " ".join(palate(*common, "--top", "1").stdout.split())
    assert abs(left) > 5e-5 and f"adds up exactly with {left:+.4f} of what is not listed" in told


def test_words_stand_in_place_of_a_history(work: Path, palate: Callable, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from palate.contracts.conformance_bench import small_world
    from palate.recommend.easyrec import EasyRec

    world, bundle = small_world(), str(tmp_path / "reader")
    EasyRec(buckets=512, width=8, hidden=(8,), dim=8, epochs=2, batch_size=16).fit(world).save(bundle)
    title = world.items.column("title")[3].as_py()
    told = json.loads(palate("recommend", bundle, "--text", title, "-k", "3", "--json").stdout)
    best = told[0]["items"][0]
    why = json.loads(palate("explain", bundle, "--text", title, "--item", str(best["item"]), "--json").stdout)
    assert why["score"] == pytest.approx(best["score"], abs=1e-5) and why["method"] == "the stated preference alone"
    assert "can't read words" in palate("recommend", str(work / "model"), "--text", title, code=1).output
    assert "can't read words" in palate("explain", str(work / "model"), "--text", title, "--item", "5", code=1).output
    assert "in one way" in palate("explain", bundle, "--item", "5", code=2).output


def test_friends_stand_in_place_of_a_history(work: Path, palate: Callable, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from palate.contracts.conformance_bench import small_world
    from palate.recommend.social_rec import SocialRec

    bundle = str(tmp_path / "tied")
    SocialRec(dim=8, epochs=2, batch_size=64).fit(small_world()).save(bundle)
    done = palate("recommend", bundle, "--ties", "u1,nobody,u3", "-k", "3", "--json")
    told = json.loads(done.stdout)
    best = told[0]["items"][0]
    assert not told[0]["cold"] and "Left out, not among the model's people: nobody" in done.stderr
    why = json.loads(palate("explain", bundle, "--ties", "u1,u3", "--item", str(best["item"]), "--json").stdout)
    assert why["score"] == pytest.approx(best["score"], abs=1e-5)
    assert "can't read ties" in palate("recommend", str(work / "model"), "--ties", "1", code=1).output
    assert "of one person who is new" in palate("recommend", bundle, "--user", "u1", "--ties", "u3", code=2).output


def test_suspicious_events_are_listed(work: Path, palate: Callable, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    bundle = str(tmp_path / "pld")
    few = ("--set", "dim=8", "--set", "epochs=8", "--set", "warmup=1", "--set", "batch_size=64")
    palate("fit", "pld", "--data", str(work / "split"), "--out", bundle, *few)
    found = json.loads(palate("suspicious", bundle, "-n", "3", "--json").stdout)
    weights = [one["weight"] for one in found]
    assert len(found) == 3 and weights == sorted(weights) and 0 <= weights[0] < 1
    own = json.loads(palate("suspicious", bundle, "--user", found[1]["user"], "--json").stdout)
    assert {one["user"] for one in own} == {found[1]["user"]} and found[1] in own
    assert "most doubtful first" in palate("suspicious", bundle).stdout
    assert "fit pld" in palate("suspicious", str(work / "model"), code=1).output


def test_compare_writes_a_report(work: Path, palate: Callable) -> None:
    out = work / "report.json"
    result = palate("compare", str(work / "split"), "--models", "popularity,ease", "--out", str(out))
    assert "EASE" in result.stdout and json.loads(out.read_text())["systems"]
    assert " by activity" not in result.stdout


def test_values_by_groups_of_people_are_printed(work: Path, palate: Callable) -> None:
    split = str(work / "split")
    shown = palate("compare", split, "--models", "popularity,ease", "--metrics", "recall@10", "--slices", "usual").stdout
    assert "Recall@10 by activity: people by events" in shown and "Recall@10 by popularity of the answers" in shown
    assert "gendre" in palate("compare", split, "--models", "popularity", "--slices", "gendre", code=2).stderr


def test_a_log_of_choices_is_judged(tmp_path: Path, palate: Callable) -> None:
    rng = np.random.default_rng(0)
    choice = rng.integers(0, 2, 2_000)
    bought = (rng.random(2_000) < np.array([0.2, 0.4])[choice]).astype(int)
    lines = [f"p{n // 2},{b},0.5,{(0.1, 0.9)[c]}" for n, (b, c) in enumerate(zip(bought, choice, strict=True))]
    (tmp_path / "log.csv").write_text("person,bought,chance,new\n" + "\n".join(lines) + "\n")
    words = ["off-policy", str(tmp_path / "log.csv"), "--reward", "bought", "--propensity", "chance", "--target", "new"]
    told = json.loads(palate(*words, "--unit", "person", "--json").stdout)
    (ips,) = [one for one in told["estimates"] if one["name"] == "ips"]
    assert told["rows"] == 2_000 and ips["units"] == 1_000 and ips["low"] < 0.38 < ips["high"] and told["logged"] < ips["low"]
    shown = palate(*words, "--unit", "person", "--confidence", "0.9").stdout
    assert "1,000 independent units" in shown and {"effective", "90%", "value"} <= set(shown.split())
    assert "--unit COLUMN" in palate(*words).stdout
    refused = palate(
        *words[:2], "--reward", "bought", "--propensity", "chance", "--target", "bought", "--estimators", "ips"
    ).stdout
    assert "refused" in refused and "mean weight" in refused


def test_models_lists_everything_and_shows_settings(palate: Callable) -> None:
    rows = json.loads(palate("models", "--json").stdout)
    papers = {row["paper"] for row in rows if row["paper"] is not None}
    assert papers == set(range(1, 62))
    shown = json.loads(palate("models", "ease", "--json").stdout)
    assert "reg" in shown["settings"]["properties"]


def test_data_list_and_info(work: Path, palate: Callable) -> None:
    assert "ml-100k" in {row["name"] for row in json.loads(palate("data", "list", "--json").stdout)}
    facts = json.loads(palate("data", "info", str(work / "events.csv"), "--json").stdout)
    assert facts["users"] == 80 and facts["interactions"] == 1200


def test_convert(work: Path, palate: Callable) -> None:
    palate("data", "convert", str(work / "events.csv"), "--to", "recbole", "--out", str(work / "atomic"))
    facts = json.loads(palate("data", "info", str(work / "atomic"), "--json").stdout)
    assert facts["interactions"] == 1200


def test_doctor_is_well(palate: Callable) -> None:
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
    words: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, palate: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in palate(*words, code=code).output


def test_errors_are_json_on_request(tmp_path: Path, palate: Callable) -> None:
    result = palate("recommend", str(tmp_path / "none"), "--user", "1", "--json", code=1)
    assert json.loads(result.stdout)["error"] == "BundleError"


def test_a_failed_fit_writes_nothing(work: Path, palate: Callable) -> None:
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
