"""Each part of a pipeline, served: what it is for shows in the answer, and would be missed without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from palate.contracts.recommender import VectorRecommender
from palate.serve.models.retrain import retrain
from palate.serve.settings import ServiceSettings


@pytest.fixture(scope="module")
def served(live_shared: Any) -> Callable[..., Any]:
    """Return a context in which the shared service answers with another pipeline."""

    @contextmanager
    def with_pipeline(**parts: Any) -> Iterator[Any]:
        service, before = live_shared.service, live_shared.service.settings
        service.settings = ServiceSettings().replace(pipeline=parts)
        service.pipeline = service.pipeline_of(service.settings.pipeline)
        yield live_shared
        service.settings, service.pipeline = before, service.pipeline_of(before.pipeline)

    return with_pipeline


def offered(live: Any, **asked: Any) -> dict[str, Any]:
    return live.post("/v1/recommendations", **{"user": "u0", "k": 10, "seen": "allow", "trace": True, **asked})


def ids(slate: dict[str, Any]) -> list[str]:
    return [item["id"] for item in slate["items"]]


def step(slate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in slate["trace"] if one["step"] == name)


MODEL = {"kind": "model", "quota": 200}


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_a_varied_list_is_less_alike(served: Callable[..., Any], kind: str) -> None:
    def likeness(live: Any, slate: dict[str, Any]) -> float:
        model = live.service.shelf.active
        assert isinstance(model.model, VectorRecommender)
        rows = np.array(live.service.catalogue.rows_of(ids(slate)))
        vectors = model.model.item_vectors[model.numbers(rows)]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((vectors @ vectors.T)[np.triu_indices(len(rows), 1)].mean())

    with served(sources=[MODEL]) as live:
        plain = offered(live)
    found = {}
    for level in (0.0, 0.5, 0.95):
        with served(sources=[MODEL], diversity={"kind": kind, "level": level}) as live:
            found[level] = offered(live)
            assert level == 0 or step(found[level], f"diversity {kind} {level:g}")["note"] == "by vectors"
    assert ids(found[0.0]) == ids(plain) and ids(found[0.5])[0] == ids(plain)[0]
    alike = [likeness(live, slate) for slate in (plain, found[0.5], found[0.95])]
    assert alike[2] < alike[1] < alike[0] - 0.1
    assert any(f"{kind}: " in move for item in found[0.95]["items"] for move in item["moves"])


def test_a_new_item_does_not_end_diversity(served: Callable[..., Any], live_shared: Any) -> None:
    live_shared.call("PUT", "/v1/items", {"items": [{"id": "fresh", "title": "Space story 41", "categories": ["space"]}]})
    try:
        with served(diversity={"kind": "dpp", "level": 0.95}) as live:
            slate = offered(live, k=41)
            assert "fresh" in ids(slate)
            assert step(slate, "diversity dpp 0.95")["note"] == "by vectors; 1 without a vector keep their places"
        with served() as live:
            assert ids(offered(live, k=41)).index("fresh") == ids(slate).index("fresh")
    finally:
        live_shared.call("DELETE", "/v1/items/fresh")


def test_calibration_gives_the_mix_of_the_person(served: Callable[..., Any]) -> None:
    """Three of four things they chose are of one kind: so are three of four places, whatever is likeliest."""
    history = [f"i{n}" for n in (0, 2, 4, 6, 8, 10)] + ["i1", "i3"]
    asked = {"user": None, "history": history, "k": 8, "seen": "exclude"}
    with served(sources=[MODEL]) as live:
        plain = [item["categories"][0] for item in offered(live, **asked)["items"]]
    with served(sources=[MODEL], diversity={"kind": "calibrate", "level": 0.99}) as live:
        slate = offered(live, **asked)
        assert step(slate, "diversity calibrate 0.99")["note"] == "to a mix of 2 categories"
        kinds = [item["categories"][0] for item in slate["items"]]
        assert plain.count("space") != 6 and kinds.count("space") == 6
        cold = offered(live, user="nobody")
        assert step(cold, "diversity calibrate 0.99")["note"].startswith("left out")


def test_new_brings_the_newest(served: Callable[..., Any]) -> None:
    with served(sources=[{"kind": "new", "days": 5.5}]) as live:
        assert ids(offered(live)) == ["i39", "i38", "i37", "i36", "i35"]
        assert ids(offered(live, exclude=["i39"], k=2)) == ["i38", "i37"]
    with served(sources=[{"kind": "new", "days": 5.5, "only": "strangers"}, MODEL]) as live:
        slate = offered(live)
        assert step(slate, "source new")["left"] == 0 and len(slate["items"]) == 10


def test_content_brings_what_says_the_like(served: Callable[..., Any]) -> None:
    with served(sources=[{"kind": "content", "only": "all", "quota": 50}]) as live:
        slate = offered(live, user=None, history=["i1", "i5"], seen="exclude", k=15)
        assert {item["categories"][0] for item in slate["items"][:10]} == {"garden"} and not {"i1", "i5"} & set(ids(slate))
        assert step(offered(live, user="nobody"), "source content")["note"] == "nothing is known of the person"


def test_similar_starts_from_the_latest_or_from_what_is_named(served: Callable[..., Any]) -> None:
    with served(sources=[{"kind": "similar", "last": 1, "quota": 8}]) as live:
        garden = offered(live, user=None, history=["i0", "i2", "i1"], k=8)
        space = offered(live, user=None, history=["i1", "i3", "i0"], k=8)
        assert [item["categories"][0] for item in garden["items"]].count("garden") >= 7
        assert [item["categories"][0] for item in space["items"]].count("space") >= 7
        assert ids(offered(live, user=None, history=["i1"], items=["i0"], k=8)) == ids(space)
        near = [item["id"] for item in live.post("/v1/similar", items=["i0"], k=8)["items"]]
        assert ids(space) == near
        assert step(offered(live, user="nobody"), "source similar")["note"] == "no item to start from"


def test_banned_items_never_come(served: Callable[..., Any]) -> None:
    with served() as live:
        first = ids(offered(live))[:3]
    with served(banned=first, pinned=[first[0]]) as live:
        assert not set(first) & set(ids(offered(live, k=40))) and len(ids(offered(live, k=40))) == 37
        assert not set(first) & set(ids(offered(live, k=40, text="story tale")))
        assert not set(first) & set(ids(offered(live, user=None, k=40)))


@pytest.mark.parametrize("system", ["popularity", "item_knn"])
def test_one_model_ranks_what_all_sources_brought(served: Callable[..., Any], live_shared: Any, system: str) -> None:
    version = retrain(live_shared.store, live_shared.service.models, system, {}, gate=False, activate=False).version
    with served(sources=[MODEL, {"kind": "new", "days": 90}], rank={"kind": "model", "model": version}) as live:
        slate = offered(live)
        every = [f"i{n}" for n in range(40)]
        ranked = live.post("/v1/rank", user="u0", model=version, candidates=every)["items"]
        score = {item["id"]: item["score"] for item in ranked}
        assert [item["score"] for item in slate["items"]] == [item["score"] for item in ranked[:10]]  # equal ones in any order
        assert [score[item] for item in ids(slate)] == [item["score"] for item in slate["items"]] and slate["model"] == version
    with served(sources=[MODEL, {"kind": "new", "days": 90}]) as live:
        assert ids(offered(live)) != ids(slate)
