"""Drift: nothing is said while nothing changes; new people, new items and a turn of taste are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.data.histories import Histories
from palate.serve.models.production import publish
from palate.serve.models.retrain import retrain
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


def test_worth_is_asked_of_later_events_only(live: Any, tmp_path: Path) -> None:
    events = [Event(f"u{n}", f"i{(n * 7 + 2 * at) % 40}", time=NOW - DAY - n) for n in range(60) for at in range(3)]
    live.store.add_events(events)
    assert report(live)["asked"] > 20
    retrain(live.store, tmp_path / "models", gate=False)
    live.service.catch_up()
    learnt = report(live)
    assert learnt["ndcg"] is None and learnt["asked"] == 0 and "has not learnt from" in learnt["why_not"]
    assert learnt["now"]["events"] == 180  # all is there, and the model has learnt from it
    live.store.add_events([Event(f"u{n}", f"i{n % 2}", time=NOW - 60) for n in range(60)])
    later = report(live)
    assert 0 < later["asked"] <= 60 and later["why_not"] is None


def test_a_model_that_does_not_say_what_it_saw_is_not_asked(live: Any, tmp_path: Path) -> None:
    model = live.service.shelf.active.model
    model.record_ = replace(model.record_, notes={})
    model.histories_ = Histories(model.histories_.offsets, model.histories_.items)
    live.store.activate(publish(live.store, "foreign", model.save(tmp_path / "models" / "foreign")).version)
    live.service.catch_up()
    live.store.add_events([Event(f"u{n}", f"i{n % 2}", time=NOW - 60) for n in range(60)])
    found = report(live)
    assert found["ndcg"] is None and "not known what the active model has seen" in found["why_not"]


def test_scores_hold_while_people_do_and_move_when_they_change(live: Any) -> None:
    live.store.add_events([Event(f"u{n}", f"i{(n + 2 * at) % 40}", time=NOW - DAY) for n in range(60) for at in range(2)])
    same = report(live)
    scores = same["scores"]
    assert scores["people_then"] == scores["people_now"] == 60 and scores["then"] == sorted(scores["then"])
    assert scores["distance"] < 0.5 and not any("scores have moved" in told for told in same["alerts"])
    strange = [Event(f"s{n}", f"i{at}", time=NOW - 60) for n in range(300) for at in (n % 40, (n + 7) % 40)]
    live.store.add_events(strange)
    moved = report(live)
    assert moved["scores"]["people_now"] == 300
    assert (
        moved["scores"]["distance"] > 0.5
        and moved["scores"]["chance"] < 1e-6
        and moved["scores"]["now"][2] < moved["scores"]["then"][2]
    )
    assert any("scores have moved" in told for told in moved["alerts"])


def test_too_few_people_have_no_distribution(live: Any) -> None:
    live.store.add_events([Event(f"u{n}", "i1", time=NOW - DAY) for n in range(5)])
    assert report(live)["scores"] is None
