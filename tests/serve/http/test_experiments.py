"""Experiments over HTTP: assignment that holds, exposures, what is measured, and what may be concluded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

SPEC: dict[str, Any] = {
    "variants": [
        {"name": "control"},
        {"name": "trends", "pipeline": {"sources": [{"kind": "trending", "hours": 100_000.0}], "name": "trends"}},
    ],
    "metrics": [
        {"name": "clicks", "kind": "feedback", "type": "click"},
        {"name": "clicks per slate", "kind": "feedback_per_slate", "type": "click"},
        {"name": "hides", "kind": "feedback", "type": "hide", "guardrail": 0.2, "better": "lower"},
    ],
    "planned": 300,
}


def start(live: Any, name: str = "first", **changed: Any) -> None:
    live.post("/v1/experiments", name=name, spec={**SPEC, **changed})
    assert live.call("POST", f"/v1/experiments/{name}/start").json()["state"] == "running"


def test_an_experiment_from_start_to_conclusion(live: Any) -> None:
    start(live)
    rng = np.random.default_rng(0)
    arms: Counter[str] = Counter()
    for person in range(300):
        slate = live.post("/v1/recommendations", user=f"visitor{person}", k=3)
        arms[slate["variant"]] += 1
        assert slate["experiment"] == "first"
        assert slate["policy"] == ("trends" if slate["variant"] == "trends" else "default")
        for item in slate["items"]:
            if rng.random() < (0.9 if slate["variant"] == "trends" else 0.3):
                live.post("/v1/feedback", slate=slate["slate"], item=item["id"])
    live.service.settle()
    found = live.call("GET", "/v1/experiments/first").json()
    assert min(arms.values()) > 100
    by = {(row["metric"], row["variant"]): row for row in found["comparisons"]}
    assert by["clicks", "trends"]["conclusion"] == "higher"
    assert by["clicks per slate", "trends"]["difference"] == pytest.approx(1.8, abs=0.3)
    assert "hides" in {row["metric"] for row in found["guardrails"]}
    assert any("clicks" in words for words in found["words"])
    assert live.call("POST", "/v1/experiments/first/stop").json()["state"] == "stopped"
    live.service.forget_caches()
    assert live.post("/v1/recommendations", user="visitor1", k=3)["experiment"] is None


def test_somebody_keeps_their_variant_and_may_stay_out(live: Any) -> None:
    start(live)
    first = {p: live.post("/v1/recommendations", user=f"p{p}", k=1)["variant"] for p in range(20)}
    again = {p: live.post("/v1/recommendations", user=f"p{p}", k=1)["variant"] for p in range(20)}
    assert first == again and len(set(first.values())) == 2
    assert live.post("/v1/recommendations", user="p1", k=1, experiments=False)["experiment"] is None
    assert live.post("/v1/recommendations", k=1)["experiment"] is None
    assert live.post("/v1/recommendations", anonymous="session-7", k=1)["experiment"] == "first"


def test_traffic_is_a_share_of_people(live: Any) -> None:
    start(live, traffic=0.3)
    inside = sum(live.post("/v1/recommendations", user=f"q{p}", k=1)["experiment"] is not None for p in range(200))
    assert 35 <= inside <= 85


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"variants": [{"name": "one"}]}, 422, "variants"),
        (
            {"variants": [{"name": "a"}, {"name": "a"}]},
            422,
            "'variants.1.name' is wrong: names of variants must differ",
        ),
        ({"variants": [{"name": "a"}, {"name": "b", "model": "absent"}]}, 404, "model"),
        ({"variants": [{"name": "a"}, {"name": "b", "pipeline": {"souces": []}}]}, 422, "sources"),
        ({"metrics": [{"name": "x", "kind": "nonsense"}]}, 422, "kind"),
        ({"metrics": [{"name": "x", "kind": "slates", "guardrail": 0.1}]}, 422, "goal"),
        ({"planned": 0}, 422, "planned"),
    ],
)
def test_mistakes_in_an_experiment(live_shared: Any, changed: dict[str, Any], status: int, word: str) -> None:
    response = live_shared.call("POST", "/v1/experiments", {"name": "wrong", "spec": {**SPEC, **changed}})
    assert response.status_code == status and word in response.text, response.text


def test_states_follow_each_other(live: Any) -> None:
    assert live.call("POST", "/v1/experiments/absent/start").status_code == 404
    start(live)
    assert live.call("POST", "/v1/experiments", {"name": "first", "spec": SPEC}).status_code == 409
    assert live.call("GET", "/v1/experiments/first").status_code == 422
    assert live.call("POST", "/v1/experiments/first/stop").status_code == 200
    assert live.call("POST", "/v1/experiments/first/start").status_code == 409
