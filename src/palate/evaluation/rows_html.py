"""A page about rankers: their metrics with intervals, and predictions against what happened, as a plot and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from palate.evaluation.reliability import Reliability
from palate.evaluation.report_files import write_text
from palate.evaluation.report_plots import COLOURS, drawing
from palate.extras import require

#: Template, beside this file.
TEMPLATE = "rows.html.j2"


def write_rows_html(
    path: str | Path,
    title: str,
    table: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Reliability],
    notes: Sequence[str] = (),
) -> Path:
    """Write one self-contained page; everything that comes from data is escaped.

    Parameters
    ----------
    table
        One mapping a line, all of the same columns, ready to print.
    curves
        Name of a ranker (or task) to its reliability.
    notes
        Sentences that belong beside the table.
    """
    jinja2 = require("jinja2", "a report in HTML")
    source = resources.files("palate.evaluation").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(source).render(
        name=title,
        columns=list(table[0]) if table else [],
        rows=[[str(value) for value in row.values()] for row in table],
        notes=list(notes),
        plot=jinja2.utils.markupsafe.Markup(calibration_plot(curves)) if curves else "",
        curves=[(name, curve.error, curve.table().to_pylist()) for name, curve in curves.items()],
    )
    return write_text(path, page)


def calibration_plot(curves: Mapping[str, Reliability]) -> str:
    """Plot the rate of what happened against the mean prediction of each bin, with its interval; as SVG text."""
    with drawing(5.5, 4.6) as (axes, out):
        top = min(1.0, 1.1 * max(float(max(c.mean.max(), c.rate_high.max())) for c in curves.values()))
        axes.plot([0, top], [0, top], color="#7f7f7f", linewidth=1, linestyle="--")
        for at, (name, curve) in enumerate(curves.items()):
            colour = COLOURS[at % len(COLOURS)]
            ends = np.maximum([curve.rate - curve.rate_low, curve.rate_high - curve.rate], 0)  # rounding at 0 and 1
            axes.errorbar(curve.mean, curve.rate, yerr=ends, color=colour, marker="o", markersize=4, linewidth=1.2, label=name)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.set_xlabel("mean prediction of a bin")
        axes.set_ylabel("share that happened")
        axes.legend(loc="upper left")
        axes.grid(alpha=0.25)
    return out[0]
