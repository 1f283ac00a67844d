"""An erasure beside a retraining, beside another erasure, and beside another process over the same store."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate.catalog.registry import load
from palate.console import numbers
from palate.contracts.bundle import read_manifest
from palate.recommend.ials import IALS
from palate.serve import answers, privacy, wire
from palate.serve.errors import ConflictError, Unavailable
from palate.serve.models import forgetting, retrain
from palate.serve.models import loaded as recommenders
from palate.serve.models.forgetting import RETRY
from palate.serve.models.production import publish
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, ModelRow, Store

PERSON = "person-with-a-name-that-stands-out"
SMALL = {"dim": 8, "epochs": 3}


@pytest.fixture
def known(live: Any) -> Any:
    """A service that knows the person from events."""
    live.post("/v1/events", events=[{"user": PERSON, "item": f"i{number}"} for number in range(1, 12, 2)])
    return live


def named(folder: Path) -> bool:
    """Say whether any file of a bundle names the person, in its bytes or in its columns."""
    assert (folder / "users.parquet").is_file()
    users = load(folder).users_.ids.raw.to_pylist()
    return PERSON in users or any(PERSON.encode() in path.read_bytes() for path in folder.iterdir())


def erase(live: Any, user: str = PERSON) -> dict[str, Any]:
    response = live.call("DELETE", f"/v1/profile/{user}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def once(wrapped: Callable[..., Any], first: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that does something before its first call."""
    done: list[Any] = []

    def call(*args: Any, **named: Any) -> Any:
        if not done:
            done.append(None)
            done[0] = first()
        return wrapped(*args, **named)

    call.said = done  # type: ignore[attr-defined]
    return call


@pytest.mark.parametrize(("place", "name"), [(IALS, "fit"), (IALS, "save"), (retrain, "publish"), (Store, "add_model")])
def test_who_is_erased_while_a_model_learns_is_not_in_its_bundle(
    known: Any, tmp_path: Path, monkeypatch: Any, place: Any, name: str
) -> None:
    between = once(getattr(place, name), lambda: erase(known))
    monkeypatch.setattr(place, name, between)
    made = retrain.retrain(known.store, tmp_path / "models", "ials", SMALL, gate=False)
    assert between.said[0]["removed"]["events"] == 6  # type: ignore[attr-defined]
    assert not named(made.folder) and made.forgotten == 1
    assert read_manifest(made.folder)["fit"]["notes"]["forgotten"] == 1
    known.service.catch_up()
    active = known.service.shelf.active
    assert active.version == made.version and active.model.users_.ids.number(PERSON) == -1
    assert known.call("GET", f"/v1/profile/{PERSON}/export").status_code == 404
    assert known.post("/v1/recommendations", user=PERSON, k=3)["cold"] is True
    assert retrain.retrain(known.store, tmp_path / "models", "ials", SMALL, gate=False).forgotten == 0


def test_a_bundle_published_in_the_midst_of_an_erasure_is_cleaned_and_named(
    known: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    with_person = once(Store.erase_user, lambda: retrain.retrain(known.store, tmp_path / "models", "ials", SMALL, gate=False))
    monkeypatch.setattr(Store, "erase_user", with_person)
    said = erase(known)
    made = with_person.said[0]  # type: ignore[attr-defined]
    assert made.version in said["bundles"] and made.version in said["retrain"] and said["removed"]["events"] == 6
    assert not named(made.folder)
    known.service.catch_up()
    assert known.service.shelf.active.model.users_.ids.number(PERSON) == -1


def test_a_bundle_that_was_not_entered_is_removed(known: Any, tmp_path: Path, monkeypatch: Any) -> None:
    before = set((tmp_path / "models").iterdir())

    def locked(*_: Any, **__: Any) -> None:
        raise Unavailable("the database is locked by somebody else.")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_model", locked)
        with pytest.raises(Unavailable):
            retrain.retrain(known.store, tmp_path / "models", "ials", SMALL, gate=False)
        assert set((tmp_path / "models").iterdir()) == before
        patch.setattr(Store, "model", locked)
        with pytest.raises(Unavailable):  # nobody can say whether it was entered: it stays
            retrain.retrain(known.store, tmp_path / "models", "ials", SMALL, gate=False)
        assert len(set((tmp_path / "models").iterdir()) - before) == 1


def test_erasures_that_never_end_end_a_retraining(known: Any, tmp_path: Path, monkeypatch: Any) -> None:
    before, add = set((tmp_path / "models").iterdir()), Store.add_model

    def slow(store: Store, *args: Any, **named: Any) -> ModelRow:
        store.erase_user(f"somebody-{time.monotonic_ns()}", scrub=False, elsewhere=True)
        return add(store, *args, **named)

    monkeypatch.setattr(Store, "add_model", slow)
    with pytest.raises(ConflictError, match="erased faster"):
        retrain.retrain(known.store, tmp_path / "models", "popularity", gate=False)
    assert set((tmp_path / "models").iterdir()) == before


def test_two_erasures_at_once_do_not_undo_each_other(live: Any, monkeypatch: Any) -> None:
    meet, loads = threading.Barrier(2), privacy.load

    def together(folder: Path) -> Any:
        found = loads(folder)
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait(0.5)  # both have loaded the bundle before either saves it, if they may
        return found

    monkeypatch.setattr(privacy, "load", together)
    threads = [threading.Thread(target=erase, args=(live, user)) for user in ("u3", "u4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [row] = live.store.models()
    left = load(row.path).users_.ids
    assert left.number("u3") == left.number("u4") == -1 and left.number("u5") >= 0


# -- another process over the same store -------------------------------------------------------------


@pytest.fixture
def other(live: Any) -> Iterator[Service]:
    """Another service over the same store, as another process has it."""
    settings = ServiceSettings().replace(store={"url": live.store.url})
    with Store.open(live.store.url, clock=live.store.clock) as store:
        service = Service(store, settings, live.service.models, clock=live.service.clock, seed=0)
        yield service
        service.close()


def answer(service: Service, user: str) -> wire.Slate:
    """Ask another process, after the moment for which it trusts its last look."""
    service.stale()
    return answers.recommend(service, wire.RecommendIn(user=user, k=5))


def test_another_process_forgets_at_its_next_look(live: Any, other: Service) -> None:
    elsewhere = publish(live.store, "from-elsewhere", live.store.active_model().path)
    ranked = other.shelf.get(elsewhere.version, other.folder)
    assert not answer(other, "u3").cold and other.person("u3").id == "u3"
    trends = other.trending(1e6, ("view",), 40)[1].sum()
    erase(live, "u3")
    answered = answer(other, "u3")
    assert answered.cold and other.trending(1e6, ("view",), 40)[1].sum() == trends - 8
    other.forgetting.wait()
    loaded = other.shelf.active
    assert loaded is not None and loaded.model.users_.ids.number("u3") == -1
    assert len(loaded.model.histories_.take(loaded.model.users_.ids.encode(["u4"])).items) == 8
    again = other.shelf.get(elsewhere.version)
    assert again is not ranked and again.model.users_.ids.number("u3") == -1
    assert not answer(other, "u4").cold and other.ready().trouble is None
    live.post("/v1/events", user="u3", item="i1")
    assert other.person("u3").id == "u3" and len(other.person("u3").rows) == 1  # somebody new of that name


def test_nobody_waits_while_bundles_are_read_anew(live: Any, other: Service, monkeypatch: Any) -> None:
    load, reading, go_on = recommenders.load, threading.Event(), threading.Event()

    def slow(folder: Path) -> Any:
        reading.set()
        assert go_on.wait(30)
        return load(folder)

    live.service.forget_erased()
    erased = privacy.erase(live.service, "u3")
    assert erased.removed["events"] == 8
    monkeypatch.setattr(recommenders, "load", slow)
    assert answer(other, "u3").cold and not answer(other, "u4").cold
    assert reading.wait(10) and other.person("u3").id is None and other.person("u4").id == "u4"
    given = answers.recommend(other, wire.RecommendIn(user="u3", history=["i1"], k=5))
    bare = answers.recommend(other, wire.RecommendIn(history=["i1"], k=5))
    assert [item.score for item in given.items] == [item.score for item in bare.items]  # the old vector plays no part
    go_on.set()
    other.forgetting.wait()
    assert other.person("u3").id == "u3" and other.shelf.active.model.users_.ids.number("u3") == -1  # type: ignore[union-attr]


def test_a_bundle_without_events_in_the_store_is_forgotten_too(live: Any, other: Service) -> None:
    with live.store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE user = 'u3'")
        connection.exec_driver_sql("DELETE FROM users WHERE id = 'u3'")
    erased = erase(live, "u3")
    assert not any(erased["removed"].values()) and len(erased["bundles"]) == 1
    assert answer(other, "u3").cold
    other.forgetting.wait()
    assert other.shelf.active.model.users_.ids.number("u3") == -1  # type: ignore[union-attr]


def test_a_bundle_that_can_not_be_read_anew_is_told_and_tried_again(
    live: Any, other: Service, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    now = [0.0]
    other.forgetting.clock = lambda: now[0]
    manifest = Path(live.store.active_model().path) / "manifest.json"
    erase(live, "u3")
    whole = manifest.read_bytes()
    manifest.write_bytes(b"{")
    with caplog.at_level(logging.ERROR, "palate.serve"):
        assert answer(other, "u3").cold
        other.forgetting.wait()
    said = other.ready()
    assert (
        said.ready and said.trouble is not None and "can't be read anew" in said.trouble and str(tmp_path) not in said.trouble
    )
    assert any("Forgetting is behind" in told for told in numbers.alerts(other, numbers.traffic(other)))
    manifest.write_bytes(whole)
    now[0] = RETRY - 1
    assert answer(other, "u3").cold and other.person("u3").id is None  # a stranger until then
    assert other.ready().trouble is not None
    now[0] = RETRY + 1
    answer(other, "u3")
    other.forgetting.wait()
    assert other.ready().trouble is None and other.person("u3").id == "u3"
    assert other.shelf.active.model.users_.ids.number("u3") == -1  # type: ignore[union-attr]


def test_what_is_being_loaded_meanwhile_is_looked_at_too(live: Any, other: Service, tmp_path: Path, monkeypatch: Any) -> None:
    made = retrain.retrain(live.store, tmp_path / "models", "ials", SMALL, gate=False, activate=False)
    load, loaded, go_on = recommenders.load, threading.Event(), threading.Event()

    def slow(folder: Path) -> Any:
        found = load(folder)
        if Path(folder).name == made.version:
            loaded.set()
            assert go_on.wait(30)
        return found

    monkeypatch.setattr(recommenders, "load", slow)
    thread = threading.Thread(target=other.shelf.get, args=(made.version, other.folder))
    thread.start()
    assert loaded.wait(10)  # it has read the old files, and is not in memory yet
    monkeypatch.setattr(recommenders, "load", load)
    erase(live, "u3")
    other.stale()
    other.pulse()
    go_on.set()
    thread.join()
    other.forgetting.wait()
    assert other.shelf.get(made.version).model.users_.ids.number("u3") == -1


def test_a_process_that_nobody_asks_forgets(live: Any, monkeypatch: Any) -> None:
    from fastapi.testclient import TestClient

    from palate.serve.http import app

    monkeypatch.setattr(app, "LOOK", 0.05)
    settings = ServiceSettings().replace(store={"url": live.store.url})
    with Store.open(live.store.url) as store:
        idle = Service(store, settings, live.service.models)
        with TestClient(app.make_app(idle)):
            erase(live, "u3")
            until = time.monotonic() + 10
            while idle.shelf.active.model.users_.ids.number("u3") >= 0:  # type: ignore[union-attr]
                assert time.monotonic() < until, "it still knows the person"
                time.sleep(0.02)


def test_a_look_without_erasures_reads_nothing(live: Any, other: Service, monkeypatch: Any) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("nobody was erased")

    monkeypatch.setattr(Store, "erasures_since", never)
    monkeypatch.setattr(forgetting, "read_manifest", never)
    live.store.add_events([Event("u3", "i1")])
    assert not answer(other, "u3").cold
