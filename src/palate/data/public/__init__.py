"""Public data sets: found in ``PALATE_DATA`` or the cache, else fetched from their owners; counts are asserted.

Examples
--------
>>> info("ml-100k").counts
{'users': 943, 'items': 1682, 'interactions': 100000}
>>> info("gowalla").has_split
True
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from palate.data.dataset import Dataset
from palate.data.public.entry import Download, Layout, PublicData, agrees
from palate.data.public.fetching import by_hand, fetch
from palate.data.public.table import PUBLIC
from palate.data.split import Split
from palate.errors import ConfigError, DataError, nearest
from palate.progress import Progress, silent

__all__ = ["Download", "Layout", "PublicData", "cache_folder", "catalogue", "find", "get", "info", "load", "load_split"]


def catalogue() -> list[PublicData]:
    """Return every public data set that Palate knows."""
    return list(PUBLIC)


def info(name: str) -> PublicData:
    """Return what is known of one data set.

    Raises
    ------
    ConfigError
        If there is none of that name; the nearest is named.
    """
    known = {data.name: data for data in PUBLIC}
    if name not in known:
        raise ConfigError("unknown data set.", value=name, remedy=nearest(name, known) + " (see: palate data list)")
    return known[name]


def cache_folder() -> Path:
    """Return the folder of fetched data: ``PALATE_CACHE``, else the platform's place for caches."""
    given = os.environ.get("PALATE_CACHE")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("palate", appauthor=False)) / "data"


def find(name: str) -> Path | None:
    """Return the folder that holds a data set already (below ``PALATE_DATA`` first, then the cache), or ``None``."""
    data = info(name)
    above = [os.environ.get("PALATE_DATA"), str(cache_folder())]
    for folder in (Path(a) / data.place for a in above if a):
        if folder.is_dir() and _layout(data, folder) is not None:
            return folder
    return None


def get(name: str, *, progress: Progress = silent) -> Path:
    """Return the folder of a data set, fetching it first where it is not here.

    Raises
    ------
    ConfigError
        If the name is unknown.
    DataError
        If it can't be fetched, or is not what its owner published.
    """
    found = find(name)
    if found is not None:
        return found
    data = info(name)
    if not data.downloads:
        raise DataError(
            f"{data.title} can't be fetched for you.", where=data.url, value=data.note or None, remedy=by_hand(data)
        )
    folder = fetch(data, cache_folder() / data.place, progress)
    if _layout(data, folder) is None:
        raise DataError("the files fetched don't hold what was expected.", where=folder, remedy=by_hand(data))
    return folder


def load(name: str, part: str | None = None, *, progress: Progress = silent, **options: Any) -> Dataset:
    """Return a data set, fetching it where it is not here; its counts are asserted.

    Parameters
    ----------
    part
        One part of a published split (``"train"``, ``"test"``), numbered like the whole; ``None`` is the whole.
    **options
        For the reader (:func:`palate.data.readers.read`).

    Raises
    ------
    DataError
        If the counts are not those that the owner published.
    """
    data, folder = info(name), get(name, progress=progress)
    if part is None:
        return _read(data, folder, options)
    if part not in data.parts:
        remedy = nearest(part, data.parts) if data.has_split else "no split was published with it; cut it with palate.split"
        raise ConfigError("no such part.", where=name, value=part, remedy=remedy)
    return _parts(data, folder, options)[part]


def load_split(
    name: str,
    *,
    valid: float | None = None,
    order: Literal["time", "random"] = "random",
    positive: Iterable[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    **options: Any,
) -> Split:
    """Return the split that was published with a data set.

    Parameters
    ----------
    valid
        Share of each user's training events to carve out for validation; ``None`` carves none.
    order
        How it is carved: ``"random"``, or ``"time"`` for the latest.
    positive
        Events that count as choices (:func:`palate.data.protocols.from_parts`).
    seed
        Fixes what is carved.

    Raises
    ------
    ConfigError
        If no split was published.
    DataError
        If the parts have not the published numbers of events.
    """
    from palate.data.protocols import from_parts

    data = info(name)
    if not data.has_split:
        raise ConfigError("no split was published with this data set.", value=name, remedy="cut it with palate.split")
    parts = _parts(data, get(name, progress=progress), options)
    return from_parts(parts, valid=valid, order=order, positive=positive, seed=seed)


def _read(data: PublicData, folder: Path, options: Mapping[str, Any]) -> Dataset:
    from palate.data.readers import read

    layout, source = _source(data, folder)
    dataset = _with_items(read(source, format=layout.format, name=data.name, **options), layout, folder)
    found = {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset)}
    _check(found, layout.counts or data.counts, folder)
    return dataset


def _parts(data: PublicData, folder: Path, options: Mapping[str, Any]) -> dict[str, Dataset]:
    from palate.data.readers import read_parts

    layout, source = _source(data, folder)
    parts = read_parts(source, format=layout.format, name=data.name, **options)
    whole = next(iter(parts.values()))
    found = {"users": whole.n_users, "items": whole.n_items, **{part: len(p) for part, p in parts.items()}}
    sizes = {name: n for name, n in (layout.counts or data.counts).items() if name != "interactions"}
    _check(found, {**sizes, **data.parts}, folder)
    return parts


def _source(data: PublicData, folder: Path) -> tuple[Layout, Path]:
    layout = _layout(data, folder)
    if layout is None:
        raise DataError("the folder does not hold the data set.", where=folder, value=data.name, remedy="fetch it again")
    return layout, folder if layout.source == "." else _file(folder, layout.source)


def _with_items(dataset: Dataset, layout: Layout, folder: Path) -> Dataset:
    if layout.items is None or not _file(folder, layout.items[0]).exists():
        return dataset
    from palate.data.readers.delimited import DelimitedSource
    from palate.data.readers.entities import attach, numbers_where_possible, with_id

    name, key = layout.items
    table = numbers_where_possible(with_id(DelimitedSource(_file(folder, name)).table(), key, _file(folder, name)))
    items, _, _ = attach(dataset.items.ids, table, keep_unseen=False)
    return dataset.derive({"step": "items", "file": name}, items=items)


def _layout(data: PublicData, folder: Path) -> Layout | None:
    return next((layout for layout in data.layouts if _file(folder, layout.marker).exists()), None)


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.exists() and not (folder / name).exists() else folder / name


def _check(found: Mapping[str, int], expected: Mapping[str, int | str], folder: Path) -> None:
    wrong = {
        key: {"found": found.get(key, 0), "published": n} for key, n in expected.items() if not agrees(found.get(key, 0), n)
    }
    if wrong:
        remedy = "a file may be truncated or of another edition: remove the folder and fetch it again"
        raise DataError("the data set has not the counts that its owner published.", where=folder, value=wrong, remedy=remedy)
