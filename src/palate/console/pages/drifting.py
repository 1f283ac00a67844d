"""Drift on the page Models: how far the last days are from the days before, and from what the active model learnt from."""

from __future__ import annotations

from palate.console import format as show
from palate.console import parts
from palate.console.desk import Visit
from palate.serve.models.drift import Drift, Scores, drift

#: Spans that can be chosen, in days.
SPANS = {1: "1 day", 7: "7 days", 30: "30 days", 90: "90 days"}
#: What is counted in both spans.
ACTIVITY = {"events": "Events", "people": "People", "items": "Items chosen", "offered": "Items offered"}


def panel(visit: Visit) -> None:
    """Show the choice of a span, and a place for the report."""
    about = (
        "What the last days are like beside the days before and beside the training data; how good the active model is on what "
        "it has not learnt from; and whether its scores have moved. Looking asks the model a few hundred times."
    )
    with parts.panel("Drift", about):
        with parts.box("div", "line middle"):
            days = parts.select("The last", SPANS, 7)

            async def look() -> None:
                found = await visit.call(drift, visit.service, float(days.value))
                place.clear()
                with place:
                    _report(found)

            parts.button("Look for drift", visit.guarded(look))
        place = parts.box("div", "stack")


def _report(found: Drift) -> None:
    """Show what changed."""
    for words in found.alerts:
        parts.alert(show.sentence(f"{words}."))
    if not found.alerts:
        parts.alert("Nothing has changed much.", "fine")
    parts.tiles(
        {
            "Events by people unknown to the model": show.share(found.unknown_people),
            "Events on items unknown to the model": show.share(found.unknown_items),
            "Stability of what is chosen (above 0.25: much has changed)": show.number(found.stability),
            "Catalogue offered": show.share(found.coverage),
            "NDCG@10 on what it has not learnt from": show.number(found.ndcg),
            "Asked about": show.counted(found.asked, "person", "people"),
        }
    )
    if found.why_not is not None:
        parts.text(show.sentence(f"{found.why_not}, so accuracy can't be told."), classes="soft")
    span = SPANS.get(int(found.days), f"{found.days:g} days")
    rows = [[title, f"{found.now[name]:,}", f"{found.before[name]:,}"] for name, title in ACTIVITY.items()]
    parts.table("Activity", ["What", f"Last {span}", f"The {span} before"], rows)
    if found.scores is None:
        parts.text("Scores can't be compared: fewer than 20 people were here whom the model knows anything of.", classes="soft")
    else:
        _scores(found.scores)


def _scores(scores: Scores) -> None:
    words = f"Largest distance of the two distributions: {scores.distance:.2f} of 1."
    rows = [
        [f"{level:.0%} score below", show.number(then), show.number(now)]
        for level, then, now in zip(scores.levels, scores.then, scores.now, strict=True)
    ]
    people = (show.counted(n, "person", "people") for n in (scores.people_then, scores.people_now))
    parts.table(
        "Scores of people", ["Share", *(f"{name} ({n})" for name, n in zip(("In training", "Now"), people, strict=True))], rows
    )
    parts.text(words, classes="soft small")
