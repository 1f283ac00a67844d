"""Words of a report: names of metrics, cells of tables, and the lines that must stand beside the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palate.evaluation.metrics import parse
from palate.evaluation.report_values import Estimate

if TYPE_CHECKING:
    from palate.evaluation.report import Report

#: The strong simple systems that a new one has to beat.
BASELINES = frozenset({"popularity", "item_knn", "ease", "ials"})
_CAPITALS = {"ndcg", "dcg", "mrr", "map", "arhr", "err", "rbp", "auc", "gauc", "ils", "arp", "aplt", "epc", "efd", "rr"}
#: Figures about a system that tables show, and their titles.
COSTS = {"fit_seconds": "Fit s", "requests_per_s": "Requests/s"}


def label(metric: str) -> str:
    """Return how a metric is written in tables: ``NDCG@10``, ``Hit rate@10``."""
    name = parse(metric).name
    word, at, rest = name.partition("@")
    if not at:
        word, bracket, tail = name.partition("[")
        rest = bracket + tail
    parts = [part.upper() if part in _CAPITALS else part for part in word.split("_")]
    text = " ".join(parts)
    return text[:1].upper() + text[1:] + at + rest


def number(value: float | None) -> str:
    """Return a number with as many digits as help."""
    if value is None or value != value:
        return "–"
    size = abs(value)
    return (
        f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.4f}" if size < 10 else f"{value:.2f}"
    )


def cost(value: float | None) -> str:
    """Return seconds or a rate with three digits."""
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def half_width(estimate: Estimate) -> float | None:
    """Return half the length of the interval, or ``None`` where there is none."""
    if estimate.low is None or estimate.high is None or estimate.low != estimate.low:
        return None
    return (estimate.high - estimate.low) / 2


def table(report: Report, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return one printable row a system (see :meth:`palate.evaluation.report.Report.table`)."""
    names = [report.metric(m) for m in metrics] if metrics else report.metrics
    costs = [key for key in COSTS if any(report.info(title, key) is not None for title in report.systems)]
    rows = []
    for title in report.systems:
        row: dict[str, Any] = {"System": title}
        for name in names:
            row[label(name)] = _cell(report.estimates(name)[title], alone=len(report.systems) == 1)
        for key in costs:
            row[COSTS[key]] = cost(report.info(title, key))
        if report.sampled is not None:
            row["Candidates"] = f"sampled: {report.sampled}"
        rows.append(row)
    return rows


def _cell(estimate: Estimate, *, alone: bool) -> str:
    half = half_width(estimate)
    text = number(estimate.value) + (f" ±{number(half)}" if half is not None else "")
    return text + ("*" if estimate.best and not alone else "")


def slice_tables(report: Report, metric: str | None = None) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return titles and rows of slices (see :meth:`palate.evaluation.report.Report.slice_tables`)."""
    named = None if metric is None else report.metric(metric)
    name = named if named in report.paired_metrics else primary(report)
    if name is None:
        return []
    found, sign = [], report.better(name)
    for slicing in report.slicings:
        rows: dict[str, dict[str, Any]] = {}
        values = report.slices(name, slicing.name)
        for value in values:
            best = max((sign * other.value for other in values if other.group == value.group), default=math.nan)
            cell = number(value.value) + ("" if value.low != value.low else f" ±{number((value.high - value.low) / 2)}")
            row = rows.setdefault(value.group, {"People": value.group, "Number": f"{value.n:,}"})
            row[value.system] = cell + ("*" if sign and sign * value.value == best and len(report.systems) > 1 else "")
        about = f": {slicing.about}" if slicing.about else ""
        found.append((f"{label(name)} by {slicing.name}{about}", list(rows.values())))
    return found


def summary_lines(report: Report) -> list[str]:
    """Return the lines beside a table (see :meth:`palate.evaluation.report.Report.summary_lines`)."""
    if not report.runs:
        return ["No system has been judged yet."]
    lines = [candidates_line(report)] if report.sampled is not None else []
    marks = f"±: half of the {report.confidence:.0%} bootstrap interval over {len(report.users):,} people"
    marks += f" ({report.resamples:,} resamples)."
    lines.append(("* best. " if len(report.systems) > 1 else "") + marks)
    return lines + finding_lines(report)


def finding_lines(report: Report) -> list[str]:
    """Return which differences count, what doesn't beat a baseline, and how it was measured, in words."""
    return _findings(report) + _weaker_than_baselines(report) + measured_lines(report)


def candidates_line(report: Report) -> str:
    """Return the label that every output carries when candidates were sampled, else what full ranking means."""
    if report.sampled is None:
        return "Every question ranked the full catalogue."
    warning = "values can't be compared with full-catalogue ranking, and may order systems otherwise."
    return f"SAMPLED CANDIDATES ({report.sampled}): {warning}"


def measured_lines(report: Report) -> list[str]:
    """Return seeds, tuning budget, and looks at the test part, in words."""
    seeds = {title: len(report.runs_of(title)) for title in report.systems}
    few, many = min(seeds.values()), max(seeds.values())
    lines = []
    if many > 1:
        how_many = str(few) if few == many else f"{few} to {many}"
        lines.append(f"Each system: {how_many} seeds, averaged person by person.")
    trials = [report.info(title, "n_trials") for title in report.systems]
    if any(trials):
        budget = sorted({int(t or 0) for t in trials})
        lines.append(f"Tuning on validation: {' to '.join(str(b) for b in sorted({budget[0], budget[-1]}))} trials a system.")
    if leaks := report.setup.get("accepted leaks"):
        lines.append(f"Leaks of this split that were accepted: {leaks}.")
    if data := report.setup.get("fitted elsewhere"):
        lines.append(f"Fitted on other data than this split gives to learn from ({data}): it may have seen these answers.")
    if report.looks is not None:
        times = "once" if report.looks == 1 else f"{report.looks} times"
        lines.append(f"The test part of this split (fingerprint {report.split_fingerprint}) has been opened {times}.")
    return lines


def primary(report: Report) -> str | None:
    """Return the metric that findings are about: the first that has values of people and a better end."""
    return next((name for name in report.paired_metrics if report.better(name)), None)


def _findings(report: Report) -> list[str]:
    """Say who is best, who can't be told from the best, who is beaten by it, and who else beats whom: a line a system."""
    metric = primary(report)
    if metric is None or len(report.systems) < 2:
        return []
    pairs, sign = report.compare(metric), report.better(metric)
    estimates = report.estimates(metric)
    known = [title for title in report.systems if estimates[title].value == estimates[title].value]
    if not known:
        return []
    best = max(known, key=lambda title: sign * estimates[title].value)
    beaten: dict[str, dict[str, float]] = {title: {} for title in (best, *report.systems)}
    level: dict[str, float] = {}
    for pair in pairs:
        ahead = sign * pair.difference > 0
        winner, loser = (pair.system, pair.baseline) if ahead else (pair.baseline, pair.system)
        if pair.significant:
            beaten[winner][loser] = pair.p_adjusted
        elif best in (winner, loser):
            level[loser if winner == best else winner] = pair.p_adjusted
    head = f"{label(metric)}, paired {pairs[0].method}, Holm over {len(pairs)} pair{'s' if len(pairs) > 1 else ''}:"
    lines = [f"  Best: {best}."]
    if level:
        least = math.floor(100 * min(level.values())) / 100
        lines[0] += f" Not separable from it: {_titles(level)} (p ≥ {least:.2f})."
    lines += [f"  {title} beats {_titles(losers)} (p ≤ {_ceiling(losers)})." for title, losers in beaten.items() if losers]
    return [head, *lines]


def _titles(titles: Iterable[str]) -> str:
    """Join titles; a semicolon parts them where one holds a comma."""
    names = list(titles)
    return ("; " if any("," in name for name in names) else ", ").join(names)


def _ceiling(losers: Mapping[str, float]) -> str:
    return f"{max(0.001, math.ceil(1000 * max(losers.values())) / 1000):.3f}"


def _weaker_than_baselines(report: Report) -> list[str]:
    """Say of every other system whether it is significantly better than the best baseline."""
    metric = primary(report)
    kinds = {title: str(report.runs_of(title)[0].info.get("system", "")) for title in report.systems}
    simple = [title for title, kind in kinds.items() if kind in BASELINES]
    others = [title for title, kind in kinds.items() if kind and kind not in BASELINES]
    if metric is None or not simple or not others:
        return []
    sign, estimates = report.better(metric), report.estimates(metric)
    best = max(simple, key=lambda title: sign * estimates[title].value)
    pairs = {frozenset((p.system, p.baseline)): p for p in report.compare(metric)}
    weak = []
    for title in others:
        pair = pairs[frozenset((title, best))]
        ahead = sign * (pair.difference if pair.system == title else -pair.difference) > 0
        if not (pair.significant and ahead):
            weak.append(title)
    return [f"Not better than the best baseline, {best}: {_titles(weak)}."] if weak else []
