"""Amazon reviews and metadata as JSON lines: the field names of 2014 and 2018, and those of 2023."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from palate.data.readers.jsonlines import JsonLinesSource
from palate.data.readers.parts import Options, Parts, base_name
from palate.errors import DataError

#: Field names of both generations: roles of reviews.
REVIEWS = (
    {"user": "reviewerID", "item": "asin", "value": "overall", "time": "unixReviewTime"},
    {"user": "user_id", "item": "parent_asin", "value": "rating", "time": "timestamp"},
)

#: Fields of metadata that are kept, and their names here.
FIELDS = {
    "title": "title",
    "brand": "brand",
    "store": "brand",
    "price": "price",
    "description": "text",
    "features": "features",
    "feature": "features",
    "main_category": "main_category",
    "average_rating": "average_rating",
    "rating_number": "rating_number",
    "also_buy": "also_buy",
    "also_view": "also_view",
    "also_bought": "also_buy",
    "also_viewed": "also_view",
    "bought_together": "bought_together",
}


def read_amazon(path: Path, options: Options) -> Parts:
    """Read a review file, or a folder of one review file and its metadata (a name with ``meta``)."""
    reviews, meta = (path, _beside(path)) if path.is_file() else _of_folder(path)
    source = JsonLinesSource(reviews, encoding=options.encoding or "utf-8")
    roles = review_roles(source.columns)
    if roles is None:
        raise DataError(
            "these are not Amazon reviews.", where=reviews, value=list(source.columns), remedy="name the columns: columns="
        )
    items = None if meta is None else read_metadata(meta)
    name = path.name if path.is_dir() else base_name(path)
    return Parts([source], items=items, ids={"user": "text", "item": "text"}, columns=roles, name=name)


def review_roles(columns: Any) -> dict[str, str] | None:
    """Return the roles of review fields, or ``None`` where these are not reviews."""
    for roles in REVIEWS:
        if roles["user"] in columns and roles["item"] in columns:
            return {role: column for role, column in roles.items() if column in columns}
    return None


def read_metadata(path: Path) -> pa.Table:
    """Read item metadata: title, categories, price, text and the rest of :data:`FIELDS`."""
    rows = [_item(row) for _, row in JsonLinesSource(path).rows()]
    names = ["id", "categories", *dict.fromkeys(FIELDS.values())]
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table({name: _array(name, c) for name, c in columns.items() if name == "id" or any(v is not None for v in c)})


def _array(name: str, column: list[Any]) -> pa.Array:
    lists = ("categories", "features", "also_buy", "also_view", "bought_together")
    numbers = ("price", "average_rating", "rating_number")
    kind = pa.list_(pa.string()) if name in lists else pa.float64() if name in numbers else pa.string()
    return pa.array(column, kind)


def _item(row: dict[str, Any]) -> dict[str, Any]:
    flat = {**row.get("related", {}), **row} if isinstance(row.get("related"), dict) else row
    item: dict[str, Any] = {"id": flat.get("parent_asin") or flat.get("asin")}
    categories = flat.get("categories") or flat.get("category") or None
    if categories and isinstance(categories[0], list):
        categories = [word for path in categories for word in path]
    item["categories"] = list(dict.fromkeys(categories)) if isinstance(categories, list) else None
    for field, name in FIELDS.items():
        value = flat.get(field)
        if item.get(name) is None and value not in (None, "", []):
            item[name] = _plain(name, value)
    return item


def _plain(name: str, value: Any) -> Any:
    if name in ("price", "average_rating", "rating_number"):
        return _number(value)
    if name in ("features", "also_buy", "also_view", "bought_together"):
        return [str(v) for v in value] if isinstance(value, list) else None
    return "\n".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _number(value: Any) -> float | None:
    try:
        return float(str(value).replace("$", "").replace(",", "").strip())
    except ValueError:
        return None


def _is_meta(path: Path) -> bool:
    return "meta" in path.name.lower()


def _json_files(folder: Path) -> list[Path]:
    endings = (".jsonl", ".json")
    return sorted(p for p in folder.iterdir() if p.name.removesuffix(".gz").endswith(endings))


def _of_folder(folder: Path) -> tuple[Path, Path | None]:
    files = _json_files(folder)
    reviews = [p for p in files if not _is_meta(p)]
    meta = [p for p in files if _is_meta(p)]
    if len(reviews) != 1:
        names = [p.name for p in reviews]
        raise DataError("not one review file.", where=folder, value=names, remedy="give the review file by its path")
    return reviews[0], meta[0] if len(meta) == 1 else None


def _beside(path: Path) -> Path | None:
    stem = base_name(path).removesuffix("_5").removeprefix("reviews_")
    found = [p for p in _json_files(path.parent) if _is_meta(p) and base_name(p).removeprefix("meta_") == stem]
    return found[0] if len(found) == 1 else None
