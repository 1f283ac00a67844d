"""RecBole atomic files: ``.inter``, ``.user``, ``.item``, ``.kg``, ``.link`` and ``.net`` with typed headers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from palate.data.readers.delimited import DelimitedSource, first_line
from palate.data.readers.entities import list_column, with_id
from palate.data.readers.parts import Options, Parts, RawGraph, base_name
from palate.data.readers.roles import resolve
from palate.data.readers.source import Source
from palate.errors import DataError

#: Endings of parts that RecBole calls benchmark files.
PART_NAMES = ("train", "valid", "test")

#: File beside the atomic files that records what they can't say (types of ids, numbering); written by Palate.
SIDE_FILE = "palate.json"

#: Attribute columns that are better known by another name.
BETTER_NAMES = {"movie_title": "title", "class": "categories", "genre": "categories", "genres": "categories"}


class AtomicSource(DelimitedSource):
    """An atomic file; its columns are renamed without their types."""

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        header = first_line(path, encoding).split("\t")
        self.kinds = dict(_typed(cell, path) for cell in header)
        super().__init__(path, separator="\t", names=[_typed(c, path)[0] for c in header], encoding=encoding, quoted=False)
        self.header = True


def read_recbole(folder: Path, options: Options) -> Parts:
    """Read a folder of atomic files (or one ``.inter`` file and what lies beside it).

    Sequence features (``token_seq``, ``float_seq``) become lists; items' links to entities go into the ``knowledge`` graph,
    ties of ``.net`` into the ``social`` graph. Benchmark files (``x.train.inter`` …) are read as parts.
    """
    encoding = options.encoding or "utf-8"
    inter = [folder] if folder.is_file() else _of_kind(folder, "inter")
    if not inter:
        raise DataError("there is no .inter file.", where=folder, remedy="give a folder of RecBole atomic files")
    home = folder.parent if folder.is_file() else folder
    sources = [AtomicSource(path, encoding) for path in _in_order(inter, home)]
    roles = resolve(sources[0].columns, options.columns, sources[0].where)
    side = _side(home)
    users = _attributes(home, "user", roles["user"], encoding)
    items = _attributes(home, "item", roles["item"], encoding)
    events: Sequence[Source] = sources
    return Parts(
        events,
        names=[_part(p) for p in _in_order(inter, home)] if len(inter) > 1 else (),
        users=users,
        items=items,
        graphs=_graphs(home, encoding),
        ids=side.get("ids", {}),
        keep_unseen=bool(side),
        entity_order=bool(side),
        name=side.get("name") or base_name(inter[0]).split(".")[0],
        columns=roles,
    )


def _of_kind(folder: Path, kind: str) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.removesuffix(".gz").endswith(f".{kind}"))


def _in_order(paths: list[Path], home: Path) -> list[Path]:
    if len(paths) == 1:
        return paths
    parts = {_part(path): path for path in paths}
    if len(parts) != len(paths) or not set(parts) <= set(PART_NAMES):
        raise DataError(
            "the folder holds several .inter files.",
            where=home,
            value=[p.name for p in paths],
            remedy="give one of the files by its path",
        )
    return [parts[name] for name in PART_NAMES if name in parts]


def _part(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".inter").rsplit(".", 1)[-1]


def _typed(cell: str, path: Path) -> tuple[str, str]:
    name, _, kind = cell.strip().rpartition(":")
    if not name or kind not in ("token", "token_seq", "float", "float_seq"):
        raise DataError(
            "a header cell has no RecBole type.",
            where=f"{path}, line 1",
            value=cell,
            remedy="write headers as user_id:token, item_id:token, rating:float, timestamp:float",
        )
    return name, kind


def _side(home: Path) -> dict[str, Any]:
    path = home / SIDE_FILE
    if not path.is_file():
        return {}
    try:
        side = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = "write the folder again, or remove this file to read the others without it"
        raise DataError("the side file is damaged.", where=path, value=str(error), remedy=remedy) from error
    return side if isinstance(side, dict) and side.get("format") == "recbole" else {}


def _attributes(home: Path, kind: str, key: str, encoding: str) -> pa.Table | None:
    paths = _of_kind(home, kind)
    if not paths:
        return None
    source = AtomicSource(paths[0], encoding)
    if key not in source.columns:
        raise DataError(
            f"the .{kind} file lacks the id column.", where=paths[0], value=list(source.columns), remedy=f"add {key}:token"
        )
    table = source.table()
    columns = {name: _convert(table.column(name), source.kinds[name], paths[0], name) for name in table.column_names}
    better = {old: new for old, new in BETTER_NAMES.items() if new not in columns}
    chosen: dict[str, str] = {}
    for old, new in better.items():
        if old in columns and new not in chosen.values():
            chosen[old] = new
    return with_id(pa.table(columns), key, paths[0], chosen)


def _convert(column: pa.ChunkedArray, kind: str, path: Path, name: str) -> pa.ChunkedArray:
    if kind == "token":
        return column
    if kind == "token_seq":
        return column if "title" in name or "name" in name else list_column(column, " ")
    try:
        lists = kind == "float_seq"
        return list_column(column, " ").cast(pa.list_(pa.float32())) if lists else column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        remedy = f"mend the value, or head the column {name}:token"
        raise DataError(
            "a float column holds text.", where=f"{path}, column {name!r}", value=str(error), remedy=remedy
        ) from error


def _graphs(home: Path, encoding: str) -> dict[str, RawGraph]:
    graphs = {}
    if paths := _of_kind(home, "kg"):
        table = AtomicSource(paths[0], encoding).table()
        head, relation, tail = (table.column(at) for at in range(3))
        links = None
        if link := _of_kind(home, "link"):
            pairs = AtomicSource(link[0], encoding).table()
            links = (pairs.column(0), pairs.column(1))
        graphs["knowledge"] = RawGraph(head, tail, "entity", "entity", relation, links)
    if paths := _of_kind(home, "net"):
        source = AtomicSource(paths[0], encoding)
        table = source.table()
        named = next((n for n in source.columns[2:] if source.kinds[n] == "float"), None)
        weight = None if named is None else _convert(table.column(named), "float", paths[0], named).cast(pa.float32())
        graphs["social"] = RawGraph(table.column(0), table.column(1), "user", "user", weight=weight)
    return graphs
