"""Interleaving over HTTP: from the spec to a preference; limits, records, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate.evaluation.experiments.interleaving import Preference, preferences
from palate.serve.experiments import offpolicy
from palate.serve.experiments.live import ExperimentSpec, analysis
from palate.serve.experiments.preferences import _at_any_time, reading
from palate.serve.store import Exposure, Feedback, Shown, Slate

TRENDS = {"sources": [{"kind": "trending", "hours": 100_000.0}], "name": "trends"}
SPEC: dict[str, Any] = {
    "kind": "interleaving",
    "variants": [{"name": "trends", "pipeline": TRENDS}, {"name": "personal"}],
    "metrics": [{"name": "clicks", "kind": "feedback", "type": "click"}, {"name": "likes", "kind": "feedback", "type": "like"}],
    "planned": 60,
}


def start(live: Any, **changed: Any) -> None:
    live.post("/v1/experiments", name="taste", spec={**SPEC, **changed})
    assert live.call("POST", "/v1/experiments/taste/start").json()["state"] == "running"


def test_people_prefer_the_ranking_that_knows_them(live: Any) -> None:
    start(live)
    rng, teams = np.random.default_rng(0), []
    for person in range(60):
        for _ in range(2):
            slate = live.post("/v1/recommendations", user=f"u{person}", k=6)
            assert (slate["experiment"], slate["variant"], slate["policy"]) == ("taste", "interleaved", "interleaved")
            assert slate["model"] is None and len(slate["items"]) == 6
            assert {item["propensity"] for item in slate["items"]} <= {0.5, 1.0}
            live.service.settle()
            kept = live.store.slate(slate["slate"])
            assert [shown.item for shown in kept.items] == [item["id"] for item in slate["items"]] and kept.stochastic
            assert [shown.propensity for shown in kept.items] == [item["propensity"] for item in slate["items"]]
            teams += [shown.team for shown in kept.items]
            for item in slate["items"]:
                if rng.random() < (0.7 if int(item["id"][1:]) % 2 == person % 2 else 0.1):
                    live.post("/v1/feedback", slate=slate["slate"], item=item["id"])
                    live.post("/v1/feedback", slate=slate["slate"], item=item["id"], kind="hide")
    live.service.settle()
    assert set(teams) == {"trends", "personal"} and abs(teams.count("trends") - 360) < 60
    found = live.call("GET", "/v1/experiments/taste").json()
    clicks, likes = found["comparisons"]
    assert (found["kind"], found["units"], found["state"], found["variants"]) == (
        "interleaving",
        60,
        "running",
        ["trends", "personal"],
    )
    assert clicks["conclusion"] == "higher at the planned size" and clicks["variant"] == "personal"
    assert clicks["wins"] + clicks["losses"] + clicks["ties"] == 60 and clicks["wins"] > 3 * clicks["losses"]
    assert clicks["difference"] == pytest.approx((clicks["wins"] + clicks["ties"] / 2) / 60 - 0.5)
    assert clicks["fixed"]["low"] > 0 and clicks["fixed"]["p_adjusted"] < 0.01
    assert likes["ties"] == 60 and likes["conclusion"] == "no difference shown" and likes["difference"] == 0
    assert any("personal is preferred at the planned size" in line for line in found["words"])
    judged = offpolicy.judge(live.service, live.service.settings.pipeline, policy="interleaved")
    assert judged.slates > 50


def test_the_trace_tells_both_ways_and_who_supplied_what(live: Any) -> None:
    start(live)
    slate = live.post("/v1/recommendations", user="u1", k=4, trace=True, why=True)
    steps = [step["step"] for step in slate["trace"]]
    assert steps[-1] == "team draft" and {step.split(":")[0] for step in steps[:-1]} == {"trends", "personal"}
    owners = [item["moves"][-1] for item in slate["items"]]
    assert set(owners) == {"supplied by trends", "supplied by personal"}
    assert all(
        bool(item["why"]) == (owner == "supplied by personal") for item, owner in zip(slate["items"], owners, strict=True)
    )
    assert live.post("/v1/recommendations", user="u1", k=4, experiments=False)["experiment"] is None
    assert live.post("/v1/recommendations", anonymous="visit-1", k=4)["variant"] == "interleaved"


def test_limits_and_what_was_seen_hold_for_the_whole_list(live: Any) -> None:
    caps = [{"field": "categories", "most": 2}, {"field": "maker", "most": 1}]
    both = [{"name": "a", "pipeline": {**TRENDS, "caps": caps}}, {"name": "b", "pipeline": {"caps": caps, "seen": "allow"}}]
    assert (
        "same caps"
        in live.call(
            "POST", "/v1/experiments", {"name": "x", "spec": {**SPEC, "variants": [both[0], SPEC["variants"][1]]}}
        ).text
    )
    start(live, variants=both)
    for person in range(20):
        slate = live.post("/v1/recommendations", user=f"u{person}", k=4)
        items = [live.service.catalogue.known(item["id"]) for item in slate["items"]]
        assert len(items) == 4 and len({item.attributes["maker"] for item in items}) == 4
        assert sorted(item.categories[0] for item in items) == ["garden"] * 2 + ["space"] * 2
        live.service.settle()
        seen = {event.item for event in live.store.events_of(f"u{person}", 100)}
        assert not seen & {shown.item for shown in live.store.slate(slate["slate"]).items if shown.team == "a"}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"variants": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}, "two variants"),
        ({"variants": [{"name": "a"}, {"name": "b", "weight": 2.0}]}, "no weights"),
        ({"metrics": [{"name": "x", "kind": "events"}]}, "feedback"),
        ({"metrics": [*SPEC["metrics"], {"name": "h", "kind": "feedback", "guardrail": 0.1}]}, "guardrails"),
        ({"covariate_days": 7.0}, "covariates"),
        ({"kind": "interleaved"}, "kind"),
    ],
)
def test_mistakes_are_refused(live_shared: Any, changed: dict[str, Any], word: str) -> None:
    response = live_shared.call("POST", "/v1/experiments", {"name": "wrong", "spec": {**SPEC, **changed}})
    assert response.status_code == 422 and word in response.text, response.text


def test_without_a_record_of_exposure_nothing_is_said(live: Any) -> None:
    start(live)
    refused = live.call("GET", "/v1/experiments/taste")
    assert refused.status_code == 422 and "nobody has met" in refused.text
    slate = Slate(
        "s", (Shown("i0", 1, team="trends"), Shown("i1", 2, team="personal")), user="u0", stochastic=False, experiment="taste"
    )
    live.store.add_exposures([Exposure("taste", "u0", "interleaved")])
    live.store.add_slates([slate])
    live.store.add_feedback([Feedback("s", "i1"), Feedback("s", "i0", "skip")])
    spec = ExperimentSpec.parse({**SPEC, "metrics": [{"name": "all", "kind": "feedback"}]})
    found = reading(live.store, "taste", spec)["comparisons"][0]
    assert (found["wins"], found["losses"], found["ties"]) == (1, 0, 0)  # what speaks against an item is no choice of it
    assert analysis(live.store, "taste")["comparisons"][0]["conclusion"] == "not yet known"
    live.store.add_slates([Slate("t", (Shown("i2", 1, team="personal"),), user="u1", stochastic=False, experiment="taste")])
    live.store.add_feedback([Feedback("t", "i2")])
    refused = live.call("GET", "/v1/experiments/taste")
    assert refused.status_code == 422 and "without an exposure" in refused.text
    live.store.add_exposures([Exposure("taste", "u1", "interleaved")])
    assert live.call("GET", "/v1/experiments/taste").status_code == 200
    live.store.add_slates([Slate("v", (Shown("i2", 1),), user="u1", stochastic=False, experiment="taste")])
    refused = live.call("GET", "/v1/experiments/taste")
    assert refused.status_code == 422 and "without a team" in refused.text


def test_the_interval_at_any_time_holds_at_every_look() -> None:
    """No preference, 18 looks at 1,000 experiments: 5 % have one without the truth at most; a true one is found."""
    rng = np.random.default_rng(3)

    def alarms(wins: float, losses: float, experiments: int) -> float:
        votes = rng.choice([0.5, 0.0, -0.5], p=[wins, 1 - wins - losses, losses], size=(experiments, 1_000))
        looks = range(150, 1_001, 50)
        return float(np.mean([any(not _holds(row[:n]) for n in looks) for row in votes]))

    assert alarms(0.1, 0.1, 1_000) <= 0.05
    assert alarms(0.16, 0.08, 100) > 0.8


@pytest.mark.parametrize("rate", [0.98, 0.995])
def test_where_nearly_all_agree_the_intervals_hold_too(rate: float) -> None:
    """130 people, of whom often all choose one side: neither interval may take that for certain."""
    rng, n, missed, known = np.random.default_rng(5), 130, np.zeros(2), 0
    for _ in range(300):
        wins = int(rng.binomial(n, rate))
        credits = np.tile([1.0, 0.0], (n, 1))
        credits[wins:] = [0.0, 1.0]
        (one,) = preferences(credits, np.arange(n), resamples=200)
        low, high, p = _at_any_time(one, 1_000)
        missed += [not a <= rate - 0.5 <= b for a, b in ((one.low, one.high), (low, high))]
        known += p < 0.05
    assert missed[1] / 300 < 0.05 and known == 300
    assert missed[0] / 300 < 0.12, "the bootstrap is short where only some few differ, but no longer certain where none does"


def _holds(votes: np.ndarray) -> bool:
    wins, losses = int((votes > 0).sum()), int((votes < 0).sum())
    one = Preference("b", "a", len(votes), wins, losses, len(votes) - wins - losses, float(votes.mean()), 0, 0, 1, 1)
    low, high, p = _at_any_time(one, 1_000)
    assert (p < 0.05) == (low > 0 or high < 0)
    return low <= 0 <= high
