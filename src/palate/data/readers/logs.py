"""Searches, impressions and dialogues: tables attached to a data set, with raw ids turned into its numbers.

Each function takes a data set and a table (path, frame or Arrow table) and returns the data set with that table. Ids that the
data set does not know become null. A session or dialogue id stays as it is. As in :func:`palate.data.readers.read`, a row that
can't be used is an error that names its place, unless ``on_bad_rows="drop"`` has such rows dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset
from palate.data.readers.bad_rows import BadRows, first_value
from palate.data.readers.build import ValueColumn
from palate.data.readers.entities import same_type
from palate.data.readers.frames import read_object
from palate.data.readers.jsonlines import JsonLinesSource
from palate.data.readers.parts import Options
from palate.data.readers.roles import NAMES, check_double, plain
from palate.data.readers.source import Source
from palate.data.readers.tables import open_table
from palate.data.readers.times import TimeColumn, seconds
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest

#: Names of the columns of a search log.
SEARCH_NAMES = {
    "query": "query keyword keywords querytext searchterm searchterms text q",
    "items": "items resultitems results clickeditems itemids",
    "session": "session sessionid searchsessionid sid queryid",
}

#: Names of the columns of an impression log (one row an item shown).
IMPRESSION_NAMES = {
    "click": "click clicked isclick label clickcnt",
    "position": "position pos rank slot",
    "propensity": "propensity propensityscore pscore",
    "impression": "impression impressionid slate slateid requestid",
    "session": "session sessionid searchsessionid sid",
}


@dataclass(frozen=True)
class _Log:
    """An opened log: its table, the column of each role, its bad rows so far, and how it is read."""

    table: pa.Table
    roles: Mapping[str, str]
    bad: BadRows
    options: Options

    def column(self, role: str) -> pa.ChunkedArray:
        """Return the column of a role."""
        return self.table.column(self.roles[role])


def read_searches(dataset: Dataset, source: Any, *, columns: Mapping[str, str] | None = None, **options: Any) -> Dataset:
    """Attach a search log (KuaiSAR-like).

    Parameters
    ----------
    dataset
        The data set whose ids count.
    source
        Table with a query a row: ``query``, and any of ``user``, ``time``, ``session``, ``items`` (clicked or shown; a list,
        or text with ids separated by blanks, commas or ``|``).
    columns
        Column of each of these; ``None`` detects them by common names.

    Returns
    -------
    Dataset
        With ``searches``: ``query`` (text or the source's own codes), ``user`` (int32), ``time`` (s), ``session``, ``items``
        (lists of int32), further columns as they are.
    """
    log = _open(source, SEARCH_NAMES, columns, ("query",), options)
    made = _common(dataset, log)
    made["query"] = log.column("query")
    if "items" in log.roles:
        made["items"] = _item_lists(dataset, log.column("items"))
    return _attach(dataset, "searches", log, made)


def read_impressions(dataset: Dataset, source: Any, *, columns: Mapping[str, str] | None = None, **options: Any) -> Dataset:
    """Attach a log of items shown (advertising, bandit and news logs), one row an item shown.

    Parameters
    ----------
    dataset
        The data set whose ids count.
    source
        Table with ``item``, and any of ``user``, ``time``, ``click`` (0 or 1), ``position``, ``propensity`` (above 0, at most
        1), ``impression`` (the slate that a row belongs to), ``session``.
    columns
        Column of each of these; ``None`` detects them by common names.
    """
    log = _open(source, IMPRESSION_NAMES, columns, ("item",), options)
    made = _common(dataset, log)
    made["item"] = _numbers(dataset.items.ids, log.column("item"))
    for role in ("click", "propensity"):
        if role in log.roles:
            made[role] = _share(log, role, above_zero=role == "propensity")
    for role in ("position", "impression"):
        if role in log.roles:
            made[role] = log.column(role)
    return _attach(dataset, "impressions", log, made)


def read_dialogues(dataset: Dataset, source: str | Path | Sequence[Mapping[str, Any]]) -> Dataset:
    """Attach conversations.

    Parameters
    ----------
    dataset
        The data set whose ids count.
    source
        JSON lines, one conversation a line: a list of turns under ``turns``, ``messages``, ``dialog``, ``dialogue`` or
        ``conversation`` (or the line is that list), each turn with ``text`` and any of ``role`` (``speaker``) and ``items``;
        beside it ``user`` and an id where known. Or the parsed objects.

    Returns
    -------
    Dataset
        With ``dialogues``, one row a turn: ``dialogue`` (int32), ``id`` (text), ``turn`` (int32), ``user`` (int32), ``role``,
        ``text``, ``items`` (lists of int32; an item may be named by raw id or by title).
    """
    where = str(source) if isinstance(source, (str, Path)) else "dialogues"
    titles = _titles(dataset)
    rows: list[dict[str, Any]] = []
    for number, (line, talk) in enumerate(_talks(source)):
        turns, facts = _turns(talk, f"{where}, line {line}")
        user = dataset.users.ids.number(facts["user"]) if facts.get("user") is not None else -1
        for at, turn in enumerate(turns):
            if not isinstance(turn, Mapping) or not isinstance(turn.get("text"), str):
                raise DataError(
                    "a turn has no text.", where=f"{where}, line {line}, turn {at + 1}", value=turn, remedy='give "text"'
                )
            items = [n for raw in turn.get("items", turn.get("item")) or [] if (n := _item(dataset, titles, raw)) >= 0]
            role = turn.get("role", turn.get("speaker", turn.get("senderWorkerId")))
            rows.append(
                {
                    "dialogue": number,
                    "id": str(facts.get("id", number)),
                    "turn": at,
                    "user": user if user >= 0 else None,
                    "role": None if role is None else str(role),
                    "text": turn["text"],
                    "items": items,
                }
            )
    if not rows:
        raise DataError("there are no dialogues.", where=where, remedy="give one conversation a line")
    kinds = [("dialogue", pa.int32()), ("id", pa.string()), ("turn", pa.int32()), ("user", pa.int32()), ("role", pa.string())]
    table = pa.Table.from_pylist(rows, schema=pa.schema([*kinds, ("text", pa.string()), ("items", pa.list_(pa.int32()))]))
    return dataset.derive({"step": "read dialogues", "source": where, "rows": len(rows)}, dialogues=table)


def _open(
    source: Any, names: Mapping[str, str], columns: Mapping[str, str] | None, required: Sequence[str], options: dict[str, Any]
) -> _Log:
    given = Options.of(**options)
    found: Source
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.is_file():
            raise DataError("there is no such file.", where=path, remedy="check the path")
        found = open_table(path, given)
    else:
        found = read_object(_as_arrow(source), given).events[0]
    roles = _roles(found, names, columns)
    for role in required:
        if role not in roles:
            remedy = f"name it: columns={{{role!r}: …}}"
            raise DataError(f"no column looks like the {role}.", where=found.where, value=list(found.columns), remedy=remedy)
    bad = BadRows(given.on_bad_rows, found.locate)
    return _Log(found.table(bad=bad), roles, bad, given)


def _as_arrow(source: Any) -> Any:
    return pa.Table.from_pandas(source, preserve_index=False) if type(source).__module__.startswith("pandas") else source


def _roles(found: Source, names: Mapping[str, str], columns: Mapping[str, str] | None) -> dict[str, str]:
    check_double(found.columns, found.where)
    words = {role: words.split() for role, words in names.items()}
    words |= {role: " ".join(NAMES[role]).split() for role in ("user", "item", "time")}
    roles: dict[str, str] = {}
    for role, column in (columns or {}).items():
        if role not in words:
            raise ConfigError("unknown role in columns.", where=found.where, value=role, remedy=nearest(role, words))
        if column not in found.columns:
            raise DataError(
                f"there is no column for the {role}.", where=found.where, value=column, remedy=nearest(column, found.columns)
            )
        roles[role] = column
    for role, known in words.items():
        free = [c for c in found.columns if c not in roles.values()]
        hit = next((c for word in known for c in free if plain(c) == word), None)
        if role not in roles and hit is not None:
            roles[role] = hit
    return roles


def _common(dataset: Dataset, log: _Log) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "user" in log.roles:
        made["user"] = _numbers(dataset.users.ids, log.column("user"))
    if "time" in log.roles:
        times = TimeColumn(log.roles["time"], log.options.time_unit, log.table.num_rows)
        _fill(times, log, "time")
        made["time"] = seconds(*times.finish(log.bad))
    if "session" in log.roles:
        made["session"] = log.column("session")
    return made


def _fill(target: TimeColumn | ValueColumn, log: _Log, role: str) -> None:
    row = 0
    for chunk in log.column(role).chunks:
        target.add(chunk, row, log.bad)
        row += len(chunk)


def _numbers(words: Vocabulary, column: pa.ChunkedArray) -> pa.Array:
    numbers = words.encode(same_type(column, words))
    return pa.array(numbers, pa.int32(), mask=numbers < 0)


def _share(log: _Log, role: str, *, above_zero: bool) -> np.ndarray:
    """Return a column of numbers from 0 (or above 0) to 1 as ``float32``."""
    name = log.roles[role]
    column = ValueColumn(name, log.table.num_rows)
    _fill(column, log, role)
    numbers = column.finish()
    wrong = np.flatnonzero(~((numbers > 0 if above_zero else numbers >= 0) & (numbers <= 1)))
    span = "above 0 to 1" if above_zero else "0 to 1"
    log.bad.add(wrong, f"the number in column {name!r} lies outside {span}", first_value(numbers, wrong))
    return numbers


def _item_lists(dataset: Dataset, column: pa.ChunkedArray) -> pa.Array:
    lists = []
    for cell in column.to_pylist():
        raw = cell.strip("[]").replace("|", " ").replace(",", " ").split() if isinstance(cell, str) else cell
        raw = raw if isinstance(raw, list) else [] if raw is None else [raw]
        lists.append([n for r in raw if (n := dataset.items.ids.number(r)) >= 0])
    return pa.array(lists, pa.list_(pa.int32()))


def _attach(dataset: Dataset, kind: str, log: _Log, made: dict[str, Any]) -> Dataset:
    rest = {c: log.table.column(c) for c in log.table.column_names if c not in log.roles.values() and c not in made}
    whole = pa.table({**made, **rest})
    good, dropped = log.bad.settle(whole.num_rows)
    whole = whole if good is None else whole.filter(pa.array(good))
    unknown = {role: pc.sum(whole.column(role).is_null()).as_py() or 0 for role in ("user", "item") if role in made}
    step: dict[str, Any] = {"step": f"read {kind}", "columns": dict(log.roles), "rows": whole.num_rows, "unknown": unknown}
    if dropped:
        step["dropped"] = dropped
    return dataset.derive(step, **{kind: whole})


def _talks(source: Any) -> Any:
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            raise DataError("there is no such file.", where=source, remedy="check the path")
        yield from JsonLinesSource(Path(source), lists=True).rows()
    else:
        yield from enumerate(source, 1)


def _turns(talk: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(talk, list):
        return talk, {}
    for key in ("turns", "messages", "dialog", "dialogue", "conversation"):
        if isinstance(talk.get(key), list):
            facts = {"user": talk.get("user", talk.get("user_id"))}
            ids = (talk.get(k) for k in ("id", "dialogue_id", "dialog_id", "conversation_id", "conversationId"))
            found = next((i for i in ids if i is not None), None)
            return talk[key], facts if found is None else {**facts, "id": found}
    raise DataError("no list of turns.", where=where, value=sorted(talk), remedy='give "turns": [{"role": …, "text": …}, …]')


def _titles(dataset: Dataset) -> dict[str, int]:
    column = dataset.items.column("title")
    return {} if column is None else {t: n for n, t in enumerate(column.to_pylist()) if t}


def _item(dataset: Dataset, titles: Mapping[str, int], raw: Any) -> int:
    number = dataset.items.ids.number(raw)
    return number if number >= 0 else titles.get(str(raw), -1)
