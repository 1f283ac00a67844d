"""Ids in paths: whatever can be stored can be read, exported, changed and deleted under its own name, and nobody else's."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from palate.serve.http.paths import parted, whole

ODD = [
    "a/b",
    "/",
    "a//b/",
    "p/export",
    "../../etc/passwd",
    "a b",
    "ü",
    "%2F",
    "%252F",
    "100%",
    "?",
    "a?b=c#d",
    "x;y",
    "...",
    "\t\n",
    "rollback",
    "𝕬" * 100,
    "/" * 200,
]


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


@pytest.mark.parametrize("id_", ODD)
def test_items_and_users_of_odd_names(live_shared: Any, id_: str) -> None:
    call = live_shared.call
    assert call("PUT", "/v1/items", {"items": [{"id": id_, "title": "odd"}]}).status_code == 200
    assert call("GET", _path("items", id_)).json()["id"] == id_
    assert call("DELETE", _path("items", id_)).status_code == 200
    assert call("GET", _path("items", id_)).status_code == 404
    assert call("PUT", "/v1/users", {"users": [{"id": id_, "attributes": {"n": 1}}]}).status_code == 200
    kept = {"id": id_, "attributes": {"n": 1}, "ties": [], "created": 1_700_000_000.0}
    assert call("GET", _path("users", id_)).json() == kept
    assert call("DELETE", _path("users", id_)).status_code == 200
    assert call("GET", _path("users", id_)).status_code == 404


@pytest.mark.parametrize("id_", ODD)
def test_profiles_of_odd_names(live_shared: Any, id_: str) -> None:
    call, other = live_shared.call, "somebody else"
    events = [{"user": user, "item": "i1"} for user in (id_, other)]
    assert call("POST", "/v1/events", {"events": events}).status_code == 200
    assert call("GET", _path("profile", id_)).json()["user"] == id_
    held = call("GET", _path("profile", id_, "export")).json()
    assert held["user"]["id"] == id_ and {event["user"] for event in held["events"]} == {id_}
    assert call("DELETE", _path("profile", id_)).json()["removed"]["events"] >= 1
    assert call("GET", _path("profile", id_, "export")).status_code == 404
    assert call("GET", _path("profile", other)).json()["events"] >= 1


@pytest.mark.parametrize("id_", [one for one in ODD if len(one) < 200])
def test_models_and_experiments_of_odd_names(live_shared: Any, id_: str) -> None:
    from palate.serve.store import ModelRow

    live_shared.store.add_model(ModelRow(id_, "ials", str(live_shared.service.models / "nowhere")))
    response = live_shared.call("POST", _path("models", id_, "activate"))
    assert response.json()["code"] != "not_found" or response.json()["where"] != "models"  # found, but without files
    for act in ("start", "stop"):
        response = live_shared.call("POST", _path("experiments", id_, act))
        assert response.status_code == 404 and response.json()["where"] == "experiment"
    assert live_shared.call("GET", _path("experiments", id_)).json()["where"] == "experiment"


def test_an_experiment_of_an_odd_name_is_started_and_stopped(live_shared: Any) -> None:
    spec = {"variants": [{"name": "a"}, {"name": "b"}], "metrics": [{"name": "m", "kind": "events"}], "planned": 10}
    live_shared.store.add_experiment("a/b start", spec)  # made by a program: the API takes plain names only
    for act, state in (("start", "running"), ("stop", "stopped")):
        assert live_shared.call("POST", _path("experiments", "a/b start", act)).json()["state"] == state
    assert live_shared.call("GET", _path("experiments", "a/b start")).json()["code"] == "invalid"  # nobody has met it


@pytest.mark.parametrize("step", [".", ".."])
def test_ids_that_no_address_can_name_do_not_come_in(live_shared: Any, step: str) -> None:
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "/v1/items", {"items": [{"id": step}]}),
        ("PUT", "/v1/users", {"users": [{"id": step}]}),
        ("POST", "/v1/events", {"user": step, "item": "i1"}),
        ("POST", "/v1/events", {"user": "u1", "item": step}),
        ("POST", "/v1/recommendations", {"user": step}),
        ("POST", "/v1/recommendations", {"anonymous": step}),
        ("POST", "/v1/search", {"query": "story", "anonymous": step}),
    ]
    for method, path, body in bodies:
        response = live_shared.call(method, path, body)
        assert response.status_code == 422 and "no web address" in response.json()["what"], (path, body, response.text)


@pytest.mark.parametrize("text", [*ODD, "%", "%2", "a%zzb"])
def test_parts_are_cut_where_they_were_joined(text: str) -> None:
    scope = {"raw_path": f"/v1/items/{quote(text, safe='')}/x".encode(), "path": "never looked at"}
    *_, part, last = parted(scope).split("/")
    assert (whole(part), last) == (text, "x")


def test_without_the_path_as_it_came_every_slash_parts() -> None:
    assert parted({"path": "/v1/items/50%/x"}) == "/v1/items/50%25/x"
    assert whole("50%25") == "50%" and whole(7) == 7
