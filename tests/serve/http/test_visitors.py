"""Visitors in experiments: their events count where they are sent by their key, and it is said where none are."""

from __future__ import annotations

from typing import Any

import pytest

BUYS: dict[str, Any] = {"name": "buys", "kind": "events", "type": "buy"}
SPENT: dict[str, Any] = {"name": "spent", "kind": "value", "type": "buy"}
CLICKS: dict[str, Any] = {"name": "clicks", "kind": "feedback", "type": "click"}
VARIANTS = [{"name": "control"}, {"name": "varied", "pipeline": {"diversity": {"kind": "mmr"}}}]


def begin(live: Any, *metrics: dict[str, Any]) -> None:
    live.post("/v1/experiments", name="first", spec={"variants": VARIANTS, "metrics": list(metrics), "planned": 40})
    assert live.call("POST", "/v1/experiments/first/start").status_code == 200


def ask(live: Any, number: int, who: str = "anonymous") -> list[dict[str, Any]]:
    """Ask for people; return the slates."""
    slates = [live.post("/v1/recommendations", **{who: f"{who}{n}"}, k=2) for n in range(number)]
    live.service.settle()
    return slates


def read(live: Any) -> Any:
    return live.call("GET", "/v1/experiments/first")


def test_events_sent_by_a_visitors_key_count(live: Any) -> None:
    begin(live, BUYS, SPENT)
    slates = ask(live, 40)
    for n, slate in enumerate(slates):
        if slate["variant"] == "varied":
            live.post("/v1/events", user=f"anonymous{n}", item="i1", type="buy", value=5.0)
    found = read(live).json()
    varied = sum(slate["variant"] == "varied" for slate in slates)
    assert found["visitors"] == {"units": 40, "with_events": varied}
    assert f"events are kept of {varied:,} of them" in found["words"][0] and "buys, spent" in found["words"][0]
    by = {(row["metric"], row["variant"]): row["difference"] for row in found["comparisons"]}
    assert by["buys", "varied"] == pytest.approx(1.0) and by["spent", "varied"] == pytest.approx(5.0)


def test_an_experiment_on_visitors_without_events_is_not_read_as_nothing(live: Any) -> None:
    begin(live, BUYS)
    ask(live, 10)
    refused = read(live)
    assert refused.status_code == 422 and "only visitors" in refused.json()["what"], refused.text
    assert "key as the user" in refused.json()["remedy"] and "buys" in refused.json()["value"]


def test_what_can_be_read_is_read(live: Any) -> None:
    begin(live, CLICKS, BUYS, {**SPENT, "guardrail": 0.1})
    for slate in ask(live, 10):
        live.post("/v1/feedback", slate=slate["slate"], item=slate["items"][0]["id"])
    live.service.settle()
    found = read(live).json()
    assert {row["metric"] for row in found["comparisons"]} == {"clicks"} and found["guardrails"] == []
    assert "buys, spent can't be read" in found["words"][0]


def test_beside_users_visitors_are_told_of(live: Any) -> None:
    begin(live, BUYS)
    ask(live, 5)
    ask(live, 6, "user")
    found = read(live).json()
    assert found["visitors"] == {"units": 5, "with_events": 0}
    assert "5 of 11 people are visitors" in found["words"][0] and "no event of any of them" in found["words"][0]
    assert {row["metric"] for row in found["comparisons"]} == {"buys"}


def test_nothing_is_said_where_there_are_none(live: Any) -> None:
    begin(live, BUYS)
    ask(live, 6, "user")
    found = read(live).json()
    assert found["visitors"]["units"] == 0 and not any("visitors" in words for words in found["words"])
