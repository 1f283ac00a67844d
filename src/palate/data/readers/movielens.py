"""MovieLens folders as GroupLens ships them: 100K (``u.data``), 1M and 10M (``::``), 20M, 25M, 32M and latest (CSV)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from palate.data.readers.delimited import DelimitedSource
from palate.data.readers.entities import list_column, numbers_where_possible, with_id
from palate.data.readers.parts import Options, Parts
from palate.errors import DataError

#: Genres of ``u.item``, in the order of its columns.
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)

#: Column mapping of the CSV editions.
CSV = {"user": "userId", "item": "movieId", "value": "rating", "time": "timestamp"}

PLAIN = {"user": "user", "item": "item", "value": "value", "time": "time"}


def read_movielens(folder: Path, options: Options) -> Parts:
    """Read whichever edition lies in the folder; its old files are latin-1."""
    if path := find(folder, "u.data"):
        events = DelimitedSource(path, separator="\t", names=["user", "item", "value", "time"], encoding="latin-1")
        users, items = _users_100k(folder), _items_100k(folder)
        return Parts([events], users=users, items=items, columns=PLAIN, name=folder.name)
    if path := find(folder, "ratings.dat"):
        events = DelimitedSource(path, separator="::", names=["user", "item", "value", "time"], encoding="latin-1")
        return Parts([events], users=users_1m(folder), items=items_1m(folder), columns=PLAIN, name=folder.name)
    path = find(folder, "ratings.csv") or folder / "ratings.csv"
    return Parts([DelimitedSource(path)], items=_items_csv(folder), columns=CSV, name=folder.name)


def find(folder: Path, name: str) -> Path | None:
    """Return a file of a folder, plain or gzip, or ``None``."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def items_1m(folder: Path) -> pa.Table | None:
    """Read ``movies.dat`` (``id::title::genres``)."""
    path = find(folder, "movies.dat")
    if path is None:
        return None
    encoding = "latin-1" if _is_latin(path) else "utf-8"
    table = DelimitedSource(path, separator="::", names=["id", "title", "categories"], encoding=encoding).table()
    return table.set_column(2, "categories", list_column(table.column("categories"), "|"))


def users_1m(folder: Path) -> pa.Table | None:
    """Read ``users.dat`` (``id::gender::age::occupation::zip``)."""
    path = find(folder, "users.dat")
    if path is None:
        return None
    names = ["id", "gender", "age", "occupation", "zip_code"]
    return _typed(DelimitedSource(path, separator="::", names=names, encoding="latin-1"), "age", "occupation")


def _users_100k(folder: Path) -> pa.Table | None:
    path = find(folder, "u.user")
    if path is None:
        return None
    names = ["id", "age", "gender", "occupation", "zip_code"]
    return _typed(DelimitedSource(path, separator="|", names=names, encoding="latin-1"), "age")


def _items_100k(folder: Path) -> pa.Table | None:
    path = find(folder, "u.item")
    if path is None:
        return None
    names = ["id", "title", "release_date", "video_release_date", "url", *GENRES]
    table = DelimitedSource(path, separator="|", names=names, encoding="latin-1", quoted=False).table()
    flags = [table.column(g).to_pylist() for g in GENRES]
    genres = [[g for g, flag in zip(GENRES, row, strict=True) if flag == "1"] for row in zip(*flags, strict=True)]
    kept = table.select(["id", "title", "release_date", "url"])
    return kept.append_column("categories", pa.array(genres, pa.list_(pa.string())))


def _items_csv(folder: Path) -> pa.Table | None:
    path = find(folder, "movies.csv")
    if path is None:
        return None
    table = with_id(DelimitedSource(path).table(), "movieId", path, {"genres": "categories"})
    if "categories" in table.column_names:
        at = table.column_names.index("categories")
        text = table.column("categories")
        plain = pc.if_else(pc.equal(text, "(no genres listed)"), pa.scalar(None, pa.string()), text)
        table = table.set_column(at, "categories", list_column(plain, "|"))
    links = find(folder, "links.csv")
    if links is not None:
        other = numbers_where_possible(with_id(DelimitedSource(links).table(), "movieId", links))
        table = join(table, other)
    return table


def join(left: pa.Table, right: pa.Table) -> pa.Table:
    """Add the columns of another attribute table, by ``id`` (text); the first row of an id counts."""
    place = pc.index_in(left.column("id").combine_chunks(), value_set=right.column("id").combine_chunks())
    for name in right.column_names:
        if name != "id" and name not in left.column_names:
            left = left.append_column(name, right.column(name).take(place))
    return left


def _typed(source: DelimitedSource, *integers: str) -> pa.Table:
    table = source.table()
    for name in integers:
        column = table.column(name)
        whole = pc.match_substring_regex(column, r"^[0-9]{1,9}$").fill_null(True)
        if not pc.all(whole).as_py():
            row = pc.index(whole, False).as_py()
            what = f"the {name} is not a whole number."
            raise DataError(
                what, where=source.locate(row), value=column[row].as_py(), remedy="correct it or fetch the file again"
            )
        table = table.set_column(table.column_names.index(name), name, column.cast(pa.int32()))
    return table


def _is_latin(path: Path) -> bool:
    from palate.data.readers.delimited import open_bytes

    with open_bytes(path) as stream:
        try:
            stream.read().decode("utf-8")
        except UnicodeDecodeError:
            return True
    return False
