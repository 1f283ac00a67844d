"""Public data as rows for rankers: Frappe, likes of MovieLens (with and without people and films), clicks of Open Bandit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.contracts.ranker import Rows
from palate.data.dataset import Dataset
from palate.data.public import cache_folder, get, load
from palate.data.public import find as at_hand
from palate.data.readers.delimited import DelimitedSource
from palate.data.readers.movielens import find, items_1m, users_1m
from palate.data.readers.open_bandit import read_open_bandit
from palate.data.row_fields import RowField
from palate.data.row_libfm import read_libfm
from palate.errors import DataError
from palate.runtime import generator

FRAPPE = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
#: Which MovieLens.
Edition = Literal["ml-1m", "ml-100k"]
#: Films of earlier years are taken together by decade.
YEARS_FROM = 1970


def frappe() -> tuple[pa.Table, tuple[RowField, ...]]:
    """Return the parts of Frappe that are at hand as one table of ten fields and ``label``, and its fields.

    Raises
    ------
    DataError
        If none is.
    """
    bases = [Path(base) / "frappe" for base in (os.environ.get("PALATE_DATA"), str(cache_folder())) if base]
    names = [f"frappe.{part}.libfm" for part in ("train", "validation", "test")]
    files = next((found for base in bases if (found := [p for n in names if (p := find(base, n))])), None)
    if files is None:
        raise DataError("Frappe is not here.", where="frappe", remedy=f"put {names[1]} and {names[2]} into PALATE_DATA/frappe")
    return pa.concat_tables([read_libfm(path, FRAPPE) for path in files]), tuple(RowField(n, "category") for n in FRAPPE)


def movielens_told(ratings: int | None = None) -> str:
    """Return what stands for MovieLens 1M here: its name, after ``a sample of N ratings of`` where not all are read.

    Parameters
    ----------
    ratings
        As for :func:`movielens_likes`.
    """
    folder = at_hand("ml-1m")
    if folder is None:
        return "MovieLens 1M"
    sample = None if find(folder, "ratings.dat") else find(folder, "ratings_sample.csv")
    n = DelimitedSource(sample).table().num_rows if sample else ratings
    n = n if ratings is None or n is None else min(n, ratings)
    return "MovieLens 1M" if n is None else f"a sample of {n:,} ratings of MovieLens 1M"


def movielens_seven(ratings: int | None = None, *, edition: Edition = "ml-1m") -> tuple[pa.Table, tuple[RowField, ...]]:
    """Return ratings of MovieLens as ``label`` (1 above three stars, 0 below; three are left out) with seven fields.

    Gender, age, occupation, zip code, genres (at most six), year of release and time, but neither person nor film: the recipe
    of W. Song et al., CIKM 2019, for MovieLens 1M. Figures can't be compared with those of tables that hold ids.

    Parameters
    ----------
    ratings
        How many of them to read, drawn at random (``None``: all that are here).
    edition
        Which MovieLens. Of 100K ages are in years, of 1M in seven groups.

    Raises
    ------
    DataError
        If a file is missing.
    """
    kinds = ("gender", "age", "occupation", "zip", "year")
    fields = (*(RowField(name, "category") for name in kinds), RowField("genres", "list", max_length=6))
    table = _rated(edition, ratings).select([*kinds, "genres", "time", "label"])
    return table, (*fields, RowField("time", "number", scale="minmax"))


def movielens_likes(ratings: int | None = None, *, edition: Edition = "ml-1m") -> tuple[pa.Table, tuple[RowField, ...]]:
    """Return ratings of MovieLens as likes (4 and 5) and dislikes (1 and 2), with person, film, genres and hour.

    Parameters
    ----------
    ratings, edition
        As for :func:`movielens_seven`.

    Raises
    ------
    DataError
        If a file is missing.
    """
    rated = _rated(edition, ratings)
    hour = rated.column("time").to_numpy().astype(np.int64) // 3600 % 24
    told = rated.select(["user", "item", "gender", "age", "occupation", "genres", "label"])
    table = told.add_column(6, "hour", pa.array(hour).cast(pa.string()))
    fields = tuple(RowField(name, "category") for name in ("user", "item", "gender", "age", "occupation", "hour"))
    return table, (*fields, RowField("genres", "list", max_length=6))


def movielens_people(ratings: int | None = None, *, edition: Edition = "ml-1m") -> np.ndarray:
    """Return whose each row of :func:`movielens_seven` and of :func:`movielens_likes` is.

    Parameters
    ----------
    ratings, edition
        As for these.

    Raises
    ------
    DataError
        If there are no ratings.
    """
    found: np.ndarray = _rated(edition, ratings).column("user").cast(pa.int64()).to_numpy()
    return found


def open_bandit_clicks(campaign: str = "all", policy: str = "random") -> tuple[pa.Table, tuple[RowField, ...]]:
    """Return impressions of Open Bandit with ``label`` (1 where clicked), in order of time, and the fields.

    Fields: the item, its position, its features and those of the person (hashed categories; the first one of an item is a
    number), hour and weekday (UTC, 0 is Monday), and ``affinity``, the person's with the item shown, where the log has it.
    Nobody is told apart. What the policy knew, the propensity, is no field.

    Parameters
    ----------
    campaign
        ``"all"``, ``"men"`` or ``"women"``.
    policy
        ``"random"`` (items by even lot) or ``"bts"``, which chose them.

    Raises
    ------
    DataError
        If the campaign is not here, or can't be read.
    """
    bases = [Path(base) / "obd" / policy / campaign for base in (os.environ.get("PALATE_DATA"), str(cache_folder())) if base]
    folder = next((base for base in bases if base.is_dir()), None)
    if folder is None:
        raise DataError(
            "this campaign of Open Bandit is not here.",
            where="obd",
            value=f"{policy}/{campaign}",
            remedy=f"put its files into PALATE_DATA/obd/{policy}/{campaign} (https://research.zozo.com/data.html)",
        )
    data = read_open_bandit(folder)
    log, items = data.impressions, data.items
    assert log is not None
    shown = log.column("item").to_numpy()
    seconds = log.column("time").to_numpy() // 1_000_000
    days = seconds // 86_400
    columns: dict[str, Any] = {
        "item": items.ids.raw.take(log.column("item").combine_chunks()).cast(pa.string()),
        "position": log.column("position").cast(pa.string()),
        **{name: log.column(name) for name in log.column_names if name.startswith("user_feature_")},
        "hour": pa.array(seconds // 3600 % 24).cast(pa.string()),
        "weekday": pa.array((days + 3) % 7).cast(pa.string()),  # 1970 began with a Thursday
    }
    fields = [RowField(name, "category") for name in columns]
    features = pa.table({}) if items.attributes is None else items.attributes
    for name in features.column_names:
        columns[name] = features.column(name).take(pa.array(shown))
        fields.append(RowField(name, "number" if pa.types.is_floating(columns[name].type) else "category"))
    affinity = log.column("affinity").combine_chunks()
    if not affinity.null_count:
        flat = affinity.values.to_numpy().reshape(len(shown), len(items))
        columns["affinity"] = pa.array(flat[np.arange(len(shown)), shown].astype(np.float64))
        fields.append(RowField("affinity", "number"))
    return pa.table({**columns, "label": log.column("click").cast(pa.float64())}), tuple(fields)


def parts_of(table: pa.Table, shares: dict[str, float], seed: int = 0, label: str = "label") -> dict[str, Rows]:
    """Return parts by their shares, rows drawn at random."""
    rows = Rows.of_table(table.take(generator(seed, "parts").permutation(table.num_rows)), [label])
    ends = np.round(np.cumsum([0, *shares.values()]) * len(rows)).astype(int)
    return {name: rows.slice(int(ends[at]), int(ends[at + 1])) for at, name in enumerate(shares)}


def _rated(edition: Edition, most: int | None) -> pa.Table:
    """Return ratings but those of three stars: whose, of what, when, what is known of both, and whether they are likes."""
    events, people, films = _of_1m() if edition == "ml-1m" else _of_dataset(load(edition))
    if most is not None and most < events.num_rows:
        events = events.take(np.sort(generator(0, "ratings").permutation(events.num_rows)[:most]))
    events = events.filter(pc.not_equal(events.column("rating").cast(pa.float64()), 3.0))
    user, item = (events.column(name).cast(pa.string()) for name in ("user_id", "item_id"))
    who, what = pc.index_in(user, value_set=_ids(people)), pc.index_in(item, value_set=_ids(films))
    kinds = {"gender": "gender", "age": "age", "occupation": "occupation", "zip": "zip_code"}
    return pa.table(
        {
            "user": user,
            "item": item,
            **{name: people.column(own).take(who).cast(pa.string()) for name, own in kinds.items()},
            "year": _years(films).take(what),
            "genres": films.column("categories").take(what),
            "time": events.column("timestamp").cast(pa.float64()),
            "label": pc.cast(pc.greater(events.column("rating").cast(pa.float64()), 3.0), pa.float64()),
        }
    )


def _of_1m() -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return ratings of MovieLens 1M (a sample, where the whole is not here), people and films."""
    folder = get("ml-1m")
    people, films = users_1m(folder), items_1m(folder)
    if people is None or films is None:
        raise DataError("users.dat or movies.dat is missing.", where=folder)
    whole, sample = find(folder, "ratings.dat"), find(folder, "ratings_sample.csv")
    if whole is not None:
        names = ["user_id", "item_id", "rating", "timestamp"]
        return DelimitedSource(whole, separator="::", names=names).table(), people, films
    if sample is not None:
        return DelimitedSource(sample).table(), people, films
    raise DataError("there are no ratings.", where=folder, remedy="put ratings.dat of MovieLens 1M there")


def _of_dataset(data: Dataset) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return ratings, people and films of a data set that tells of both."""
    events, told = data.interactions, (data.users, data.items)
    if events.value is None or events.time is None or any(own.attributes is None for own in told):
        raise DataError("ratings with times, and attributes of people and films, are needed.", where=data.name)
    user, item = (own.ids.raw.take(pa.array(at)) for own, at in zip(told, (events.user, events.item), strict=True))
    ratings = pa.table({"user_id": user, "item_id": item, "rating": events.value, "timestamp": events.time})
    people, films = (own.attributes.append_column("id", pa.array(own.ids.raw)) for own in told if own.attributes is not None)
    return ratings, people, films


def _ids(table: pa.Table) -> pa.Array:
    name = "id" if "id" in table.column_names else table.column_names[0]
    return table.column(name).cast(pa.string()).combine_chunks()


def _years(films: pa.Table) -> pa.Array:
    """Return the year of release, told or at the end of a title, early ones by decade."""
    told = "release_year" in films.column_names
    text, pattern = (
        (films.column("release_year"), r"^(?P<year>\d{4})$") if told else (films.column("title"), r"\((?P<year>\d{4})\)\s*$")
    )
    years = pc.struct_field(pc.extract_regex(text, pattern), "year").to_pylist()
    return pa.array([y if y is None or int(y) >= YEARS_FROM else f"{int(y) // 10 * 10}s" for y in years], pa.string())
