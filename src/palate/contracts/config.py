"""Typed, frozen configuration: a setting is defined once, and everything else is generated from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self, get_origin

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


@dataclass(frozen=True)
class With:
    """What a setting counts with: another setting that has one of some values (none named: that is given at all).

    Parameters
    ----------
    key
        The other setting.
    values
        Those with which it counts.
    unless
        Those with which it doesn't.
    """

    key: str
    values: tuple[object, ...] = ()
    unless: tuple[object, ...] = (None,)

    def holds(self, config: Config) -> bool:
        """Say whether the setting counts."""
        found = getattr(config, self.key)
        return found in self.values if self.values else found not in self.unless

    def __str__(self) -> str:
        if self.values:
            return " or ".join(f"{self.key}={value}" for value in self.values)
        return f"{self.key} given" if self.unless == (None,) else f"{self.key} other than {', '.join(map(str, self.unless))}"


class Config(BaseModel):
    """Base of every system's settings.

    Subclass it with annotated fields, defaults and ``Field(description=...)``; one definition yields the Python argument, the
    ``--set key=value`` of the command line, the JSON schema of the service and the form of the console.

    Attributes
    ----------
    counts_with
        Settings that count only with others, and with which (those of base classes are added).
    """

    counts_with: ClassVar[Mapping[str, With]] = MappingProxyType({})

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

    @classmethod
    def conditions(cls) -> dict[str, With]:
        """Return which settings count only with others, those of base classes included."""
        found: dict[str, With] = {}
        for base in reversed(cls.__mro__):
            found |= vars(base).get("counts_with", {})
        return {key: condition for key, condition in found.items() if key in cls.model_fields}

    def idle(self) -> dict[str, str]:
        """Return settings that differ from their defaults and count for nothing, and what they would count with."""
        found = {}
        for key, condition in self.conditions().items():
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if getattr(self, key) != default and not condition.holds(self):
                found[key] = str(condition)
        return found

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
