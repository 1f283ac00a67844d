"""Trade-offs drawn: every pair of scales as a plot with intervals, what no other beats, and the figures as one table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from palate.console import charts, parts
from palate.console import format as show
from palate.console.desk import Visit
from palate.console.weighing import Scale, pairs, unbeaten


def plots(visit: Visit, names: Sequence[str], scales: Sequence[Scale], caption: str) -> None:
    """Draw the plots of all pairs of scales; ``caption`` names the table of their figures."""
    with parts.box("div", "plots"):
        for x, y in pairs(scales):
            with parts.box("div", "stack"):
                _plot(visit, names, x, y)
    with parts.box("details"):
        parts.text("The same figures as a table", "summary")
        rows = [[name, *(_told(scale, name) for scale in scales)] for name in names]
        parts.table(caption, ["System", *(scale.name for scale in scales)], rows, right=range(1, 1 + len(scales)))


def _plot(visit: Visit, names: Sequence[str], x: Scale, y: Scale) -> None:
    """Draw one plot under its heading."""
    title = f"{y.name} against {_lowered(x.name)}"
    points = [(name, x.values[name], y.values[name]) for name in names if name in x.values and name in y.values]
    parts.text(title, "h3")
    best = unbeaten(x, y)
    if best and len(points) > 1:
        parts.text(f"No other system is better on both: {', '.join(best)}.", classes="small soft")
    options = partial(charts.scatter, points=points, x_name=x.name, y_name=y.name, log_x=x.wide, zero_x=x.better < 0)
    charts.paint(visit, title, lambda dark: options(dark), height=270 + 22 * len(points))


def _lowered(name: str) -> str:
    """Return a name as it stands within a sentence; one that begins with capitals keeps them."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]


def _told(scale: Scale, name: str) -> str:
    one = scale.values.get(name)
    if one is None:
        return show.DASH
    return show.number(one.value) if one.low == one.high else show.interval(one.value, one.low, one.high)
