"""One table of interactions, with tables of items, users, ties and triples beside it where they are found by name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from palate.data.readers.delimited import DelimitedSource, first_line, looks_like_header, sniff
from palate.data.readers.entities import list_column, numbers_where_possible, with_id
from palate.data.readers.jsonlines import JsonLinesSource
from palate.data.readers.movielens import items_1m, users_1m
from palate.data.readers.parts import Options, Parts, RawGraph, base_name
from palate.data.readers.research import knowledge_files
from palate.data.readers.roles import NAMES, plain, resolve
from palate.data.readers.source import ParquetSource, Source, open_arrow
from palate.errors import DataError

#: Endings of files that hold a table.
ENDINGS = (
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".dat",
    ".jsonl",
    ".ndjson",
    ".json",
    ".parquet",
    ".pq",
    ".arrow",
    ".feather",
    ".ipc",
)

#: Names of tables by what they hold, likeliest first.
EVENTS = ("interactions", "interaction", "ratings", "events", "reviews", "purchases", "clicks", "transactions", "plays")
PARTS = ("train", "valid", "test")
ITEMS = ("items", "item_meta", "item", "books", "movies", "products", "articles", "artists", "songs", "metadata", "businesses")
USERS = ("users", "user", "customers", "people", "members")
TIES = ("trust", "social", "friends", "user_friends", "follows")
TRIPLES = ("kg", "knowledge", "triples")
ENTITIES = ("item_entities", "item_entity", "kg_links")
SEARCHES = ("searches", "search_log")

#: Attribute columns that are better known by another name.
BETTER_NAMES = {
    "genres": "categories",
    "genre": "categories",
    "category": "categories",
    "description": "text",
    "overview": "text",
}


def open_table(path: Path, options: Options, *, kind: str | None = None) -> Source:
    """Open a file as a table by its ending, or by the format named."""
    stem = path.name.removesuffix(".gz").lower()
    kind = kind or options.format or stem.rsplit(".", 1)[-1]
    encoding = options.encoding or "utf-8"
    if kind in ("parquet", "pq"):
        return ParquetSource(path)
    if kind in ("arrow", "feather", "ipc"):
        return open_arrow(path)
    if kind in ("jsonl", "ndjson", "json"):
        return JsonLinesSource(path, encoding=encoding)
    separator = options.separator or {"tsv": "\t", "tab": "\t"}.get(kind)
    line = first_line(path, encoding)
    separator = separator or sniff(line, path)
    cells = line.split(separator)
    header = looks_like_header(cells) if options.header is None else options.header
    names = None if header else [str(at) for at in range(len(cells))]
    return DelimitedSource(path, separator=separator, names=names, encoding=encoding, quoted=options.quoted)


def read_table(path: Path, options: Options) -> Parts:
    """Read one file of interactions."""
    source = open_table(path, options)
    amazon = {"reviewerID", "asin"} <= set(source.columns) or {"user_id", "parent_asin"} <= set(source.columns)
    return Parts([source], name=base_name(path), ids={"user": "text", "item": "text"} if amazon else {})


def read_folder(folder: Path, options: Options) -> Parts:
    """Read a folder of plain tables by their names.

    Interactions are :data:`EVENTS`, the parts of a split, or shards; beside them may stand :data:`ITEMS`, :data:`USERS`,
    :data:`TIES` (user, friend) and :data:`TRIPLES` (head, relation, tail). Items are the entities of the triples that have
    their ids, or those that a table of :data:`ENTITIES` (item, entity) names. A table of :data:`SEARCHES` is read once the data
    set is there (:func:`palate.data.readers.logs.read_searches`).
    """
    plain_options = Options(encoding=options.encoding)
    sources, names = _events(folder, options)
    source = sources[0]
    roles = resolve(source.columns, options.columns, source.where)
    items, users = (_attributes(folder, known, role, plain_options) for known, role in ((ITEMS, "item"), (USERS, "user")))
    graphs = _ties(folder, plain_options) | _triples(folder, plain_options)
    return Parts(sources, names=names, items=items, users=users, graphs=graphs, columns=roles, name=folder.name)


def with_neighbours(parts: Parts, folder: Path) -> Parts:
    """Add what lies beside a file of sequences: items, users, MovieLens tables, a knowledge graph."""
    from dataclasses import replace

    options = Options()
    items = items_1m(folder) or _attributes(folder, ("items", "item"), "item", options)
    users = users_1m(folder) or _attributes(folder, ("users", "user", "user_profiles"), "user", options)
    return replace(parts, items=items, users=users, graphs=knowledge_files(folder), name=folder.name)


def tables_of(folder: Path) -> list[Path]:
    """Return the files of a folder that look like tables."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.removesuffix(".gz").lower().endswith(ENDINGS))


def searches_of(folder: Path) -> Path | None:
    """Return the table of searches of a folder, if there is one."""
    return _named(folder, SEARCHES)


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    by_name = {base_name(p).lower(): p for p in reversed(tables_of(folder))}
    return next((by_name[name] for name in names if name in by_name), None)


def _events(folder: Path, options: Options) -> tuple[list[Source], list[str]]:
    """Return the tables of interactions: one by its name, the parts of a split, or shards of one form in order of name."""
    path = _named(folder, EVENTS)
    if path is not None:
        return [open_table(path, options)], []
    parts = {name: found for name in PARTS if (found := _named(folder, (name,))) is not None}
    if "train" in parts:
        return [open_table(p, options) for p in parts.values()], list(parts) if len(parts) > 1 else []
    return _fitting(folder, options), []


def _fitting(folder: Path, options: Options) -> list[Source]:
    fitting, searched = [], searches_of(folder)
    for path in tables_of(folder):
        if path == searched:
            continue
        try:
            source = open_table(path, options)
            resolve(source.columns, options.columns, path)
        except DataError:
            continue
        fitting.append(source)
    if fitting and len({tuple(s.columns) for s in fitting}) == 1:
        return fitting
    files = [p.name for p in sorted(folder.iterdir())][:20]
    what = (
        "no file of the folder looks like interactions."
        if not fitting
        else "several files of the folder look like interactions."
    )
    remedy = "give the file by its path, or name its columns with columns= (--column user=NAME)"
    raise DataError(what, where=folder, value=[s.where for s in fitting] or files, remedy=remedy)


def _attributes(folder: Path, names: tuple[str, ...], role: str, options: Options) -> pa.Table | None:
    path = _named(folder, names)
    if path is None:
        return None
    table = open_table(path, options).table()
    words = {word for group in NAMES[role] for word in group.split()}
    keys = [c for c in table.column_names if plain(c) in words and plain(c) != "title"]
    key = keys[0] if keys else next((c for c in table.column_names if plain(c) == "id"), None)
    if key is None:
        return None
    table = table.rename_columns([c.split(":")[0] for c in table.column_names])
    better = {old: new for old, new in BETTER_NAMES.items() if old in table.column_names and new not in table.column_names}
    chosen: dict[str, str] = {}
    for old, new in better.items():
        if new not in chosen.values():
            chosen[old] = new
    return _lists(numbers_where_possible(with_id(table, key.split(":")[0], path, chosen)))


def _lists(table: pa.Table) -> pa.Table:
    for at, name in enumerate(table.column_names):
        column = table.column(name)
        if not pa.types.is_string(column.type) or name == "id":
            continue
        separator = _list_separator(name, column)
        if separator is not None:
            table = table.set_column(at, name, list_column(column, separator))
    return table


def _list_separator(name: str, column: pa.ChunkedArray) -> str | None:
    if name not in ("categories", "attribute_ids", "tags"):
        return None
    return "|" if pc.any(pc.match_substring(column, "|")).as_py() else ","


def _ties(folder: Path, options: Options) -> dict[str, RawGraph]:
    path = _named(folder, TIES)
    if path is None:
        return {}
    table = _wide(path, options, ("user", "friend"))
    return {"social": RawGraph(table.column(0), table.column(1), "user", "user")}


def _triples(folder: Path, options: Options) -> dict[str, RawGraph]:
    path = _named(folder, TRIPLES)
    if path is None:
        return {}
    table = _wide(path, options, ("head", "relation", "tail"))
    head, relation, tail = (table.column(at) for at in range(3))
    beside = _named(folder, ENTITIES)
    if beside is None:
        same = pa.chunked_array([*head.chunks, *tail.cast(head.type).chunks]).unique()
        links = (pa.chunked_array([same]), pa.chunked_array([same]))
    else:
        pairs = _wide(beside, options, ("item", "entity"))
        links = (pairs.column(0), pairs.column(1))
    return {"knowledge": RawGraph(head, tail, "entity", "entity", relation, links)}


def _wide(path: Path, options: Options, columns: tuple[str, ...]) -> pa.Table:
    """Read a table whose first columns are the ones told, whatever they are called."""
    table = open_table(path, options).table()
    if table.num_columns < len(columns):
        what = "this table lacks columns."
        raise DataError(what, where=path, value=table.column_names, remedy=f"its columns are, in order: {', '.join(columns)}")
    return table
