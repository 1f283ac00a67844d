"""Typed, frozen configuration: a setting is defined once, and everything else is generated from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import ConfigError, nearest


class Config(BaseModel):
    """Base of every system's settings.

    Subclass it with annotated fields, defaults and ``Field(description=...)``; one definition yields the Python argument, the
    ``--set key=value`` of the command line, the JSON schema of the service and the form of the console.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, settings: Mapping[str, Any], *, system: str = "") -> Self:
        """Check settings; an unknown or ill-typed one is a :class:`ConfigError` that says what is right.

        Text values (from a command line) are read as JSON where they can be, so ``"0.1"`` is a number.
        """
        where = f"settings of {system}" if system else cls.__name__
        unknown = [key for key in settings if key not in cls.model_fields]
        if unknown:
            advice = nearest(unknown[0], cls.model_fields) if cls.model_fields else "this system has no settings"
            raise ConfigError("unknown setting.", where=where, value=unknown[0], remedy=advice)
        try:
            return cls.model_validate({key: cls._read(key, value) for key, value in settings.items()})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"setting {key!r} is wrong: {first['msg'].lower()}.",
                where=where,
                value=first["input"],
                remedy=cls._advice(key),
            ) from None

    def replace(self, **settings: Any) -> Self:
        """Return a copy with some settings changed, checked again."""
        return type(self).parse({**self.model_dump(), **settings})

    @classmethod
    def _read(cls, key: str, value: Any) -> Any:
        if not isinstance(value, str) or cls.model_fields[key].annotation is str:
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value

    @classmethod
    def _advice(cls, key: str) -> str | None:
        field = cls.model_fields.get(key.split(".")[0])
        if field is None:
            return None
        kind = getattr(field.annotation, "__name__", str(field.annotation))
        return f"{kind}; {field.description or ''} (default {field.default!r})"
