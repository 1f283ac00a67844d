"""An activation in another process: loaded beside the requests, refused where it is damaged, told either way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palate.console import numbers
from palate.errors import BundleError
from palate.serve.models import loaded as recommenders
from palate.serve.models.production import publish
from palate.serve.models.retrain import retrain
from palate.serve.models.succession import RETRY, Trouble
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store


@pytest.fixture
def elsewhere(live: Any) -> Iterator[Store]:
    """The store as another process opens it."""
    with Store.open(live.store.url) as opened:
        yield opened


def ready(live: Any) -> dict[str, Any]:
    """Return what the service says of itself; it must be ready."""
    live.service.stale()
    response = live.call("GET", "/v1/ready", scope=None)
    assert response.status_code == 200, response.text
    return dict(response.json())


def metric(live: Any, name: str) -> float:
    lines = live.call("GET", "/v1/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


def damage(folder: Path) -> None:
    path = folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def damaged(live: Any, elsewhere: Store, folder: Path) -> str:
    """Publish a model from outside, damage its bundle, and activate it; return its version."""
    made = retrain(elsewhere, folder, "ease", gate=False, activate=False)
    damage(made.folder)
    elsewhere.activate(made.version)
    live.service.stale()
    return made.version


def test_no_request_waits_for_a_model_that_is_activated_outside(
    live: Any, elsewhere: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    first = ready(live)["model"]
    load, loading, go_on = recommenders.load, threading.Event(), threading.Event()

    def slow(folder: Path) -> Any:
        loading.set()
        assert go_on.wait(30)
        return load(folder)

    monkeypatch.setattr(recommenders, "load", slow)
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            response = live.call("POST", "/v1/recommendations", {"user": "u0", "k": 5})
            answers.append((response.status_code, response.json().get("model")))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    second = retrain(elsewhere, tmp_path / "models", "ease", gate=False).version
    assert loading.wait(10)
    between = ready(live)
    assert (between["model"], between["wanted"], between["trouble"]) == (first, second, None)
    assert metric(live, "palate_model_behind") == 1.0
    wanted, until = len(answers) + 20, time.monotonic() + 20
    while len(answers) < wanted:  # the model is being loaded all the time, and nobody waits for it
        assert time.monotonic() < until
        time.sleep(0.01)
    assert {model for _, model in answers} == {first}
    go_on.set()
    live.service.succession.wait(30)
    while answers[-1][1] != second:
        assert time.monotonic() < until
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200} and {model for _, model in answers} == {first, second}
    assert metric(live, "palate_model_behind") == 0.0 and metric(live, "palate_model_loads_failed_total") == 0.0


def test_a_damaged_bundle_leaves_the_old_model_answering(
    live: Any, elsewhere: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = ready(live)["model"]
    with caplog.at_level(logging.ERROR, "palate.serve"):
        wanted = damaged(live, elsewhere, tmp_path / "models")
        assert live.post("/v1/recommendations", user="u0", k=3)["model"] == first
        with pytest.raises(BundleError):
            live.service.succession.wait(30)
    assert str(tmp_path) in caplog.text  # the log says which file
    said = ready(live)
    assert (said["ready"], said["model"], said["wanted"]) == (True, first, wanted)
    assert "changed or cut short" in said["trouble"] and str(tmp_path) not in str(said)
    for _ in range(3):
        live.service.stale()
        assert live.post("/v1/recommendations", user="u0", k=3)["model"] == first
    assert metric(live, "palate_model_loads_failed_total") == 1.0 and metric(live, "palate_model_behind") == 1.0
    [alert] = [told for told in numbers.alerts(live.service, numbers.traffic(live.service)) if wanted in told]
    assert f"{first} answers in its place" in alert
    elsewhere.roll_back()
    said = ready(live)
    assert (said["model"], said["wanted"], said["trouble"]) == (first, first, None)
    assert not any("can't be loaded" in told for told in numbers.alerts(live.service, numbers.traffic(live.service)))


def test_a_mended_bundle_is_tried_again(live: Any, elsewhere: Store, tmp_path: Path) -> None:
    now = [0.0]
    live.service.succession.clock = lambda: now[0]
    made = retrain(elsewhere, tmp_path / "models", "ease", gate=False, activate=False)
    whole = (made.folder / "state.safetensors").read_bytes()
    damage(made.folder)
    elsewhere.activate(made.version)
    with pytest.raises(BundleError):
        live.service.catch_up()
    (made.folder / "state.safetensors").write_bytes(whole)
    now[0] = RETRY - 1
    with pytest.raises(BundleError):
        live.service.catch_up()
    assert live.service.succession.failures == 1  # not at every request
    now[0] = RETRY + 1
    live.service.catch_up()
    assert ready(live)["model"] == made.version


def test_what_is_not_palates_own_error_is_told_without_its_words() -> None:
    assert Trouble("v", OSError("/secret/place"), 0.0).words == "it could not be loaded."


def test_going_back_to_a_damaged_model_is_refused_before_the_store_turns(live: Any, elsewhere: Store, tmp_path: Path) -> None:
    first = live.store.active_model()
    for system in ("ease", "popularity"):
        made = retrain(elsewhere, tmp_path / "models", system, gate=False)
        live.service.catch_up()
    live.service.shelf.drop(first.version)
    [before] = [row for row in live.store.models() if row.system == "ease"]
    live.service.shelf.drop(before.version)
    damage(Path(before.path))
    refused = live.call("POST", "/v1/models/rollback")
    assert refused.status_code == 409 and "cut short" in refused.json()["what"]
    assert live.call("POST", f"/v1/models/{before.version}/activate").status_code == 409
    assert live.store.active_model().version == made.version == ready(live)["model"]


def test_a_damaged_bundle_is_not_activated(live: Any, elsewhere: Store, tmp_path: Path) -> None:
    made = retrain(elsewhere, tmp_path / "models", "ease", gate=False, activate=False)
    damage(made.folder)
    with pytest.raises(BundleError, match="cut short"):
        publish(elsewhere, "again", made.folder, activate=True)
    assert elsewhere.model("again") is None and elsewhere.active_model().version != made.version


def test_a_service_does_not_start_with_a_damaged_model_alone(live: Any, elsewhere: Store, tmp_path: Path) -> None:
    wanted = damaged(live, elsewhere, tmp_path / "models")
    with pytest.raises(BundleError, match="no other is in memory") as told:
        Service(elsewhere, ServiceSettings(), tmp_path / "models")
    assert wanted in told.value.what and "palate rollback" in str(told.value)
