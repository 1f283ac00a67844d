"""Items: find one by words, see its neighbours and who would get it, change whether it may be shown."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from palate.console import format as show
from palate.console import numbers, parts, slates
from palate.console.desk import Visit
from palate.console.frame import page
from palate.progress import Progress, ProgressEvent
from palate.serve import answers, records, wire

#: Neighbours shown, and the length of the lists in which an item is looked for.
NEIGHBOURS, K = 10, 10


@page("items")
async def items(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("Items", "h1")
    query, item = request.query_params.get("query", ""), request.query_params.get("item", "")
    await _search(visit, query)
    if item:
        found = await visit.call(records.get_item, visit.service, item)
        with parts.box("div", "two"):
            await _one(visit, found)
            await _neighbours(visit, item)
        await _reach(visit, found)


async def _search(visit: Visit, query: str) -> None:
    with parts.panel("Find an item"):

        async def go() -> None:
            if words.value.strip():
                parts.go_to("items", query=words.value.strip())

        with parts.box("div", "line"):
            words = parts.entry("Words, or an id", query, "wide")
            parts.button("Search", go)
        words.on("keydown.enter", go)
        if not query:
            return
        known = visit.service.catalogue.known(query)
        if known is not None:
            parts.link(f"The item with this id: {known.title or known.id}", show.address("items", item=known.id))
        found = await visit.call(answers.search, visit.service, wire.SearchIn(query=query, k=20))
        slates.scored(found, f"Items for “{query}”, best first")


async def _one(visit: Visit, found: wire.ItemOut) -> None:
    """Show what is kept of an item, and let it be hidden or shown."""

    async def turn() -> None:
        current = await visit.call(records.get_item, visit.service, found.id)
        changed = wire.ItemIn.model_validate({**current.model_dump(), "available": bool(switch.value)})
        await visit.call(records.put_items, visit.service, [changed], scope="write")
        visit.say(f"{found.title or found.id} {'may be shown again' if changed.available else 'is not shown any more'}.")

    with parts.panel(found.title or found.id):
        with parts.box("div", "line middle"):
            parts.thumb(found.image)
            parts.text(found.id, "span", "soft small")
        if found.text:
            parts.text(found.text[:600])
        facts = {
            "Categories": ", ".join(found.categories) or show.DASH,
            "Price": show.price(found.price) or show.DASH,
            "In the catalogue since": show.moment(found.created),
            **{str(name): show.plain(value) for name, value in list(found.attributes.items())[:20]},
        }
        parts.table("What is kept of it", ["Fact", "Value"], [[name, value] for name, value in facts.items()])
        switch = ui.switch("May be shown", value=found.available)
        if visit.may("write"):
            switch.on_value_change(visit.guarded(turn))
        else:
            switch.disable()
            parts.text("A key with the scope write may change it.", classes="soft small")


async def _neighbours(visit: Visit, item: str) -> None:
    with parts.panel("Neighbours", "What the active model takes to be like it."):
        asked = wire.SimilarIn(items=[item], k=NEIGHBOURS)

        async def fill() -> None:
            slates.scored(await visit.call(answers.similar, visit.service, asked), "Like this item, most alike first")

        await visit.guarded(fill)()


async def _reach(visit: Visit, found: wire.ItemOut) -> None:
    """Ask for a sample of active people, and count who has the item in their list."""
    about = (
        f"Active people are sampled; each gets a list of {K} from the active model. Named are those who have this item in it."
    )
    with parts.panel("Who gets it", about):
        with parts.box("div", "line"):
            sample = parts.figure("People in the sample", 50, min=1, max=500, step=10)
            press = parts.button("Look", visit.guarded(lambda: begin()))
            press.props["aria-label"] = "Look who gets it"
        place = parts.box("div", "stack")
    kind = f"reach of {found.id}"

    async def begin() -> None:
        count, service = int(sample.value or 50), visit.service

        def work(progress: Progress) -> tuple[list[tuple[str, int]], int]:
            version, lucky = service.model("active").version, []
            asked = numbers.latest_people(service.store, count)
            for at, user in enumerate(asked):
                slate = slates.recommend(service, wire.RecommendIn(user=user, k=K, model=version, experiments=False))
                lucky += [(user, one.position) for one in slate.items if one.id == found.id]
                progress(ProgressEvent("Ask", at + 1, len(asked)))
            return lucky, len(asked)

        await parts.work_in(visit, place, kind, "Who gets it", work, named)

    def named(found: tuple[list[tuple[str, int]], int]) -> None:
        lucky, asked = found
        parts.text(f"{len(lucky)} of {asked} people get it in their top {K}.").props["role"] = "status"
        rows: list[list[parts.Cell]] = [
            [lambda user=user: parts.link(user, show.address("people", user=user)), str(position)]  # type: ignore[misc]
            for user, position in sorted(lucky, key=lambda pair: pair[1])[:50]
        ]
        parts.table(
            "Who gets it, and at which place", ["Person", "Place"], rows, right=(1,), empty="Nobody of the sample does."
        )
