"""Typed, frozen configuration: a setting is defined once, and everything else is generated from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from palate.errors import ConfigError, nearest, shorten


def place(error: ErrorDetails) -> tuple[str | int, ...]:
    """Return the path of a wrong setting; a check of several together names it as ``path`` in its context."""
    return tuple(error["loc"]) or tuple(error.get("ctx", {}).get("path", ()))


def _json(settings: Mapping[str, Any], where: str) -> str:
    try:
        return json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the settings are no JSON: {error}.", where=where) from None


def _as_list(text: str) -> str:
    """Return the JSON list that a text with commas means."""
    try:
        return json.dumps(json.loads(f"[{text}]"))
    except ValueError:
        return json.dumps([part.strip() for part in text.split(",")])


class KeysOf:
    """Marks a free object (``Annotated[dict[str, Any], KeysOf(Some)]``) whose keys are those of a :class:`Config`, or some of
    them: its JSON schema says so, while the object itself is checked further in, with that class's errors.
    """

    def __init__(self, config: type[Config]) -> None:
        self.config = config

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of the class."""
        return handler(self.config.__pydantic_core_schema__)


class Config(BaseModel):
    """Base of every system's settings.

    Subclass it with annotated fields, defaults and ``Field(description=...)``; one definition yields the Python argument, the
    ``--set key=value`` of the command line, the JSON schema of the service and the form of the console.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, settings: Mapping[str, Any], *, system: str = "", strict: bool = False) -> Self:
        """Check settings; an unknown or ill-typed one is a :class:`ConfigError` that says what is right.

        Text values (from a command line) are read as JSON where they can be, so ``"0.1"`` is a number. What came as JSON is
        read with ``strict`` instead: types are not bent, so just what fits the JSON schema is right.
        """
        where = f"settings of {system}" if system else cls.__name__
        unknown = [key for key in settings if key not in cls.model_fields]
        if unknown:
            advice = nearest(unknown[0], cls.model_fields) if cls.model_fields else "this system has no settings"
            raise ConfigError("unknown setting.", where=where, value=unknown[0], remedy=advice)
        try:
            if strict:
                return cls.model_validate_json(_json(settings, where), strict=True)
            return cls.model_validate({key: cls._read(key, value) for key, value in settings.items()})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in place(first))
            if not key and "error" in first.get("ctx", {}):  # a check of several together, which names them in its own words
                raise ConfigError(f"{first['ctx']['error']}.", where=where, value=dict(settings)) from None
            raise ConfigError(
                f"setting {key!r} is wrong: {first['msg'].lower()}.",
                where=where,
                value=first["input"],
                remedy=cls._advice(key, first["input"]),
            ) from None

    def replace(self, **settings: Any) -> Self:
        """Return a copy with some settings changed, checked again."""
        return type(self).parse({**self.model_dump(), **settings})

    def differing(self, settings: Mapping[str, Any], *, system: str = "") -> Self:
        """Return a copy with some settings changed by what came as JSON: checked again, and strictly (see :meth:`parse`)."""
        return type(self).parse({**self.model_dump(mode="json"), **settings}, system=system, strict=True)

    @classmethod
    def _read(cls, key: str, value: Any) -> Any:
        if not isinstance(value, str) or cls.model_fields[key].annotation is str:
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value

    @classmethod
    def _advice(cls, key: str, given: Any) -> str | None:
        field = cls.model_fields.get(key.split(".")[0])
        if field is None:
            return None
        kind = getattr(field.annotation, "__name__", str(field.annotation))
        if get_origin(field.annotation) is tuple:
            kind = f"a list, written as {_as_list(given)}" if key in cls.model_fields and isinstance(given, str) else "a list"
        default = "" if field.is_required() else f" (default {shorten(field.get_default(call_default_factory=True), 80)})"
        return f"{kind}; {field.description or ''}{default}"
