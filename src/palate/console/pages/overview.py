"""Overview: what needs a look, what is in the store, what came in and went out, what answers."""

from __future__ import annotations

from fastapi import Request

from palate.console import charts, numbers, parts
from palate.console import format as show
from palate.console.desk import Desk, Visit
from palate.console.frame import page

#: Tables of the store whose sizes stand among the data, and among the traffic.
HELD = {"events": "Events", "users": "People", "searches": "Searches", "items": "Items"}
ANSWERED = {"slates": "Slates", "feedback": "Feedback"}
#: Seconds for which the number of items offered lately is good: counting it reads every impression of a week.
FRESH = 60.0


@page("")
async def overview(visit: Visit, request: Request) -> None:
    """Fill the page."""
    service = visit.service
    seen, sizes, told = await visit.call(_look, visit.desk)
    parts.text("Overview", "h1")
    with parts.panel("Alerts"):
        if told:
            for line in told:
                parts.alert(line)
        else:
            parts.alert("Nothing needs a look.", "fine")
    with parts.panel("Data", "What the store holds, and whether it is fresh."):
        share = seen.offered / seen.offerable if seen.offerable else None
        parts.tiles(
            {
                **{title: f"{sizes.get(name, 0):,}" for name, title in HELD.items()},
                "Items that may be shown": f"{seen.offerable:,}",
                f"Of them offered in {numbers.LATELY} days": show.share(share),
                "Latest event": show.ago(seen.latest, service.clock()),
            }
        )
        _by_day(visit, "Events by day", seen.days, {"Events": seen.events})
    with parts.panel(
        "Traffic", "Answers given, and what people made of them; requests are counted since this process started."
    ):
        requests = _requests(visit.desk)
        parts.tiles(
            {
                **{title: f"{sizes.get(name, 0):,}" for name, title in ANSWERED.items()},
                f"Slates in {numbers.DAYS} days": f"{sum(seen.slates):,}",
                f"Feedback in {numbers.DAYS} days": f"{sum(seen.feedback):,}",
                "Requests": f"{sum(requests.values()):,}",
                "Refused or failed": f"{sum(n for status, n in requests.items() if status >= '4'):,}",
                "Slates not logged": f"{service.lost['slates']:,}",
            }
        )
        _by_day(visit, "Slates and feedback by day", seen.days, {"Slates": seen.slates, "Feedback": seen.feedback})
    with parts.panel("What answers"):
        active = service.shelf.active
        parts.tiles(
            {
                "Active model": "none" if active is None else active.version,
                "System": show.DASH if active is None else str(active.facts["system"]),
                "Policy": service.settings.pipeline.name,
                "Explores": service.settings.pipeline.explore.kind,
                "Published models": f"{sizes.get('models', 0):,}",
                "Running experiments": f"{len(await visit.call(service.running)):,} of {sizes.get('experiments', 0):,}",
            }
        )
        parts.link("To the models", "/console/models")


def _look(desk: Desk) -> tuple[numbers.Traffic, dict[str, int], list[str]]:
    desk.service.pulse()
    seen = numbers.traffic(desk.service, desk.lately("offered", FRESH, lambda: numbers.offered_lately(desk.service)))
    trouble = None if "retrain" not in desk.jobs else desk.jobs["retrain"].trouble
    refused = [trouble.value or trouble.what] if trouble is not None and trouble.where == "gate" else []
    return seen, desk.service.store.sizes(), numbers.alerts(desk.service, seen, refused)


def _requests(desk: Desk) -> dict[str, int]:
    """Return requests by status, as the service's meters counted them."""
    found: dict[str, int] = {}
    for family in desk.meters.registry.collect():
        for sample in family.samples:
            if sample.name == "palate_requests_total" and sample.labels["route"].startswith("/v1"):
                status = sample.labels["status"]
                found[status] = found.get(status, 0) + int(sample.value)
    return found


def _by_day(visit: Visit, name: str, days: list[str], series: dict[str, list[int]]) -> None:
    if not any(any(values) for values in series.values()):
        parts.text(f"{name}: none in {numbers.DAYS} days.", classes="soft")
        return
    whole = {title: [float(value) for value in values] for title, values in series.items()}
    rows = charts.day_rows(days, whole)
    charts.draw(visit, name, lambda dark: charts.by_day(dark, days, whole), ["Day", *series], rows, height=220)
