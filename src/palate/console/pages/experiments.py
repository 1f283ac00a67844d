"""Experiments: make one, start, stop and read it; and judge a pipeline by what was logged, before anybody sees it."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui

from palate.console import design, parts
from palate.console import format as show
from palate.console.desk import Visit
from palate.console.frame import page
from palate.console.pages import designing, judging, reading
from palate.serve.experiments import live, turning
from palate.serve.models import production
from palate.serve.models.kinds import kind_of
from palate.serve.store import ExperimentRow

#: What happens when an experiment of a kind is started.
BEGINS = {
    "split": "People meet its variants from now on.",
    "interleaving": "Answers are drafted from the lists of both variants from now on.",
}


@page("experiments")
async def experiments(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("Experiments", "h1")
    detail: dict[str, Any] = {}

    @ui.refreshable
    async def table() -> None:
        rows = await visit.call(visit.service.store.experiments)
        _list(visit, rows, table.refresh, detail)

    with parts.panel(
        "All experiments", "Who takes part is settled by a salted hash of the id; only what follows the first exposure counts."
    ):
        await table()
    detail["place"] = parts.box("div", "stack")
    found = await visit.call(production.list_models, visit.service)
    versions = [model.version for model in found.models if kind_of(model.system) == "model"]
    if visit.may("admin"):
        designing.panel(visit, versions, table.refresh)
        judging.panel(visit, versions)
    else:
        parts.text("A key with the scope admin may make, start and stop experiments.", classes="soft small")


def _list(visit: Visit, rows: list[ExperimentRow], refresh: Any, detail: dict[str, Any]) -> None:
    async def move(name: str, state: str, kind: str) -> None:
        words = {
            "running": ("Start", BEGINS[kind]),
            "stopped": ("Stop", "Everybody gets the service as it stands again. It can't be started a second time."),
        }[state]
        if await parts.sure(f"{words[0]} {name}?", words[1], words[0]):
            turn = {"running": turning.start, "stopped": turning.stop}[state]
            await visit.call(turn, visit.service, name, scope="admin")
            visit.say(f"{name} is {state}.")
            refresh()

    async def read(name: str) -> None:
        place = detail["place"]
        place.clear()
        found = await visit.call(live.analysis, visit.service.store, name)
        with place:
            reading.panel(visit, found)
        ui.run_javascript(f"getHtmlElement({place.id}).scrollIntoView({{block: 'start'}})")

    def acts(row: ExperimentRow) -> None:
        following = {"draft": ("Start", "running"), "running": ("Stop", "stopped")}.get(row.state)
        with parts.box("div", "line middle"):
            parts.button("Read", visit.guarded(partial(read, row.name)), name=f"Read {row.name}", kind="small")
            if following is not None and visit.may("admin"):
                work = visit.guarded(partial(move, row.name, following[1], _kind(row)))
                parts.button(following[0], work, name=f"{following[0]} {row.name}", kind="small")

    cells: list[list[parts.Cell]] = [
        [
            row.name,
            design.KINDS[_kind(row)][0],
            partial(parts.verdict, row.state),
            ", ".join(str(v["name"]) for v in row.spec.get("variants", ())) or show.DASH,
            show.number(row.spec.get("planned")),
            show.moment(row.started),
            show.moment(row.stopped),
            partial(acts, row),
        ]
        for row in rows
    ]
    heads = ["Name", "Kind", "State", "Variants", "People planned", "Started", "Stopped", "Action"]
    parts.table("Experiments, newest first", heads, cells, right=(4,), empty="No experiment yet: make one below.")


def _kind(row: ExperimentRow) -> str:
    """Return the kind of an experiment (those kept before there were kinds are splits)."""
    return str(row.spec.get("kind", "split"))
