"""Settings of systems: as a table, and read from what a person writes into a form."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from palate.catalog.registry import get
from palate.console import format as show
from palate.console import parts
from palate.errors import ConfigError


def settings_rows(system: str) -> list[list[parts.Cell]]:
    """Return name, kind, default and meaning of each setting of a system that works."""
    fields = get(system).load().Settings.model_fields
    return [
        [name, _kind(field.annotation), show.plain(field.get_default(call_default_factory=True)), field.description or ""]
        for name, field in fields.items()
    ]


def settings_table(system: str) -> None:
    """Show the settings of a system."""
    heads = ["Setting", "Kind", "Default", "Meaning"]
    parts.table(f"Settings of {system}", heads, settings_rows(system), empty="This system has no settings.")


def parse_settings(text: str, system: str | None) -> dict[str, Any]:
    """Read ``name=value, name=value``, and check it against the system where one is named.

    Raises
    ------
    ConfigError
        If a part has no equals sign, or the system has no such setting.
    """
    found: dict[str, Any] = {}
    for part in (piece.strip() for piece in text.replace("\n", ",").split(",")):
        if not part:
            continue
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                "a setting is written name=value.", where="settings", value=part, remedy="for example: dim=64, reg=0.1"
            )
        found[name.strip()] = value.strip()
    if system is not None:
        kind = get(system).load().Settings
        checked = kind.parse(found, system=system).model_dump(mode="json")
        return {name: checked[name] for name in found}
    return found


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")
