"""Public data sets: found in ``PALATE_DATA`` or the cache, else fetched from their owners; counts are asserted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.data.public.entry import Download, Layout, PublicData
from palate.data.public.fetch import fetch
from palate.data.public.table import PUBLIC
from palate.data.split import Split
from palate.errors import ConfigError, DataError, nearest
from palate.progress import Progress, silent

__all__ = ["Download", "Layout", "PublicData", "cache_folder", "catalogue", "find", "get", "info", "load", "load_split"]


def catalogue() -> list[PublicData]:
    """Return every public data set that Palate knows."""
    return list(PUBLIC)


def info(name: str) -> PublicData:
    """Return what is known of one data set."""
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
    """Return the folder that holds a data set already (``PALATE_DATA`` first, then the cache), or ``None``."""
    data = info(name)
    above = [os.environ.get("PALATE_DATA"), str(cache_folder())]
    for folder in (Path(a) / (data.folder or data.name) for a in above if a):
        if folder.is_dir() and _layout(data, folder) is not None:
            return folder
    return None


def get(name: str, *, progress: Progress = silent) -> Path:
    """Return the folder of a data set, fetching it first where it is not here.

    Raises
    ------
    DataError
        If it can't be fetched, or is not what its owner published.
    """
    found = find(name)
    if found is not None:
        return found
    data = info(name)
    if not data.downloads:
        raise DataError("this data set must be asked for at its owner's.", where=data.url, value=name)
    folder = fetch(data, cache_folder() / name, progress)
    if _layout(data, folder) is None:
        markers = ", ".join(layout.marker for layout in data.layouts)
        raise DataError("the files fetched don't hold what was expected.", where=folder, value=markers)
    return folder


def load(name: str, *, progress: Progress = silent, **options: Any) -> Dataset:
    """Return a data set, fetching it where it is not here; its counts are asserted.

    ``options`` go to the reader.
    """
    from palate.data.readers import read

    data, folder = info(name), get(name, progress=progress)
    layout = _layout(data, folder)
    assert layout is not None
    source = folder if layout.source == "." else _file(folder, layout.source)
    dataset = read(source, format=layout.format, name=name, **options)
    _check_counts(dataset, layout, folder)
    return dataset


def load_split(name: str, *, valid: float | None = None, seed: int = 0, progress: Progress = silent) -> Split:
    """Return the split that was published with a data set.

    Parameters
    ----------
    valid
        Share of each user's training events to carve out for validation.
    """
    from palate.data.protocols import split
    from palate.data.readers import read

    data = info(name)
    if not data.has_split:
        raise ConfigError("no split was published with this data set.", value=name, remedy="cut it with palate.split")
    folder = get(name, progress=progress)
    layout = _layout(data, folder)
    assert layout is not None
    parts = [
        read(_file(folder, layout.marker.replace("train", part)), format=layout.format, name=name) for part in ("train", "test")
    ]
    _check_counts(parts[0], layout, folder)
    return split(parts[0], "given", test=parts[1], valid=valid, seed=seed)


def _layout(data: PublicData, folder: Path) -> Layout | None:
    return next((layout for layout in data.layouts if _file(folder, layout.marker).exists()), None)


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.exists() and not (folder / name).exists() else folder / name


def _check_counts(dataset: Dataset, layout: Layout, folder: Path) -> None:
    found = {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset)}
    wrong = {key: (found[key], expected) for key, expected in layout.counts.items() if found[key] != expected}
    if wrong:
        raise DataError(
            "the data set has not the counts that its owner published (found, expected).",
            where=folder,
            value=wrong,
            remedy="remove the folder and fetch it again",
        )
