"""Texts of items from their attributes, and texts of people from their histories.

An item: ``Blade Runner. Categories: Sci-Fi, Thriller. Text: A blade runner must pursue…``. A person: the titles of what they
had last, newest first. Both are the same on every machine and bounded in length. A person's text sees the history that is
passed and nothing else: pass the training histories (``split.train``) or those of a request, never the held-out events.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.errors import ConfigError, DataError, nearest

#: Attributes that say what an item is, in the order in which they are told.
KNOWN = (
    *("title", "name", "headline", "movie_title"),
    *("categories", "category", "genres", "genre", "class", "tags", "cuisine"),
    *("brand", "authors", "author", "artist", "director", "stars"),
    *("description", "summary", "abstract", "text", "plot", "features", "ingredients"),
)
#: Those that need no label before them.
_PLAIN = ("title", "name", "headline", "movie_title")
_SPACE = re.compile(r"\s+")
_ROWS = 65_536


@dataclass(frozen=True)
class ItemTexts:
    """How an item's text is made.

    Attributes
    ----------
    columns
        Attributes, in their order; ``None``: those of :data:`KNOWN` that exist.
    max_chars
        Most characters of a text; it is cut at the end of a word.
    max_column
        Most characters of one attribute.
    max_values
        Most entries of a list (categories, tags).
    labels
        Whether the attribute's name stands before its value (but for titles).
    """

    columns: tuple[str, ...] | None = None
    max_chars: int = 1000
    max_column: int = 600
    max_values: int = 20
    labels: bool = True

    def __post_init__(self) -> None:
        _check_positive(self, "max_chars", "max_column", "max_values")


@dataclass(frozen=True)
class UserTexts:
    """How a person's text is made.

    Attributes
    ----------
    max_items
        Most items that are named.
    max_chars
        Most characters; an item that doesn't fit whole is left out, and so are those after it.
    newest_first
        Whether the last item comes first; else last. It is always the oldest that are left out.
    separator
        Between two items.
    """

    max_items: int = 20
    max_chars: int = 2000
    newest_first: bool = True
    separator: str = "; "

    def __post_init__(self) -> None:
        _check_positive(self, "max_items", "max_chars")


def text_columns(items: Dataset | Entities) -> tuple[str, ...]:
    """Return the attributes of :data:`KNOWN` that exist and hold text or lists of text, in that order."""
    table = _entities(items).attributes
    if table is None:
        return ()
    return tuple(name for name in KNOWN if name in table.column_names and _is_text(table.schema.field(name).type))


def item_texts(items: Dataset | Entities, form: ItemTexts | None = None) -> list[str]:
    """Return a text for each item, ``""`` where nothing is known of it.

    Parameters
    ----------
    items
        A data set (its items are told), or items or users with attributes.
    form
        What is told, and how much.

    Raises
    ------
    DataError
        If a column that was asked for is absent, or holds no text.
    """
    form = form or ItemTexts()
    entities = _entities(items)
    columns = text_columns(entities) if form.columns is None else form.columns
    parts: list[list[str]] = [[] for _ in range(len(entities))]
    for name in columns:
        label = "" if name in _PLAIN or not form.labels else f"{name.replace('_', ' ').capitalize()}: "
        for row, value in enumerate(_values(entities, name, form)):
            if value:
                parts[row].append(label + value)
    return [cut(" ".join(part if part[-1] in ".!?…" else part + "." for part in row), form.max_chars) for row in parts]


def titles(items: Dataset | Entities) -> list[str]:
    """Return a short name for each item: its title or name, else its raw id."""
    entities = _entities(items)
    return [_tidy(label) for label in entities.labels(np.arange(len(entities)))]


def user_texts(
    known: Dataset | Histories,
    names: Sequence[str] | None = None,
    form: UserTexts | None = None,
    *,
    users: np.ndarray | None = None,
) -> list[str]:
    """Return a text for each person, from what the histories passed say; ``""`` for an empty history.

    An item that was had more than once is named once, at its last place.

    Parameters
    ----------
    known
        Training data (``split.train``), or histories.
    names
        A text for each item, such as :func:`titles` or :func:`item_texts`; titles of the data set where ``None``.
    form
        How much is told, and in which order.
    users
        Numbers of the people wanted (a negative one has an empty history); all where ``None``.

    Raises
    ------
    ConfigError
        If histories come without names.
    DataError
        If a history holds an item that has no name.
    """
    form = form or UserTexts()
    if names is None:
        if not isinstance(known, Dataset):
            raise ConfigError("histories come without the names of items.", where="names", remedy="pass titles(dataset)")
        names = titles(known)
    histories = known.histories if isinstance(known, Dataset) else known
    if users is not None:
        histories = histories.take(np.asarray(users))
    if len(histories.items) and not 0 <= int(histories.items.min()) <= int(histories.items.max()) < len(names):
        raise DataError(
            "a history holds an item that has no name.", where="names", value=len(names), remedy="one a catalogue item"
        )
    rows = (histories.items[low:high] for low, high in zip(histories.offsets[:-1], histories.offsets[1:], strict=True))
    return [_told(row, names, form) for row in rows]


def cut(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, cut at the end of a word where there is one."""
    if len(text) <= limit:
        return text
    kept = text[:limit]
    if not text[limit].isspace() and (space := kept.rfind(" ")) > 0:
        kept = kept[:space]
    return kept.rstrip()


def _told(items: np.ndarray, names: Sequence[str], form: UserTexts) -> str:
    """Return the text of one history."""
    kept: list[str] = []
    length = 0
    for item in dict.fromkeys(items[::-1].tolist()):
        name = names[item]
        if not name:
            continue
        if not kept:
            name = cut(name, form.max_chars)
        length += len(name) + (len(form.separator) if kept else 0)
        if length > form.max_chars or len(kept) == form.max_items:
            break
        kept.append(name)
    return form.separator.join(kept if form.newest_first else kept[::-1])


def _values(entities: Entities, name: str, form: ItemTexts) -> list[str]:
    """Return the tidy text of one attribute, a row an entity."""
    column = entities.column(name)
    if column is None:
        held = [] if entities.attributes is None else entities.attributes.column_names
        remedy = nearest(name, held) if held else "this data set has no attributes"
        raise DataError("there is no such attribute.", where="columns", value=name, remedy=remedy)
    if not _is_text(column.type):
        raise DataError("the attribute is no text.", where=f"attribute {name}", value=str(column.type), remedy="leave it out")
    out = []
    for start in range(0, len(column), _ROWS):
        out += [_plain(value, form) for value in column.slice(start, _ROWS).to_pylist()]
    return out


def _plain(value: Any, form: ItemTexts) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        words = [_tidy(str(entry)) for entry in value[: form.max_values] if entry is not None]
        return cut(", ".join(word for word in words if word), form.max_column)
    return cut(_tidy(value), form.max_column)


def _tidy(text: str) -> str:
    return _SPACE.sub(" ", text.replace("\0", " ")).strip()


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _entities(items: Dataset | Entities) -> Entities:
    return items.items if isinstance(items, Dataset) else items


def _check_positive(form: Any, *names: str) -> None:
    for name in names:
        if getattr(form, name) < 1:
            raise ConfigError("it is at least 1.", where=name, value=getattr(form, name))
