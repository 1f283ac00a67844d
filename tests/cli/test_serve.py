"""The service from the command line: store, keys, publish, retrain, roll back, and a served process with a clean end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.serve.clients.client import Client


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'palate.db'}"


def test_a_store_takes_in_what_nobody_had_yet(tmp_path: Path, url: str, palate: Callable) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "events.csv").write_text("user,item,time\na,1,1700000000\nb,2,1700000001\n")
    (folder / "items.csv").write_text("item,title\n1,Kettle\n2,Pot\n3,Just in\n")
    loaded = json.loads(palate("store", "load", str(folder), "--store", url, "--json").stdout)
    assert loaded["items"] == 3
    sizes = json.loads(palate("store", "info", "--store", url, "--json").stdout)["rows"]
    assert sizes["items"] == 3 and sizes["events"] == 2


def test_from_own_events_to_a_served_answer(work: Path, tmp_path: Path, url: str, palate: Callable) -> None:
    loaded = json.loads(palate("store", "load", str(work / "events.csv"), "--store", url, "--json").stdout)
    assert loaded["events"] == 1200 and loaded["users"] == 80
    again = palate("store", "load", str(work / "events.csv"), "--store", url, code=1)
    assert "not empty" in again.output or "empty store" in again.output
    models = str(tmp_path / "models")
    first = json.loads(palate("retrain", "ease", "--store", url, "--models", models, "--json").stdout)
    assert first["gate"] is None and Path(first["bundle"]).is_dir()
    second = json.loads(palate("retrain", "item_knn", "--store", url, "--models", models, "--no-gate", "--json").stdout)
    assert json.loads(palate("store", "info", "--store", url, "--json").stdout)["active"] == second["version"]
    assert first["version"] in palate("rollback", "--store", url).stdout
    key = json.loads(palate("keys", "add", "app", "--scope", "read", "--store", url, "--json").stdout)["key"]
    command = [sys.executable, "-m", "palate.cli.main", "serve", "--store", url, "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert process.stdout is not None
        told = ""
        while "}" not in told:
            told += process.stdout.readline()
        started = json.loads(told)
        assert started["model"] == first["version"] and started["key"] is None
        with Client(started["url"], key) as client:
            slate = client.recommend(user="u1", k=3)
            assert len(slate.items) == 3 and slate.model == first["version"] and not slate.cold
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


def test_a_model_learns_on(work: Path, tmp_path: Path, url: str, palate: Callable) -> None:
    palate("store", "load", str(work / "events.csv"), "--store", url)
    where = ("--store", url, "--models", str(tmp_path / "models"))
    first = json.loads(palate("retrain", "popularity", *where, "--json").stdout)
    assert "--publish-undecided" in palate("retrain", "--incremental", *where, code=1).output  # nothing is new
    anyway = ("retrain", "--incremental", "--publish-undecided", *where)
    told = json.loads(palate(*anyway, "--json").stdout)
    assert (told["learnt_on_from"], told["updates"]) == (first["version"], 1) and first["updates"] == 0
    assert told["gate"]["decided"] is False and told["gate"]["candidate"] is None
    again = palate(*anyway).output
    assert "updates since the last full fit: 2" in again and "could not decide" in again
    palate("retrain", "ease", "--no-gate", *where)
    assert "retrain it in full" in palate("retrain", "--incremental", *where, code=1).output


def test_what_counts_is_said_once(work: Path, tmp_path: Path, url: str, palate: Callable) -> None:
    palate("store", "load", str(work / "events.csv"), "--store", url)
    where = ("--store", url, "--models", str(tmp_path / "models"), "--no-gate")
    first = json.loads(palate("retrain", "popularity", "--positive", ":1", *where, "--json").stdout)
    assert first["positive"] == [":1"]
    assert "It learnt from these events: :1." in palate("retrain", *where).output
    assert json.loads(palate("retrain", "--all-events", *where, "--json").stdout)["positive"] is None
    assert "no events of this type" in palate("retrain", "--positive", "buyy", *where, code=1).output
    assert "give one of them" in palate("retrain", "--positive", "view", "--all-events", *where, code=2).output


def test_everything_goes_out_and_in_again(work: Path, tmp_path: Path, url: str, palate: Callable) -> None:
    palate("store", "load", str(work / "events.csv"), "--store", url)
    palate("store", "export", str(tmp_path / "out"), "--store", url)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    palate("store", "import", str(tmp_path / "out"), "--store", other)
    rows = [json.loads(palate("store", "info", "--store", u, "--json").stdout)["rows"] for u in (url, other)]
    assert rows[0] == rows[1] and rows[0]["events"] == 1200


def test_keys_are_listed_and_revoked(url: str, palate: Callable) -> None:
    palate("keys", "add", "app", "--store", url)
    assert "is a key of that name" in palate("keys", "add", "app", "--store", url, code=1).output
    assert [row["name"] for row in json.loads(palate("keys", "list", "--store", url, "--json").stdout)] == ["app"]
    palate("keys", "revoke", "app", "--store", url)
    assert json.loads(palate("keys", "list", "--store", url, "--json").stdout) == []
    assert "no such key" in palate("keys", "revoke", "app", "--store", url, code=1).output


def test_a_bundle_is_published_and_rolled_back_honestly(work: Path, url: str, palate: Callable) -> None:
    row = json.loads(palate("publish", str(work / "model"), "--store", url, "--activate", "--json").stdout)
    assert row["state"] == "active" and row["version"].startswith("ease-")
    assert palate("rollback", "--store", url, code=1).exit_code == 1
    assert "no bundle here" in palate("publish", str(work), "--store", url, code=1).output
    assert "no events" in palate("retrain", "ease", "--store", url, code=1).output


def test_a_path_is_a_store_and_what_was_used_is_said(
    work: Path, tmp_path: Path, palate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place, own = ("--store", "my shop?.db"), "sqlite:///my shop?.db"
    told = palate("store", "load", str(work / "events.csv"), *place).output
    assert (tmp_path / "my shop?.db").is_file() and "1,200 events" in told
    stores = [
        palate(*words, *place, "--json").stdout
        for words in (
            ("retrain", "popularity", "--models", "models", "--no-gate"),
            ("publish", str(work / "model"), "--activate"),
            ("rollback",),
            ("keys", "add", "app"),
            ("keys", "revoke", "app"),
            ("store", "info"),
        )
    ]
    assert len({json.loads(store)["store"] for store in stores}) == 1
    assert json.loads(palate("store", "info", *place, "--json").stdout)["rows"]["events"] == 1200
    words = [("publish", str(work / "popular")), ("keys", "add", "web"), ("keys", "list"), ("store", "info")]
    assert all("shop" in palate(*one, *place).output for one in words), own
    assert "store.url" in palate("store", "info", "--store", "mysql://host/shop", code=2).output
