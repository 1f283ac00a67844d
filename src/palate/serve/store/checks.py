"""Checks of what comes from outside: ids, times, numbers and JSON objects, before any of it reaches the database."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json as read_json

from palate.errors import DataError

#: Characters of an id, at most.
LONGEST_ID = 200
#: No id: every client takes them for steps within an address, encoded or not, so nothing of that name could be asked for or
#: erased over HTTP. All other ids can be named there (a slash is sent as %2F, see :mod:`palate.serve.http.paths`).
STEPS = frozenset({".", ".."})
#: Seconds since 1970; a larger number is milliseconds by mistake.
LATEST = 1e11


def check_id(text: Any, where: str) -> str:
    """Return an id as given, or refuse it.

    Raises
    ------
    DataError
        If it is no text of 1 to 200 characters, or holds a NUL or half of a surrogate pair.
    """
    if isinstance(text, str) and 0 < len(text) <= LONGEST_ID and is_clean(text):
        return text
    raise DataError(
        f"an id is a text of 1 to {LONGEST_ID} characters without NUL.", where=where, value=text, remedy="rename it"
    )


def check_new_id(text: Any, where: str) -> str:
    """Return an id of something that comes in and will be asked for by name, or refuse it.

    Raises
    ------
    DataError
        If it is no id, or one of :data:`STEPS`.
    """
    if check_id(text, where) in STEPS:
        raise DataError("no web address can name this id.", where=where, value=text, remedy="rename it")
    return str(text)


def check_optional_id(text: Any, where: str) -> str | None:
    """Return an id or ``None``, or refuse it."""
    return None if text is None else check_id(text, where)


def check_text(text: Any, where: str) -> str:
    """Return a text of any length, or refuse it."""
    if isinstance(text, str) and is_clean(text):
        return text
    raise DataError("it is no text, or holds a NUL or a broken character.", where=where, value=text)


def is_clean(text: str) -> bool:
    """Say whether a text has neither NUL nor halves of surrogate pairs."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_number(value: Any, where: str) -> float:
    """Return a finite number, or refuse it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise DataError("it is no finite number.", where=where, value=value)


def check_optional_number(value: Any, where: str) -> float | None:
    """Return a finite number or ``None``, or refuse it."""
    return None if value is None else check_number(value, where)


def check_time(value: Any, where: str) -> float:
    """Return a time in seconds since 1970, or refuse it."""
    number = check_number(value, where)
    if abs(number) > LATEST:
        raise DataError("a time is in seconds since 1970.", where=where, value=value, remedy="divide milliseconds by 1,000")
    return number


def check_chance(value: Any, where: str) -> float:
    """Return a probability above 0 and up to 1, or refuse it."""
    number = check_number(value, where)
    if not 0 < number <= 1:
        raise DataError("a propensity is above 0 and at most 1.", where=where, value=value, remedy="log the true chance")
    return number


def to_json(value: Any, where: str) -> str:
    """Return JSON text in one canonical form (keys sorted), or refuse it."""
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        reason = type(error).__name__ if isinstance(error, RecursionError) else str(error)
        raise DataError("it can't be written as JSON.", where=where, value=reason) from None
    if not is_clean(text):
        raise DataError("it holds a broken character.", where=where)
    return text


def object_to_json(value: Any, where: str) -> str | None:
    """Return JSON text of an object; ``None`` for an empty one."""
    if not value and isinstance(value, Mapping):
        return None
    if not isinstance(value, Mapping):
        raise DataError("it is no JSON object.", where=where, value=value)
    return to_json(dict(value), where)


def from_json(text: str | None) -> dict[str, Any]:
    """Return the object of :func:`object_to_json`."""
    return {} if text is None else read_json(text)
