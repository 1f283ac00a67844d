"""The table of all recommenders: equal budgets, fits that are kept, failures that are told, and rows that stay."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import systems
from palate.data.dataset import Dataset
from palate.errors import TrainingError
from palate.recommend.ease import EASE
from palate.simulate.world import World

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Run = Callable[..., int]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("systems_table")
    small = World(users=120, items=40, events=2_400, seed=1).dataset(text=False, impressions=False)
    monkeypatch.setattr(found, "source", lambda name, people: small)
    monkeypatch.setattr(found, "DATA", {"songs": ({"order": "random"}, {"interactions", "torch"})})
    monkeypatch.setattr(found, "QUESTIONS", ("known people", "new people"))
    monkeypatch.setattr(found, "systems", lambda: {name: systems()[name] for name in ("popularity", "ease", "bpr_mf")})
    monkeypatch.setattr(found, "BUDGETS", {"small": found.Budget(2, 2, 0, 1), "large": found.Budget(3, 2, 0, 1)})
    monkeypatch.setattr(found._record, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache" / "data"))
    for module in ("palate.study.kept", "systems_table"):  # an edit while tests run would part a run from the next
        monkeypatch.setattr(f"{module}.state_of_code", lambda *_: "code")
    found.split_of.cache_clear()
    yield found
    found.split_of.cache_clear()


@pytest.fixture
def run(program: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["systems_table.py", *words])
        return int(program.main())

    return call


def table(program: Any) -> dict[tuple[str, str], dict[str, Any]]:
    result = json.loads((program._record.RESULTS / "systems_table.json").read_text())
    return {(row["question"], row["system"]): row for row in result["rows"]}


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of EASE's fits as they are made."""
    made: list[int] = []
    fit = EASE._fit

    def counted(self: EASE, dataset: Any, fitting: Any) -> Any:
        made.append(fitting.seed)
        return fit(self, dataset, fitting)

    monkeypatch.setattr(EASE, "_fit", counted)
    return made


def test_a_row_tells_what_was_tried_and_how_fits_went(program: Any, run: Run) -> None:
    assert run() == 0
    found = table(program)
    assert len(found) == 6
    row = found["known people", "bpr_mf"]
    assert row["trials"] == 2
    assert row["trials failed"] == 0
    assert row["settings"]["patience"] == 1
    assert len(row["epochs trained"]) == len(row["best epoch"]) == 2
    assert all(
        1 <= best <= trained <= row["settings"]["epochs"]
        for best, trained in zip(row["best epoch"], row["epochs trained"], strict=True)
    )
    assert found["known people", "ease"]["epochs trained"] == [None, None]
    assert any(name.startswith("activity") for name in row["slices of ndcg@10"])
    low, high = row["ndcg@10 interval"]
    assert low <= row["ndcg@10"] <= high


def test_a_system_that_fails_has_a_row_and_the_others_go_on(
    program: Any, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("shapes differ")

    monkeypatch.setattr(EASE, "_fit", broken)
    assert run() == 1
    found = table(program)
    assert found["new people", "ease"]["failed"] == "tuning: ValueError: shapes differ"
    assert found["new people", "bpr_mf"]["ndcg@10"] > 0
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("2 of 6 rows failed: known people, songs, ease: FAILED at tuning")]


def test_a_failure_is_told_with_the_seed_it_came_by_and_tried_again(
    program: Any, run: Run, monkeypatch: pytest.MonkeyPatch, fits: list[int]
) -> None:
    counted = EASE._fit

    def broken(self: EASE, dataset: Any, fitting: Any) -> Any:
        if fitting.seed == 1:
            raise TrainingError("it broke.", where="EASE")
        return counted(self, dataset, fitting)

    with monkeypatch.context() as patched:
        patched.setattr(EASE, "_fit", broken)
        assert run("ease") == 1
    assert "the fit with seed 1: TrainingError: it broke" in table(program)["known people", "ease"]["failed"]
    fits.clear()
    assert run("ease") == 0
    assert fits == [1, 1]
    assert "failed" not in table(program)["known people", "ease"]


def test_data_that_cannot_be_cut_are_told(program: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, people: int) -> None:
        raise OSError(f"no {name}")

    monkeypatch.setattr(program, "source", missing)
    assert run("ease", "bpr_mf") == 1
    assert {row["failed"] for row in table(program).values()} == {"cutting the data: OSError: no songs"}


def test_an_interrupted_run_goes_on(program: Any, run: Run, monkeypatch: pytest.MonkeyPatch, fits: list[int]) -> None:
    counted = EASE._fit

    def killed(self: EASE, dataset: Any, fitting: Any) -> Any:
        if len(fits) == 3:
            raise KeyboardInterrupt
        return counted(self, dataset, fitting)

    with monkeypatch.context() as patched:
        patched.setattr(EASE, "_fit", killed)
        with pytest.raises(KeyboardInterrupt):
            run("ease")
    assert fits == [0, 0, 1]  # two settings; of the best the second seed, as the first is a trial's
    assert run("ease") == 0
    assert fits[3:] == [0, 0, 1]  # the other question
    first = table(program)
    assert run("--only-record") == 0
    assert table(program) == first
    assert len(fits) == 6


def test_a_run_that_goes_on_gives_what_an_unbroken_one_gives(
    program: Any, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run("bpr_mf") == 0
    whole = table(program)
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "other" / "data"))
    tries = program.Bench._fit
    with monkeypatch.context() as patched:
        patched.setattr(program.Bench, "_fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run("bpr_mf")
    assert program.Bench._fit is tries
    assert run("bpr_mf") == 0
    times = ("fit seconds", "CPU seconds")
    for place, row in table(program).items():
        assert {k: v for k, v in row.items() if k not in times} == {k: v for k, v in whole[place].items() if k not in times}


def test_only_what_is_kept_is_written_when_nothing_is_to_be_fitted(program: Any, run: Run, fits: list[int]) -> None:
    assert run("--only-record") == 0
    assert table(program) == {}
    assert fits == []


def test_some_systems_are_put_among_the_rows_that_are_there(program: Any, run: Run) -> None:
    lacking = lambda: json.loads((program._record.RESULTS / "systems_table.json").read_text())["notes"]["not made yet"]  # noqa: E731
    assert run("ease", "popularity") == 0
    first = table(program)
    assert lacking() == ["known people, songs, bpr_mf", "new people, songs, bpr_mf"]
    assert run("bpr_mf") == 0
    both = table(program)
    assert lacking() == []
    assert list(both) == [(q, s) for q in ("known people", "new people") for s in ("popularity", "ease", "bpr_mf")]
    assert all(both[place] == row for place, row in first.items())


def test_rows_of_another_budget_data_or_version_are_not_mixed(
    program: Any, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fits: list[int]
) -> None:
    assert run("popularity") == 0
    with pytest.raises(SystemExit, match=r"nothing was fitted: the 2 rows .* trials \(2 is now 3\)"):
        run("--budget", "large", "ease")
    with monkeypatch.context() as patched:
        patched.setattr(program, "versions", lambda *_: {"numpy": "0"})
        with pytest.raises(SystemExit, match="numpy"):
            run("ease")
    other = World(users=120, items=40, events=2_400, seed=2).dataset(text=False, impressions=False)
    program.split_of.cache_clear()
    monkeypatch.setattr(program, "source", lambda name, people: other)
    with pytest.raises(SystemExit, match="known people, songs"):
        run("ease")
    assert fits == []
    assert run("ease", "--anew") == 0
    assert {system for _, system in table(program)} == {"ease"}
    assert run("--budget", "large") == 0
    assert "the table starts anew, without the 2 rows that are there: trials (2 is now 3)" in capsys.readouterr().err
    assert len(table(program)) == 6


def test_a_name_that_takes_no_part_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("eaze")
    assert "eaze: no such system" in capsys.readouterr().err


def test_what_is_told_says_how_small_the_budget_is(program: Any, run: Run) -> None:
    assert run("popularity") == 0
    what = json.loads((program._record.RESULTS / "systems_table.json").read_text())["what"]
    assert "The small budget: 2 settings a system, 2 seeds; patience is 1 (20 for rel_mf and ubpr, which watch a loss)" in what
    assert "So few settings" in what


def test_all_that_stop_by_validation_have_one_patience(program: Any) -> None:
    taking = [name for name, s in systems().items() if s.verb == "recommend" and s.status == "works"]
    base = {name: program.BUDGETS["large"].base(name) for name in taking}
    assert base["ease"] == base["ials"] == {}
    assert {name for name, given in base.items() if given.get("patience") == 20} == program.OWN_WATCH
    others = {given["patience"] for name, given in base.items() if given and name not in program.OWN_WATCH}
    assert others == {program.BUDGETS["large"].patience}
    assert {name: given for name, given in base.items() if set(given) - {"patience"}} == {
        "diffkg": {"min_links": 10, "patience": program.BUDGETS["large"].patience}
    }


def test_people_are_drawn_but_where_ties_join_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("systems_table")
    small = World(users=120, items=40, events=2_400, seed=1).dataset(text=False, impressions=False)
    monkeypatch.setattr(found.public, "load", lambda name: small)
    found.source.cache_clear()
    assert found.source("songs", 50).n_users == 50
    assert found.source("songs", 0).n_users == small.n_users
    told = found.source("lastfm", 50)
    assert 100 < told.n_users <= 120
    found.source.cache_clear()


def test_events_without_times_have_no_order(program: Any) -> None:
    people = [name for name in "abcdefgh" for _ in range(40)]
    data = Dataset.from_columns(people, list(range(40)) * 8)
    mixed = program.shuffled(data)
    assert np.array_equal(mixed.interactions.user, data.interactions.user)
    for was, now in zip(data.interactions.item.reshape(8, 40), mixed.interactions.item.reshape(8, 40), strict=True):
        assert not np.array_equal(was, now)
        assert np.array_equal(np.sort(was), np.sort(now))


def test_those_that_watch_a_loss_are_known(program: Any) -> None:
    """Whoever has patience asks a validator, which ranks and knows popularity's value, or is named."""
    by_loss = set()
    for name, system in systems().items():
        taking = system.verb == "recommend" and system.status == "works" and "searches" not in system.needs
        if not taking or "patience" not in system.load().Settings.model_fields:
            continue
        modules = {sys.modules[kind.__module__] for kind in system.load().__mro__ if kind.__module__.startswith("palate.")}
        if not any(hasattr(module, "validator") for module in modules):
            by_loss.add(name)
    assert by_loss == program.OWN_WATCH
