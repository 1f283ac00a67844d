"""From logged propensities to what another pipeline would earn: held against the truth, which is known here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.serve.experiments import offpolicy
from palate.serve.pipeline.sources import Question
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, Shown, Slate

EXPLORING = ServiceSettings().replace(
    pipeline={"explore": {"kind": "epsilon", "epsilon": 0.5, "pool": 8}, "sources": [{"kind": "model"}]}
)


@pytest.fixture
def exploring(tmp_path: Path, open_live: Any) -> Iterator[Any]:
    """A service that explores."""
    yield from open_live(tmp_path, EXPLORING)


def rate(item: str) -> float:
    """Return the chance of a click on an item: the higher its number, the better."""
    return 0.1 + 0.02 * int(item[1:])


def test_an_estimate_covers_the_truth(exploring: Any) -> None:
    rng = np.random.default_rng(0)
    tastes = [[f"i{2 * i + n % 2}" for i in rng.choice(20, 5, replace=False)] for n in range(600)]
    exploring.store.add_events([Event(f"v{n}", item, time=1_600_000_000.0) for n, items in enumerate(tastes) for item in items])
    people = [f"v{n}" for n in range(600)]
    for user in people:
        slate = exploring.post("/v1/recommendations", user=user, k=2)
        assert min(item["propensity"] for item in slate["items"]) < 1
        for item in slate["items"]:
            if rng.random() < rate(item["id"]):
                exploring.post("/v1/feedback", slate=slate["slate"], item=item["id"])
    exploring.service.settle()
    greedy = {"explore": {"kind": "none"}}
    found = exploring.post("/v1/experiments/offpolicy", pipeline=greedy)
    shown = {u: exploring.ids(user=u, k=2, experiments=False) for u in set(people)}
    truth = float(np.mean([sum(rate(item) for item in shown[user]) for user in people]))
    by = {row["name"]: row for row in found["estimates"]}
    assert found["slates"] == 600 and found["width"] == 2
    assert list(by) == [*offpolicy.NAMES, "cascade_dr", *offpolicy.WHOLE]
    for name in ("rips", "snrips", "cascade_dr", "dr"):
        row = by[name]
        assert row["refused"] is None
        assert row["low"] <= truth <= row["high"], (name, row, truth)
    same = exploring.post("/v1/experiments/offpolicy", pipeline={})
    for row in same["estimates"]:
        if row["name"] in (*offpolicy.NAMES, "clipped_ips"):
            assert row["value"] == pytest.approx(same["logged"])
        else:
            assert row["low"] < same["logged"] < row["high"]


WORLD = EXPLORING.replace(
    pipeline={
        "explore": {"kind": "epsilon", "epsilon": 0.5, "pool": 8},
        "sources": [{"kind": "model"}, {"kind": "similar"}, {"kind": "search"}],
    }
)


@pytest.fixture
def asking(tmp_path: Path, open_live: Any) -> Iterator[Any]:
    """A service that explores, with sources that read more of a request than who asks."""
    yield from open_live(tmp_path, WORLD)


def _request(n: int) -> dict[str, Any]:
    """Return one of several kinds of requests, each with something that changes the answer."""
    kinds: list[dict[str, Any]] = [
        {"user": f"w{n}", "filter": {"not": {"field": "price", "op": "<", "value": 12}}},
        {"user": f"w{n}", "diversity": 0.7},
        {"user": f"w{n}", "text": "garden number 7", "exclude": ["i7", "i9"]},
        {"user": f"w{n}", "items": ["i4", "i8"], "seen": "allow"},
        {"user": f"w{n}", "history": ["i1", {"item": "i3", "time": 5.0}]},
        {
            "anonymous": f"visit-{n}",
            "history": [f"i{n % 40}"],
            "filter": {"field": "categories", "op": "has", "value": "space"},
        },
    ]
    return {**kinds[n % len(kinds)], "k": 3, "context": {"device": "phone"}}


def test_a_policy_judged_by_its_own_log_earns_what_it_earned(asking: Any) -> None:
    """Whatever the requests said: every weight is 1, so every estimate is the mean that was logged."""
    rng = np.random.default_rng(3)
    past = [Event(f"w{n}", f"i{n * 7 % 40}", time=1_600_000_000.0 + at) for n in range(132) for at in range(2)]
    asking.store.add_events(past)
    for n in range(132):
        slate = asking.post("/v1/recommendations", **_request(n))
        for item in slate["items"]:
            if rng.random() < 0.4:
                asking.post("/v1/feedback", slate=slate["slate"], item=item["id"])
    later = [Event(f"w{n}", f"i{n % 40}", time=1_700_000_000.0) for n in range(132)]
    asking.store.add_events(later)  # what people do afterwards changes nothing of what they were
    asking.service.settle()
    found = asking.post("/v1/experiments/offpolicy", pipeline={})
    assert found["slates"] == 132 and found["left_out"] == {} and sum(found["policies"].values()) == 132
    for row in found["estimates"]:
        if row["name"] in (*offpolicy.NAMES, "clipped_ips"):
            assert row["refused"] is None and row["mean_weight"] == pytest.approx(1.0), row
            assert row["value"] == pytest.approx(found["logged"])


def test_what_can_not_be_asked_again_is_left_out_and_counted(exploring: Any) -> None:
    for n in range(4):
        exploring.post("/v1/recommendations", user=f"u{n}", k=2)
    exploring.post("/v1/recommendations", user="u5", k=3)
    exploring.post("/v1/recommendations", user="u5", k=2, experiments=False)
    exploring.post("/v1/recommendations", history=["i1"], k=2)
    exploring.post("/v1/recommendations", user="u6", k=2, exclude=["x" * 190 + f"{n}" for n in range(400)])
    gone = exploring.post("/v1/recommendations", user="u7", k=2, items=["i3"])
    shown = (Shown("i1", 1, 0.5), Shown("i2", 2, 0.5))
    exploring.service.settle()
    exploring.store.add_slates(
        [Slate("old", shown, user="u1", policy="default"), Slate("two", shown, user="u1", policy="interleaved", asked={"k": 2})]
    )
    assert exploring.store.slate(gone["slate"]).asked == {"k": 2, "items": ["i3"]}
    assert exploring.call("DELETE", "/v1/items/i3").status_code == 200
    found = exploring.post("/v1/experiments/offpolicy", pipeline={})
    assert found["slates"] == 4
    assert found["left_out"] == {
        "drafted from two lists by an experiment": 1,
        "nothing was drawn by chance": 1,
        "for nobody known": 1,
        "it is not on record what was asked": 2,
        "of another length than most": 1,
        "the request starts from items that are gone": 1,
    }
    only = exploring.post("/v1/experiments/offpolicy", pipeline={}, policy="interleaved")
    assert only["policies"] == {"interleaved": 1} and only["left_out"] == {}


def test_without_chance_in_the_log_nothing_is_estimated(live: Any) -> None:
    live.post("/v1/recommendations", user="u1", k=3)
    live.service.settle()
    response = live.call("POST", "/v1/experiments/offpolicy", {"pipeline": {}})
    assert response.status_code == 422 and "explore" in response.json()["remedy"]


def test_a_wrong_pipeline_is_refused(live: Any) -> None:
    assert live.call("POST", "/v1/experiments/offpolicy", {"pipeline": {"nonsense": 1}}).status_code == 422


def test_no_more_slates_are_looked_at_than_asked_for(exploring: Any) -> None:
    """The latest ones, each whole, however many rows the slates before them have."""
    shown = (Shown("i1", 1, 0.5), Shown("i2", 2, 0.5))
    exploring.store.add_slates(
        [Slate(f"s{n}", shown, user=f"u{n}", policy=f"p{n}", time=100.0 + n, stochastic=True, asked={"k": 2}) for n in range(7)]
    )
    config = exploring.service.settings.pipeline
    for most in (1, 3):
        found = offpolicy.judge(exploring.service, config, most=most)
        assert found.slates == most and set(found.policies) == {f"p{n}" for n in range(7 - most, 7)}
        assert found.width == 2 and found.left_out == {}
    assert offpolicy.judge(exploring.service, config, most=20).slates == 7


def test_a_slate_of_which_rows_were_left_out_is_not_taken_for_a_shorter_one(exploring: Any) -> None:
    """Slates may be longer than any that the service gives by now."""
    service = exploring.service
    service.settings = service.settings.replace(server={**service.settings.server.model_dump(), "max_k": 2})
    shown = tuple(Shown(f"i{n}", n + 1, 0.5) for n in range(3))
    exploring.store.add_slates(
        [Slate(f"s{n}", shown, user=f"u{n}", policy=f"p{n}", time=100.0 + n, stochastic=True, asked={"k": 3}) for n in range(3)]
    )
    found = offpolicy.judge(service, service.settings.pipeline, most=2)
    assert (found.slates, found.width, set(found.policies)) == (1, 3, {"p2"})


def test_each_slate_of_a_candidate_has_limits_of_its_own(live: Any) -> None:
    """Five makers, one item of each: every slate that is drawn for an estimate is whole."""
    service = live.service
    config = EXPLORING.pipeline.replace(caps=[{"field": "maker", "most": 1}], seen="allow")
    pipeline, person = service.pipeline_of(config), service.person("u1")
    question = Question(person, 5, now=service.clock())
    shown = np.array([pick.row for pick in pipeline.answer(question, service.rng).picks])
    prospect = pipeline.prospect(question, shown, service.rng(), 4)
    assert [len(slate) for slate in prospect.slates] == [5] * 4
    assert (prospect.likelihood(shown) > 0).all()
