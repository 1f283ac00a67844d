"""A compare report on the page Models: one of the folder of reports, or uploaded; values, intervals, tests, trade-offs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nicegui import events, ui

from palate.console import charts, comparison, parts
from palate.console import format as show
from palate.console.desk import Visit
from palate.console.pages import tradeoffs
from palate.evaluation import report_text as words
from palate.evaluation.report import Report

#: The largest report that is taken: values of people are in it.
MOST = 50 * 2**20


async def panel(visit: Visit) -> None:
    """Show the choice of a report, and a place for what it holds."""
    about = f"Systems on equal terms, as written by: palate compare SPLIT --out {comparison.REPORTS}/NAME.json"
    kind = f"report for {visit.caller.name}"

    async def opened() -> None:
        name = str(chosen.value)
        await read(name, lambda: comparison.open_report(name))

    async def came(event: events.UploadEventArguments) -> None:
        name, folder = event.file.name, tempfile.TemporaryDirectory(prefix="palate-report-")
        path = Path(folder.name) / "report.json"
        await visit.call(lambda: None, scope="admin")  # values of people are packed: a file may hold far more than its size
        await event.file.save(path)

        def work() -> Report:
            with folder:
                return comparison.read(path)

        await read(name, work)

    async def read(name: str, work: Callable[[], Report]) -> None:
        await parts.work_in(
            visit, place, kind, f"Read {name}", lambda progress: work(), lambda report: show_report(visit, report)
        )

    names = await visit.call(comparison.names)
    with parts.panel("Compare report", about):
        if not names:
            parts.text(f"The folder {comparison.REPORTS} holds none yet.", classes="soft")
        with parts.box("div", "line"):
            if names:
                chosen = parts.select("Report", names, names[0])
                parts.button("Open", visit.guarded(opened), name="Open the report")
            if visit.may("admin"):
                parts.file_field(visit, "Or a report file (JSON)", "report", ".json,application/json", MOST, came)
        place = parts.box("div", "stack")


def show_report(visit: Visit, report: Report) -> None:
    """Show a report: what was asked, what may be concluded, values, tested pairs, and trade-offs."""
    parts.text(report.name, "h3")
    spec = ", ".join(f"{name} {value}" for name, value in report.spec.items())
    facts = [f"{len(report.users):,} people asked", *([f"split: {spec}"] if spec else [])]
    parts.text(". ".join(facts) + ".", classes="soft small")
    parts.alert(words.candidates_line(report), "" if report.sampled is not None else "fine")
    _findings(words.finding_lines(report))
    own, beside = comparison.accuracies(report), comparison.others(report)
    first = [name for name in report.metrics if name not in beside]
    for names, what in ((first, "Accuracy"), (beside, "Beside accuracy, and costs" if first else "Values")):
        if names:
            _values(report, names, what, costs=names is beside or not beside)
    if own:
        _by_metric(visit, report, own, beside)


def _findings(lines: list[str]) -> None:
    """Show what may be concluded: a line that others are indented under stands above them."""
    kept: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith(" ") and not line.startswith(" "):
            parts.text(line)
        else:
            kept.append(line.strip())
    if kept:
        parts.by_words(kept)


def _values(report: Report, names: list[str], what: str, *, costs: bool) -> None:
    heads, rows = comparison.value_rows(report, names, costs=costs)
    caption = f"{what}: value ({report.confidence:.0%} interval over people); ★ the best of a column"
    parts.table(caption, heads, [list(row) for row in rows], right=range(1, len(heads)))


def _by_metric(visit: Visit, report: Report, own: list[str], beside: list[str]) -> None:
    """Show what one metric says, and let it be another."""
    with parts.box("div", "line"):
        metric = parts.select("Metric", {name: words.label(name) for name in own}, own[0])
        other = parts.select("Beside it", {name: words.label(name) for name in beside}, beside[0]) if beside else None
    place = parts.box("div", "stack")

    async def fill() -> None:
        tested = await visit.call(comparison.verdicts, report, metric.value)
        place.clear()
        with place:
            _one_metric(visit, report, metric.value, tested)
            scales = comparison.scales(report, metric.value, other.value if other is not None else None)
            if len(scales) > 1 and len(report.systems) > 1:
                tradeoffs.plots(visit, report.systems, scales, "What each system gains and costs")

    again = visit.guarded(fill)
    metric.on_value_change(again)
    if other is not None:
        other.on_value_change(again)
    ui.timer(0.0, again, once=True)


def _one_metric(visit: Visit, report: Report, metric: str, tested: list[comparison.Verdict]) -> None:
    drawn, label = comparison.estimates(report, metric), words.label(metric)
    name = f"{label} of each system, with its {report.confidence:.0%} interval"
    parts.text(name, "h3")
    charts.draw(
        visit,
        name,
        lambda dark: charts.intervals(dark, drawn, axis_name=label),
        ["System", label],
        charts.estimate_rows(drawn),
        height=70 + 44 * len(drawn),
    )
    if not tested:
        return
    rows: list[list[parts.Cell]] = []
    places = show.decimals(one.by for one in tested)
    for one in tested:
        row: list[parts.Cell] = list(comparison.verdict_row(one, places))
        rows.append([*row[:-1], partial(parts.verdict, str(row[-1]))])
    heads = ["Pair", "Better by", "People for : against", "Effect (d)", "p (Holm)", "Verdict"]
    method = report.compare(metric)[0].method
    caption = f"Pairs on {label}: paired {method}, p corrected by Holm over {len(tested)} pairs, the surest first"
    parts.table(caption, heads, rows, right=(1, 2, 3, 4))
