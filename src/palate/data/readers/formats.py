"""The table of formats, and how a path tells its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from palate.data.readers.amazon import read_amazon, review_roles
from palate.data.readers.jsonlines import JsonLinesSource
from palate.data.readers.merrec import looks_like, read_merrec
from palate.data.readers.movielens import find, read_movielens
from palate.data.readers.own import MANIFEST, read_split_folder
from palate.data.readers.parts import Options, Parts
from palate.data.readers.recbole import read_recbole
from palate.data.readers.research import read_coat, read_hetrec_lastfm, read_hin_yelp
from palate.data.readers.sequences import read_lightgcn, read_sequences
from palate.data.readers.tables import read_folder, read_table, with_neighbours
from palate.errors import DataError

#: Anything that finds the parts of a path.
Reader = Callable[[Path, Options], Parts]


def _own(path: Path, options: Options) -> Parts:
    raise DataError("not a folder of interactions.", where=path, remedy="read it without format=")


def _sequences(path: Path, options: Options) -> Parts:
    if path.is_file():
        return read_sequences(path, options)
    file = find(path, "sequences.txt")
    if file is None:
        raise DataError("there is no sequences.txt.", where=path, remedy="give the file by its path")
    return with_neighbours(read_sequences(file, options), path)


#: Reader of each format.
FORMATS: Mapping[str, Reader] = MappingProxyType(
    {
        "csv": read_table,
        "tsv": read_table,
        "jsonl": read_table,
        "parquet": read_table,
        "arrow": read_table,
        "folder": read_folder,
        "recbole": read_recbole,
        "movielens": read_movielens,
        "amazon": read_amazon,
        "sequences": _sequences,
        "lightgcn": read_lightgcn,
        "coat": read_coat,
        "lastfm": read_hetrec_lastfm,
        "hin-yelp": read_hin_yelp,
        "merrec": read_merrec,
        "palate": _own,
        "split": read_split_folder,
    }
)

#: Files whose presence tells a folder's format, in order of precedence.
SIGNS = (
    (MANIFEST, "palate"),
    ("split.json", "split"),
    ("u.data", "movielens"),
    ("ratings.dat", "movielens"),
    ("sequences.txt", "sequences"),
    ("user_artists.dat", "lastfm"),
    ("user_business.dat", "hin-yelp"),
    ("train.ascii", "coat"),
)


def detect(path: Path, options: Options) -> str:
    """Return the format of a path.

    Raises
    ------
    DataError
        If a file's form can't be told.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_folder(folder: Path) -> str:
    if not any(folder.iterdir()):
        raise DataError("the folder is empty.", where=folder, remedy="give a folder with data")
    for sign, kind in SIGNS:
        if find(folder, sign):
            return kind
    if any(p.name.removesuffix(".gz").endswith(".inter") for p in folder.iterdir()):
        return "recbole"
    if find(folder, "ratings.csv") and find(folder, "movies.csv"):
        return "movielens"
    if find(folder, "train.txt") and find(folder, "test.txt"):
        return "lightgcn"
    if looks_like(folder):
        return "merrec"
    files = sorted(p for p in folder.iterdir() if p.name.removesuffix(".gz").endswith((".jsonl", ".json")))
    reviews = [p for p in files if "meta" not in p.name.lower()]
    if len(reviews) == 1 and review_roles(JsonLinesSource(reviews[0]).columns):
        return "amazon"
    return "folder"


def _of_file(path: Path) -> str:
    name = path.name.removesuffix(".gz").lower()
    with open(path, "rb") as stream:
        head = stream.read(8)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1" or name.endswith((".arrow", ".feather", ".ipc")):
        return "arrow"
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    if name.endswith(".inter"):
        return "recbole"
    if name in ("sequences.txt", "train.txt", "test.txt"):
        return "sequences"
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "amazon" if review_roles(JsonLinesSource(path).columns) else "jsonl"
    return "tsv" if name.endswith((".tsv", ".tab")) else "csv"
