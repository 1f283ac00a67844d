"""Charts: ECharts options in the colours of day and night, each with the same figures as a table for those who can't see it.

Tooltips are drawn, not written as HTML, so a name from outside stays text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from palate.console import parts
from palate.console.desk import Visit
from palate.console.format import interval, number

#: Lines, grid, words and the series' colours, by day and by night; every pair differs in lightness too.
DAY = {"grid": "#d5dbe5", "words": "#334155", "series": ["#1d4ed8", "#c2410c", "#047857", "#7e22ce", "#0e7490", "#a16207"]}
NIGHT = {"grid": "#334155", "words": "#cbd5e1", "series": ["#93c5fd", "#fdba74", "#6ee7b7", "#d8b4fe", "#67e8f9", "#fde047"]}


@dataclass(frozen=True)
class Estimate:
    """A value with an interval, as charts show it."""

    name: str
    value: float
    low: float
    high: float


def base(dark: bool) -> dict[str, Any]:
    """Return what all charts share."""
    look: dict[str, Any] = NIGHT if dark else DAY
    return {
        "animation": False,
        "color": look["series"],
        "textStyle": {"color": look["words"], "fontFamily": "inherit"},
        "legend": {"textStyle": {"color": look["words"]}, "top": 0},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
        "grid": {"left": 8, "right": 20, "top": 36, "bottom": 8, "containLabel": True},
    }


def axis(dark: bool, kind: str, **more: Any) -> dict[str, Any]:
    """Return an axis."""
    look: dict[str, Any] = NIGHT if dark else DAY
    return {
        "type": kind,
        "axisLabel": {"color": look["words"], "hideOverlap": True},
        "axisLine": {"lineStyle": {"color": look["grid"]}},
        "splitLine": {"show": kind == "value", "lineStyle": {"color": look["grid"]}},
        "nameTextStyle": {"color": look["words"]},
        **more,
    }


def by_day(dark: bool, days: Sequence[str], series: Mapping[str, Sequence[float]], *, bars: bool = True) -> dict[str, Any]:
    """Return a chart of one or several counts by day."""
    return {
        **base(dark),
        "xAxis": axis(dark, "category", data=[day[5:] for day in days]),
        "yAxis": axis(dark, "value", minInterval=1),
        "series": [
            {"name": name, "type": "bar" if bars else "line", "data": list(values), "symbol": "circle"}
            for name, values in series.items()
        ],
    }


def intervals(dark: bool, estimates: Sequence[Estimate], *, axis_name: str, zero: bool = False) -> dict[str, Any]:
    """Return a chart of values with their intervals, one a line; ``zero`` marks no difference."""
    look: dict[str, Any] = NIGHT if dark else DAY
    colour = look["series"][0]
    rows = list(enumerate(estimates))
    whiskers = [
        {"coords": [[one.low, at], [one.high, at]], "lineStyle": {"color": colour, "width": 3, "type": "solid"}}
        for at, one in rows
    ]
    lines: list[dict[str, Any]] = [
        {
            "name": "interval",
            "type": "lines",
            "coordinateSystem": "cartesian2d",
            "silent": True,
            "data": whiskers,
        },
        {"name": "estimate", "type": "scatter", "symbolSize": 12, "data": [[one.value, at] for at, one in rows]},
        _room([(end, at) for at, one in rows for end in (one.low, one.high)]),
    ]
    if zero:
        lines[1]["markLine"] = {
            "silent": True,
            "symbol": "none",
            "label": {"show": False},
            "lineStyle": {"color": look["words"], "type": "dashed"},
            "data": [{"xAxis": 0}],
        }
    return {
        **base(dark),
        "legend": {"show": False},
        "tooltip": {"show": False},
        "grid": {"left": 8, "right": 24, "top": 12, "bottom": 28, "containLabel": True},
        "xAxis": axis(dark, "value", name=axis_name, nameLocation="middle", nameGap=28, scale=not zero),
        "yAxis": axis(dark, "category", data=[one.name for one in estimates], inverse=True),
        "series": lines,
    }


def scatter(
    dark: bool, points: Sequence[tuple[str, Estimate, Estimate]], *, x_name: str, y_name: str, log_x: bool = False
) -> dict[str, Any]:
    """Return a chart of points with intervals both ways: name, x and y of each."""
    look: dict[str, Any] = NIGHT if dark else DAY
    series: list[dict[str, Any]] = []
    names = [name for name, _, _ in points]
    for at, (name, x, y) in enumerate(points):
        colour = look["series"][at % len(look["series"])]
        stroke = {"color": colour, "width": 2, "type": "solid"}
        crosses = [
            {"coords": [[x.low, y.value], [x.high, y.value]], "lineStyle": stroke},
            {"coords": [[x.value, y.low], [x.value, y.high]], "lineStyle": stroke},
        ]
        own = {"name": name, "itemStyle": {"color": colour}}
        series.append({**own, "type": "scatter", "symbolSize": 13, "data": [[x.value, y.value]]})
        series.append(_room([(x.low, y.low), (x.high, y.high)]))
        series.append({**own, "type": "lines", "coordinateSystem": "cartesian2d", "silent": True, "data": crosses})
    return {
        **base(dark),
        "legend": {"orient": "vertical", "bottom": 0, "left": 8, "textStyle": {"color": look["words"]}, "data": names},
        "tooltip": {"show": False},
        "grid": {"left": 8, "right": 24, "top": 34, "bottom": 42 + 24 * len(points), "containLabel": True},
        "xAxis": axis(dark, "log" if log_x else "value", name=x_name, nameLocation="middle", nameGap=28, scale=True),
        "yAxis": axis(dark, "value", name=y_name, nameLocation="end", nameGap=12, scale=True),
        "series": series,
    }


def _room(points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return points that nobody sees, so that axes reach to the ends of intervals."""
    return {"type": "scatter", "symbolSize": 0, "silent": True, "data": [list(point) for point in points]}


def estimate_rows(estimates: Sequence[Estimate]) -> list[list[str]]:
    """Return estimates as rows of a table."""
    return [[one.name, interval(one.value, one.low, one.high)] for one in estimates]


def day_rows(days: Sequence[str], series: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Return counts by day as rows of a table, latest first; days with nothing are left out."""
    rows = [[day, *(number(values[at]) for values in series.values())] for at, day in enumerate(days)]
    return [row for row, at in zip(rows, range(len(days)), strict=True) if any(v[at] for v in series.values())][::-1]


def draw(
    visit: Visit,
    name: str,
    options: Callable[[bool], dict[str, Any]],
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    height: int = 280,
) -> None:
    """Draw a chart, and put its figures below it as a table that opens; it follows day and night."""
    chart = ui.echart(options(visit.dark)).classes("chart").style(f"height: {height}px")
    chart.props["role"] = "img"
    chart.props["aria-label"] = name

    def repaint() -> None:
        if chart.is_deleted:
            return
        chart.options.clear()
        chart.options.update(options(visit.dark))
        chart.update()

    visit.repaint.append(repaint)
    with parts.box("details"):
        parts.text("The same figures as a table", "summary")
        parts.table(name, heads, rows, right=range(1, len(heads)))
