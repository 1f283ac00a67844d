"""Palate's own folders: data sets written as Parquet, and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.readers.bad_rows import BadRows
from palate.data.readers.entities import with_id
from palate.data.readers.growing import Growing
from palate.data.readers.parts import Options, Parts
from palate.data.readers.source import ParquetSource
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError

#: Description of a data set folder.
MANIFEST = "dataset.json"

#: Version of the folder's form.
SCHEMA = 1

REMEDY = "write the folder again with palate data convert"


def read_own(folder: Path) -> Dataset:
    """Read a folder written by :func:`palate.data.writers.write_parquet`; everything comes back as it was.

    Raises
    ------
    DataError
        If a file is missing or damaged, or numbers do not fit the vocabularies.
    """
    manifest = _manifest(folder)
    try:
        return _read(folder, manifest)
    except (KeyError, TypeError, AttributeError, ValueError, pa.ArrowException) as error:
        what = "the folder does not fit its description."
        raise DataError(what, where=folder / MANIFEST, value=f"{type(error).__name__}: {error}", remedy=REMEDY) from error


def _read(folder: Path, manifest: dict[str, Any]) -> Dataset:
    users, items = _entities(folder, "users"), _entities(folder, "items")
    words = {kind: _words(folder, kind) if manifest["words"].get(kind) else None for kind in ("actions", "sessions")}
    tables = {
        kind: _table(folder, f"{kind}.parquet") if kind in manifest["tables"] else None
        for kind in ("searches", "impressions", "dialogues")
    }
    return Dataset(
        _events(folder, users, items, words),
        users,
        items,
        graphs={name: _graph(folder, at, manifest["graphs"][name]) for at, name in enumerate(manifest["graphs"])},
        actions=words["actions"],
        sessions=words["sessions"],
        name=manifest["name"],
        spec=tuple(manifest["spec"]),
        **tables,
    )


def read_split_folder(folder: Path, options: Options) -> Parts:
    """Read all parts of a split folder as one data set (to read it as a split: ``palate.data.split_files.read_split``)."""
    names = [n for n in ("train", "valid_context", "valid", "test_context", "test") if (folder / f"{n}.parquet").is_file()]
    if not names:
        raise DataError("the split has no parts.", where=folder, remedy="make it again with palate split")
    sources = [ParquetSource(folder / f"{name}.parquet") for name in names]
    users, items = (_attributes(folder / f"{kind}.parquet") for kind in ("users", "items"))
    return Parts(sources, names=names, users=users, items=items, name=folder.name, keep_unseen=True)


def _attributes(path: Path) -> pa.Table | None:
    if not path.is_file():
        return None
    table = _table(path.parent, path.name)
    return with_id(table, table.column_names[0], path)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            "the description of the folder is damaged.", where=folder / MANIFEST, value=str(error), remedy=REMEDY
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        version = manifest.get("schema") if isinstance(manifest, dict) else manifest
        raise DataError("the folder has another schema.", where=folder / MANIFEST, value=version, remedy=REMEDY)
    return manifest


def _table(folder: Path, name: str) -> pa.Table:
    path = folder / name
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        what = "a file of the folder is missing or damaged."
        raise DataError(what, where=path, value=str(error).splitlines()[0], remedy=REMEDY) from error


def _entities(folder: Path, kind: str) -> Entities:
    table = _table(folder, f"{kind}.parquet")
    rest = table.drop_columns(["id"])
    return Entities(Vocabulary(_array(table, "id")), rest if rest.num_columns else None)


def _words(folder: Path, kind: str) -> Vocabulary:
    return Vocabulary(_array(_table(folder, f"{kind}.parquet"), "id"))


def _events(folder: Path, users: Entities, items: Entities, words: dict[str, Vocabulary | None]) -> Interactions:
    path = folder / "interactions.parquet"
    source = ParquetSource(path)
    vocabularies = {"user": users.ids, "item": items.ids, "action": words["actions"], "session": words["sessions"]}
    columns = {name: _column(source, name, vocabularies.get(name)) for name in source.columns}
    for column in columns.values():
        column.flags.writeable = False
    return Interactions(**columns)


def _column(source: ParquetSource, name: str, vocabulary: Vocabulary | None) -> np.ndarray:
    """Read one column; raw ids become numbers batch by batch."""
    dtype: Any = np.int32 if vocabulary is not None else {"time": np.int64, "value": np.float32}.get(name, np.int32)
    column = Growing(dtype, source.n_rows)
    for batch in source.batches([name], BadRows("error", source.locate)):
        array = batch.column(0)
        if vocabulary is not None:
            numbers = vocabulary.encode(array)
            if (numbers < 0).any():
                at = int(np.flatnonzero(numbers < 0)[0])
                what = f"an id of column {name!r} is not in its vocabulary."
                raise DataError(what, where=source.locate(len(column) + at), value=array[at].as_py(), remedy=REMEDY)
            column.extend(numbers)
        else:
            column.extend(np.asarray(array))
    return column.array()


def _graph(folder: Path, at: int, facts: dict[str, Any]) -> Graph:
    links = _table(folder, f"graph-{at}.parquet")
    ids = {kind: Vocabulary(_array(_table(folder, f"graph-{at}-{kind}.parquet"), "id")) for kind in facts["vocabularies"]}
    item_entity = _numbers(_table(folder, f"graph-{at}-item_entity.parquet"), "entity") if facts["item_entity"] else None
    weight = _numbers(links, "weight") if "weight" in links.column_names else None
    head, relation, tail = (_numbers(links, name) for name in ("head", "relation", "tail"))
    return Graph(
        head, relation, tail, facts["heads"], facts["tails"], ids["relations"], ids.get("entities"), item_entity, weight
    )


def _array(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name)
    array = column.to_numpy()
    array.flags.writeable = False
    return array
