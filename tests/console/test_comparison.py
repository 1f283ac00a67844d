"""Reports as the console shows them: found, read, turned to the better system, weighed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.console import comparison
from palate.errors import DataError
from palate.evaluation.comparison import Pair


def _pair(difference: float) -> Pair:
    ends = sorted((difference - 0.1, difference + 0.3))
    return Pair("m", "a", "b", difference, *ends, 0.1, 0.01, 0.02, 2 * difference, 10, 7, 3, "permutation", significant=True)


@pytest.mark.parametrize(
    ("difference", "sign", "told"),
    [
        (0.2, 1, ("a", "b", 0.2, 0.1, 0.5, 7, 3)),
        (-0.2, 1, ("b", "a", 0.2, -0.1, 0.3, 3, 7)),
        (0.2, -1, ("b", "a", 0.2, 0.1, 0.5, 3, 7)),
        (-0.2, -1, ("a", "b", 0.2, -0.1, 0.3, 7, 3)),
    ],
)
def test_a_pair_is_told_from_the_side_of_the_better_system(difference: float, sign: int, told: tuple[Any, ...]) -> None:
    found = comparison._turned(_pair(difference), sign)
    assert (found.better, found.worse, found.wins, found.losses) == (*told[:2], *told[5:])
    assert (found.by, found.low, found.high) == pytest.approx(told[2:5])
    assert found.effect == pytest.approx(0.4)


def test_reports_are_found_by_name_and_nothing_else_is_opened(report: Any, reports: Path) -> None:
    assert comparison.names() == []
    report.to_json(reports / "one.json")
    (reports.parent / "secret.json").write_text("{}")
    assert comparison.names() == ["one.json"]
    assert comparison.open_report("one.json").systems == report.systems
    for name in ("../secret.json", str(reports / "one.json"), "two.json"):
        with pytest.raises(DataError, match="no such report"):
            comparison.open_report(name)


def test_rows_hold_intervals_and_mark_the_best(report: Any) -> None:
    heads, rows = comparison.value_rows(report, ["ndcg@10"])
    assert heads == ["System", "NDCG@10", "Fit s", "Requests/s"]
    best = max(report.systems, key=lambda title: report.estimates("ndcg@10")[title].value)
    assert [row[0] for row in rows if row[1].startswith("★ ")] == [best]
    assert all(" to " in row[1] for row in rows)
    assert comparison.value_rows(report, ["coverage@10"], costs=False)[0] == ["System", "Coverage@10"]
    coverage = [row[1].removeprefix("★ ") for row in comparison.value_rows(report, ["coverage@10"])[1]]
    assert [len(text) for text in coverage] == [4] * 4  # no interval, and the same decimals


def test_every_pair_is_tested_and_the_surest_stands_first(report: Any) -> None:
    found = comparison.verdicts(report, "ndcg@10")
    assert len(found) == 6
    assert [one.p for one in found] == sorted(one.p for one in found)
    assert all(one.by >= 0 for one in found)
    assert {one.better for one in found if one.significant and one.worse == "Random"} >= {"EASE", "ItemKNN"}
    row = comparison.verdict_row(found[0])
    assert row[4] == "< 0.001" and row[5] == "differs"


def test_metrics_are_parted_into_accuracy_and_what_stands_beside_it(report: Any) -> None:
    assert comparison.accuracies(report)[:2] == ["ndcg@10", "recall@10"]
    assert comparison.others(report)[0] == "diversity@10"
    scales = comparison.scales(report, "ndcg@10", "diversity@10")
    assert [scale.better for scale in scales] == [1, 1, -1]
    time = scales[2].values["EASE"]
    assert time.value == time.low == time.high == pytest.approx(1e6 / report.info("EASE", "requests_per_s"))


def test_one_system_alone_has_no_pairs(report: Any) -> None:
    from palate.evaluation.report import Report

    alone = Report("alone", report.split_fingerprint)
    alone._take(report.runs_of("EASE")[0], report.users, None)
    assert comparison.verdicts(alone, "ndcg@10") == []
    assert "★" not in comparison.value_rows(alone, ["ndcg@10"])[1][0][1]
