"""Folders of research data with forms of their own: Coat, HetRec's Last.fm, and Yelp of the heterogeneous-network studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.readers.delimited import DelimitedSource, read_lines
from palate.data.readers.entities import with_id
from palate.data.readers.movielens import find
from palate.data.readers.parts import Options, Parts, RawGraph
from palate.data.readers.source import ArrowSource
from palate.errors import DataError


def read_coat(folder: Path, options: Options) -> Parts:
    """Read Coat: ``train.ascii`` (self-selected) and ``test.ascii`` (random items) as parts, or one of the files.

    Ids are numbers from 0. Binary features become one text column a group, such as ``gender``; the learned propensities stay
    in their file.
    """
    single = [folder] if folder.is_file() else []
    folder = folder.parent if single else folder
    names = [] if single else [n for n in ("train", "test") if find(folder, f"{n}.ascii")]
    sources = []
    for path in single or [_file(folder, f"{name}.ascii") for name in names]:
        matrix = read_matrix(path)
        user, item = np.nonzero(matrix)
        table = pa.table({"user": user.astype(np.int64), "item": item.astype(np.int64), "value": matrix[user, item]})
        sources.append(ArrowSource(table, str(path)))
    return Parts(
        sources,
        names=names,
        users=_features(folder, "user"),
        items=_features(folder, "item"),
        name=folder.name,
        notes={"order": "unknown"},
    )


def read_matrix(path: Path) -> np.ndarray:
    """Read a text file of numbers as ``float32[rows, columns]``.

    Raises
    ------
    DataError
        If a line holds text, or fewer or more numbers than the first.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            cells = [float(cell) for cell in line.split()]
        except ValueError as error:
            raise DataError(
                "a cell is not a number.", where=f"{path}, line {number}", value=str(error), remedy="correct it"
            ) from error
        if not cells:
            continue
        if rows and len(cells) != len(rows[0]):
            what = f"ragged line: {len(cells)} numbers where {len(rows[0])} are expected."
            raise DataError(what, where=f"{path}, line {number}", value=line, remedy="correct it or fetch the file again")
        rows.append(cells)
    if not rows:
        raise DataError("the file is empty.", where=path, remedy="fetch it again")
    return np.array(rows, np.float32)


def _features(folder: Path, kind: str) -> pa.Table | None:
    path, names = find(folder, f"{kind}_features.ascii"), find(folder, f"{kind}_features_map.txt")
    if path is None or names is None:
        return None
    matrix = read_matrix(path)
    words = [line.strip() for line in read_lines(names) if line.strip()]
    columns: dict[str, list[str | None]] = {}
    for at, word in enumerate(words[: matrix.shape[1]]):
        group, _, level = word.partition(":")
        column = columns.setdefault(group, [None] * len(matrix))
        for row in np.flatnonzero(matrix[:, at]):
            column[row] = level
    return pa.table({"id": np.arange(len(matrix), dtype=np.int64), **columns})


def read_hetrec_lastfm(folder: Path, options: Options) -> Parts:
    """Read HetRec 2011 Last.fm: play counts, artists' names and tags, friends; a knowledge graph where its files are there."""
    events = _tabbed(_file(folder, "user_artists.dat"))
    items = None
    if path := find(folder, "artists.dat"):
        items = with_id(_tabbed(path).table(), "id", path, {"pictureURL": "picture_url"})
        items = _with_tags(items, folder)
    graphs = knowledge_files(folder)
    if path := find(folder, "user_friends.dat"):
        table = _tabbed(path).table()
        graphs["social"] = RawGraph(table.column(0), table.column(1), "user", "user")
    roles = {"user": "userID", "item": "artistID", "value": "weight"}
    return Parts([events], items=items, graphs=graphs, columns=roles, name=folder.name, notes={"order": "unknown"})


def knowledge_files(folder: Path) -> dict[str, RawGraph]:
    """Read ``kg_kg.txt`` and ``kg_item_index2entity_id.txt`` where they are there: triples, and the entity of each item."""
    triples, links = find(folder, "kg_kg.txt"), find(folder, "kg_item_index2entity_id.txt")
    if triples is None or links is None:
        return {}
    table = DelimitedSource(triples, separator="\t", names=["head", "relation", "tail"]).table()
    pairs = DelimitedSource(links, separator="\t", names=["item", "entity"]).table()
    pair = (pairs.column(0), pairs.column(1))
    return {"knowledge": RawGraph(table.column(0), table.column(2), "entity", "entity", table.column(1), pair)}


def read_hin_yelp(folder: Path, options: Options) -> Parts:
    """Read Yelp of the heterogeneous-network studies: stars, friends, compliments, categories and cities of businesses."""
    roles = {"user": "0", "item": "1", "value": "2"}
    items = _grouped(folder, "business_category.dat", "categories")
    city = _grouped(folder, "business_city.dat", "city")
    if items is not None and city is not None:
        from palate.data.readers.movielens import join

        items = join(items, city)
    graphs = {}
    for title, name in (("social", "user_user.dat"), ("compliments", "user_compliment.dat")):
        if (path := find(folder, name)) is not None:
            table = _plain(path).table()
            graphs[title] = RawGraph(table.column(0), table.column(1), "user", "user")
    return Parts(
        [_plain(_file(folder, "user_business.dat"))],
        items=items,
        graphs=graphs,
        columns=roles,
        name=folder.name,
        notes={"order": "unknown"},
    )


def _file(folder: Path, name: str) -> Path:
    path = find(folder, name)
    if path is None:
        raise DataError("a file of this folder is missing.", where=folder, value=name, remedy="fetch the data set again")
    return path


def _tabbed(path: Path) -> DelimitedSource:
    return DelimitedSource(path, separator="\t", quoted=False)


def _plain(path: Path) -> DelimitedSource:
    return DelimitedSource(path, separator="\t", names=["0", "1", "2"], quoted=False)


def _grouped(folder: Path, name: str, column: str) -> pa.Table | None:
    path = find(folder, name)
    if path is None:
        return None
    table = _plain(path).table().rename_columns(["id", column, "weight"]).select(["id", column])
    return _lists(table, column)


def _lists(table: pa.Table, column: str) -> pa.Table:
    grouped = table.group_by("id", use_threads=False).aggregate([(column, "distinct")])
    return pa.table({"id": grouped.column("id"), column: grouped.column(f"{column}_distinct")})


def _with_tags(items: pa.Table, folder: Path) -> pa.Table:
    used, names = find(folder, "user_taggedartists.dat"), find(folder, "tags.dat")
    if used is None or names is None:
        return items
    from palate.data.readers.movielens import join

    words = _tabbed(names)
    words.encoding = "utf-8"
    tags = words.table()
    table = _tabbed(used).table()
    place = pc.index_in(table.column("tagID").combine_chunks(), value_set=tags.column("tagID").combine_chunks())
    text = tags.column("tagValue").take(place)
    return join(items, _lists(pa.table({"id": table.column("artistID"), "tags": text}), "tags"))
