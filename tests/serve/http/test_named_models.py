"""``model=VERSION``: any published version may be compared with; its load holds up nobody, and memory stays bounded."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from palate.serve.http.routes import common
from palate.serve.models import loaded as recommenders
from palate.serve.models import shelf
from palate.serve.models.production import publish
from palate.serve.models.retrain import retrain

QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/recommendations", {"user": "u0", "k": 3}),
    ("/v1/similar", {"items": ["i2"], "k": 3}),
    ("/v1/rank", {"user": "u0", "candidates": ["i1", "i2"]}),
    ("/v1/explain", {"user": "u0", "item": "i2"}),
]


@pytest.fixture
def versions(live: Any) -> list[str]:
    """Versions of one bundle, more than stay in memory."""
    found = retrain(live.store, live.service.models, "ease", gate=False, activate=False)
    names = [f"v{n}" for n in range(shelf.MOST + 3)]
    for name in names:
        publish(live.store, name, found.folder)
    return names


@pytest.mark.parametrize(("path", "body"), QUESTIONS)
def test_whoever_may_read_may_compare_and_memory_stays_bounded(
    live: Any, versions: list[str], path: str, body: dict[str, Any]
) -> None:
    active = live.service.shelf.active
    for version in versions:
        response = live.call("POST", path, {**body, "model": version}, scope="read")
        assert response.status_code == 200 and response.json()["model"] == version, response.text
    assert len(live.service.shelf.versions()) == shelf.MOST and live.service.shelf.active is active
    assert live.call("POST", path, {**body, "model": "none such"}, scope="read").status_code == 404


def test_a_load_holds_none_of_the_threads_that_answer(live: Any, versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load, go_on, began = recommenders.load, threading.Event(), threading.Event()

    def slow(folder: Path) -> Any:
        began.set()
        assert go_on.wait(30)
        return load(folder)

    monkeypatch.setattr(recommenders, "load", slow)
    monkeypatch.setattr(common, "PATIENCE", 20.0)
    asked, told = QUESTIONS * 2, list[int]()
    assert len(asked) > live.service.settings.server.workers

    def ask(path: str, body: dict[str, Any]) -> None:
        told.append(live.call("POST", path, body).status_code)

    waiting = [
        threading.Thread(target=ask, args=(path, {**body, "model": versions[n % 2]})) for n, (path, body) in enumerate(asked)
    ]
    for thread in waiting:
        thread.start()
    assert began.wait(10)
    started = time.monotonic()
    for _ in range(3):
        assert live.post("/v1/recommendations", user="u1", k=3)["model"] == live.service.shelf.active.version
    assert time.monotonic() - started < 5 and told == []
    go_on.set()
    for thread in waiting:
        thread.join()
    assert told == [200] * len(asked)


def test_who_waits_too_long_is_told_to_come_again(live: Any, versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load, go_on = recommenders.load, threading.Event()

    def slow(folder: Path) -> Any:
        assert go_on.wait(30)
        return load(folder)

    monkeypatch.setattr(recommenders, "load", slow)
    monkeypatch.setattr(common, "PATIENCE", 0.05)
    body = {"user": "u0", "k": 3, "model": versions[0]}
    response = live.call("POST", "/v1/recommendations", body)
    assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
    assert response.json()["what"] == "the model is being loaded."
    statuses = [live.call("POST", "/v1/recommendations", {**body, "model": name}).status_code for name in versions]
    assert set(statuses) == {503} and len(live.service.loading._under_way) == shelf.MOST
    go_on.set()
    live.service.loading.wait()
    assert live.call("POST", "/v1/recommendations", body).status_code == 200


def test_an_answer_never_loads_what_was_let_go_meanwhile(live: Any, versions: list[str]) -> None:
    """In the moment between the load and the answer other callers may have crowded the version out."""
    from palate.serve import answers, wire
    from palate.serve.errors import Unavailable

    with pytest.raises(Unavailable):
        answers.recommend(live.service, wire.RecommendIn(user="u0", k=3, model=versions[0]))
    live.service.loading.wait()
    assert answers.recommend(live.service, wire.RecommendIn(user="u0", k=3, model=versions[0])).model == versions[0]
