"""Drift: nothing is said while nothing changes; new people, new items and a turn of taste are told."""

from __future__ import annotations

from typing import Any

from palate.serve.store import Event

NOW, DAY = 1_700_000_000.0, 86_400.0


def report(live: Any, days: float = 7.0) -> dict[str, Any]:
    response = live.call("GET", f"/v1/models/drift?days={days}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_quiet_days_are_told(live: Any) -> None:
    found = report(live)
    assert found["now"]["events"] == 0 and "no event came in the last 7 days" in found["alerts"]
    assert found["stability"] is None and found["ndcg"] is None


def test_more_of_the_same_is_no_drift(live: Any) -> None:
    events = [Event(f"u{n}", f"i{(n * 7 + 2 * at) % 40}", time=NOW - DAY - n) for n in range(60) for at in range(3)]
    live.store.add_events(events)
    found = report(live)
    assert found["now"]["events"] == 180 and found["unknown_items"] == 0 and found["unknown_people"] == 0
    assert found["stability"] < 0.25 and found["asked"] > 20 and 0 <= found["ndcg"] <= 1
    assert not any("retrain" in words for words in found["alerts"])


def test_new_people_and_new_items_are_told(live: Any) -> None:
    live.store.add_events([Event(f"new{n}", f"thing{n % 3}", time=NOW - DAY) for n in range(100)])
    found = report(live)
    assert found["unknown_items"] == 1.0 and found["unknown_people"] == 1.0 and found["stability"] > 1
    assert sum("retrain" in words for words in found["alerts"]) == 3


def test_coverage_counts_what_was_offered(live: Any) -> None:
    for person in range(10):
        live.post("/v1/recommendations", user=f"u{person}", k=4)
    live.service.settle()
    found = report(live)
    assert found["coverage"] == found["now"]["offered"] / 40 > 0
