"""``palate models``: the catalogue, and the settings of one system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import one_of
from palate.cli.output import MODELS, Json, errors_to_exit_codes, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from palate.catalog.system import System


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=MODELS)(models)


@errors_to_exit_codes
def models(
    name: Annotated[str | None, typer.Argument(help="Show one system with its settings.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only those of one status: works, or planned.")] = None,
    verb: Annotated[str | None, typer.Option("--verb", help="Only those of one verb, such as recommend.")] = None,
    as_json: Json = False,
) -> None:
    """List all systems: the baselines and the 61 papers."""
    from typing import get_args

    from palate.catalog.registry import systems
    from palate.catalog.system import Status, Verb

    for given, kind, option in ((status, Status, "--status"), (verb, Verb, "--verb")):
        if given is not None:
            one_of(given, get_args(kind), option)
    if name is not None:
        _show_one(name, as_json=as_json)
        return
    rows = [_row(s) for s in systems().values() if status in (None, s.status) and verb in (None, s.verb)]
    if as_json:
        print_json(rows)
        return
    print_table(
        rows, ["name", "title", "verb", "family", "paper", "status", "needs", "claim"], optional=("claim", "family", "title")
    )
    works = sum(r["status"] == "works" for r in rows)
    say(f"{len(rows)} systems, {works} work. Settings of one: palate models NAME")


def _row(system: Any) -> dict[str, Any]:
    fields = ("name", "title", "verb", "family", "paper", "citation", "status", "faithfulness", "claim", "origin")
    row = {name: getattr(system, name) for name in fields}
    if system.status == "planned":
        row["faithfulness"] = None
    return {**row, "needs": ", ".join(system.needs), "abilities": ", ".join(system.abilities)}


def _show_one(name: str, *, as_json: bool) -> None:
    from palate.catalog.registry import get, systems

    system = systems().get(name) or get(name)
    schema = system.load().Settings.model_json_schema() if system.status == "works" else {}
    if as_json:
        print_json({**_row(system), "settings": schema})
        return
    print_facts(_row(system), system.title)
    settings = [
        {"setting": key, "type": _kind(field), "default": str(field.get("default")), "meaning": _meaning(system, key, field)}
        for key, field in schema.get("properties", {}).items()
    ]
    if settings:
        print_table(settings, title="Settings (--set KEY=VALUE)")


def _meaning(system: System, key: str, field: dict[str, Any]) -> str:
    condition = system.load().Settings.conditions().get(key)
    return field.get("description", "") + ("" if condition is None else f" (counts with {condition})")


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    options = field.get("anyOf")
    return " | ".join(_kind(o) for o in options) if options else str(field.get("type", field.get("const", "")))
