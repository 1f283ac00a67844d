"""Experiments with odd specs: refused at once, or they run: answers go out, are on record, and can be read."""

from __future__ import annotations

from typing import Any

import pytest

SPEC: dict[str, Any] = {
    "variants": [{"name": "a"}, {"name": "b"}],
    "metrics": [{"name": "clicks", "kind": "feedback"}],
    "planned": 100,
}
#: Keys of a pipeline, and what is said where they are refused (nothing: they run).
PIPELINES: dict[str, tuple[dict[str, Any], str | None]] = {
    "a rule that can't be read": ({"rule": "item.price <"}, "rule"),
    "a rule that calls what there is not": ({"rule": "nonsense(item)"}, "unknown function"),
    "a name too long for the log": ({"name": "x" * 201}, "at most 100 characters"),
    "a name with a NUL": ({"name": "a\x00"}, "NUL"),
    "no name": ({"name": ""}, "at least 1 character"),
    "a source without a name": ({"sources": [{"kind": "model", "name": ""}]}, "at least 1 character"),
    "a source's long name": ({"sources": [{"kind": "model", "name": "y" * 201}]}, "at most 100 characters"),
    "a source without a kind": ({"sources": [{"hours": 5.0}]}, "kind"),
    "a number as a text": ({"sources": [{"kind": "trending", "hours": "5"}]}, "hours"),
    "weights that add up to no number": ({"sources": [{"kind": "model", "weight": 1e308}]}, "weight"),
    "an absent model": ({"sources": [{"kind": "model", "model": "absent"}]}, "no such model"),
    "an absent model of likeness": ({"sources": [{"kind": "similar", "model": "absent"}]}, "no such model"),
    "an absent ranker": ({"rank": {"kind": "ranker", "model": "absent"}}, "no such model"),
    "a prior below 0": ({"explore": {"kind": "thompson", "prior": [-1, -1]}}, "prior"),
    "endless hours": ({"sources": [{"kind": "trending", "hours": 1e308}]}, None),
    "endless days": ({"sources": [{"kind": "new", "days": 1e308, "only": "all"}]}, None),
    "one name for two sources": ({"sources": [{"kind": "model"}, {"kind": "trending", "name": "personal"}]}, None),
    "huge counts beforehand": ({"order": {"kind": "cascade", "prior": [1e308, 1e308]}}, None),
    "the smallest chance": ({"explore": {"kind": "epsilon", "epsilon": 5e-324}}, None),
    "pins and bans that are no ids": ({"pinned": ["", "i1", "i1"], "banned": [""], "caps": [{"field": "", "most": 1}]}, None),
}
#: Keys of an experiment, likewise.
SPECS: dict[str, tuple[dict[str, Any], str | None]] = {
    "an allocation of nothing": ({"allocation": {}}, "an allocation is wrong"),
    "an allocation beyond the points": ({"allocation": {"stops": [2**60], "owners": [0], "size": 2}}, "an allocation is wrong"),
    "an allocation of others": ({"allocation": {"stops": [2**48], "owners": [0], "size": 3}}, "as many variants"),
    "weights beyond any number": ({"variants": [{"name": n, "weight": 1e308} for n in "ab"]}, "weights of variants"),
    "no weights": ({"variants": [{"name": n, "weight": 0} for n in "ab"]}, "weight"),
    "a NUL in a name": ({"variants": [{"name": "a\x00"}, {"name": "b"}]}, "NUL"),
    "a plan as a text": ({"planned": "100"}, "planned"),
    "an allocation as the service makes it": ({"allocation": {"stops": [2**47, 2**48], "owners": [0, 1], "size": 2}}, None),
    "a variant for hardly anybody": ({"variants": [{"name": "a", "weight": 5e-324}, {"name": "b"}]}, None),
    "endless days before": ({"covariate_days": 1e308}, None),
    "the largest plan": ({"planned": 2**63 - 1}, None),
}


def outcome(live: Any, name: str, spec: dict[str, Any], refused: str | None) -> None:
    """Make an experiment and hold what comes of it against what should."""
    made = live.call("POST", "/v1/experiments", {"name": name, "spec": spec})
    if refused is not None:
        assert made.status_code in (404, 422) and refused in made.text, made.text
        assert live.call("GET", f"/v1/experiments/{name}").status_code == 404, "nothing is kept of it"
        return
    assert made.status_code == 200, made.text
    lost = dict(live.service.lost)
    live.post(f"/v1/experiments/{name}/start")
    for user in ("u1", "u2", "u3", "new1"):
        slate = live.post("/v1/recommendations", user=user, k=5, text="story", why=True, trace=True, diversity=0.3)
        assert slate["experiment"] == name
        live.post("/v1/recommendations", user=user, items=["i1"])
    live.service.settle()
    assert live.service.lost == lost, "what was answered is on record"
    assert live.call("GET", f"/v1/experiments/{name}").status_code == 200
    live.post(f"/v1/experiments/{name}/stop")


@pytest.mark.parametrize("name", list(PIPELINES))
def test_pipelines_of_variants(live_shared: Any, name: str) -> None:
    keys, refused = PIPELINES[name]
    variants = [{"name": "a", "pipeline": keys}, {"name": "b", "pipeline": keys}]
    outcome(live_shared, f"pipeline{list(PIPELINES).index(name)}", {**SPEC, "variants": variants}, refused)
    judged = live_shared.call("POST", "/v1/experiments/offpolicy", {"pipeline": keys})
    assert judged.status_code in (200, 404, 422), judged.text


@pytest.mark.parametrize("name", list(SPECS))
def test_specs(live_shared: Any, name: str) -> None:
    keys, refused = SPECS[name]
    outcome(live_shared, f"spec{list(SPECS).index(name)}", {**SPEC, **keys}, refused)


def test_the_document_tells_the_keys_of_specs_and_pipelines(live_shared: Any) -> None:
    parts = live_shared.client.get("/openapi.json").json()["components"]["schemas"]
    spec = parts["ExperimentIn"]["properties"]["spec"]
    assert set(spec["required"]) == {"variants", "metrics", "planned"}
    assert "trending" in str(parts["TrendingSource"]) and parts["TrendingSource"]["required"] == ["kind"]
    assert "explore" in parts["JudgeIn"]["properties"]["pipeline"]["properties"]
