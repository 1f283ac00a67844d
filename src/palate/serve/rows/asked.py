"""Rows for a ranker: one row for a person, an item and a moment, made by the same code for training and for answers.

Columns: ``user``, ``history`` (ids of items, most recent last), ``history_length``, ``hour`` and ``weekday`` (0 is Monday;
UTC), ``item``, ``title``, ``text``, ``categories``, ``price``, ``age_days`` (since the item came in), and whatever attributes
there are: ``user.NAME``, ``item.NAME``, ``context.NAME``. A ranker reads those that it was fitted on. What is not known is
missing.

Items and people are taken as they are now, also for slates of the past: an attribute that changes with what people do (such as
a count of sales) would tell the future, and should not be among them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.serve.memory.catalogue import Catalogue, Item

Kind = Literal["number", "text", "list"]
#: Items of a history that a row holds.
RECENT = 50
#: Kinds of the columns that every row has.
OWN: dict[str, Kind] = {
    "user": "text",
    "history": "list",
    "history_length": "number",
    "hour": "text",
    "weekday": "text",
    "item": "text",
    "title": "text",
    "text": "text",
    "categories": "list",
    "price": "number",
    "age_days": "number",
}
_LISTS = {list, tuple, type(None)}
_TYPES = {"number": pa.float64(), "text": pa.string(), "list": pa.list_(pa.string())}


@dataclass(frozen=True)
class Asker:
    """Who is asked about, and when.

    Attributes
    ----------
    user
        Id, or ``None``.
    history
        Ids of items, most recent last.
    now
        Seconds since 1970.
    attributes, context
        What is known of the person, and of the situation.
    length
        Items of the whole history.
    """

    user: str | None
    history: Sequence[str]
    now: float
    attributes: Mapping[str, Any]
    context: Mapping[str, Any]
    length: int

    def value(self, name: str) -> Any:
        """Return what a column about the person or the moment holds."""
        group, _, key = name.partition(".")
        if group == "user":
            return self.user if not key else self.attributes.get(key)
        if group == "context":
            return self.context.get(key)
        if name == "history":
            return list(self.history[-RECENT:])
        if name == "history_length":
            return float(self.length)
        if name not in ("hour", "weekday"):
            return None
        moment = datetime.fromtimestamp(self.now, UTC)
        return str(moment.hour if name == "hour" else moment.weekday())


def is_made(name: str) -> bool:
    """Say whether rows of the service have such a column, if anything is known to put into it."""
    return name in OWN or name.startswith(("user.", "item.", "context."))


def rows_of(asker: Asker, items: Sequence[Item], kinds: Mapping[str, Kind]) -> pa.Table:
    """Return the rows of one person and several items, with the columns that are named.

    Parameters
    ----------
    kinds
        Name of a column to its kind; values of another kind are brought into it, or are missing where they can't be.
    """
    n = len(items)
    columns = {}
    for name, kind in kinds.items():
        if _of_item(name):
            columns[name] = _column_of(_item_values(items, name, asker.now), kind)
        else:
            columns[name] = pa.repeat(pa.scalar(_of_kind(asker.value(name), kind), _TYPES[kind]), n)
    return pa.table(columns)


def kinds_of(
    catalogue: Catalogue, people: Iterable[Mapping[str, Any]], contexts: Iterable[Mapping[str, Any]]
) -> dict[str, Kind]:
    """Return all columns that there are, each with its kind: numbers or lists where all values are such, else text."""
    seen: dict[str, set[Kind]] = {}
    for group, found in (("item", (item.attributes for item in catalogue.items)), ("user", people), ("context", contexts)):
        for values in found:
            for key, value in values.items():
                if value is not None:
                    seen.setdefault(f"{group}.{key}", set()).add(_kind(value))
    own: dict[str, Kind] = dict(OWN)
    return own | {name: kinds.pop() if len(kinds) == 1 else "text" for name, kinds in sorted(seen.items())}


def _of_item(name: str) -> bool:
    return name.startswith("item") or name in ("title", "text", "categories", "price", "age_days")


def _item_values(items: Sequence[Item], name: str, now: float) -> list[Any]:
    """Return what a column about items holds, as the catalogue has it."""
    if name == "item":
        return [item.id for item in items]
    if name.startswith("item."):
        key = name[5:]
        return [item.attributes.get(key) for item in items]
    if name == "age_days":
        return [max(0.0, now - item.created) / 86_400 if item.created else None for item in items]
    if name == "categories":
        return [item.categories for item in items]
    return [None if value == "" else value for value in (getattr(item, name, None) for item in items)]


def _column_of(values: list[Any], kind: Kind) -> pa.Array:
    """Return values as one column of a kind: all together where each is of that kind already, else one by one."""
    column = None
    if kind != "list" or {type(value) for value in values} <= _LISTS:  # a text in a list column would be taken apart
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
            column = pa.array(values, _TYPES[kind])
    if column is None or (kind == "list" and column.flatten().null_count):
        return pa.array([_of_kind(value, kind) for value in values], _TYPES[kind])
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64())) if kind == "number" else column


def number_of(value: Any) -> float | None:
    """Return a value as a finite number, or ``None`` where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _kind(value: Any) -> Kind:
    if isinstance(value, list | tuple):
        return "list"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else "text"


def _of_kind(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "number":
        return number_of(value)
    if kind == "list":
        return [str(one) for one in value if one is not None] if isinstance(value, list | tuple) else [str(value)]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
