"""A person's rights over HTTP: all that is held comes out, and after erasure nothing is left in any file or in memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from palate.serve.errors import Unavailable
from palate.serve.models.retrain import retrain
from palate.serve.store import Store

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


def test_bundles_that_can_not_be_looked_into_are_named(live: Any, tmp_path: Path) -> None:
    gone = retrain(live.store, tmp_path / "models", "popularity", gate=False, activate=False)
    damaged = retrain(live.store, tmp_path / "models", "ease", gate=False, activate=False)
    shutil.rmtree(gone.folder)
    (damaged.folder / "users.parquet").write_bytes(b"")
    lost = sorted([gone.version, damaged.version])
    export = live.call("GET", "/v1/profile/u3/export").json()
    assert sorted(export["bundles_unchecked"]) == lost and len(export["bundles"]) == 1
    erased = live.call("DELETE", "/v1/profile/u3").json()
    assert sorted(erased["unchecked"]) == lost and len(erased["bundles"]) == 1 and erased["files_clean"] is True
    nobody = live.call("GET", "/v1/profile/nobody/export")
    assert nobody.status_code == 404 and gone.version in nobody.json()["remedy"]
    assert str(tmp_path) not in nobody.text


def test_a_scrub_that_could_not_be_finished_is_told_and_finished_by_asking_again(live: Any, monkeypatch: Any) -> None:
    def locked(self: Any) -> bool:
        raise Unavailable("the database is locked by somebody else.")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "scrub", locked)
        erased = live.call("DELETE", "/v1/profile/u4")
    assert erased.status_code == 200, erased.text
    assert erased.json()["files_clean"] is False and erased.json()["removed"]["events"] == 8
    assert live.store.count_of("u4") == 0
    again = live.call("DELETE", "/v1/profile/u4")
    assert again.status_code == 200 and again.json()["files_clean"] is True and again.json()["removed"]["events"] == 0
