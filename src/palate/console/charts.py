"""Charts: ECharts options in the colours of day and night, each with the same figures as a table for those who can't see it.

Tooltips are drawn, not written as HTML, so a name from outside stays text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from palate.console import parts
from palate.console.curves import Curve
from palate.console.desk import Visit
from palate.console.format import interval, number

#: Lines, grid, words and the series' colours, by day and by night; every pair differs in lightness too.
DAY = {"grid": "#d5dbe5", "words": "#334155", "series": ["#1d4ed8", "#c2410c", "#047857", "#7e22ce", "#0e7490", "#a16207"]}
NIGHT = {"grid": "#334155", "words": "#cbd5e1", "series": ["#93c5fd", "#fdba74", "#6ee7b7", "#d8b4fe", "#67e8f9", "#fde047"]}

#: Shapes of points, so that systems are told apart without colours too.
SHAPES = ("circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow")
#: Names longer than a phone is wide end in dots.
LONG = {"width": 260, "overflow": "truncate"}


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
        "legend": {"textStyle": {"color": look["words"], **LONG}, "top": 0, "itemWidth": 14, "itemHeight": 12},
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
    """Return a chart of one or several counts by day; one alone is named by its axis."""
    alone = len(series) == 1
    named = {"name": next(iter(series)), "nameLocation": "end", "nameGap": 12} if alone else {}
    return {
        **base(dark),
        "legend": {**base(dark)["legend"], "show": not alone},
        "xAxis": axis(dark, "category", data=[day[5:] for day in days]),
        "yAxis": axis(dark, "value", minInterval=1, **named),
        "series": [
            {"name": name, "type": "bar" if bars else "line", "data": list(values), "symbol": "circle"}
            for name, values in series.items()
        ],
    }


def intervals(
    dark: bool, estimates: Sequence[Estimate], *, axis_name: str, zero: bool = False, reach: float | None = None
) -> dict[str, Any]:
    """Return a chart of values with their intervals, one a line.

    Parameters
    ----------
    zero
        Whether to mark no difference.
    reach
        How far the axis goes to both sides of 0, where all ends are within.
    """
    look: dict[str, Any] = NIGHT if dark else DAY
    colour = look["series"][0]
    rows = list(enumerate(estimates))
    whiskers = [
        {
            "coords": [[one.low, at], [one.high, at]],
            "lineStyle": {"color": colour, "width": 3, "type": "solid", "opacity": 0.55},
        }
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
        {
            "name": "estimate",
            "type": "scatter",
            "symbolSize": 12,
            "itemStyle": {"color": colour, "opacity": 1},
            "data": [[one.value, at] for at, one in rows],
        },
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
    within = reach is not None and all(-reach <= end <= reach for one in estimates for end in (one.low, one.high))
    sides = {"min": -reach, "max": reach, "interval": reach / 2} if reach is not None and within else {}
    return {
        **base(dark),
        "legend": {"show": False},
        "tooltip": {"show": False},
        "grid": {"left": 20, "right": 24, "top": 12, "bottom": 28, "containLabel": True},
        "xAxis": axis(dark, "value", name=axis_name, nameLocation="middle", nameGap=28, scale=not zero, **sides),
        "yAxis": {
            **axis(dark, "category", data=[one.name for one in estimates], inverse=True, axisTick={"show": False}),
            # names stand above their lines: long ones leave room for the drawing on a phone
            "axisLabel": {
                "color": look["words"],
                "inside": True,
                "verticalAlign": "bottom",
                "padding": [0, 0, 7, 0],
                **LONG,
                "margin": 2,
            },
            "z": 3,
        },
        "series": lines,
    }


def scatter(
    dark: bool,
    points: Sequence[tuple[str, Estimate, Estimate]],
    *,
    x_name: str,
    y_name: str,
    log_x: bool = False,
    zero_x: bool = False,
) -> dict[str, Any]:
    """Return a chart of points with intervals both ways: name, x and y of each; ``zero_x`` begins the scale at zero."""
    look: dict[str, Any] = NIGHT if dark else DAY
    series: list[dict[str, Any]] = []
    names = [name for name, _, _ in points]
    for at, (name, x, y) in enumerate(points):
        colour = look["series"][at % len(look["series"])]
        stroke = {"color": colour, "width": 2, "type": "solid", "opacity": 0.55}
        crosses = [
            {"coords": [[x.low, y.value], [x.high, y.value]], "lineStyle": stroke},
            {"coords": [[x.value, y.low], [x.value, y.high]], "lineStyle": stroke},
        ]
        own = {"name": name, "itemStyle": {"color": colour, "opacity": 1}}
        shape = {"symbol": SHAPES[at % len(SHAPES)], "symbolSize": 13}
        series.append({**own, "type": "scatter", **shape, "data": [[x.value, y.value]]})
        series.append(_room([(x.low, y.low), (x.high, y.high)]))
        series.append({**own, "type": "lines", "coordinateSystem": "cartesian2d", "silent": True, "data": crosses})
    legend = {**base(dark)["legend"], "orient": "vertical", "top": "auto", "bottom": 0, "left": 8, "itemGap": 10, "data": names}
    x_axis = axis(dark, "log" if log_x else "value", name=x_name, nameLocation="middle", nameGap=28, scale=not zero_x)
    return {
        **base(dark),
        "legend": legend,
        "tooltip": {"show": False},
        "grid": {"left": 8, "right": 24, "top": 34, "bottom": 36 + 22 * len(points), "containLabel": True},
        "xAxis": x_axis,
        "yAxis": axis(dark, "value", name=y_name, nameLocation="end", nameGap=12, scale=True, nameTextStyle=_left(dark)),
        "series": series,
    }


def epochs(dark: bool, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return training curves: losses above, validation values below on the same epochs, the best epoch of each marked."""
    look: dict[str, Any] = NIGHT if dark else DAY
    both = any(curve.best is not None for curve in curves)
    series = [line for at, curve in enumerate(curves) for line in _lines(look, curve, at)]
    metric = next((curve.metric for curve in curves if curve.best is not None), "")
    alone = len(curves) == 1
    top = 30 if alone else 34 + 20 * len(curves)
    half = {"left": 58, "right": 40, "height": 150}
    grids = [{**half, "top": top}, *([{**half, "top": top + 216}] if both else [])]
    y: dict[str, Any] = {"nameLocation": "end", "nameGap": 10, "scale": True, "nameTextStyle": _left(dark)}
    ends = {"min": min(curve.epochs[0] for curve in curves), "max": max(curve.epochs[-1] for curve in curves)}
    x: dict[str, Any] = {**ends, "minInterval": 1, "nameLocation": "middle", "nameGap": 26}
    return {
        **base(dark),
        "legend": {
            **base(dark)["legend"],
            "show": not alone,
            "orient": "vertical",
            "left": 8,
            "data": [c.title for c in curves],
        },
        "grid": grids,
        "xAxis": [axis(dark, "value", gridIndex=at, name="epoch", **x) for at in range(len(grids))],
        "yAxis": [
            axis(dark, "value", gridIndex=at, name=name, boundaryGap=["0%", "12%"], **y)
            for at, name in enumerate(("loss", metric)[: len(grids)])
        ],
        "series": series,
    }


def _lines(look: dict[str, Any], curve: Curve, at: int) -> list[dict[str, Any]]:
    """Return the lines of one curve: its losses and, where there are any, its validation values with the best one marked."""
    colour = look["series"][at % len(look["series"])]
    losses = _line(curve.title, list(zip(curve.epochs, curve.loss, strict=True)), colour, 0, at)
    best = curve.best
    if best is None:
        return [losses]
    known = [(epoch, value) for epoch, value in zip(curve.epochs, curve.value, strict=True) if value is not None]
    values = _line(curve.title, known, colour, 1, at)
    values["markPoint"] = {
        "silent": True,
        "symbol": "circle",
        "symbolSize": 16,
        "itemStyle": {"color": "transparent", "borderColor": look["words"], "borderWidth": 2},
        "label": {"show": True, "formatter": f"epoch {best[0]}", "position": "top", "color": look["words"]},
        "data": [{"coord": list(best)}],
    }
    return [losses, values]


def epochs_height(curves: Sequence[Curve]) -> int:
    """Return how many pixels high training curves are."""
    top = 30 if len(curves) == 1 else 34 + 20 * len(curves)
    return top + (216 if any(curve.best is not None for curve in curves) else 0) + 195


def _line(name: str, pairs: Sequence[tuple[float, float]], colour: str, grid: int, at: int) -> dict[str, Any]:
    shape = {"symbol": SHAPES[at % len(SHAPES)], "symbolSize": 6 if len(pairs) < 60 else 0}
    where = {"xAxisIndex": grid, "yAxisIndex": grid}
    look = {"itemStyle": {"color": colour}, "lineStyle": {"color": colour, "width": 2}}
    return {"name": name, "type": "line", **where, **shape, **look, "data": [list(pair) for pair in pairs]}


def _left(dark: bool) -> dict[str, Any]:
    """Return how the name above a vertical axis stands: it begins where the drawing does."""
    look: dict[str, Any] = NIGHT if dark else DAY
    return {"color": look["words"], "align": "left"}


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


def epoch_rows(curves: Sequence[Curve]) -> list[list[str]]:
    """Return training curves as rows of a table."""
    return [
        [curve.title, str(epoch), number(loss), number(value)]
        for curve in curves
        for epoch, loss, value in zip(curve.epochs, curve.loss, curve.value, strict=True)
    ]


def paint(
    visit: Visit, name: str, options: Callable[[bool], dict[str, Any]], *, height: int = 280
) -> Callable[[int | None], None]:
    """Draw a chart that follows day and night.

    Returns
    -------
    Callable
        Draws it anew, for figures that still come in, at another height where one is given. A chart is not taken away and made
        again for that: one that goes before it has come is an error in the browser.
    """
    chart = ui.echart(options(visit.dark)).classes("chart").style(f"height: {height}px")
    chart.props["role"] = "img"
    chart.props["aria-label"] = name

    def repaint(height: int | None = None) -> None:
        if chart.is_deleted:
            return
        if height is not None:
            chart.style(replace=f"height: {height}px")
        chart.options.clear()
        chart.options.update(options(visit.dark))
        chart.update()

    visit.repaint.append(repaint)
    return repaint


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
    paint(visit, name, options, height=height)
    with parts.box("details"):
        parts.text("The same figures as a table", "summary")
        parts.table(name, heads, rows, right=range(1, len(heads)))
