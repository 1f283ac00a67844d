"""Words of a request: recommenders that read them are asked with them, others say that they don't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.serve.models.retrain import retrain
from palate.serve.store import Event, Search

NOW, ITEMS, PEOPLE = 1_700_000_000.0, 40, 60
SMALL = {"buckets": 4096, "width": 16, "hidden": [16], "dim": 16, "epochs": 30, "batch_size": 64, "lr": 0.01}


@pytest.fixture(scope="module")
def both(open_live: Callable[..., Iterator[Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A service in which EasyRec, which reads words, is active; and the version of popularity, which is published too."""
    pytest.importorskip("torch")
    for live in open_live(tmp_path_factory.mktemp("words"), None, "popularity"):
        found = retrain(live.store, live.service.models, "easyrec", SMALL, gate=False, activate=False)
        counts = live.service.shelf.active.version
        live.call("POST", f"/v1/models/{found.version}/activate").raise_for_status()
        assert live.service.shelf.active.version == found.version
        yield live, counts


@pytest.fixture
def reading(both: tuple[Any, str]) -> Any:
    """The service."""
    return both[0]


def kinds(answer: dict[str, Any]) -> list[str]:
    return [item["categories"][0] for item in answer["items"]]


@pytest.mark.parametrize("kind", ["space", "garden"])
def test_a_stranger_is_answered_by_what_they_say(reading: Any, kind: str) -> None:
    slate = reading.post("/v1/recommendations", text=f"A tale of the {kind}", k=5, trace=True)
    assert kinds(slate) == [kind] * 5
    other = {"space": "garden", "garden": "space"}[kind]
    liker = f"u{('space', 'garden').index(other)}"
    ranked = reading.post("/v1/rank", user=liker, candidates=["i0", "i1"], text=f"A tale of the {kind}")
    assert kinds(ranked)[0] == kind and kinds(reading.post("/v1/rank", user=liker, candidates=["i0", "i1"]))[0] == other


def test_an_explanation_is_of_the_score_with_the_words(reading: Any) -> None:
    item, words = "i0", "A tale of the space"
    ranked = reading.post("/v1/rank", user="u1", candidates=[item], text=words)["items"][0]
    why = reading.post("/v1/explain", user="u1", item=item, text=words)
    assert why["score"] == pytest.approx(ranked["score"], abs=1e-5) and why["method"] == "the stated preference alone"
    assert why["score"] != pytest.approx(reading.post("/v1/explain", user="u1", item=item)["score"], abs=1e-3)


def test_a_query_is_read_by_the_model_too(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    model = reading.service.shelf.active.model
    vectors = model.request_vectors

    def watched(requests: Any) -> Any:
        read.append((list(requests.texts), len(requests.histories.items) > 0))
        return vectors(requests)

    monkeypatch.setattr(model, "request_vectors", watched)
    assert kinds(reading.post("/v1/search", query="garden", k=3)) == ["garden"] * 3
    assert read == [(["garden"], False)]
    reading.post("/v1/search", query="garden", user="u0", k=3)
    reading.post("/v1/search", query="garden", user="u0", k=3, personal=0)
    assert [had for _, had in read] == [False, True, False]


def test_a_model_of_search_learns_from_what_people_looked_for(open_live: Callable[..., Iterator[Any]], tmp_path: Path) -> None:
    """Words that no item holds: only who learnt from searches knows what they mean."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    searches, events = [], []
    for n in range(600):
        kind, person, time = n % 2, f"u{rng.integers(PEOPLE)}", NOW - 86_400 * 20 + 2_000.0 * n
        item = f"i{2 * rng.integers(ITEMS // 2) + kind}"
        searches.append(Search(("rocket", "spade")[kind], person, time, (item, f"i{rng.integers(ITEMS)}")))
        events.append(Event(person, item, time=time + 60))
    for live in open_live(tmp_path, None, "popularity"):
        live.store.add_searches(searches)
        live.store.add_events(events)
        few = {"dim": 16, "epochs": 30, "batch_size": 256, "lr": 0.02}
        found = retrain(live.store, live.service.models, "uditsr", few, gate=False, activate=False)
        live.call("POST", f"/v1/models/{found.version}/activate").raise_for_status()
        for query, kind in (("rocket", "space"), ("spade", "garden")):
            slate = kinds(live.post("/v1/recommendations", text=query, k=10))
            assert slate.count(kind) >= 9
            assert live.service.texts.search(query, 5)[0].tolist() == []
            found = live.post("/v1/search", query=query, k=10, filter={"field": "price", "op": ">", "value": 10})["items"]
            assert [item["categories"][0] for item in found].count(kind) >= 9 and min(item["price"] for item in found) > 10
            both = kinds(live.post("/v1/rank", user="u0", candidates=["i0", "i1"], text=query))
            assert both[0] == kind
        assert live.post("/v1/search", query="qwertyuiop", user="u0", k=10)["items"] == [], "a word that nobody searched for"


@pytest.mark.parametrize(("path", "body"), [("/v1/rank", {"candidates": ["i0"]}), ("/v1/explain", {"item": "i0"})])
def test_a_model_that_reads_no_words_says_so(both: tuple[Any, str], path: str, body: dict[str, Any]) -> None:
    live, counts = both
    refused = live.call("POST", path, {**body, "text": "the garden", "model": counts})
    assert 400 <= refused.status_code < 500 and "can't read words" in refused.text
    live.call("POST", path, {**body, "model": counts}).raise_for_status()
