"""Plots of a report, as SVG text that stands on its own and takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    estimates, titles = report.estimates(metric), report.systems
    with drawing(7.0, 0.9 + 0.34 * len(titles)) as (axes, out):
        for row, title in enumerate(titles):
            estimate, colour = estimates[title], COLOURS[row % len(COLOURS)]
            if estimate.low is not None and estimate.high is not None:
                ends = [estimate.low, estimate.high]
                axes.plot(ends, [row, row], color=colour, linewidth=3, solid_capstyle="round", alpha=0.55)
            axes.plot([estimate.value], [row], "o", color=colour, markersize=7)
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(len(titles) - 0.5, -0.5)
        axes.set_xlabel(f"{label(metric)} with {report.confidence:.0%} interval")
        axes.grid(axis="x", alpha=0.25)
    return out[0]


def accuracy_and_cost(report: Report, metric: str, cost: str, title: str) -> str | None:
    """Plot a metric against a figure of cost on a logarithmic scale, or nothing where no system has that figure."""
    points = [(name, report.info(name, cost), report.estimates(metric)[name]) for name in report.systems]
    known = sorted(((name, v, e) for name, v, e in points if v is not None and v > 0), key=lambda point: point[1])
    if not known:
        return None
    with drawing(7.0, 3.8) as (axes, out):
        from matplotlib.ticker import LogLocator, NullLocator

        axes.set_xscale("log")
        axes.set_xlim(known[0][1] / 3, known[-1][1] * 6)
        axes.margins(y=0.15)
        for name, value, estimate in known:
            colour = COLOURS[report.systems.index(name) % len(COLOURS)]
            if estimate.low is not None and estimate.high is not None:
                axes.plot([value, value], [estimate.low, estimate.high], color=colour, linewidth=2, alpha=0.5)
            axes.plot([value], [estimate.value], "o", color=colour, markersize=8)
        _name_points(axes, [(name, value, estimate.value) for name, value, estimate in known])
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if known[-1][1] < 20 * known[0][1] else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axes.set_xlabel(title)
        axes.set_ylabel(label(metric))
        axes.grid(alpha=0.25)
    return out[0]


def _name_points(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names beside points, each where it covers the fewest points and names (a letter is about 5.5 points wide)."""
    axes.autoscale_view(scalex=False)
    where = axes.transData.transform([(x, y) for _, x, y in points]) * 72 / axes.figure.dpi
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in where]
    for (name, x, y), (left, bottom) in zip(points, where, strict=True):
        spots = []
        for place, (dx, dy, side) in enumerate(((9, 3, "left"), (9, -12, "left"), (-9, 3, "right"), (-9, -12, "right"))):
            low = left + dx - (5.5 * len(name) if side == "right" else 0)
            box = (low, bottom + dy, low + 5.5 * len(name), bottom + dy + 10)
            crossed = sum(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
            spots.append((crossed, place, (dx, dy), side, box))
        _, _, offset, side, box = min(spots)
        taken.append(box)
        axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", ha=side, fontsize=9)


def slice_bars(report: Report, metric: str, rows: Sequence[SliceValue]) -> str:
    """Plot bars of every system in every group of one slicing, with intervals."""
    groups, titles = list(dict.fromkeys(row.group for row in rows)), report.systems
    cells = {(row.group, row.system): row for row in rows}
    width = 0.8 / len(titles)
    with drawing(7.0, 3.4) as (axes, out):
        for at, title in enumerate(titles):
            own = [cells[group, title] for group in groups]
            ends = np.nan_to_num([[r.value - r.low for r in own], [r.high - r.value for r in own]])
            axes.bar(
                np.arange(len(groups)) + (at - (len(titles) - 1) / 2) * width,
                np.nan_to_num([r.value for r in own]),
                width * 0.92,
                yerr=np.maximum(ends, 0),
                color=COLOURS[at % len(COLOURS)],
                label=title,
                error_kw={"elinewidth": 1, "ecolor": INK, "alpha": 0.6},
            )
        axes.set_xticks(range(len(groups)), [f"{group}\n({cells[group, titles[0]].n:,} people)" for group in groups])
        axes.set_ylabel(label(metric))
        axes.figure.legend(ncols=min(4, len(titles)), loc="outside upper center", fontsize=9)
    return out[0]


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """Give axes to draw on; afterwards the list holds the ``<svg>`` element."""
    matplotlib = require("matplotlib", "a report in HTML")
    require("matplotlib.backends.backend_svg", "a report in HTML")
    from matplotlib.figure import Figure

    out: list[str] = []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot(), out
        out.append(_svg(figure))


def _svg(figure: Any) -> str:
    """Return the ``<svg>`` element alone: no header, no date, text as text, in the colours of the page."""
    with io.StringIO() as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text = stream.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :].strip(), flags=re.DOTALL)
    return body.replace(INK, "currentColor")
