"""Logs from tables: a file of logged choices, or the impressions of a data set such as Open Bandit.

A table of one's own has a row for each choice, with columns for its reward, the chance with which it was made, and the chance
that the candidate makes it (:func:`log_of_table`). Where choices were slates, two more columns say of which slate a row is, and
of which position (:func:`slates_of_table`). Impressions have an item, a click, a propensity and perhaps a position, and
the candidate is a distribution over items (:func:`log_of_impressions`)::

    float64[A]       the same for every row
    float64[P, A]    by position, the first one first
    float64[n, A]    of each row
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset
from palate.data.row_tables import row_blocks
from palate.errors import DataError, nearest
from palate.evaluation.offpolicy.log import Chances, Log, SlateLog, as_floats
from palate.evaluation.offpolicy.support import distributions


def log_of_table(
    source: Any,
    *,
    reward: str = "reward",
    propensity: str = "propensity",
    target: str = "target",
    unit: str | None = None,
    q_logged: str | None = None,
    q_target: str | None = None,
) -> Log:
    """Return the log that a table holds.

    Parameters
    ----------
    source
        Path of a Parquet, Arrow, CSV, TSV or JSONL file (or a folder of such files), an Arrow table, or a frame of pandas or
        Polars.
    reward, propensity, target
        Columns of what was earned, and of the chance of the logged action under the policy that logged it and under the
        candidate.
    unit
        Column of the person or session (any kind of value): rows of one are not independent.
    q_logged, q_target
        Columns of a reward model, where there is one; see :class:`~palate.evaluation.offpolicy.log.Log`.

    Raises
    ------
    DataError
        If the file can't be read, a column is missing or holds no numbers, or a row is impossible; the row is named (from 0).
    """
    names = {"reward": reward, "propensity": propensity, "target": target, "q_logged": q_logged, "q_target": q_target}
    table, columns = _columns(source, names, [unit])
    return Log(**columns, unit=None if unit is None else _codes(table, unit))


def slates_of_table(
    source: Any,
    *,
    slate: str = "slate",
    position: str = "position",
    reward: str = "reward",
    propensity: str = "propensity",
    target: str = "target",
    unit: str | None = None,
    q_logged: str | None = None,
    q_target: str | None = None,
    chances: Chances = "conditional",
) -> SlateLog:
    """Return the log of slates that a table holds, a row a position, in any order.

    Parameters
    ----------
    source
        As for :func:`log_of_table`.
    slate
        Column that names the slate of a row (any kind of value).
    position
        Column of the position within it, whole numbers from 0 or from 1 on. All slates have the same positions.
    reward, propensity, target, q_logged, q_target
        As for :func:`log_of_table`, of each position.
    unit
        Column of the person or session; one a slate.
    chances
        What ``propensity`` and ``target`` are; see :class:`~palate.evaluation.offpolicy.log.SlateLog`. ``palate act`` and the
        log of the service have conditional ones.

    Raises
    ------
    DataError
        As for :func:`log_of_table`, and if a position is missing or filled twice; the slate is named. Rows that a message names
        are then slates, in the order of their first rows.
    """
    names = {"reward": reward, "propensity": propensity, "target": target, "q_logged": q_logged, "q_target": q_target}
    table, columns = _columns(source, {**names, "position": position}, [slate, unit])
    place, of = columns.pop("position"), _codes(table, slate)
    order, width = _slates(of, place, table.column(slate), position)

    def shaped(values: np.ndarray) -> np.ndarray:
        return values[order].reshape(-1, width)

    units = None
    if unit is not None:
        codes = shaped(_codes(table, unit))
        mixed = (codes != codes[:, :1]).any(axis=1)
        if mixed.any():
            name = table.column(slate)[int(order[int(mixed.argmax()) * width])].as_py()
            raise DataError("a slate belongs to several units.", where=f"{unit}, slate {name!r}", remedy="one a slate")
        units = codes[:, 0]
    return SlateLog(**{role: shaped(values) for role, values in columns.items()}, unit=units, chances=chances)


def _slates(of: np.ndarray, place: np.ndarray, names: pa.ChunkedArray, position: str) -> tuple[np.ndarray, int]:
    """Return the order of rows by slate and position, and how many positions there are; all slates must have all of them."""
    first, whole = place.min(), place == np.floor(place)
    if not whole.all() or first not in (0, 1):
        row = int(np.argmin(whole)) if not whole.all() else int(place.argmin())
        raise DataError("positions are whole numbers from 0 or 1 on.", where=f"{position}, row {row}", value=float(place[row]))
    order = np.lexsort((place, of))
    counts, last = np.bincount(of), int(place.max())
    width = last - int(first) + 1
    told = f"{position} {int(first)} to {last}, each once"
    if (counts != width).any():
        slate = int(np.argmax(counts != width))
        row = int(np.argmax(of == slate))
        raise DataError(
            "slates have the same positions.",
            where=f"slate {names[row].as_py()!r}",
            value=f"{int(counts[slate])} rows",
            remedy=f"{told}; give slates of other lengths as a log of their own",
        )
    wrong = place[order].reshape(-1, width) != np.arange(first, last + 1)
    if wrong.any():
        row = int(order[int(wrong.any(axis=1).argmax()) * width])
        raise DataError("a position is missing, or filled twice.", where=f"slate {names[row].as_py()!r}", remedy=told)
    return order, width


def _columns(source: Any, names: dict[str, str | None], more: list[str | None]) -> tuple[pa.Table, dict[str, Any]]:
    """Return the columns of a table that were named, and as numbers those of the roles."""
    wanted = [name for name in (*names.values(), *more) if name is not None]
    table = _whole(row_blocks(source), list(dict.fromkeys(wanted)))
    return table, {role: _numbers(table, name) for role, name in names.items() if name is not None}


def log_of_impressions(
    dataset: Dataset,
    target: np.ndarray,
    *,
    unit: str | None = None,
    q: np.ndarray | None = None,
) -> Log:
    """Return the log of a data set's impressions of single items, for a candidate.

    Parameters
    ----------
    dataset
        With impressions: columns ``item``, ``click``, ``propensity``, and ``position`` (from 1) where chances are by position.
    target
        The candidate's chances of all items (see the module's text).
    unit
        Column of the person or visit, if there is one.
    q
        Expected rewards of all items, of the same shapes as chances. They must not have been learnt from this log.

    Raises
    ------
    DataError
        If there are no impressions, a column is missing, or chances are no distributions over the items.
    """
    table = _impressions(dataset)
    item = table.column("item").to_numpy()
    chance, rows = rows_of(dataset, target), np.arange(len(item))
    model: dict[str, Any] = {}
    if q is not None:
        expected = _spread(dataset, np.asarray(q, np.float64), "q")
        model = {"q_logged": expected[rows, item], "q_target": (chance * expected).sum(axis=1)}
    return Log(
        reward=_numbers(table, "click"),
        propensity=_numbers(table, "propensity"),
        target=chance[rows, item],
        unit=None if unit is None else _codes(table, unit),
        **model,
    )


def rows_of(dataset: Dataset, chances: np.ndarray) -> np.ndarray:
    """Return chances of all items for each impression, ``float64[n, A]``, as for ``check_support``."""
    return distributions("chances", _spread(dataset, np.asarray(chances, np.float64), "chances"))


def shares_of(dataset: Dataset) -> np.ndarray:
    """Return what the policy that logged shows, ``float64[P, A]``: shares of the items among the impressions of a position.

    Of a policy that doesn't look at the person these estimate its mean chances over the time of the log; an item that was never
    shown at a position has none there. Without positions there is one row.
    """
    table = _impressions(dataset)
    item, place = table.column("item").to_numpy(), _places(table)
    counts = np.zeros((int(place.max()) + 1, dataset.n_items))
    np.add.at(counts, (place, item), 1.0)
    totals = counts.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        raise DataError("a position was never filled.", where="position", value=int(np.argmin(totals)) + 1)
    shares: np.ndarray = counts / totals
    return shares


def _impressions(dataset: Dataset) -> pa.Table:
    table = dataset.impressions
    if table is None or table.num_rows == 0:
        raise DataError("the data set holds no impressions.", where=repr(dataset))
    for name in ("item", "click", "propensity"):
        _check_there(table.column_names, name)
    return table


def _places(table: pa.Table) -> np.ndarray:
    """Return ``int64[n]``: position of each row from 0."""
    if "position" not in table.column_names:
        return np.zeros(table.num_rows, np.int64)
    place = table.column("position").to_numpy().astype(np.int64) - 1
    if place.min() < 0:
        raise DataError(
            "positions are counted from 1.", where=f"position, row {int(place.argmin())}", value=int(place.min()) + 1
        )
    return place


def _spread(dataset: Dataset, values: np.ndarray, name: str) -> np.ndarray:
    """Return values of all items for each impression."""
    table = _impressions(dataset)
    n, items = table.num_rows, dataset.n_items
    if values.ndim not in (1, 2) or values.shape[-1] != items:
        raise DataError(f"{name} has one number an item.", where=name, value=[list(values.shape), items])
    if values.ndim == 1:
        return np.broadcast_to(values, (n, items))
    if len(values) == n:
        return values
    place = _places(table)
    if int(place.max()) >= len(values):
        raise DataError(
            f"{name} has a row a position, or one an impression.", where=name, value=[len(values), int(place.max()) + 1]
        )
    found: np.ndarray = values[place]
    return found


def _whole(blocks: Callable[[], Iterable[pa.Table]], wanted: list[str]) -> pa.Table:
    """Return some columns of all blocks."""
    parts = []
    for block in blocks():
        for name in wanted:
            _check_there(block.column_names, name)
        parts.append(block.select(wanted))
    if not parts:
        raise DataError("the log holds no rows.", where="source")
    return pa.concat_tables(parts, promote_options="permissive")


def _check_there(names: list[str], name: str) -> None:
    if name not in names:
        raise DataError("there is no such column.", where="columns", value=name, remedy=nearest(name, names))


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as numbers; a cell that is none is named by its row."""
    column = table.column(name)
    try:
        return as_floats(name, column.cast(pa.float64()).to_numpy(), 1)
    except (pa.ArrowException, TypeError):
        for row, value in enumerate(column.to_pylist()):
            try:
                float(value)
            except (TypeError, ValueError):
                remedy = f"make {name!r} a column of numbers, such as 0 and 1"
                raise DataError("this is no number.", where=f"{name}, row {row}", value=value, remedy=remedy) from None
        raise DataError(f"{name} is not a column of numbers.", where=name, value=str(column.type)) from None


def _codes(table: pa.Table, name: str) -> np.ndarray:
    """Return a number for each value of a column."""
    _check_there(table.column_names, name)
    column = table.column(name)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError("a unit is missing.", where=f"{name}, row {row}", remedy="give every row one, such as its own number")
    codes = pc.dictionary_encode(column).combine_chunks()
    return codes.indices.to_numpy().astype(np.int64)
