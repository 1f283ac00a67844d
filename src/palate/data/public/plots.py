"""Plots of films: what a film is about, beside a data set that holds titles and genres alone.

Some copies of MovieLens 100K come with ``items_tmdb.csv``: columns ``movie_id`` and ``overview`` (and others, not read here),
with some films twice. Posters beside it are not read: no system of Palate looks at pictures yet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from palate.data.dataset import Dataset
from palate.data.readers.delimited import DelimitedSource
from palate.errors import DataError

#: The file's name, with or without ``.gz``; the columns that are read; the attribute that plots become.
FILE, ID, PLOT, COLUMN = "items_tmdb.csv", "movie_id", "overview", "description"


def with_plots(dataset: Dataset, file: str | Path | None = None) -> Dataset:
    """Return films whose plots stand in the attribute ``description``, which item texts tell; unknown ones have none.

    Parameters
    ----------
    dataset
        Films under the ids of MovieLens 100K, or those of the file.
    file
        The file, or the folder of it; ``None`` looks beside MovieLens 100K.

    Raises
    ------
    DataError
        If there is no such file, it lacks a column, it knows none of the films, or they have a description already.
    """
    path = _found(file)
    plots = _read(path)
    table = dataset.items.attributes
    if table is not None and COLUMN in table.column_names:
        raise DataError("items have a description already.", where=dataset.name, remedy="drop it first")
    told = [plots.get(str(raw)) for raw in dataset.items.ids.raw.to_pylist()]
    if not any(told):
        raise DataError("the file knows none of the items.", where=path, value=dataset.name, remedy="is it of this data set?")
    column = pa.array(told, pa.string())
    grown = pa.table({COLUMN: column}) if table is None else table.append_column(COLUMN, column)
    step = {"step": "plots", "told": sum(plot is not None for plot in told)}
    return dataset.derive(step, items=replace(dataset.items, attributes=grown))


def _found(file: str | Path | None) -> Path:
    """Return the path of the file."""
    if file is None:
        from palate.data.public import get

        file = get("ml-100k")
    path = Path(file)
    for each in (path, path / FILE, path / f"{FILE}.gz"):
        if each.is_file():
            return each
    raise DataError("there are no plots here.", where=path, remedy=f"put {FILE} (columns {ID}, {PLOT}) there, or name the file")


def _read(path: Path) -> dict[str, str]:
    """Return plots by id; of a film that stands there twice the first one."""
    source = DelimitedSource(path, separator=",")
    missing = {ID, PLOT} - set(source.columns)
    if missing:
        raise DataError("a column is missing.", where=path, value=sorted(missing), remedy=f"{ID} and {PLOT} are needed")
    table, plots = source.table(), dict[str, str]()
    for raw, text in zip(table.column(ID).to_pylist(), table.column(PLOT).to_pylist(), strict=True):
        if plot := " ".join((text or "").split()):
            plots.setdefault(raw.strip(), plot)
    return plots
