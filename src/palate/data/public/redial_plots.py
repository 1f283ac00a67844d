"""Plots of films by title and year, from the file that ReDial's conversations came with."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

from palate.data.public import cache_folder
from palate.errors import DataError


def known_plots() -> dict[tuple[str, int], str]:
    """Return the plots of the films of ReDial by title and year, from ``redial`` in ``PALATE_DATA`` or the cache.

    Raises
    ------
    DataError
        If the file is in neither.
    """
    folders = [Path(os.environ["PALATE_DATA"])] if os.environ.get("PALATE_DATA") else []
    path = next((p for base in (*folders, cache_folder()) for p in sorted((base / "redial").glob("id2info.json*"))), None)
    if path is None:
        raise DataError("there are no plots.", where="redial/id2info.json", remedy="put ReDial's file into PALATE_DATA")
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return {title_key(film["name"]): film["plot"] for film in json.loads(raw).values() if film.get("plot")}


def title_key(title: str) -> tuple[str, int]:
    """Return a title in small letters without its article and marks, and its year (0 where there is none)."""
    found = re.match(r"(.*?)\s*(?:\((\d{4})\))?\s*$", title)
    assert found is not None
    name = re.sub(r"\(.*?\)", "", found.group(1).casefold()).strip()
    name = re.sub(r"^(the|a|an) |, (the|a|an)$", "", name)
    return re.sub(r"\W+", " ", name).strip(), int(found.group(2) or 0)
