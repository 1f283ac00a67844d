"""What a person says of an item counts in their very next answer: hidden, disliked, liked, taken back, gone with the person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.serve.experiments import offpolicy
from palate.serve.http.app import make_app
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings

NOW = 1_700_000_000.0


def _say(live: Any, item: str, kind: str, value: float = 1.0, *, time: float = NOW, **whom: str) -> str:
    """Give feedback on an item of an answer that holds it, and return the slate."""
    shown = live.post("/v1/recommendations", k=40, seen="allow", experiments=False, **(whom or {"user": "u0"}))
    if item not in {one["id"] for one in shown["items"]}:  # kept out by now: said on the slate where it stood
        shown = next(s for s in live.store.slates_of(whom.get("user", "u0")) if item in {one.item for one in s.items})
        shown = {"slate": shown.id}
    live.service.settle()
    live.post("/v1/feedback", slate=shown["slate"], item=item, kind=kind, value=value, time=time)
    return str(shown["slate"])


@pytest.mark.parametrize(("kind", "words"), [("hide", "hidden"), ("dislike", "disliked")])
def test_what_is_hidden_or_disliked_never_comes_again(live: Any, kind: str, words: str) -> None:
    first = live.ids(user="u0", k=1)[0]
    _say(live, first, kind)
    slate = live.post("/v1/recommendations", user="u0", k=40, seen="allow", trace=True)
    assert first not in {item["id"] for item in slate["items"]} and len(slate["items"]) == 39
    assert f"1 {words} by the person kept out" in {step["step"]: step["note"] for step in slate["trace"]}["filter"]
    assert first in live.ids(user="u2", k=40, seen="allow")
    active = live.service.shelf.active.version
    assert first not in live.ids(user="u0", k=40, seen="allow", model=active)


def test_it_holds_in_search_in_what_is_alike_and_in_a_ranking(live: Any) -> None:
    _say(live, "i6", "hide")
    words = {"query": "a tale of space with number 6", "k": 40}
    assert "i6" in [item["id"] for item in live.post("/v1/search", **words)["items"]]
    for personal in (0.0, 0.3):
        assert "i6" not in [i["id"] for i in live.post("/v1/search", **words, user="u0", personal=personal)["items"]]
    near = {"items": ["i4", "i8"], "k": 30}
    assert "i6" in [item["id"] for item in live.post("/v1/similar", **near)["items"]]
    assert "i6" not in [item["id"] for item in live.post("/v1/similar", **near, user="u0")["items"]]
    ranked = live.post("/v1/rank", candidates=["i1", "i6", "gone", "i2"], user="u0")
    assert ranked["unwanted"] == ["i6"] and ranked["unknown"] == ["gone"]
    assert {item["id"] for item in ranked["items"]} == {"i1", "i2"}
    assert live.post("/v1/rank", candidates=["i6"], user="u2")["unwanted"] == []
    assert live.post("/v1/explain", item="i6", user="u0")["item"] == "i6"  # asked for by name


def test_it_holds_for_a_visitor_and_after_the_visitor_signs_in(live: Any) -> None:
    _say(live, "i6", "hide", anonymous="tab")
    assert "i6" not in live.ids(anonymous="tab", k=40)
    assert "i6" not in live.ids(user="u0", anonymous="tab", k=40, seen="allow")
    assert "i6" in live.ids(anonymous="another", k=40) and "i6" in live.ids(user="u0", k=40, seen="allow")
    assert "i6" not in [i["id"] for i in live.post("/v1/similar", items=["i4"], k=30, anonymous="tab")["items"]]


def test_it_survives_a_restart_and_counts_in_other_processes_at_once(live: Any) -> None:
    from fastapi.testclient import TestClient

    other = Service(live.store, live.service.settings, live.service.models, clock=live.store.clock)
    with TestClient(make_app(other)) as client:
        asked = {"user": "u0", "k": 40, "seen": "allow"}
        head = {"Authorization": f"Bearer {live.keys['read']}"}
        before = client.post("/v1/recommendations", json=asked, headers=head).json()["items"]
        _say(live, "i6", "hide")
        after = client.post("/v1/recommendations", json=asked, headers=head).json()["items"]
        assert {i["id"] for i in before} - {i["id"] for i in after} == {"i6"}


def test_words_can_be_taken_back_and_said_again(live: Any) -> None:
    here = {"user": "u0", "k": 40, "seen": "allow"}
    for at, (kind, value, comes) in enumerate(
        [("hide", 1.0, False), ("hide", 0.0, True), ("dislike", 1.0, False), ("dislike", 0.0, True), ("hide", 2.0, False)]
    ):
        slate = _say(live, "i6", kind, value, time=NOW - 100 + at)
        assert ("i6" in live.ids(**here)) is comes, (kind, value)
    said = live.call("GET", "/v1/profile/u0").json()["said"]
    assert said == [{"item": "i6", "title": "Space story 6", "kind": "hide", "time": NOW - 96, "slate": slate}]
    _say(live, "i6", "like", time=NOW - 90)  # who likes it wants to see it
    assert "i6" in live.ids(**here)
    assert [word["kind"] for word in live.call("GET", "/v1/profile/u0").json()["said"]] == ["like"]


def test_it_goes_with_the_person(live: Any) -> None:
    _say(live, "i6", "hide", user="gone")
    assert "i6" not in live.ids(user="gone", k=40)
    assert live.call("DELETE", "/v1/profile/gone").status_code == 200
    assert "i6" in live.ids(user="gone", k=40)


def test_a_like_counts_like_what_was_chosen(live: Any) -> None:
    new = {"user": "new"}
    assert live.post("/v1/recommendations", **new, k=5)["cold"] is True
    for number in (1, 3, 5, 7, 9):
        _say(live, f"i{number}", "like", **new)
    warm = live.post("/v1/recommendations", **new, k=5, why=True)
    assert warm["cold"] is False and sum(item["categories"] == ["garden"] for item in warm["items"]) >= 4
    assert {r["item"] for item in warm["items"] for r in item["why"]} <= {f"i{number}" for number in (1, 3, 5, 7, 9)}
    assert [item["id"] for item in warm["items"]] == live.ids(history=["i1", "i3", "i5", "i7", "i9"], k=5)
    found = live.call("GET", "/v1/profile/new").json()
    assert found["known"] is True and found["events"] == 0 and len(found["said"]) == 5
    _say(live, "i9", "like", 0.0, time=NOW + 1, **new)
    assert [i for i in live.ids(**new, k=40, seen="exclude") if i == "i9"] == ["i9"]


def test_a_like_stands_among_events_by_its_time_and_once(live: Any) -> None:
    _say(live, "i5", "like", time=NOW - 50, user="v")
    for at, item in ((NOW - 60, "i1"), (NOW - 40, "i3")):
        live.post("/v1/events", user="v", item=item, time=at)
    items = live.service.catalogue.items
    person = live.service.person("v")
    assert [items[row].id for row in person.rows] == ["i1", "i5", "i3"] and person.liked.tolist() == [False, True, False]
    assert [items[row].id for row in person.acts().rows] == ["i1", "i3"]
    live.post("/v1/events", user="v", item="i5", time=NOW - 10)
    person = live.service.person("v")
    assert [items[row].id for row in person.rows] == ["i1", "i3", "i5"] and person.liked is None


@pytest.fixture
def configured(open_live: Callable[..., Iterator[Any]], tmp_path: Path) -> Callable[..., Any]:
    """Return a function that opens a service with a pipeline of these keys."""
    opened: list[Iterator[Any]] = []

    def make(**pipeline: Any) -> Any:
        opened.append(open_live(tmp_path / str(len(opened)), ServiceSettings().replace(pipeline=pipeline)))
        (tmp_path / str(len(opened) - 1)).mkdir()
        return next(opened[-1])

    yield make
    for live in opened:
        next(live, None)


def test_settings_allow_it_and_pinned_items_stay_away_too(configured: Any) -> None:
    live = configured(pinned=["i6"], feedback={"disliked": "allow", "liked": "ignore"})
    here = {"user": "u0", "k": 40, "seen": "allow"}
    assert live.ids(**here)[0] == "i6"
    _say(live, "i8", "dislike")
    _say(live, "i6", "hide")
    _say(live, "i1", "like", user="new")
    assert "i8" in live.ids(**here) and "i6" not in live.ids(**here)
    assert live.post("/v1/recommendations", user="new", k=5)["cold"] is True


def test_estimates_ask_again_as_the_person_was_at_that_moment(configured: Any) -> None:
    """Slates before and after something was hidden or liked: judged by its own log, a policy has the weight 1 everywhere."""
    live = configured(explore={"kind": "epsilon", "epsilon": 0.5, "pool": 8}, sources=[{"kind": "model"}])
    rng, moment = np.random.default_rng(5), [NOW]
    live.service.clock = live.store.clock = lambda: moment[0]
    hidden = {}
    for n in range(63):
        whom = {"user": f"u{n % 21}"} if n % 3 else {"anonymous": f"tab{n % 21}", "history": [f"i{n % 40}"]}
        slate = live.post("/v1/recommendations", **whom, k=3)
        live.service.settle()
        moment[0] += 1
        for item in slate["items"]:
            assert item["id"] not in hidden.get(n % 21, ())
            if rng.random() < 0.5:
                live.post("/v1/feedback", slate=slate["slate"], item=item["id"])
        hidden[n % 21] = {slate["items"][0]["id"], slate["items"][1]["id"]}
        for item, kind in zip(sorted(hidden[n % 21]), ("hide", "like"), strict=True):
            live.post("/v1/feedback", slate=slate["slate"], item=item, kind=kind)
            moment[0] += 1
    found = live.post("/v1/experiments/offpolicy", pipeline={})
    assert found["slates"] == 63
    for row in found["estimates"]:
        if row["name"] in (*offpolicy.NAMES, "clipped_ips"):
            assert row["mean_weight"] == pytest.approx(1.0), row
    deaf = live.post("/v1/experiments/offpolicy", pipeline={"feedback": {"hidden": "allow"}})
    assert {row["mean_weight"] for row in deaf["estimates"]} != {1.0}
