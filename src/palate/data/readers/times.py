"""Times: seconds, milliseconds, microseconds, nanoseconds, ISO text, dates and Arrow timestamps, all to seconds since 1970."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.readers.bad_rows import DROP, BadRows, first_value
from palate.data.readers.growing import Growing
from palate.errors import ConfigError, DataError, nearest

#: Ticks of a second, by unit.
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

#: Ways to write a date beside ISO 8601.
FORMATS = ("%m %d, %Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d", "%d.%m.%Y", "%a %b %d %H:%M:%S %z %Y", "%Y%m%d")

#: Seconds beyond which a time is not believed (the year 5138).
LATEST = 10**11

REMEDY = f"give unix time or ISO 8601 text (2024-05-31T12:00:00), or {DROP}"


class TimeColumn:
    """Collects a column of times, then turns it into ticks and the number of ticks a second.

    Parameters
    ----------
    name
        Column name.
    unit
        ``"s"``, ``"ms"``, ``"us"`` or ``"ns"`` of plain numbers; ``None`` tells it by their magnitude: below 10^11
        seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.
    n_hint
        Number of rows where known.
    """

    def __init__(self, name: str, unit: str | None, n_hint: int | None) -> None:
        if unit is not None and unit not in TICKS:
            raise ConfigError("unknown time unit.", where="time_unit", value=unit, remedy=nearest(unit, TICKS))
        self.name, self.unit, self.form = name, unit, "numbers"
        self._raw = Growing(np.int64, n_hint)
        self._per_number = 1
        self._ticks: int | None = None
        self._textual: bool | None = None

    def add(self, column: pa.Array, start: int, bad: BadRows) -> None:
        """Take the next batch, whose first row is row ``start`` of the source."""
        ticks, missing = self._read(column)
        at = np.flatnonzero(missing)
        if len(at):
            value = first_value(column, at)
            bad.add(start + at, f"missing or unparsable time in column {self.name!r}", value, REMEDY)
        self._raw.extend(ticks)

    def finish(self, bad: BadRows) -> tuple[np.ndarray, int]:
        """Return ``int64[n]`` ticks and how many make a second; :attr:`unit` and :attr:`form` are then known."""
        raw = self._raw.array()
        if self._ticks is not None:
            return raw, self._ticks
        if self.unit is None:
            self.unit = _magnitude(raw, self._per_number)
        ticks = TICKS[self.unit] * self._per_number
        late = _beyond(raw, LATEST * ticks if LATEST * ticks < 2**63 else None)
        if len(late):
            value = int(raw[late[0]]) / self._per_number if self._per_number > 1 else int(raw[late[0]])
            bad.add(late, f"time in column {self.name!r} does not fit the unit {self.unit!r}", value, REMEDY)
        return raw, ticks

    def _read(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        if pa.types.is_timestamp(kind):
            return self._fixed(column.cast(pa.int64()), TICKS[kind.unit], "timestamps")
        if pa.types.is_date(kind):
            return self._fixed(column.cast(pa.timestamp("s")).cast(pa.int64()), 1, "dates")
        if pa.types.is_null(kind):
            return np.zeros(len(column), np.int64), np.ones(len(column), bool)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._text(column)
        if pa.types.is_integer(kind):
            return self._numbers(column.cast(pa.int64(), safe=False))
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return self._numbers(column.cast(pa.float64()))
        raise DataError(f"column {self.name!r} can't hold times.", value=str(kind), remedy="name another: columns={'time': …}")

    def _fixed(self, ticks: pa.Array, per_second: int, form: str) -> tuple[np.ndarray, np.ndarray]:
        self._ticks, self.form, self.unit = per_second, form, next(u for u, t in TICKS.items() if t == per_second)
        return _filled(ticks)

    def _numbers(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        if pa.types.is_integer(column.type):
            ticks, missing = _filled(column)
            return ticks * self._per_number if self._per_number > 1 else ticks, missing
        numbers = column.to_numpy(zero_copy_only=False)
        missing = ~(np.abs(numbers) < 2.0**63)
        numbers = np.where(missing, 0.0, numbers)
        if self._per_number == 1 and (numbers != np.floor(numbers)).any() and np.abs(numbers).max() < 9e12:
            self._per_number = 10**6
            self._raw.scale(10**6)
        if self._per_number == 1:
            return np.floor(numbers).astype(np.int64), missing
        whole = np.floor(numbers)
        parts = np.round((numbers - whole) * self._per_number)
        return whole.astype(np.int64) * self._per_number + parts.astype(np.int64), missing

    def _text(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        text = pl.Series(pl.from_arrow(column)).str.strip_chars()
        if self._textual is None and text.null_count() < len(text):
            numeric = text.cast(pl.Float64, strict=False).is_not_null().sum()
            self._textual = numeric * 2 < len(text) - text.null_count()
        if self._textual:
            return self._dates(text)
        whole = text.cast(pl.Int64, strict=False)
        if whole.null_count() == 0:
            return self._numbers(whole.to_arrow())
        return self._numbers(text.cast(pl.Float64, strict=False).to_arrow())

    def _dates(self, text: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        column = text.to_arrow().cast(pa.string())
        for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                ticks = pc.cast(column, kind).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            return self._fixed(ticks, 10**6, "text")
        return self._fixed(pa.array([_ticks_of_text(t) for t in column.to_pylist()], pa.int64()), 10**6, "text")


def seconds(ticks: np.ndarray, per_second: int) -> np.ndarray:
    """Turn ticks into whole seconds in place (rounded down)."""
    if per_second > 1:
        np.floor_divide(ticks, per_second, out=ticks)
    return ticks


def _filled(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    missing = np.asarray(column.is_null()) if column.null_count else np.zeros(len(column), bool)
    return np.asarray(column.fill_null(0) if column.null_count else column).astype(np.int64, copy=False), missing


def _magnitude(raw: np.ndarray, per_number: int) -> str:
    sample = np.abs(raw[:: max(1, len(raw) // 100_000)] // per_number)
    middle = float(np.median(sample)) if len(sample) else 0.0
    return "s" if middle < LATEST else "ms" if middle < LATEST * 10**3 else "us" if middle < LATEST * 10**6 else "ns"


def _beyond(raw: np.ndarray, limit: int | None, rows: int = 1 << 20) -> np.ndarray:
    if limit is None:
        return np.empty(0, np.int64)
    pieces = [start + np.flatnonzero(np.abs(raw[start : start + rows]) >= limit) for start in range(0, len(raw), rows)]
    return np.concatenate([np.empty(0, np.int64), *pieces])


def _ticks_of_text(text: str | None) -> int | None:
    moment: Any = None
    if text:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = next((m for f in FORMATS if (m := _strptime(text, f)) is not None), None)
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    gap = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (gap.days * 86_400 + gap.seconds) * 10**6 + int(gap.microseconds)


def _strptime(text: str, form: str) -> datetime | date | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None
