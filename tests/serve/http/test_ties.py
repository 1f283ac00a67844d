"""Ties between people in the service: kept, learnt from, and followed at once by a model that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from palate.serve.models.retrain import retrain

SMALL = {"dim": 8, "epochs": 30, "batch_size": 64, "lr": 0.02}


@pytest.fixture(scope="module")
def tied(open_live: Callable[..., Iterator[Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service whose people are tied within their taste, and whose active model (SocialRS) learnt from that."""
    pytest.importorskip("torch")
    for live in open_live(tmp_path_factory.mktemp("ties"), None, "popularity"):
        people = [{"id": f"u{n}", "ties": [f"u{(n + step) % 40}" for step in (2, 4)]} for n in range(40)]
        live.call("PUT", "/v1/users", {"users": people}).raise_for_status()
        found = retrain(live.store, live.service.models, "social_rec", SMALL, gate=False, activate=False)
        live.call("POST", f"/v1/models/{found.version}/activate").raise_for_status()
        assert live.service.shelf.active.version == found.version
        yield live


def kinds(answer: dict[str, Any]) -> list[str]:
    return [item["categories"][0] for item in answer["items"]]


def test_ties_come_back_and_stay_where_none_are_given(tied: Any) -> None:
    tied.call("PUT", "/v1/users", {"users": [{"id": "new", "ties": ["u1", "u3"]}]}).raise_for_status()
    tied.call("PUT", "/v1/users", {"users": [{"id": "new", "attributes": {"age": 3}}]}).raise_for_status()
    found = tied.call("GET", "/v1/users/new").json()
    assert found["ties"] == ["u1", "u3"] and found["attributes"] == {"age": 3}
    assert tied.call("GET", "/v1/profile/new").json()["ties"] == ["u1", "u3"]
    refused = tied.call("PUT", "/v1/users", {"users": [{"id": "new", "ties": ["u1", ""]}]})
    assert refused.status_code == 422 and "ties" in refused.text


@pytest.mark.parametrize("first", [0, 1])
def test_somebody_new_is_answered_by_their_friends(tied: Any, first: int) -> None:
    known = kinds(tied.post("/v1/recommendations", user=f"u{first}", k=5))
    assert len(set(known)) == 1, "the model tells tastes apart"
    person = f"friend of u{first}"
    tied.call("PUT", "/v1/users", {"users": [{"id": person, "ties": [f"u{first}", f"u{first + 2}"]}]}).raise_for_status()
    assert kinds(tied.post("/v1/recommendations", user=person, k=5)) == known
    assert tied.post("/v1/explain", user=person, item="i0")["method"]
    tied.call("DELETE", f"/v1/profile/u{first + 2}").raise_for_status()
    assert tied.call("GET", f"/v1/users/{person}").json()["ties"] == [f"u{first}"]
