"""The demo on real data: what it prints, and that the commands it ends with can be typed as they are."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.study.demo import ENTRANTS, run_demo


@pytest.mark.slow
@pytest.mark.data
def test_the_demo_ends_with_commands_that_work(
    palate_data: Path, tmp_path: Path, palate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {title: ENTRANTS[title] for title in ("Popularity", "EASE")}
    monkeypatch.setattr("palate.study.demo.run_demo", lambda out, **options: run_demo(out, entrants=quick, **options))
    monkeypatch.chdir(tmp_path)
    text = palate("demo").stdout
    for told in ("MovieLens 100K", "Licence", "Audit", "NDCG@10", "Holm", "Person", "demo-output/report.html"):
        assert told in text
    page = (tmp_path / "demo-output" / "report.html").read_text(encoding="utf-8")
    assert len(page) > 10_000
    assert page.count("as EASE answers") == 3, "the report must say whose answers it shows"
    commands = [line.strip() for line in text.splitlines() if line.startswith("  palate ")]
    assert [shlex.split(command)[1] for command in commands] == ["recommend", "explain", "compare", "split", "serve"]
    for command in commands[:-1]:
        palate(*shlex.split(command)[1:])


@pytest.mark.data
def test_data_get_shows_where_and_on_which_terms(palate_data: Path, palate: Callable) -> None:
    assert "Licence" in palate("data", "get", "ml-100k").stdout
    facts = json.loads(palate("data", "get", "ml-100k", "--json").stdout)
    assert Path(facts["folder"]).is_dir() and "GroupLens" in facts["licence"]


def test_the_demo_compares_what_it_promises() -> None:
    assert [name for name, _ in ENTRANTS.values()] == [
        "popularity", "popularity", "item_knn", "ease", "ials", "lightgcn", "sasrec",
    ]  # fmt: skip
