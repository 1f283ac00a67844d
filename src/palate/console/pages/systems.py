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
                [s.title, s.verb, s.family, s.status, _verdict(s, results), partial(more, s)] for s in kept
            ]
            parts.table("Systems", heads, cells, empty="No system fits.")

    def more(system: System) -> None:
        work = visit.guarded(partial(show_one, system))
        parts.button("Look", work, name=f"Look at {system.title}", kind="small")

    for field in (words, verb, status):
        field.on_value_change(fill)
    fill()


def _verdict(system: System, results: Mapping[str, Mapping[str, Any]]) -> str:
    if not system.claim:
        return show.DASH
    found = results.get(system.claim)
    return f"{system.claim}: {found['verdict'] if found is not None else 'not run here'}"


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
        parts.alert(f"Claim “{claim['title']}”: {claim['verdict']}. {claim['statement']}", "fine")


def _claims(results: list[dict[str, Any]]) -> None:
    """Show what was claimed, and what came out."""
    with parts.panel("Claims", "Experiments with a rule set before the run; the verdict follows from the rule alone."):
        rows: list[list[parts.Cell]] = [
            [r["title"], r["verdict"], str(r["finished"])[:10], show.counted(len(r["effects"]), "effect")] for r in results
        ]
        empty = "No results here: the folder claims/results is not below the folder in which the service was started."
        parts.table("Claims and their verdicts", ["Claim", "Verdict", "Run on", "Effects"], rows, empty=empty)
        for result in results:
            with parts.box("details"):
                parts.text(f"Effects of: {result['title']}", "summary")
                effects = [
                    [
                        name,
                        show.interval(e["value"], e["low"], e["high"]),
                        str(e["bar"]),
                        "met" if e["met"] else "not met",
                    ]
                    for name, e in result["effects"].items()
                ]
                parts.table(result["statement"], ["Effect", "Value (95% interval)", "Bar", "Outcome"], effects)
