"""Models in production: publish, activate under load without a dropped request, roll back; the gate."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from palate.serve.models.retrain import retrain
from palate.serve.models.shelf import MOST


def test_publish_activate_and_roll_back(live: Any, tmp_path: Path) -> None:
    first = live.call("GET", "/v1/models").json()["active"]
    made = retrain(live.store, tmp_path / "models", "ease", gate=False, activate=False)
    assert live.call("GET", "/v1/models").json()["active"] == first
    assert live.call("POST", f"/v1/models/{made.version}/activate").json()["state"] == "active"
    assert live.post("/v1/recommendations", user="u0", k=3)["model"] == made.version
    assert live.post("/v1/recommendations", user="u0", k=3, model=first)["model"] == first
    assert live.call("POST", "/v1/models/rollback").json()["version"] == first
    assert live.post("/v1/recommendations", user="u0", k=3)["model"] == first
    assert live.call("POST", "/v1/models/rollback").status_code in (404, 409)
    assert live.call("POST", "/v1/models/nonsense/activate").status_code == 404


def test_models_long_unused_are_let_go(live: Any, tmp_path: Path) -> None:
    for _ in range(MOST + 2):
        made = retrain(live.store, tmp_path / "models", "popularity", gate=False)
        live.service.catch_up()
        assert live.post("/v1/recommendations", user="u0", k=3)["model"] == made.version
    assert len(live.service.shelf.versions()) == MOST
    first = live.call("GET", "/v1/models").json()["models"][-1]["version"]
    assert live.post("/v1/recommendations", user="u0", k=3, model=first)["model"] == first


def test_publishing_a_folder_by_name(live: Any, tmp_path: Path) -> None:
    made = retrain(live.store, tmp_path / "models", "ease", gate=False, activate=False)
    body = {"version": "again", "bundle": made.folder.name, "activate": True}
    assert live.call("POST", "/v1/models", body).json()["state"] == "active"
    assert live.call("POST", "/v1/models", {"version": made.version, "bundle": made.folder.name}).status_code == 200
    other = retrain(live.store, tmp_path / "models", "item_knn", gate=False, activate=False)
    assert live.call("POST", "/v1/models", {"version": "again", "bundle": other.folder.name}).status_code == 409
    for bundle in ("../models", "..", "/etc", "a/b"):
        assert live.call("POST", "/v1/models", {"version": "x", "bundle": bundle}).status_code == 422
    assert live.call("POST", "/v1/models", {"version": "x", "bundle": "absent"}).status_code == 404


def test_no_request_is_dropped_while_models_change(live: Any, tmp_path: Path) -> None:
    first = live.call("GET", "/v1/models").json()["active"]
    second = retrain(live.store, tmp_path / "models", "ease", gate=False, activate=False).version
    wrong: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            response = live.call("POST", "/v1/recommendations", {"user": "u0", "k": 5})
            if response.status_code != 200 or response.json()["model"] not in (first, second):
                wrong.append(response.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        for version in (second, first):
            assert live.call("POST", f"/v1/models/{version}/activate").status_code == 200
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
