"""Readers: from files, folders and tables in memory to a :class:`~palate.data.dataset.Dataset`.

Examples
--------
>>> import polars as pl
>>> from palate.data.readers import read
>>> frame = pl.DataFrame({"userId": ["ann", "ann", "ben"], "movieId": [7, 9, 7], "ts": [30, 10, 20]})
>>> data = read(frame, name="films")
>>> data
Dataset('films', 2 users, 2 items, 3 interactions)
>>> data.items.ids.decode(data.histories.ragged[0]).to_pylist()
[9, 7]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.data.attribute_graph import with_attribute_graph
from palate.data.dataset import Dataset
from palate.data.readers.bad_rows import OnBadRows
from palate.data.readers.build import build, rows_dropped
from palate.data.readers.finn import read_finn_slates
from palate.data.readers.formats import FORMATS, detect
from palate.data.readers.frames import read_object
from palate.data.readers.logs import read_dialogues, read_impressions, read_searches
from palate.data.readers.own import read_own
from palate.data.readers.parts import Options
from palate.data.readers.tables import searches_of
from palate.errors import ConfigError, DataError, nearest

__all__ = [
    "FORMATS",
    "read",
    "read_dialogues",
    "read_finn_slates",
    "read_impressions",
    "read_parts",
    "read_searches",
    "rows_dropped",
]


def read(
    source: Any,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
    name: str | None = None,
    **options: Any,
) -> Dataset:
    """Read interactions, with the attributes and graphs that lie beside them.

    Parameters
    ----------
    source
        A file or folder, the name of a public data set (``"ml-100k"``), a pandas or Polars frame, an Arrow table, or a SciPy
        matrix of users x items.
    format
        One of :data:`FORMATS`; ``None`` detects it by name and content.
    columns
        Column of each role (``user``, ``item``, ``time``, ``value``, ``action``, ``session``); roles that are not named are
        found by common names, and an empty name leaves a role out.
    on_bad_rows
        ``"error"`` raises at the first row that can't be used; ``"drop"`` leaves such rows out, counts them by reason and
        records that in the data set's ``spec`` (see :func:`rows_dropped`).
    name
        What to call the data set.
    **options
        ``ids`` (``"auto"``, ``"text"``, ``"integer"``), ``time_unit`` (``"s"``, ``"ms"``, ``"us"``, ``"ns"``), ``separator``,
        ``encoding``, ``quoted``, ``header``, ``min_users`` (2), ``keep_unseen`` (keep users and items that have attributes
        but no interactions), ``attribute_graph`` (``"all"``, or attributes of items with commas: a knowledge graph of them,
        see :func:`palate.data.attribute_graph.with_attribute_graph`).

    Returns
    -------
    Dataset
        Times are whole seconds since 1970; equal times keep file order.

    Raises
    ------
    DataError
        If the source is missing, damaged, or holds rows that can't be used; the message names file, line, value and remedy.
    ConfigError
        If an option is unknown.
    """
    given = Options.of(format=format, columns=columns, on_bad_rows=on_bad_rows, name=name, **options)
    if format is not None and format not in FORMATS:
        raise ConfigError("unknown format.", value=format, remedy=nearest(format, FORMATS))
    found = _read(source, given)
    if given.attribute_graph is None:
        return found
    names = [part.strip() for part in given.attribute_graph.split(",") if part.strip()]
    return with_attribute_graph(found, None if names == ["all"] else names)


def _read(source: Any, options: Options) -> Dataset:
    if not isinstance(source, (str, Path)):
        parts = read_object(source, options)
        return build(parts, options, options.name or parts.name or "data")
    path = Path(source).expanduser()
    return _read_path(path, options) if path.exists() else _registered(source, path, options)


def read_parts(source: str | Path, **options: Any) -> dict[str, Dataset]:
    """Read the parts of a published split (LightGCN, Coat, RecBole benchmark files, a split folder).

    All parts share the users and items of the whole.

    Raises
    ------
    DataError
        If the source has no parts.
    """
    whole = read(source, **options)
    sizes = next((step["parts"] for step in whole.spec if step.get("parts")), None)
    if sizes is None:
        raise DataError("this source has no parts.", where=source, remedy="read it whole and split it: palate split")
    rows, start, parts = whole.interactions.file_order, 0, {}
    for part, size in sizes.items():
        events = whole.interactions.take((rows >= start) & (rows < start + size))
        parts[part] = replace(whole.derive({"step": "part", "part": part}, interactions=events), name=f"{whole.name}/{part}")
        start += size
    return parts


def _read_path(path: Path, options: Options) -> Dataset:
    kind = options.format or detect(path, options)
    if kind == "palate":
        whole = read_own(path)
        return whole if options.name is None else replace(whole, name=options.name)
    parts = FORMATS[kind](path, options)
    made = build(parts, options, options.name or parts.name or path.name)
    searched = searches_of(path) if kind == "folder" else None
    if searched is None:
        return made
    return read_searches(
        made, searched, on_bad_rows=options.on_bad_rows, time_unit=options.time_unit, encoding=options.encoding
    )


def _registered(source: str | Path, path: Path, options: Options) -> Dataset:
    try:
        from palate.data import public
    except ImportError:
        public = None  # type: ignore[assignment]
    known = [] if public is None else [data.name for data in public.catalogue()]
    if str(source) in known and public is not None:
        found = public.load(str(source))
        return found if options.name is None else replace(found, name=options.name)
    a_name = bool(known) and "/" not in str(source) and not path.suffix
    advice = f"{nearest(str(source), known)} (see: palate data list)" if a_name else "check the path"
    raise DataError("there is no such file, folder or public data set.", where=path, value=str(source), remedy=advice)
