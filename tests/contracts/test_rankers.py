"""The conformance suite of rankers on every one of the catalogue, and on one that breaks a promise."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.catalog.registry import create, systems
from palate.contracts.conformance_ranker import CHECKS, RankBench, check_ranker, click_rows
from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.ranker import Ranker, Rows
from palate.data.row_columns import RowError
from palate.errors import NonConformingError

OURS = [system for system in systems().values() if system.verb == "rank" and system.status == "works"]


def quick(system: Any) -> dict[str, Any]:
    """Settings to fit fast, unless the catalogue says otherwise."""
    usual = {"epochs": 6, "dim": 8, "batch_size": 64, "lr": 0.01}
    known = system.load().Settings.model_fields
    return {key: value for key, value in usual.items() if key in known} | dict(system.quick)


def without_optional_parts(system: Any) -> None:
    for library in system.libraries:
        pytest.importorskip(library)


@pytest.fixture(scope="module")
def suites() -> dict[str, dict[str, Callable[[], None]]]:
    """Checks of each system, sharing one fitted ranker."""
    return {s.name: dict(check_ranker(lambda s=s: s.load()(**quick(s)))) for s in OURS}


@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_every_ranker_conforms(system: Any, check: str, suites: dict[str, dict[str, Callable[[], None]]]) -> None:
    without_optional_parts(system)
    suites[system.name][check]()


@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_what_the_catalogue_says_of_abilities_is_true(system: Any) -> None:
    without_optional_parts(system)
    kind = system.load()
    assert kind.name == system.name and issubclass(kind, Ranker)
    assert ("explains" in system.abilities) == (kind.explain_row is not Ranker.explain_row)


@pytest.mark.parametrize("system", [s for s in OURS if "explains" in s.abilities], ids=lambda system: system.name)
def test_parts_of_an_explanation_add_up_to_the_logit_of_the_prediction(
    system: Any, suites: dict[str, dict[str, Callable[[], None]]]
) -> None:
    without_optional_parts(system)
    bench: RankBench = suites[system.name]["it learns"].args[0]  # type: ignore[attr-defined]
    for at in range(3):
        found = bench.fitted.explain_row(bench.new.slice(at, at + 1))
        if not found.exact:
            assert system.name.startswith("autoint"), "attention is no sum"
            return
        logit = found.rest + sum(reason.weight for reason in found.evidence)
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(bench.answers(bench.fitted)[at, 0], abs=1e-4)


class Forgetful(Ranker):
    """Learns nothing, and answers by the place of a row."""

    name = "forgetful"

    def _fit(self, blocks: Any, validation: Any, fitting: Any) -> None:
        self.tasks_ = ("click",)

    def _predict(self, rows: Any) -> np.ndarray:
        return np.linspace(0.1, 0.9, len(rows), dtype=np.float32)[:, None]

    def _state(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1)}

    def _restore(self, state: Any) -> None:
        self.tasks_ = ("click",)


def test_promises_that_are_broken_are_found() -> None:
    broken = []
    for name, check in check_ranker(Forgetful):
        try:
            check()
        except NonConformingError:
            broken.append(name)
    assert {
        "a batch answers as its rows do one by one",
        "infinite numbers are refused with the row",
        "labels of one class, or none, are refused",
        "it learns",
    } <= set(broken)


class Boastful(Forgetful):
    """Explains every answer by the same parts."""

    name = "boastful"

    def explain_row(self, row: Any, task: Any = None) -> Explanation:
        return Explanation(0, 2.0, (Evidence("feature", "user", 1.0),), True, "guessed", rest=0.5)


def test_parts_that_do_not_add_up_are_found() -> None:
    checks = dict(check_ranker(Boastful))
    checks["it explains, or says that it can't"]()
    with pytest.raises(NonConformingError, match=r"add up to 1\.5, not to 2"):
        checks["an explanation that is exact adds up to a score that goes with the prediction"]()


def test_the_rows_of_the_suite_can_be_learnt() -> None:
    rows = click_rows()
    assert 0.2 < rows.labels["click"].mean() < 0.8 and len(rows) == 400


@pytest.mark.parametrize("part", ["train", "valid", "asked"])
@pytest.mark.parametrize("told", [None, 10_000])
def test_errors_name_the_row_of_the_source(part: str, told: int | None) -> None:
    """Rows in two blocks: the bad one is the ninth of the second. Without rows of the source they are counted as they come."""
    rows = click_rows(400)
    table = rows.features
    prices = table.column("price").to_numpy().astype(float)
    prices[208] = np.inf
    wrong = table.set_column(table.column_names.index("price"), "price", pa.array(prices))
    at = None if told is None else told + np.arange(400)
    bad = [Rows(wrong, rows.labels, source_rows=at).slice(low, low + 200) for low in (0, 200)]
    good: list[Rows] = [rows]
    model = create("lr", epochs=1)
    expected = f"row {8 if part == 'asked' and told is None else 208 + (told or 0)}$"
    with pytest.raises(RowError) as caught:
        if part == "asked":
            model.fit(rows).predict(bad[1])
        else:
            model.fit(lambda: bad if part == "train" else good, lambda: bad if part == "valid" else good)
    assert re.search(expected, str(caught.value.where))
