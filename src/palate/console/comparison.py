"""A compare report read from its file: tables of values and of tested pairs, and scales for trade-off plots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate.console import format as show
from palate.console.charts import Estimate
from palate.console.weighing import Scale
from palate.errors import DataError
from palate.evaluation import report_text as words
from palate.evaluation.comparison import Pair
from palate.evaluation.metrics import parse
from palate.evaluation.report import Report

#: Where reports stand, below the folder in which the service was started; the metrics of other families come second.
REPORTS, FIRST_FAMILY = Path("reports"), "ranking"


@dataclass(frozen=True)
class Verdict:
    """Two systems, the better one first.

    Attributes
    ----------
    better, worse
        Titles.
    by, low, high
        How much better, with its 95% interval.
    p
        After Holm's correction over all pairs of this metric.
    effect
        Cohen's d_z.
    wins, losses
        People for whom the better one is better, and worse.
    significant
        Whether p is below 1 minus the report's confidence.
    """

    better: str
    worse: str
    by: float
    low: float
    high: float
    p: float
    effect: float
    wins: int
    losses: int
    significant: bool


def names() -> list[str]:
    """Return the names of report files that stand in the folder of reports, the newest first."""
    if not REPORTS.is_dir():
        return []
    return [path.name for path in sorted(REPORTS.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)]


def open_report(name: str) -> Report:
    """Read a report of the folder of reports by its name."""
    if name not in names():
        raise DataError(
            "there is no such report.", where=str(REPORTS), value=name, remedy="palate compare … --out reports/NAME.json"
        )
    return read(REPORTS / name)


def read(path: str | Path) -> Report:
    """Read a report, and make all its intervals and the tests of its first metric, so that showing it takes no time."""
    report = Report.read(path)
    for metric in report.metrics:
        report.estimates(metric)
    first = words.primary(report)
    if first is not None and len(report.systems) > 1:
        report.compare(first)
    return report


def accuracies(report: Report) -> list[str]:
    """Return metrics that systems can be paired on and that have a better end, those of ranking first."""
    usable = [name for name in report.paired_metrics if report.better(name)]
    return sorted(usable, key=lambda name: parse(name).definition.family != FIRST_FAMILY)


def others(report: Report) -> list[str]:
    """Return metrics of what lists are beside accurate: diversity first."""
    found = [name for name in report.metrics if parse(name).definition.family != FIRST_FAMILY]
    return sorted(found, key=lambda name: parse(name).definition.name != "diversity")


def verdicts(report: Report, metric: str) -> list[Verdict]:
    """Return all pairs on a metric, turned so that the better system comes first, the surest first."""
    if len(report.systems) < 2:
        return []
    sign = report.better(metric) or 1
    found = [_turned(pair, sign) for pair in report.compare(metric)]
    return sorted(found, key=lambda one: (one.p, -one.effect))


def _turned(pair: Pair, sign: int) -> Verdict:
    """Return a pair from the side of the better system."""
    side = sign if sign * pair.difference >= 0 else -sign
    low, high = sorted((side * pair.low, side * pair.high))
    ahead = side == sign
    better, worse = (pair.system, pair.baseline) if ahead else (pair.baseline, pair.system)
    wins, losses = (pair.wins, pair.losses) if ahead else (pair.losses, pair.wins)
    gain, effect = side * pair.difference, side * pair.effect
    return Verdict(better, worse, gain, low, high, pair.p_adjusted, effect, wins, losses, pair.significant)


def verdict_row(one: Verdict, places: int | None = None) -> list[str]:
    """Return a pair as a row: its systems, by how much, people for and against, effect, p, and what follows."""
    p = "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
    told = "differs" if one.significant else "not separable"
    by = show.interval(one.by, one.low, one.high, places)
    return [f"{one.better} over {one.worse}", by, f"{one.wins:,} : {one.losses:,}", f"{one.effect:.2f}", p, told]


def estimates(report: Report, metric: str) -> list[Estimate]:
    """Return the value of each system with its interval; a metric without values of people has none to its sides."""
    found = []
    for title, one in report.estimates(metric).items():
        if one.value != one.value:
            continue
        low, high = (one.value, one.value) if one.low is None or one.high is None else (one.low, one.high)
        found.append(Estimate(title, one.value, low, high))
    return found


def value_rows(report: Report, metrics: list[str], *, costs: bool = True) -> tuple[list[str], list[list[str]]]:
    """Return heads and one row a system: each metric with its interval, the best marked, and what it cost where asked for."""
    known = [key for key in words.COSTS if any(report.info(title, key) is not None for title in report.systems)]
    shown = known if costs else []
    heads = ["System", *(words.label(name) for name in metrics), *(words.COSTS[key] for key in shown)]
    digits = {name: show.decimals(one.value for one in report.estimates(name).values()) for name in metrics}
    rows = []
    for title in report.systems:
        row = [title]
        for name in metrics:
            one = report.estimates(name)[title]
            text = show.interval(one.value, one.low, one.high, digits[name])
            row.append(f"★ {text}" if one.best and len(report.systems) > 1 else text)
        rows.append([*row, *(_cost(report.info(title, key)) for key in shown)])
    return heads, rows


def _cost(value: float | None) -> str:
    return "< 0.001" if value is not None and 0 <= value < 0.001 else words.cost(value)


def scales(report: Report, accuracy: str, other: str | None) -> list[Scale]:
    """Return what systems are weighed on: accuracy, one thing beside it, and the time of an answer."""
    found = [_scale(report, name) for name in (accuracy, other) if name is not None]
    rates = {title: report.info(title, "requests_per_s") for title in report.systems}
    times = {title: 1e6 / rate for title, rate in rates.items() if rate}
    if times:
        exact = {title: Estimate(title, ms, ms, ms) for title, ms in times.items()}
        found.append(Scale("Time of 1,000 answers (ms)", -1, exact))
    return found


def _scale(report: Report, metric: str) -> Scale:
    return Scale(words.label(metric), report.better(metric), {one.name: one for one in estimates(report, metric)})
