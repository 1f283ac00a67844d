"""Questions by the piece: users of a bundle, the test people of a split, or histories in Parquet; never all of them at once.

A piece is an Arrow table that any process can open with nothing but the model, so that one machine and a cluster ask the same
questions in the same blocks. It has a column ``row``, the number of its first question, and one of these forms:

``user``
    people whom the bundle knows, or strangers; their histories are the bundle's
``user``, ``items``, and where known ``times``, ``values``
    raw ids, each list oldest first
``user``, ``number``, ``items``, and where known ``times``, ``values``, ``actions``
    the same in the model's numbers (a split)
``path``, ``group``
    one row group of a Parquet file of the second form

A Parquet file (or folder of such files) of histories has a column ``user`` and lists ``items``, and may have lists ``times``
(seconds since 1970, or timestamps) and ``values`` of the same lengths, a column ``text`` of what each person says, for systems
that read words, lists ``ties`` of people's ids, for systems that read these, and columns of context that a policy reads. A
Parquet file of events has ``user``, ``item`` and maybe ``time``; its rows are gathered into histories, a share of the people at
a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palate.contracts.policy import Policy
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import Ragged, offsets_of
from palate.data.split import Split
from palate.errors import DataError
from palate.study.renumber import Renumbered, in_numbers

#: Questions that a model is asked at once, and questions of a piece.
BLOCK, PIECE = 8_192, 32_768
#: Events that are gathered into histories at once.
EVENTS = 20_000_000
#: Lists beside ``items``, and what they are in histories.
LISTS = {"times": np.int64, "values": np.float32, "actions": np.int32}
#: Columns of what else people tell, for systems that read it.
SAID = ("text", "ties")
REMEDY = "give columns user and items (lists, oldest first), or events with user, item and time"


@dataclass(frozen=True)
class Asked:
    """A block of questions.

    Attributes
    ----------
    start
        Number of the first one.
    people
        Raw ids of whom they are about.
    requests
        The same in the model's numbers.
    """

    start: int
    people: pa.Array
    requests: Requests


def of_users(model: Recommender, names: Iterable[str]) -> Iterator[pa.Table]:
    """Ask about users by raw id; ids come in the type of the data where all of them have it, so that answers join with it."""
    ids, every, rest = model.users_.ids, True, iter(names)
    chunks: list[pa.Array] = []
    while block := list(islice(rest, PIECE)):
        chunks.append(pa.array(block, pa.string()))
        every = every and (ids.is_text or all(_is_int64(ids.coerce(name)) for name in block))
    start = 0
    for chunk in chunks:
        users = chunk if ids.is_text or not every else pa.array([ids.coerce(name) for name in chunk.to_pylist()], pa.int64())
        yield _piece(start, {"user": users})
        start += len(users)


def of_history(
    items: Sequence[str],
    name: str = "(history)",
    context: Mapping[str, Any] | None = None,
    ties: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Ask about one person who is known by a list of raw item ids, oldest first, and maybe by context that a policy reads, or
    by ids of people whom they are tied to.
    """
    told = {column: pa.array([value]) for column, value in (context or {}).items()}
    if ties is not None:
        told["ties"] = pa.array([list(ties)], pa.list_(pa.string()))
    yield _piece(0, {**told, "user": pa.array([name]), "items": pa.array([list(items)], pa.list_(pa.string()))})


def of_split(model: Recommender, split: Split) -> Iterator[pa.Table]:
    """Ask the test questions of a split; the answers stay closed."""
    users, histories = split.people("test")
    numbering = Renumbered(model, split.train)
    for start in range(0, len(users), PIECE):
        some = users[start : start + PIECE]
        requests = numbering.requests(Requests(some, histories.slice(start, start + PIECE)))
        offsets = pa.array(requests.histories.offsets, pa.int32())
        columns = {"items": requests.histories.items, **{name: getattr(requests.histories, name) for name in LISTS}}
        lists = {n: pa.ListArray.from_arrays(offsets, pa.array(c)) for n, c in columns.items() if c is not None}
        people = split.train.users.ids.decode(some)
        yield _piece(start, {"user": people, "number": pa.array(requests.users), **lists})


def of_parquet(path: Path) -> Iterator[pa.Table]:
    """Ask about everybody in a Parquet file, or a folder of them, of histories or events.

    Raises
    ------
    DataError
        If there is none, one can't be read, or has other columns.
    """
    files = sorted(f for f in path.rglob("*.parquet") if not f.name.startswith((".", "_"))) if path.is_dir() else [path]
    if not files:
        raise DataError("the folder holds no Parquet files.", where=path, remedy=REMEDY)
    facts = [_facts(file) for file in files]
    schema = facts[0].schema.to_arrow_schema()
    for file, found in zip(files, facts, strict=True):
        if found.schema.to_arrow_schema().names != schema.names:
            raise DataError("files of one folder have different columns.", where=file, remedy="give each kind its own folder")
    count = sum(found.num_rows for found in facts)
    if count == 0:
        raise DataError("nobody is in it.", where=path, remedy=REMEDY)
    if {"user", "items"} <= set(schema.names) and _is_list(schema.field("items").type):
        return _row_groups(files, facts)
    if {"user", "item"} <= set(schema.names):
        return _of_events(files, "time" in schema.names, count)
    raise DataError("these are neither histories nor events.", where=files[0], value=schema.names, remedy=REMEDY)


def people_in(piece: pa.Table) -> int:
    """Return how many questions a piece holds."""
    return int(piece["people"][0].as_py()) if "group" in piece.column_names else int(piece.num_rows)


def first_of(piece: pa.Table) -> int:
    """Return the number of the first question of a piece."""
    return int(piece["row"][0].as_py())


def asked(piece: pa.Table, model: Recommender | Policy, *, include_seen: bool = False) -> Iterator[Asked]:
    """Open a piece: return its questions in blocks.

    Parameters
    ----------
    piece
        From one of the functions above.
    model
        A fitted recommender: people whom it knows are asked about under their number, whichever history is given. Or a fitted
        policy, which knows people by their histories alone.
    include_seen
        Whether items of the history may be offered.

    Raises
    ------
    DataError
        If a policy gets no histories, or lacks context that it needs; or the Parquet file of a piece can't be used.
    """
    start = first_of(piece)
    parts = _read_group(piece, context=isinstance(model, Policy)) if "group" in piece.column_names else _blocks(piece)
    for part in parts:
        people = _whole(part["user"])
        if "items" not in part.column_names:
            if isinstance(model, Policy):
                raise DataError("a policy is asked by histories.", where="user", remedy="give histories of items")
            requests = model.requests(people.to_pylist(), include_seen=include_seen)
        else:
            users, histories = _numbered(part) if "number" in part.column_names else _encoded(part, people, model)
            exclude = None if include_seen else histories.ragged
            texts, ties = _texts(part, model), _ties(part, model)
            requests = Requests(users, histories, exclude, texts=texts, context=_context(part, model), ties=ties)
        yield Asked(start, people, requests)
        start += len(people)


def _texts(part: pa.Table, model: Recommender | Policy) -> list[str] | None:
    """Return what each person says, where it is given and the model reads it."""
    if isinstance(model, Policy) or not model.reads_words or "text" not in part.column_names:
        return None
    column = _whole(part["text"])
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError("what people say is text.", where="column text", value=str(column.type), remedy="give strings")
    found: list[str] = column.fill_null("").to_pylist()
    return found


def _ties(part: pa.Table, model: Recommender | Policy) -> Ragged | None:
    """Return whom each person is tied to, where it is given and the model reads it; strangers to the model are left out."""
    if isinstance(model, Policy) or not model.reads_ties or "ties" not in part.column_names:
        return None
    column = _whole(part["ties"])
    if not _is_list(column.type):
        raise DataError("ties are lists of people's ids.", where="column ties", value=str(column.type), remedy="give lists")
    return model.ties_of([row or [] for row in column.to_pylist()])


def _context(part: pa.Table, model: Recommender | Policy) -> pa.Table | None:
    """Return what a policy is told beside histories: every column that is not of a history."""
    if not isinstance(model, Policy):
        return None
    told = [name for name in part.column_names if name not in ("row", "user", "number", "items", *LISTS)]
    missing = [name for name in model.context_columns if name not in told]
    if missing:
        remedy = "give a value for each: --context NAME=VALUE, or columns of the file of histories"
        raise DataError("this policy needs context that isn't given.", where="context", value=missing, remedy=remedy)
    return part.select(told) if told else None


def _piece(start: int, columns: dict[str, pa.Array]) -> pa.Table:
    table = pa.table(columns)
    return table.append_column("row", pa.array(np.arange(start, start + table.num_rows)))


def _blocks(piece: pa.Table) -> Iterator[pa.Table]:
    return (piece.slice(start, BLOCK) for start in range(0, piece.num_rows, BLOCK))


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _facts(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("this can't be read as Parquet.", where=file, value=str(error)[:80], remedy=REMEDY) from None


def _row_groups(files: Sequence[Path], facts: Sequence[pq.FileMetaData]) -> Iterator[pa.Table]:
    start = 0
    for file, found in zip(files, facts, strict=True):
        for group in range(found.num_row_groups):
            people = found.row_group(group).num_rows
            if people:
                yield pa.table({"row": [start], "path": [str(file.resolve())], "group": [group], "people": [people]})
            start += people


def _read_group(piece: pa.Table, *, context: bool) -> Iterator[pa.Table]:
    path, group = Path(piece["path"][0].as_py()), piece["group"][0].as_py()
    if not path.is_file():
        remedy = "put the histories into a folder that all nodes see under the same name"
        raise DataError("the file of histories is not here.", where=path, remedy=remedy)
    with pq.ParquetFile(path) as found:
        columns = [name for name in found.schema_arrow.names if context or name in ("user", "items", *LISTS, *SAID)]
        for batch in found.iter_batches(BLOCK, row_groups=[group], columns=columns):
            table = pa.Table.from_batches([batch])
            if table["user"].null_count:
                raise DataError("a history has no user.", where=path, remedy="leave such rows out, or give them a name")
            yield table


def _of_events(files: Sequence[Path], timed: bool, count: int) -> Iterator[pa.Table]:
    """Gather events into histories, a share of the people (by a hash) at a time, so that one share is all that memory holds."""
    columns, shares, start = ["item", *(["time"] if timed else [])], -(-count // EVENTS), 0
    events = pl.scan_parquet(list(files)).select("user", *columns).drop_nulls(["user", "item"])
    for share in range(shares):
        mine = events.filter(pl.col("user").hash(seed=0) % shares == share)
        mine = mine.sort("time", maintain_order=True) if timed else mine
        people = mine.group_by("user", maintain_order=True).agg(columns).collect()
        table = people.rename({name: f"{name}s" for name in columns}).to_arrow()
        for at in range(0, table.num_rows, PIECE):
            some = table.slice(at, PIECE)
            yield _piece(start, {name: _whole(some[name]) for name in some.column_names})
            start += some.num_rows


def _numbered(part: pa.Table) -> tuple[np.ndarray, Histories]:
    offsets, columns = _lists(part)
    return part["number"].to_numpy(), Histories(offsets, columns.pop("items").to_numpy(), **_arrays(columns))


def _encoded(part: pa.Table, people: pa.Array, model: Recommender | Policy) -> tuple[np.ndarray, Histories]:
    """Turn raw ids into the model's numbers; items that it doesn't know are left out."""
    offsets, columns = _lists(part)
    words = _whole(pa.chunked_array([columns.pop("items")])).dictionary_encode()
    numbers = np.append(model.items_.ids.encode(words.dictionary.to_pylist()), np.int32(-1))
    own = words.indices.fill_null(len(words.dictionary)).to_numpy()
    known = None if isinstance(model, Policy) else model.users_.ids
    users = np.full(len(people), -1, np.int32) if known is None else known.encode(people.to_pylist())
    return users, in_numbers(Histories(offsets, own, **_arrays(columns)), numbers)


def _lists(part: pa.Table) -> tuple[np.ndarray, dict[str, pa.Array]]:
    """Return the offsets that all lists share, and their flat values by name."""
    lists = {name: _whole(part[name]) for name in ("items", *LISTS) if name in part.column_names}
    lengths = {name: pc.list_value_length(c).fill_null(0).to_numpy() for name, c in lists.items()}
    for name, found in lengths.items():
        wrong = np.flatnonzero(found != lengths["items"])
        if len(wrong):
            who, value = part["user"][int(wrong[0])].as_py(), (int(found[wrong[0]]), int(lengths["items"][wrong[0]]))
            raise DataError(f"lists of items and {name} differ in length.", where=f"user {who}", value=value)
    return offsets_of(lengths["items"]), {name: c.flatten() for name, c in lists.items()}


def _arrays(columns: dict[str, pa.Array]) -> dict[str, np.ndarray]:
    found = {}
    for name, column in columns.items():
        column = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        if column.null_count:
            raise DataError(f"a value is missing in the lists of {name}.", remedy="fill it, or leave the whole column out")
        found[name] = column.to_numpy(zero_copy_only=False).astype(LISTS[name], copy=False)
    return found
