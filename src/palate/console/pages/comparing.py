"""Two models side by side, on the same person: what both offer, and what only one does."""

from __future__ import annotations

from collections.abc import Callable

from palate.console import parts, slates
from palate.console.desk import Visit
from palate.serve import wire
from palate.serve.models import production


async def panel(visit: Visit, asked: Callable[[str], wire.RecommendIn]) -> None:
    """Show the choice of two models, and their answers.

    Parameters
    ----------
    asked
        Returns the question for a version.
    """
    found = await visit.call(production.list_models, visit.service)
    versions = {model.version: model.version for model in found.models}
    with parts.panel("Two models side by side", "The same person and wishes, put to both; these answers are not logged."):
        if len(versions) < 2:
            parts.text("Two published models are needed: retrain another system on the page Models.", classes="soft")
            return
        names = list(versions)
        first = found.active or names[0]
        with parts.box("div", "line"):
            left = parts.select("One", versions, first)
            right = parts.select("The other", versions, next(name for name in names if name != first))
            parts.button("Compare", visit.guarded(lambda: compare()))
        place = parts.box("div", "stack")

    async def compare() -> None:
        pair = [await visit.call(slates.recommend, visit.service, asked(choice.value)) for choice in (left, right)]
        ids = [[item.id for item in slate.items] for slate in pair]
        both = [item for item in ids[0] if item in ids[1]]
        place.clear()
        with place:
            parts.text(f"{len(both)} of {max(map(len, ids))} items are in both lists.").props["role"] = "status"
            with parts.box("div", "two"):
                for choice, slate in zip((left, right), pair, strict=True):
                    with parts.box("div"):
                        parts.text(str(choice.value), "h3")
                        slates.offers(slate, f"Recommendations of {choice.value}", new=both, badge="both")
