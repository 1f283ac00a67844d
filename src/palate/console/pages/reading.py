"""What an experiment says now: variants side by side, or whose items people chose; a part of the page Experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from palate.console import charts, parts
from palate.console import format as show
from palate.console.desk import Visit

#: What is done about many looks and many comparisons.
CORRECTED = "Intervals hold at every look and each stands alone; p-values are corrected for the number of comparisons (Holm)."
#: What the reading at the planned size is for.
ONCE = "What stands under planned size is for one reading, there."
#: How conclusions about a difference are worded of a preference; ``{}`` is who is preferred.
PREFERRED = {
    "higher": "{} is preferred",
    "lower": "{} is preferred",
    "higher at the planned size": "{} is preferred at the planned size",
    "lower at the planned size": "{} is preferred at the planned size",
    "no difference shown": "no preference shown",
}


def panel(visit: Visit, found: Mapping[str, Any]) -> None:
    """Show an analysis, as :func:`palate.serve.experiments.live.analysis` returns it."""
    with parts.panel(f"Reading of {found['experiment']}", f"{found['units']:,} of {found['planned']:,} planned people so far."):
        if found.get("ratio", {}).get("verdict") == "mismatch":
            parts.alert("The arms have the wrong sizes: nothing else here may be read.", "fault")
        parts.by_words(found["words"])
        if found["kind"] == "interleaving":
            _preferences(visit, found)
        else:
            _arms(found)
            _differences(visit, found)
            _guardrails(found)


def arm_rows(found: Mapping[str, Any]) -> list[list[parts.Cell]]:
    """Return metric, variant, people and mean of each arm."""
    return [
        [name, arm["variant"], f"{arm['n']:,}", show.interval(arm["value"], arm["low"], arm["high"])]
        for name, arms in found["metrics"].items()
        for arm in arms
    ]


def goals(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the comparisons that are no guardrail's."""
    own = {state["metric"] for state in found["guardrails"]}
    return [one for one in found["comparisons"] if one["metric"] not in own]


def difference_rows(pairs: Sequence[Mapping[str, Any]]) -> list[list[parts.Cell]]:
    """Return metric, variant, difference, lift, corrected p-value and conclusion of each comparison."""
    return [
        [
            one["metric"],
            one["variant"],
            _always(one),
            show.share(one["lift"]),
            show.chance(one["sequential"]["p_adjusted"]),
            one["conclusion"],
        ]
        for one in pairs
    ]


def _always(one: Mapping[str, Any]) -> str:
    """Return a difference with the interval that holds at any time; there is none before each arm has enough people."""
    low, high = one["sequential"]["low"], one["sequential"]["high"]
    found = show.interval(one["difference"], low, high)
    return found if None not in (one["difference"], low, high) else f"{found} (no interval yet)"


def guardrail_rows(found: Mapping[str, Any]) -> list[list[parts.Cell]]:
    """Return metric, variant, change for the better with its ends, margin and verdict of each guardrail."""
    return [
        [
            one["metric"],
            one["variant"],
            show.share_interval(one["change"], one["low"], one["high"]),
            show.share(one["margin"]),
            partial(parts.verdict, one["verdict"]),
        ]
        for one in found["guardrails"]
    ]


def preference_rows(found: Mapping[str, Any]) -> list[list[parts.Cell]]:
    """Return metric, votes, preference with its interval at any time and at the planned size, p-value and conclusion."""
    reached, control = found["units"] >= found["planned"], found["variants"][0]
    return [
        [
            one["metric"],
            f"{one['wins']:,}",
            f"{one['losses']:,}",
            f"{one['ties']:,}",
            _always(one),
            *([show.interval(one["difference"], one["fixed"]["low"], one["fixed"]["high"])] if reached else []),
            show.chance(one["sequential"]["p_adjusted"]),
            PREFERRED.get(one["conclusion"], one["conclusion"]).format(one["variant"] if one["difference"] > 0 else control),
        ]
        for one in found["comparisons"]
    ]


def estimates(pairs: Sequence[Mapping[str, Any]], name: str) -> list[charts.Estimate]:
    """Return what has an interval with ends, each called by one of its facts."""
    return [
        charts.Estimate(one[name], one["difference"], one["sequential"]["low"], one["sequential"]["high"])
        for one in pairs
        if None not in (one["difference"], one["sequential"]["low"], one["sequential"]["high"])
    ]


def _arms(found: Mapping[str, Any]) -> None:
    heads = ["Metric", "Variant", "People", "Mean (interval at a fixed size)"]
    parts.table("As measured, by variant", heads, arm_rows(found), right=(2, 3))


def _differences(visit: Visit, found: Mapping[str, Any]) -> None:
    """Show every variant against the control, each metric on a scale of its own."""
    pairs = goals(found)
    heads = ["Metric", "Variant", "Difference (holds at any time)", "Lift", "p, corrected", "Conclusion"]
    parts.table("Against the control", heads, difference_rows(pairs), right=(2, 3, 4), empty="No variant can be compared yet.")
    with parts.box("div", "plots stack"):
        for metric in dict.fromkeys(one["metric"] for one in pairs):
            drawn = estimates([one for one in pairs if one["metric"] == metric], "variant")
            title = f"Differences from the control: {metric}"
            _draw(visit, title, drawn, "Variant", "difference from the control")


def _guardrails(found: Mapping[str, Any]) -> None:
    """Show what must not get worse."""
    rows = guardrail_rows(found)
    if rows:
        heads = ["Metric", "Variant", "Change for the better (each end holds at any time)", "May get worse by", "Verdict"]
        parts.table("Guardrails", heads, rows, right=(2, 3))


def _preferences(visit: Visit, found: Mapping[str, Any]) -> None:
    """Show whose items people chose."""
    control, variant = found["variants"]
    about = (
        f"Each person has one vote: for {variant} or {control}, whoever supplied more of what the person chose. The preference "
        f"is 0 where both are chosen alike, +0.5 where all choose {variant}, -0.5 where all choose {control}."
    )
    parts.text(about, classes="soft small")
    reached = found["units"] >= found["planned"]
    once = ["Preference, planned size"] if reached else []
    heads = ["Metric", f"For {variant}", f"For {control}", "Undecided", "Preference, any time", *once]
    right = tuple(range(1, len(heads) + 1))
    parts.table("Whose items people chose", [*heads, "p, corrected", "Conclusion"], preference_rows(found), right=right)
    parts.text(f"{ONCE} {CORRECTED}" if reached else CORRECTED, classes="soft small")
    title = f"Preference between {control} (left) and {variant} (right)"
    _draw(visit, title, estimates(found["comparisons"], "metric"), "Metric", f"preference for {variant}", reach=0.5)


def _draw(visit: Visit, title: str, drawn: list[charts.Estimate], what: str, axis: str, *, reach: float | None = None) -> None:
    """Draw intervals around 0, unless none has ends yet."""
    if not drawn:
        return
    with parts.box("div"):
        parts.text(title, "h3")
        charts.draw(
            visit,
            title,
            lambda dark: charts.intervals(dark, drawn, axis_name=axis, zero=True, reach=reach),
            [what, axis.capitalize()],
            charts.estimate_rows(drawn),
            height=70 + 44 * len(drawn),
        )
