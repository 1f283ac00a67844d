"""From logged propensities to what another pipeline would earn: held against the truth, which is known here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.serve.settings import ServiceSettings
from palate.serve.store import Event

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
    for name in ("rips", "snrips"):
        row = by[name]
        assert row["refused"] is None
        assert row["low"] - 0.05 <= truth <= row["high"] + 0.05, (name, row, truth)
    same = exploring.post("/v1/experiments/offpolicy", pipeline={})
    for row in same["estimates"]:
        assert row["value"] == pytest.approx(same["logged"])


def test_without_chance_in_the_log_nothing_is_estimated(live: Any) -> None:
    live.post("/v1/recommendations", user="u1", k=3)
    live.service.settle()
    response = live.call("POST", "/v1/experiments/offpolicy", {"pipeline": {}})
    assert response.status_code == 422 and "explore" in response.json()["remedy"]


def test_a_wrong_pipeline_is_refused(live: Any) -> None:
    assert live.call("POST", "/v1/experiments/offpolicy", {"pipeline": {"nonsense": 1}}).status_code == 422
