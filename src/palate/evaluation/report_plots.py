"""Plots of a report, as SVG text that stands on its own and takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.evaluation.report_text import label
from palate.evaluation.report_values import SliceValue
from palate.extras import require

if TYPE_CHECKING:
    from palate.evaluation.report import Report

#: Colours that stand apart on light and dark pages, and for most kinds of colour vision.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#a8a031", "#8c564b", "#9467bd")
#: Stands for the colour of text until the page gives its own.
INK = "#010203"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "palate",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


def intervals(report: Report, metric: str) -> str:
    """Plot every system's value of a metric with its interval."""
    estimates = report.estimates(metric)
    titles = report.systems
    axes, figure, close = _axes(7.0, 0.9 + 0.34 * len(titles))
    for row, title in enumerate(titles):
        estimate, colour = estimates[title], COLOURS[row % len(COLOURS)]
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=3, solid_capstyle="round", alpha=0.55)
        axes.plot([estimate.value], [row], "o", color=colour, markersize=7)
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xlabel(f"{label(metric)} with {report.confidence:.0%} interval")
    axes.grid(axis="x", alpha=0.25)
    return close(figure)


def accuracy_and_cost(report: Report, metric: str, cost: str, title: str) -> str | None:
    """Plot a metric against a figure of cost on a logarithmic scale, or nothing where no system has that figure."""
    points = [(name, report.info(name, cost), report.estimates(metric)[name]) for name in report.systems]
    known = [(name, value, estimate) for name, value, estimate in points if value is not None and value > 0]
    if not known:
        return None
    axes, figure, close = _axes(7.0, 3.8)
    for name, value, estimate in known:
        colour = COLOURS[report.systems.index(name) % len(COLOURS)]
        if estimate.low is not None and estimate.high is not None:
            axes.plot([value, value], [estimate.low, estimate.high], color=colour, linewidth=2, alpha=0.5)
        axes.plot([value], [estimate.value], "o", color=colour, markersize=8)
        axes.annotate(name, (value, estimate.value), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel(title)
    axes.set_ylabel(label(metric))
    axes.grid(alpha=0.25)
    return close(figure)


def slice_bars(report: Report, metric: str, rows: Sequence[SliceValue]) -> str:
    """Plot bars of every system in every group of one slicing, with intervals."""
    groups = list(dict.fromkeys(row.group for row in rows))
    titles = report.systems
    axes, figure, close = _axes(7.0, 3.4)
    width = 0.8 / len(titles)
    sizes = {row.group: row.n for row in rows}
    for at, title in enumerate(titles):
        own = [next(r for r in rows if r.group == g and r.system == title) for g in groups]
        heights = np.nan_to_num([r.value for r in own])
        low = np.nan_to_num([r.value - r.low for r in own])
        high = np.nan_to_num([r.high - r.value for r in own])
        place = np.arange(len(groups)) + (at - (len(titles) - 1) / 2) * width
        errors = {"elinewidth": 1, "ecolor": INK, "alpha": 0.6}
        axes.bar(place, heights, width * 0.92, yerr=[low, high], color=COLOURS[at % len(COLOURS)], label=title, error_kw=errors)
    axes.set_xticks(range(len(groups)), [f"{group}\n({sizes[group]:,} people)" for group in groups])
    axes.set_ylabel(label(metric))
    axes.legend(
        ncols=min(4, len(titles)), loc="upper center", bbox_to_anchor=(0.5, 1.25 + 0.06 * (len(titles) // 4)), fontsize=9
    )
    return close(figure)


def _axes(width: float, height: float) -> tuple[Any, Any, Any]:
    matplotlib = require("matplotlib", "a report in HTML")
    require("matplotlib.backends.backend_svg", "a report in HTML")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    return axes, figure, _svg


def _svg(figure: Any) -> str:
    """Return the ``<svg>`` element alone: no header, no date, text as text, in the colours of the page."""
    import matplotlib

    with io.StringIO() as out, matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text = out.getvalue()
    body = text[text.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    return body.replace(INK, "currentColor")
