"""A person's rights over HTTP: all that is held comes out, and after erasure nothing is left in any file or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from palate.serve.retrain import retrain

PERSON = "person-with-a-name-that-stands-out"


def _held(folder: Path) -> list[str]:
    """Return the files that name the person, in their bytes or, where they are Parquet, in their columns."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        named = PERSON.encode() in path.read_bytes()
        if path.suffix == ".parquet":
            named = named or PERSON in str(pq.read_table(path).to_pydict())
        if named:
            found.append(path.name)
    return sorted(found)


def test_everything_comes_out_and_nothing_is_left(live: Any, tmp_path: Path) -> None:
    for number in range(1, 12, 2):
        live.post("/v1/events", user=PERSON, item=f"i{number}", context={"note": PERSON})
    slate = live.post("/v1/recommendations", user=PERSON, k=3)
    live.post("/v1/feedback", slate=slate["slate"], item=slate["items"][0]["id"])
    retrain(live.store, tmp_path / "models", "ials", {"dim": 8, "epochs": 3}, gate=False)
    live.post("/v1/recommendations", user=PERSON, k=3)
    export = live.call("GET", f"/v1/profile/{PERSON}/export").json()
    assert len(export["events"]) == 6 and export["slates"] and len(export["bundles"]) == 1
    assert len(_held(tmp_path)) >= 2
    erased = live.call("DELETE", f"/v1/profile/{PERSON}").json()
    assert erased["removed"]["events"] == 6 and len(erased["bundles"]) == 1 and erased["retrain"]
    assert _held(tmp_path) == []
    profile = live.call("GET", f"/v1/profile/{PERSON}").json()
    assert profile["known"] is False and profile["events"] == 0
    assert live.post("/v1/recommendations", user=PERSON, k=3)["cold"] is True
    loaded = live.service.shelf.active
    assert loaded is not None and loaded.model.users_.ids.number(PERSON) == -1


def test_who_is_unknown_can_be_neither_exported_nor_erased(live: Any) -> None:
    assert live.call("GET", "/v1/profile/nobody/export").status_code == 404
    assert live.call("DELETE", "/v1/profile/nobody").status_code == 404
