"""Systems: the catalogue, what was claimed of each system and what came out, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Request
from nicegui import ui

from palate.catalog.registry import systems as catalogue
from palate.catalog.system import System
from palate.console import format as show
from palate.console import parts
from palate.console.desk import Visit
from palate.console.frame import page
from palate.console.setting import settings_rows
from palate.study.claims import last_result

#: Where results of claims stand, below the folder in which the service was started.
CLAIMS = Path("claims")
#: How the sentence about a claim looks, by its verdict.
CLAIMED = {"holds": "fine", "holds in part": "", "does not hold": "fault"}


@page("systems")
async def systems(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("Systems", "h1")
    results = await visit.call(_results)
    _browse(visit, list(catalogue().values()), {result["name"]: result for result in results})
    _claims(results)


def _results() -> list[dict[str, Any]]:
    """Return the results of claims, where there are any; nothing of them is run."""
    names = sorted(path.stem for path in (CLAIMS / "results").glob("*.json"))
    return [found for name in names if (found := last_result(name, CLAIMS)) is not None]


def _browse(visit: Visit, rows: list[System], results: Mapping[str, Mapping[str, Any]]) -> None:
    """Show the catalogue with its filters, and one system in full when it is asked for."""
    with parts.panel("Catalogue", "Every system by the question it answers; planned ones are named too, and say so."):
        with parts.box("div", "line"):
            words = parts.entry("Name, family or paper", classes="wide").props("clearable debounce=200")
            verb = parts.select("Verb", ["any", *sorted({s.verb for s in rows})], "any")
            status = parts.select("Status", ["any", "works", "planned"], "any")
        count = parts.text("", classes="soft small")
        count.props["role"] = "status"
        place = parts.box("div", "stack")
    detail = parts.box("div", "stack")

    async def show_one(system: System) -> None:
        detail.clear()
        with detail, parts.panel(f"{system.title}: settings and facts"):
            _facts(system, results.get(system.claim))
            if system.status == "works":
                found = await visit.call(settings_rows, system.name)
                heads = ["Setting", "Kind", "Default", "Meaning"]
                parts.table(f"Settings of {system.name}", heads, found, empty="This system has no settings.")
        ui.run_javascript(f"getHtmlElement({detail.id}).scrollIntoView({{behavior: 'auto', block: 'start'}})")

    def fill() -> None:
        wanted = (words.value or "").strip().casefold()
        kept = [
            s
            for s in rows
            if verb.value in ("any", s.verb)
            and status.value in ("any", s.status)
            and (not wanted or wanted in f"{s.name} {s.title} {s.family} {s.citation}".casefold())
        ]
        count.set_text(f"{len(kept)} of {len(rows)} systems")
        place.clear()
        with place:
            heads = ["System", "Verb", "Family", "Status", "Claim", "More"]
            cells: list[list[parts.Cell]] = [
                [s.title, s.verb, s.family, s.status, partial(_verdict, s, results), partial(more, s)] for s in kept
            ]
            parts.table("Systems", heads, cells, empty="No system fits.")

    def more(system: System) -> None:
        work = visit.guarded(partial(show_one, system))
        parts.button("Look", work, name=f"Look at {system.title}", kind="small")

    for field in (words, verb, status):
        field.on_value_change(fill)
    fill()


def _verdict(system: System, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Fill the cell of a system's claim."""
    if not system.claim:
        parts.text(show.DASH, "span")
        return
    found = results.get(system.claim)
    parts.verdict("not run here" if found is None else str(found["verdict"]))
    parts.text(system.claim.replace("_", " "), "span", "soft small")


def _facts(system: System, claim: Mapping[str, Any] | None) -> None:
    facts = {
        "Name": system.name,
        "Needs": ", ".join(system.needs),
        "Can": ", ".join(system.abilities) or show.DASH,
        "Faithfulness": system.faithfulness,
        "Paper": system.citation or show.DASH,
        "From": system.origin,
    }
    parts.table(f"Facts about {system.title}", ["Fact", "Value"], [[name, value] for name, value in facts.items()])
    if claim is not None:
        parts.alert(f"Claim “{claim['title']}”: {claim['verdict']}. {claim['statement']}", CLAIMED[claim["verdict"]])


def _claims(results: list[dict[str, Any]]) -> None:
    """Show what was claimed, and what came out."""
    with parts.panel("Claims", "Experiments with a rule set before the run; the verdict follows from the rule alone."):
        if not results:
            parts.text("No results here: the folder claims/results is not below the folder of the service.", classes="soft")
        for result in results:
            with parts.box("details", "claim"):
                with parts.box("summary"):
                    parts.text(result["title"], "span")
                    parts.verdict(result["verdict"])
                    parts.text(f"run {str(result['finished'])[:10]}", "span", "soft small")
                parts.text(result["statement"])
                effects: list[list[parts.Cell]] = [
                    [
                        name,
                        show.interval(e["value"], e["low"], e["high"]),
                        str(e["bar"]),
                        partial(parts.verdict, "met" if e["met"] else "not met"),
                    ]
                    for name, e in result["effects"].items()
                ]
                heads = ["Effect", "Value (95% interval)", "Bar", "Outcome"]
                parts.table(f"Effects of: {result['title']}", heads, effects, right=(1,))
