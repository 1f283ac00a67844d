"""A schema of answers: from a pydantic class or a JSON schema, with a reader that says what is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from palate.errors import ConfigError
from palate.extras import require

#: Characters of a fault that are told to the model.
MOST = 300
_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Schema:
    """What an answer must look like.

    Attributes
    ----------
    document
        The JSON schema.
    model
        The pydantic class whose instance is read, or ``None`` for plain values.
    """

    document: dict[str, Any]
    model: type[BaseModel] | None = None

    @classmethod
    def of(cls, given: type[BaseModel] | dict[str, Any] | Schema) -> Schema:
        """Return the schema of a pydantic class or of a JSON schema, checked to be one."""
        if isinstance(given, Schema):
            return given
        if isinstance(given, type) and issubclass(given, BaseModel):
            return cls(given.model_json_schema(), given)
        if not isinstance(given, dict):
            raise ConfigError("a schema is a pydantic class or a JSON schema.", where="schema", value=given)
        jsonschema = require("jsonschema", "An answer held to a JSON schema")
        try:
            jsonschema.Draft202012Validator.check_schema(given)
        except jsonschema.SchemaError as error:
            raise ConfigError(f"not a JSON schema: {error.message[:MOST]}", where="schema", value=given) from None
        return cls(given)

    def read(self, text: str) -> tuple[Any, str | None]:
        """Return ``(value, None)``, or ``(None, what is wrong)``.

        A value in a code fence, or after words, is read too: engines without a grammar write so. Types are held strictly:
        ``"3"`` is no number.
        """
        try:
            value = find_json(text)
        except ValueError as error:
            return None, f"it is no JSON: {error}."
        if self.model is not None:
            try:
                return self.model.model_validate_json(json.dumps(value), strict=True), None
            except ValidationError as error:
                return None, _first(error)
        return self._plain(value)

    def _plain(self, value: Any) -> tuple[Any, str | None]:
        jsonschema = require("jsonschema", "An answer held to a JSON schema")
        referencing = require("referencing", "An answer held to a JSON schema")
        # A registry of its own: a "$ref" to an address is never fetched.
        check = jsonschema.Draft202012Validator(self.document, registry=referencing.Registry())
        try:
            fault = next(iter(sorted(check.iter_errors(value), key=lambda e: list(map(str, e.absolute_path)))), None)
        except referencing.exceptions.Unresolvable as error:
            raise ConfigError("a $ref of the schema leads nowhere.", where="schema", value=str(error)) from None
        if fault is None:
            return value, None
        return None, f"{fault.json_path}: {fault.message}"[:MOST]


def _first(error: ValidationError) -> str:
    told = [f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()[:3]]
    return "; ".join(told)[:MOST] + "."


def find_json(text: str) -> Any:
    """Return the JSON value of a text: the whole, or the first object or list inside that can be read.

    Raises
    ------
    ValueError
        If there is none. ``NaN`` and infinities are no JSON.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    fenced = _FENCED.search(text)
    whole = (fenced.group(1) if fenced else text).strip()
    try:
        return decoder.decode(whole)
    except (ValueError, RecursionError) as error:
        fault = ValueError(str(error))
    first = re.search(r"[{\[]", whole)
    if first is None:
        raise fault
    try:  # only the first bracket: a part of a value that was cut off must not pass for the whole
        return decoder.raw_decode(whole, first.start())[0]
    except (ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
