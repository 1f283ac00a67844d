"""Fields of rows: which columns a ranker reads, and how each becomes numbers. Plain data: shown, edited, saved as JSON.

=============  ======================================================================================================
``category``   one value; a code of its own, or one of ``hash_buckets``
``list``       several values in no order; a bag of codes
``sequence``   several values in order, the last ``max_length`` of them; codes in that order
``text``       distinct words, hashed into ``hash_buckets`` codes; a bag
``bucket``     a number by its quantile; a code
``number``     a number, scaled; no code
``cross``      the values of several ``category`` or ``bucket`` fields taken together; a code
``ignore``     left out
=============  ======================================================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from palate.data.features import guess_kind
from palate.errors import ConfigError, nearest

RowKind = Literal["category", "list", "sequence", "text", "bucket", "number", "cross", "ignore"]
Scale = Literal["standard", "log", "log2", "minmax", "none"]
#: What :func:`palate.data.features.guess_kind` calls a column, and what it is here.
_GUESSED: dict[str, RowKind] = {"category": "category", "set": "list", "text": "text", "number": "number", "ignore": "ignore"}
#: Kinds whose values have one code each.
SINGLE: tuple[RowKind, ...] = ("category", "bucket", "cross")
#: Kinds whose values are bags or sequences of codes.
MANY: tuple[RowKind, ...] = ("list", "text", "sequence")


@dataclass(frozen=True)
class RowField:
    """How a column becomes numbers.

    Attributes
    ----------
    name
        The column; for a cross any name of its own.
    kind
        See the module's text.
    min_count
        Values seen less often in training share the code of unknown ones.
    max_values
        Most values with codes of their own, the commonest.
    hash_buckets
        Codes that values are hashed into, in place of a vocabulary (0: a vocabulary). Needed for text.
    max_length
        Most values of a row that are kept: the last ones of a sequence, the first ones of a list or text.
    scale
        Of a number x: ``standard`` (x - mean)/sd; ``minmax`` to [0, 1], clipped; ``log`` sign(x)·log(1+|x|), then standard;
        ``log2`` log²x where x > 2, else x; ``none``.
    buckets
        Quantiles of a bucket field.
    share
        Name of a ``category`` field whose codes (and so vectors) this field uses too, such as a history of items.
    of
        The fields that a cross joins.
    """

    name: str
    kind: RowKind
    min_count: int = 1
    max_values: int = 1_000_000
    hash_buckets: int = 0
    max_length: int = 50
    scale: Scale = "standard"
    buckets: int = 16
    share: str = ""
    of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"field {self.name!r}"
        for what in ("min_count", "max_values", "max_length"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1.", where=where, value=getattr(self, what))
        if self.kind == "text" and self.hash_buckets < 1:
            raise ConfigError("a text needs hash_buckets.", where=where, value=self.hash_buckets, remedy="hash_buckets=16384")
        if self.kind == "bucket" and self.buckets < 2:
            raise ConfigError("buckets must be at least 2.", where=where, value=self.buckets)
        if (self.kind == "cross") != bool(self.of) or len(self.of) == 1:
            raise ConfigError("a cross joins two fields or more, and nothing else does.", where=where, value=list(self.of))
        if self.share and self.kind not in ("category", "list", "sequence"):
            raise ConfigError("only a category, list or sequence can share codes.", where=where, value=self.share)


def check_fields(fields: Sequence[RowField]) -> tuple[RowField, ...]:
    """Return the fields that are used, after a check that they fit together.

    Raises
    ------
    ConfigError
        If a name stands twice, a cross or a share points at a field that can't be used so, or nothing is left.
    """
    used = tuple(field for field in fields if field.kind != "ignore")
    names = [field.name for field in fields]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError("a field stands twice.", where="fields", value=twice[0])
    known = {field.name: field for field in used}
    for field in used:
        for other, kinds in [*((name, ("category", "bucket")) for name in field.of), *_shared(field)]:
            if other not in known:
                raise ConfigError(
                    "there is no such field.", where=f"field {field.name!r}", value=other, remedy=_near(other, known)
                )
            if known[other].kind not in kinds or known[other].share:
                raise ConfigError(
                    f"this field can't be used here: it must be {' or '.join(kinds)}, with codes of its own.",
                    where=f"field {field.name!r}",
                    value=other,
                )
    if not used:
        raise ConfigError("there is no field to learn from.", where="fields", value=names)
    return used


def infer_fields(
    table: pa.Table, *, leave_out: Collection[str] = (), known: Sequence[RowField] = (), text_buckets: int = 2**14
) -> tuple[RowField, ...]:
    """Return a field a column, as the columns look.

    Lists are bags, texts bags of words, floats and integers of many values numbers, other columns categories (see
    :func:`palate.data.features.guess_kind`); text columns that look like ids are categories, as ids are what a row names.

    Parameters
    ----------
    leave_out
        Columns that are no features: labels, groups, weights.
    known
        Fields that are given; they stand in the place of the guess, or beside it (crosses).
    """
    own = {field.name: field for field in known}
    for name, field in own.items():
        if field.kind != "cross" and name not in table.column_names:
            raise ConfigError("there is no such column.", where="fields", value=name, remedy=_near(name, table.column_names))
    found = [
        own.get(name) or _guess(name, table.column(name), text_buckets) for name in table.column_names if name not in leave_out
    ]
    return (*found, *(field for field in known if field.kind == "cross"))


def _guess(name: str, column: pa.ChunkedArray, text_buckets: int) -> RowField:
    kind = _GUESSED[guess_kind(column)]
    looks_like_id = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if kind == "ignore" and looks_like_id and column.null_count < len(column):
        kind = "category"
    if kind == "number" and pa.types.is_integer(column.type) and _is_id(name):
        kind = "category"
    field = RowField(name, kind, hash_buckets=text_buckets) if kind == "text" else RowField(name, kind)
    return replace(field, max_length=16) if kind in ("list", "text") else field


def _is_id(name: str) -> bool:
    plain = name.casefold()
    return plain in ("user", "item", "id", "product", "query") or plain.endswith(("_id", "id_", " id"))


def _shared(field: RowField) -> list[tuple[str, tuple[str, ...]]]:
    return [(field.share, ("category",))] if field.share else []


def _near(name: str, known: Collection[str]) -> str | None:
    return nearest(name, known) if known else None
