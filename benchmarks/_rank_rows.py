"""Rows of the benchmarks of rankers, as tables and as codes that peers read, and where FuxiCTR's models come from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _peers import HOME
from _record import data_folder

from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.data.readers.delimited import DelimitedSource
from palate.data.readers.movielens import find, users_1m
from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField
from palate.data.row_libfm import read_libfm

PARTS = ("train", "valid", "test")
FRAPPE = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
#: Columns that are labels; all others are fields, lists among them sequences of items.
LABELS = ("label", "top")
#: Films rated before that a row of MovieLens tells.
PAST = 20
FUXICTR, FUXICTR_COMMIT = "https://github.com/reczoo/FuxiCTR", "0245987"


def synth(n: int = 200_000, fields: int = 15, seed: int = 7) -> pa.Table:
    """Make rows: fields of 4 to 20,000 values, each with a weight, and products of the vectors of neighbouring fields."""
    rng = np.random.default_rng(seed)
    logit, columns, vectors = np.full(n, -1.0), dict[str, Any](), []
    for at, size in enumerate(np.geomspace(4, 20_000, fields).astype(int)):
        value = (size * rng.random(n) ** 2.2).astype(int)
        columns[f"c{at:02d}"] = pa.array(value).cast(pa.string())
        logit += rng.normal(0, 0.25, size)[value]
        vectors.append(rng.normal(0, 0.5, (size, 4))[value])
    for at in range(0, fields - 1, 2):
        logit += (vectors[at] * vectors[at + 1]).sum(1)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return pa.table({**columns, "label": label})


def frappe() -> pa.Table:
    """Read Frappe's two files, joined and shuffled."""
    files = sorted(data_folder("frappe").glob("frappe.*.libfm*"))
    table = pa.concat_tables([read_libfm(file, FRAPPE) for file in files])
    return table.take(np.random.default_rng(7).permutation(len(table)))


def movielens() -> pa.Table:
    """Read the ratings of MovieLens 1M that are here, shuffled: liked (4 and 5), top (5), and the films liked before."""
    folder = data_folder("ml-1m")
    people, file = users_1m(folder), find(folder, "ratings.dat") or find(folder, "ratings_sample.csv")
    if people is None or file is None:
        raise FileNotFoundError(f"ratings or people are missing in {folder}")
    events = DelimitedSource(file).table()
    user, item, stars, time = (
        np.array(events.column(name).to_pylist(), np.int64) for name in ("user_id", "item_id", "rating", "timestamp")
    )
    order = np.lexsort((item, time, user))
    user, item, stars, time = user[order], item[order], stars[order], time[order]
    who = {int(number): at for at, number in enumerate(people.column(people.column_names[0]).to_pylist())}
    place = pa.array([who[number] for number in user.tolist()])
    told = {name: people.column(name).take(place).cast(pa.string()) for name in ("gender", "age", "occupation")}
    table = pa.table(
        {
            "user": pa.array(user).cast(pa.string()),
            "item": pa.array(item).cast(pa.string()),
            **told,
            "hour": pa.array(time // 3600 % 24).cast(pa.string()),
            "history": pa.array(_liked_before(user, item, stars), pa.list_(pa.string())),
            "label": (stars >= 4).astype(np.float32),
            "top": (stars == 5).astype(np.float32),
        }
    )
    return table.take(np.random.default_rng(7).permutation(len(table)))


def _liked_before(user: np.ndarray, item: np.ndarray, stars: np.ndarray) -> list[list[str]]:
    """Return for each rating, in order of person and time, the films that the person liked before it."""
    found, liked, last = [], list[str](), -1
    for person, film, given in zip(user.tolist(), item.tolist(), stars.tolist(), strict=True):
        if person != last:
            liked, last = [], person
        found.append(liked[-PAST:])
        if given >= 4:
            liked.append(str(film))
    return found


SETS: dict[str, Callable[[], pa.Table]] = {"synth": synth, "frappe": frappe, "ml-1m": movielens}


@dataclass(frozen=True)
class Cut:
    """A set in three parts, as rows and as codes in a folder.

    Attributes
    ----------
    fingerprint
        Of the rows and of the codes.
    """

    name: str
    parts: Mapping[str, Rows]
    fields: tuple[RowField, ...]
    folder: Path
    fingerprint: str

    @classmethod
    def of(cls, name: str, table: pa.Table, folder: Path) -> Cut:
        """Cut a table 8:1:1 in its order, and write the codes of the encoder for the peers.

        A folder holds ``{train,valid,test}.npz`` (``codes``, ``labels``, and one array a sequence, 0 where it is shorter),
        ``sizes.json`` (codes of each field) and ``sequences.json`` (length, and the field whose codes they are).
        """
        n, labels = len(table), [column for column in table.column_names if column in LABELS]
        ends = (0, n * 8 // 10, n * 9 // 10, n)
        parts = {part: Rows.of_table(table.slice(ends[i], ends[i + 1] - ends[i]), labels) for i, part in enumerate(PARTS)}
        fields = tuple(_field(table, column) for column in table.column_names if column not in labels)
        encoder = RowEncoder.learn(fields, lambda: [parts["train"].features])
        layout = encoder.layout
        bases = np.array([layout.bases[column] for column in layout.single], np.int32)
        lengths = {column: {"length": stop - start, "of": "item"} for column, (start, stop) in layout.sequences.items()}
        (folder / "sizes.json").write_text(json.dumps({column: layout.sizes[column] for column in layout.single}))
        (folder / "sequences.json").write_text(json.dumps(lengths))
        content: list[Any] = [table, ends, layout.sizes, lengths]
        for part, rows in parts.items():
            codes = encoder.encode(rows.features).codes
            past = {
                column: np.where(codes[:, start:stop] == 0, 0, codes[:, start:stop] - layout.bases[column])
                for column, (start, stop) in layout.sequences.items()
            }
            given = [rows.labels[label] for label in labels]
            told = given[0] if len(labels) == 1 else np.stack(given, axis=1)
            arrays: dict[str, Any] = {"codes": codes[:, : len(bases)] - bases, "labels": told, **past}
            np.savez(folder / f"{part}.npz", **arrays)
            content.append(arrays)
        return cls(name, parts, fields, folder, fingerprint(*content))


def _field(table: pa.Table, column: str) -> RowField:
    if pa.types.is_list(table.schema.field(column).type):
        return RowField(column, "sequence", max_length=PAST, share="item")
    return RowField(column, "category")


def fuxictr_source(model: str = "model_zoo/DeepFM") -> Path:
    """Return the folder of FuxiCTR's repository (its wheel lacks the models), fetched when the model is not there."""
    folder = HOME / "fuxictr-source"
    if not (folder / model).exists():
        if not (folder / ".git").exists():
            subprocess.run(["git", "clone", "-q", "--filter=blob:none", "--no-checkout", FUXICTR, str(folder)], check=True)
        subprocess.run(["git", "-C", str(folder), "checkout", "-q", FUXICTR_COMMIT, "--", "model_zoo"], check=True)
    return folder
