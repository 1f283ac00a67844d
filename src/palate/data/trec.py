"""TREC files: runs (``user Q0 item rank score tag``) and qrels (``user 0 item gain``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv

from palate.data.readers.delimited import open_bytes, read_lines
from palate.data.whole import whole_file
from palate.errors import DataError

#: Fields of a line of each kind.
RUN = ("user", "q0", "item", "rank", "score", "tag")
QRELS = ("user", "zero", "item", "gain")

#: An item or user id, and a row of them.
Row = Sequence[Any] | np.ndarray


def write_run(path: str | Path, users: Iterable[Any], items: Iterable[Row], scores: Iterable[Row], tag: str = "palate") -> Path:
    """Write rankings as a TREC run.

    Parameters
    ----------
    path
        The file; ``.gz`` is packed. ``/dev/stdout`` is written directly.
    users
        Raw user ids, each once.
    items
        Raw item ids of each user, best first.
    scores
        Scores of these items; they may not rise, as readers of runs rank by score.
    tag
        Name of the system; blanks in it become ``_``.

    Raises
    ------
    DataError
        If an id is empty or holds a blank, a score is not finite or rises, or rows differ in length.
    """
    path, word = Path(path), "_".join(str(tag).split()) or "palate"
    seen: set[str] = set()
    with whole_file(path) as stream:
        for user, row, marks in zip(users, items, scores, strict=True):
            who = _word(user, "user")
            if who in seen:
                raise DataError("a user comes twice.", where=path, value=user, remedy="give each user one ranking")
            seen.add(who)
            values = [float(s) for s in marks]
            _check_scores(who, values, len(row), path)
            lines = (
                f"{who} Q0 {_word(item, 'item')} {rank} {score!r} {word}\n"
                for rank, (item, score) in enumerate(zip(row, values, strict=True), 1)
            )
            stream.writelines(lines)
    return path


def write_qrels(path: str | Path, users: Iterable[Any], items: Iterable[Row], gains: Iterable[Row] | None = None) -> Path:
    """Write the right answers as TREC qrels.

    Parameters
    ----------
    path
        The file; ``.gz`` is packed.
    users
        Raw user ids.
    items
        Raw ids of each user's right answers.
    gains
        Whole numbers from 0 for each; ``None`` writes 1.

    Raises
    ------
    DataError
        If an id is empty or holds a blank, or a gain is not a whole number.
    """
    path = Path(path)
    with whole_file(path) as stream:
        marks = repeat(None) if gains is None else gains
        for user, row, gain in zip(users, items, marks, strict=gains is not None):
            who = _word(user, "user")
            values = [1] * len(row) if gain is None else [_gain(g, path) for g in gain]
            stream.writelines(f"{who} 0 {_word(item, 'item')} {value}\n" for item, value in zip(row, values, strict=True))
    return path


def read_run(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """Read a TREC run (plain or gzip; fields separated by blanks or tabs).

    Returns
    -------
    tuple
        Raw user ids and item ids (text, one a line), and ``float64`` scores; in the order of the file.

    Raises
    ------
    DataError
        If the file is missing or empty, or a line has another form; the message names the line.
    """
    users, items, scores = _read(Path(path), RUN, "score", {"rank": _is_whole, "score": _is_finite})
    return users, items, scores


def read_qrels(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """Read TREC qrels: raw user ids and item ids (text), and ``float64`` gains.

    Raises
    ------
    DataError
        As :func:`read_run`.
    """
    return _read(Path(path), QRELS, "gain", {"gain": _is_finite})


def _read(
    path: Path, fields: Sequence[str], number: str, checks: dict[str, Callable[[str], bool]]
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    if not path.is_file():
        raise DataError("there is no such file.", where=path, remedy="check the path")
    table = _quickly(path, fields) or _carefully(path, fields, checks)
    if table.num_rows == 0:
        raise DataError("the file is empty.", where=path, remedy=f"give lines of: {' '.join(fields)}")
    scores = np.asarray(table.column(number)).astype(np.float64)
    if not np.isfinite(scores).all():
        _carefully(path, fields, checks)
    user, item = (table.column(name).combine_chunks() for name in ("user", "item"))
    return user, item, scores


def _quickly(path: Path, fields: Sequence[str]) -> pa.Table | None:
    """Parse a file of single blanks or tabs, or give up."""
    with open_bytes(path) as raw:
        first = raw.read(4096)
    types = {f: pa.string() for f in fields} | {f: pa.float64() for f in ("score", "gain") if f in fields}
    types |= {"rank": pa.int64()} if "rank" in fields else {}
    try:
        with open_bytes(path) as raw:
            return pc_csv.read_csv(
                pa.PythonFile(raw, "r"),
                pc_csv.ReadOptions(column_names=list(fields), use_threads=False),
                pc_csv.ParseOptions(delimiter="\t" if b"\t" in first else " ", quote_char=False),
                pc_csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
            )
    except (pa.ArrowInvalid, OSError, EOFError):
        return None


def _carefully(path: Path, fields: Sequence[str], checks: dict[str, Callable[[str], bool]]) -> pa.Table:
    columns: dict[str, list[Any]] = {field: [] for field in fields}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        remedy = f"write each line as: {' '.join(fields)}; ids may not hold blanks"
        if len(words) != len(fields):
            what = f"{len(words)} fields where {len(fields)} are expected."
            raise DataError(what, where=f"{path}, line {number}", value=line, remedy=remedy)
        for field, word in zip(fields, words, strict=True):
            if field in checks and not checks[field](word):
                raise DataError(f"the {field} is not a number.", where=f"{path}, line {number}", value=word, remedy=remedy)
            columns[field].append(float(word) if field in ("score", "gain") else word)
    return pa.table({f: pa.array(c, pa.float64() if f in ("score", "gain") else pa.string()) for f, c in columns.items()})


def _is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _is_whole(word: str) -> bool:
    return word.lstrip("+-").isdigit()


def _word(raw: Any, role: str) -> str:
    word = str(raw)
    if not word or word.split() != [word]:
        raise DataError(
            f"a TREC file can't hold this {role} id: it is empty or holds a blank.",
            value=raw,
            remedy="rename such ids (replace blanks by _), or write the ranking as Parquet or JSON lines",
        )
    return word


def _check_scores(user: str, scores: list[float], n_items: int, path: Path) -> None:
    if len(scores) != n_items:
        raise DataError("items and scores differ in number.", where=f"{path}, user {user}", value=(n_items, len(scores)))
    if not all(map(math.isfinite, scores)):
        bad = next(s for s in scores if not math.isfinite(s))
        raise DataError(
            "a score is not a finite number.", where=f"{path}, user {user}", value=bad, remedy="leave unscored items out"
        )
    if any(b > a for a, b in pairwise(scores)):
        remedy = "give items best first: readers of runs rank by score"
        raise DataError("scores rise within a ranking.", where=f"{path}, user {user}", value=scores[:5], remedy=remedy)


def _gain(gain: Any, path: Path) -> int:
    value = float(gain)
    if not value.is_integer() or value < 0:
        raise DataError(
            "a gain is not a whole number from 0.",
            where=path,
            value=gain,
            remedy="round or scale gains: qrels hold whole numbers",
        )
    return int(value)
