"""The report as one self-contained page: no script, no font, no picture from elsewhere; readable by day and by night."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.evaluation import report_plots as plots
from palate.evaluation import report_text as words
from palate.evaluation.metrics import parse
from palate.evaluation.report_files import write_text
from palate.extras import require

if TYPE_CHECKING:
    from palate.evaluation.report import Report

#: Template, beside this file.
TEMPLATE = "report.html.j2"


def write_html(report: Report, path: str | Path, people: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write the page (see :meth:`palate.evaluation.report.Report.to_html`)."""
    return write_text(path, render(report, people))


def render(report: Report, people: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the page as text; everything that comes from data is escaped."""
    jinja2 = require("jinja2", "a report in HTML")
    source = resources.files("palate.evaluation").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    metric = words.primary(report)
    page: str = environment.from_string(source).render(
        name=report.name,
        lead=words.candidates_line(report),
        sampled=report.sampled,
        summary=_outline(words.finding_lines(report)),
        accuracy=_table(report, _accuracy(report)),
        beyond=_table(report, [name for name in report.metrics if name not in _accuracy(report)], costs=()),
        pairs=_pairs(report, metric),
        plots=_plots(report, metric, jinja2.utils.markupsafe.Markup),
        slices=_slices(report, metric, jinja2.utils.markupsafe.Markup),
        people=[_person(page) for page in people],
        how=_how(report),
        systems=_systems(report),
    )
    return page


def _outline(lines: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return lines with the indented lines that follow each."""
    out: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith(" ") and out:
            out[-1][1].append(line.strip())
        else:
            out.append((line.strip(), []))
    return out


def _accuracy(report: Report) -> list[str]:
    ranking = [name for name in report.metrics if parse(name).definition.family == "ranking"]
    return ranking or report.metrics


def _table(report: Report, names: Sequence[str], costs: Sequence[str] = tuple(words.COSTS)) -> dict[str, Any]:
    """Return heads and rows; each cell is value, interval, spread over seeds, and whether it is the best."""
    costs = [key for key in costs if any(report.info(title, key) is not None for title in report.systems)]
    rows = []
    for title in report.systems:
        cells = []
        for name in names:
            estimate = report.estimates(name)[title]
            cells.append(
                {
                    "value": words.number(estimate.value),
                    "interval": None
                    if estimate.low is None
                    else f"{words.number(estimate.low)} to {words.number(estimate.high)}",
                    "spread": None if estimate.spread is None else f"± {words.number(estimate.spread)} over seeds",
                    "best": estimate.best and len(report.systems) > 1,
                }
            )
        rows.append({"title": title, "cells": cells, "costs": [words.cost(report.info(title, key)) for key in costs]})
    return {"heads": [words.label(n) for n in names], "costs": [words.COSTS[key] for key in costs], "rows": rows}


def _pairs(report: Report, metric: str | None) -> dict[str, Any] | None:
    if metric is None or len(report.systems) < 2:
        return None
    sign = report.better(metric)
    rows = []
    for pair in sorted(report.compare(metric), key=lambda pair: (pair.p_adjusted, -abs(pair.effect))):
        ahead = sign * pair.difference >= 0
        first, second = (pair.system, pair.baseline) if ahead else (pair.baseline, pair.system)
        ends = sorted(abs(e) if ahead == (sign * e >= 0) else -abs(e) for e in (pair.low, pair.high))
        rows.append(
            {
                "first": first,
                "second": second,
                "by": words.number(abs(pair.difference)),
                "interval": f"{words.number(ends[0])} to {words.number(ends[1])}",
                "p": "< 0.001" if pair.p_adjusted < 0.001 else f"{pair.p_adjusted:.3f}",
                "effect": f"{abs(pair.effect):.2f}",
                "better": pair.wins if ahead else pair.losses,
                "worse": pair.losses if ahead else pair.wins,
                "significant": pair.significant,
            }
        )
    return {"metric": words.label(metric), "method": report.compare(metric)[0].method, "rows": rows}


def _plots(report: Report, metric: str | None, mark: Any) -> list[dict[str, Any]]:
    if metric is None:
        return []
    found = [(f"{words.label(metric)} of each system", plots.intervals(report, metric))]
    for key, title in (("fit_seconds", "seconds to fit"), ("requests_per_s", "requests answered a second")):
        drawn = plots.accuracy_and_cost(report, metric, key, title)
        if drawn is not None:
            found.append((f"{words.label(metric)} against {title}", drawn))
    return [{"title": title, "svg": mark(svg)} for title, svg in found]


def _slices(report: Report, metric: str | None, mark: Any) -> list[dict[str, Any]]:
    if metric is None:
        return []
    out = []
    for slicing in report.slicings:
        rows = report.slices(metric, slicing.name)
        if rows:
            out.append({"name": slicing.name, "about": slicing.about, "svg": mark(plots.slice_bars(report, metric, rows))})
    return out


def _person(page: Mapping[str, Any]) -> dict[str, Any]:
    offers = [
        {
            "title": str(offer["title"]),
            "why": str(offer.get("why", "")),
            "score": words.number(float(offer["score"])) if "score" in offer else "",
        }
        for offer in page.get("offers", ())
    ]
    history = [str(title) for title in page.get("history", ())]
    whose = {"user": str(page["user"]), "system": page.get("system", "")}
    return {**whose, "events": page.get("events", len(history)), "history": history, "offers": offers}


def _how(report: Report) -> list[tuple[str, str]]:
    """Return what one must know to measure it again."""
    spec = ", ".join(f"{key} {_moment(value) if key.endswith('_at') else _short(value)}" for key, value in report.spec.items())
    rows = [
        ("Candidates", words.candidates_line(report)),
        ("Split", spec or "not recorded"),
        ("Fingerprint of the split", report.split_fingerprint),
        ("Looks at the test part", "not recorded" if report.looks is None else str(report.looks)),
        ("People asked", f"{len(report.users):,}"),
        ("Intervals", f"{report.confidence:.0%}, percentile bootstrap over people, {report.resamples:,} resamples"),
    ]
    rows += [(str(key)[:1].upper() + str(key)[1:], _short(value)) for key, value in report.setup.items()]
    rows.append(("Machine", ", ".join(f"{key} {value}" for key, value in report.machine.items())))
    rows.append(("Versions", ", ".join(f"{key} {value}" for key, value in report.versions.items())))
    return rows


def _systems(report: Report) -> list[dict[str, Any]]:
    out = []
    for title in report.systems:
        runs = report.runs_of(title)
        info = dict(runs[0].info)
        cold = report.info(title, "cold_share")
        out.append(
            {
                "title": title,
                "seeds": ", ".join(str(run.seed) for run in runs),
                "trials": _short(info.get("n_trials", "–")),
                "cold": "–" if cold is None else f"{cold:.1%}",
                "dropped": ", ".join(f"{words.label(m)} {n:,}" for m, n in runs[0].dropped.items() if n) or "none",
                "settings": _short(info.get("settings", {}) or "defaults"),
            }
        )
    return out


def _moment(value: Any) -> str:
    """Return seconds since 1970 as a date and time, and anything else as it is."""
    if not isinstance(value, int):
        return _short(value)
    try:
        return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    except (OverflowError, ValueError, OSError):
        return str(value)


def _short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_short(part)}" for key, part in value.items())
    return value if isinstance(value, str) else json.dumps(value, default=str)
