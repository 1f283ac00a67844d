"""What a layout holds before its ids are numbered, and the options that all readers share."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from palate.data.readers.bad_rows import OnBadRows
from palate.data.readers.ids import IdType
from palate.data.readers.source import Source
from palate.errors import ConfigError, nearest

#: Types of the plain options, and how messages call them.
KINDS = {
    "time_unit": str,
    "separator": str,
    "encoding": str,
    "quoted": bool,
    "header": bool,
    "min_users": int,
    "keep_unseen": bool,
    "attribute_graph": str,
}
WORDS = {str: "text", bool: "true or false", int: "a whole number"}


@dataclass(frozen=True)
class Options:
    """How to read.

    Attributes
    ----------
    format
        Name of a format, or ``None`` to detect it.
    columns
        Columns by role.
    on_bad_rows
        ``"error"`` or ``"drop"``.
    name
        Name of the data set; ``None`` takes that of the file.
    ids
        ``"auto"``, ``"text"`` or ``"integer"``.
    time_unit
        Unit of numeric times; ``None`` detects it.
    separator, encoding, quoted, header
        Form of delimited text; ``None`` detects it. Without a header, columns are named ``"0"``, ``"1"``, …
    min_users
        Fewest users that make sense.
    keep_unseen
        Whether users and items that have attributes but no interactions stay; ``None`` leaves it to the format.
    attribute_graph
        Attributes of items that become a knowledge graph, separated by commas; ``"all"`` takes those that look like categories.
    """

    format: str | None = None
    columns: Mapping[str, str] | None = None
    on_bad_rows: OnBadRows = "error"
    name: str | None = None
    ids: IdType = "auto"
    time_unit: str | None = None
    separator: str | None = None
    encoding: str | None = None
    quoted: bool | None = None
    header: bool | None = None
    min_users: int = 2
    keep_unseen: bool | None = None
    attribute_graph: str | None = None

    @classmethod
    def of(cls, **given: Any) -> Options:
        """Check names and choices."""
        for name in given:
            if name not in cls.__dataclass_fields__:
                raise ConfigError("unknown option of read.", value=name, remedy=nearest(name, cls.__dataclass_fields__))
        for name, kind in KINDS.items():
            value = given.get(name)
            if value is not None and type(value) is not kind:
                remedy = f"options of reading: {', '.join(KINDS)}"
                raise ConfigError(f"{name} must be {WORDS[kind]}.", where="read", value=value, remedy=remedy)
        _check_encoding(given.get("encoding"))
        if given.get("separator") == "\\t":
            given["separator"] = "\t"
        choices = {"on_bad_rows": ("error", "drop"), "ids": ("auto", "text", "integer")}
        for name, allowed in choices.items():
            if given.get(name, allowed[0]) not in allowed:
                raise ConfigError(f"unknown choice of {name}.", value=given[name], remedy=nearest(str(given[name]), allowed))
        return cls(**given)


def _check_encoding(name: str | None) -> None:
    if name is None:
        return
    try:
        found = codecs.lookup(name).name
    except LookupError:
        remedy = "such as utf-8, latin-1 or cp1252"
        raise ConfigError("unknown encoding.", where="encoding", value=name, remedy=remedy) from None
    if found.startswith(("utf-16", "utf-32")):
        remedy = f"write the file as UTF-8 first, for example with: iconv -f {name} -t UTF-8 FILE"
        raise ConfigError("files of this encoding are not read.", where="encoding", value=name, remedy=remedy)


@dataclass(frozen=True)
class RawGraph:
    """Links between raw ids.

    Attributes
    ----------
    head, tail
        Raw ids (text or integers).
    relation
        Relation names, or ``None`` where there is one kind.
    heads, tails
        ``"user"``, ``"item"`` or ``"entity"``.
    links
        Raw item and entity ids that belong together, or ``None``.
    weight
        Strength of each link, or ``None``.
    """

    head: pa.ChunkedArray | pa.Array
    tail: pa.ChunkedArray | pa.Array
    heads: str
    tails: str
    relation: pa.ChunkedArray | pa.Array | None = None
    links: tuple[Any, Any] | None = None
    weight: pa.ChunkedArray | pa.Array | None = None


@dataclass(frozen=True)
class Parts:
    """What a layout holds.

    Attributes
    ----------
    events
        Tables of interactions with the same roles, read one after the other.
    names
        Name of each table where they are parts of a published split (``"train"``, ``"test"``).
    users, items
        Attribute tables whose first column is ``id``, or ``None``.
    graphs
        Links by name.
    ids
        How the layout wants the ids of a role taken, unless the caller says otherwise.
    keep_unseen
        Whether entities without interactions belong to the data set by nature of the format.
    entity_order
        Whether the attribute tables give the numbering (our own files) rather than first appearance.
    columns
        Role mapping fixed by the layout.
    notes
        More to record in the spec.
    """

    events: Sequence[Source]
    names: Sequence[str] = ()
    users: pa.Table | None = None
    items: pa.Table | None = None
    graphs: Mapping[str, RawGraph] = field(default_factory=dict)
    ids: Mapping[str, IdType] = field(default_factory=dict)
    keep_unseen: bool = False
    entity_order: bool = False
    columns: Mapping[str, str] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None


def base_name(path: Path) -> str:
    """Return a file's name without its endings."""
    stem = path.name.removesuffix(".gz")
    return stem.rsplit(".", 1)[0] if "." in stem else stem
