"""People: somebody or a typed history, what they chose, what they get now and why; steer, give feedback, compare, erase."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui

from palate.console import format as show
from palate.console import numbers, parts, slates
from palate.console.desk import Visit
from palate.console.frame import page
from palate.console.pages import comparing
from palate.serve import answers, privacy, records, wire
from palate.serve.models import production
from palate.serve.models.kinds import kind_of

#: What may be said of an item in a slate, and the length of answers.
KINDS, K = ("click", "like", "dislike", "hide"), 10
#: What an item is by what was said of it, where that changes answers.
SAID = {"hide": "hidden", "dislike": "disliked", "like": "liked"}


@dataclass
class Whom:
    """Whom the page is about, and how the answer is steered.

    Attributes
    ----------
    user
        Id, or ``None`` for a typed history.
    history
        Ids of items, most recent last.
    text, category, price, diversity, model
        As in a request; ``None`` or empty leaves it to the service.
    before
        Ids of the answer before.
    titles
        Of items that were offered.
    """

    user: str | None = None
    history: list[str] = field(default_factory=list)
    text: str = ""
    category: str = ""
    price: float | None = None
    diversity: float | None = None
    model: str = ""
    before: list[str] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)

    def asked(self, model: str | None = None) -> wire.RecommendIn:
        """Return the question; a named model's answer is not logged."""
        wanted: list[dict[str, Any]] = []
        if self.category:
            wanted.append({"field": "categories", "op": "has", "value": self.category})
        if self.price is not None:
            wanted.append({"field": "price", "op": "<=", "value": float(self.price)})
        return wire.RecommendIn.model_validate(
            {
                "user": self.user,
                "history": list(self.history) or None,
                "text": self.text or None,
                "k": K,
                "filter": {"all": wanted} if wanted else None,
                "diversity": self.diversity,
                "model": model or self.model or None,
                "experiments": False,
                "context": {"console": True},
                "trace": True,
                "why": True,
            }
        )


@page("people")
async def people(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("People", "h1")
    user, history = request.query_params.get("user", ""), request.query_params.get("history", "")
    await _find(visit, user, history)
    if not user and not history:
        return
    whom = Whom(user or None, [] if user else _ids(history))
    await visit.call(visit.service.pulse)
    with parts.box("div", "aside"):
        past = parts.box("div", "stack")
        with parts.box("div"):
            await _live(visit, whom, past)
    await comparing.panel(visit, whom.asked)
    if user:
        _rights(visit, user)


def _ids(written: str) -> list[str]:
    return [part.strip() for part in written.replace("\n", ",").split(",") if part.strip()]


async def _find(visit: Visit, user: str, history: str) -> None:
    """Show the form that finds a person."""
    with parts.panel("Whom to look at"):
        with parts.box("div", "line"):
            who = parts.entry("Id of a person", user, "wide")
            parts.button("Show", _go(lambda: {"user": who.value.strip()}), name="Show this person")
        with parts.box("div", "line"):
            past = parts.entry("Or a history: ids of items, most recent last, comma between", history, "wide")
            parts.button("Try", _go(lambda: {"history": past.value.strip()}), name="Try this history", kind="side")
        who.on("keydown.enter", _go(lambda: {"user": who.value.strip()}))
        past.on("keydown.enter", _go(lambda: {"history": past.value.strip()}))
        lately = await visit.call(numbers.latest_people, visit.service.store, 8)
        if lately:
            with parts.box("div", "line"):
                parts.text("Active lately:", "span", "soft small")
                for one in lately:
                    parts.link(one, show.address("people", user=one))


def _go(query: Any) -> Any:
    async def go() -> None:
        found = query()
        if all(found.values()):
            parts.go_to("people", **found)

    return go


async def _live(visit: Visit, whom: Whom, past: Any) -> None:
    """Show what the person gets now, and redraw it after every act."""
    with parts.panel(
        "What they would get now", "Answered by the service as it stands; the console's answers are marked in the log."
    ):
        with parts.box("div", "line"):
            await _steer(visit, whom, lambda: again("asked again"))
        status = parts.text("", classes="small")
        status.props["role"] = "status"
        place = parts.box("div", "stack")

    async def again(did: str) -> None:
        before = list(whom.before)
        slate = await visit.call(slates.recommend, visit.service, whom.asked())
        await _history(visit, whom, past, again)
        ids = [item.id for item in slate.items]
        whom.titles |= {item.id: item.title for item in slate.items}
        told = slates.changes(before, ids, whom.titles)
        status.set_text(f"{did[:1].upper()}{did[1:]}. {told}" if before else "")
        whom.before = ids
        place.clear()
        with place:
            if whom.text and not _searches(visit):
                parts.alert(NO_WORDS)
            if slate.cold:
                parts.alert("Nothing is known of this person yet: they get what is liked by many.")
            new = [item for item in ids if before and item not in before]
            slates.offers(slate, "Recommendations", new=new, act=partial(_acts, visit, whom, slate, again))
            _steps(slate)

    await again("asked")


#: What is said where a pipeline can't be steered by words.
NO_WORDS = "Words don't steer this pipeline: it has no source of the kind search or meaning. Add one to [[pipeline.sources]]."


def _searches(visit: Visit) -> bool:
    """Say whether words of a request can bring items into the answer."""
    return any(source.kind in ("search", "meaning") for source in visit.service.settings.pipeline.sources)


def _steps(slate: wire.Slate) -> None:
    """Show how the answer came about."""
    with parts.box("details"):
        parts.text("How this answer came about", "summary")
        parts.text(f"Policy {slate.policy}, model {slate.model or 'none'}.", classes="small")
        rows: list[list[parts.Cell]] = [
            [step.step, str(step.came), str(step.left), f"{step.ms:.2f}", step.note] for step in slate.trace or []
        ]
        parts.table("Steps of the pipeline", ["Step", "Came in", "Left", "ms", "Note"], rows, right=(1, 2, 3))


async def _steer(visit: Visit, whom: Whom, ask: Any) -> None:
    """Show what steers the answer."""
    categories = await visit.call(_categories, visit)
    published = await visit.call(production.list_models, visit.service)
    versions = {
        "": "as the service answers",
        **{m.version: m.version for m in published.models if kind_of(m.system) == "model"},
    }
    text = parts.entry("What they feel like, in words", classes="wide")
    category = parts.select("Category", {"": "any", **{name: name for name in categories}}, "")
    price = parts.figure("Price at most", None, min=0)
    model = parts.select("Model", versions, "")
    with parts.box("div", "field"):
        label = parts.text("Diversity: as configured", "div", "small soft")
        slider = ui.slider(min=0, max=1, step=0.1, value=0).props("aria-label='Diversity from 0 to 1' label")

    async def ask_now(*_: Any) -> None:
        whom.text, whom.category, whom.price = text.value.strip(), category.value or "", price.value
        whom.model = model.value or ""
        await ask()

    async def diversify(*_: Any) -> None:
        whom.diversity = float(slider.value)
        label.set_text(f"Diversity: {whom.diversity:.1f}")
        await ask_now()

    safe = visit.guarded(ask_now)
    for field_ in (category, model):
        field_.on_value_change(safe)
    for line in (text, price):
        line.on("keydown.enter", safe)
    slider.on("change", visit.guarded(diversify), args=[])
    parts.button("Ask again", safe)


def _categories(visit: Visit) -> list[str]:
    return sorted({name for item in visit.service.catalogue.items if item.shown for name in item.categories})[:500]


async def _history(visit: Visit, whom: Whom, place: Any, again: Any) -> None:
    """Show what the person chose, and what they said of items, newest first."""
    service, said = visit.service, []
    if whom.user is not None:
        found = await visit.call(answers.profile, service, whom.user, 30)
        recent = [
            (str(e["item"]), str(e["title"]), f"{e['type']} · {show.ago(e['time'], service.clock())}") for e in found.recent
        ]
        title, total, taste, said = f"What {whom.user} chose", found.events, found.taste, found.said
    else:
        known = {i: service.catalogue.known(i) for i in whom.history}
        recent = [
            (i, (item.title or i) if item is not None else i, "" if item is not None else "not in the catalogue")
            for i, item in reversed(known.items())
        ]
        title, total, taste = "The history given", len(whom.history), {}
    place.clear()
    with place, parts.panel(title, show.counted(total, "event") + ", the latest first."):
        if taste:
            top = list(taste.items())[:5]
            parts.text("Taste: " + ", ".join(f"{name} {part:.0%}" for name, part in top), classes="small")
        if not recent:
            parts.text("Nothing yet.", classes="soft")
        with parts.box("ul", "plain", aria_label=title):
            for item, name, about in recent:
                with parts.box("li"):
                    entry = service.catalogue.known(item)
                    parts.thumb(None if entry is None else entry.image)
                    with parts.box("div", "body"):
                        parts.link(name, show.address("items", item=item))
                        parts.text(about, "div", "soft small")

    if said:
        about = "What is hidden or disliked never comes; what is liked counts as chosen."
        with place, parts.panel("What they said", about), parts.box("ul", "plain", aria_label="What they said of items"):
            for word in said:
                with parts.box("li"):
                    _word(visit, word, again)


def _word(visit: Visit, word: dict[str, Any], again: Any) -> None:
    """Show what was said of an item, and let it be taken back."""

    async def take_back() -> None:
        await _tell(visit, word["slate"], word["item"], word["kind"], 0.0)
        await again(f"{word['title']} is not {SAID[word['kind']]} any more")

    with parts.box("div", "body"):
        parts.link(word["title"], show.address("items", item=word["item"]))
        parts.text(f"{SAID[word['kind']]} · {show.ago(word['time'], visit.service.clock())}", "div", "soft small")
    if visit.may("write"):
        parts.button(
            "Take back", visit.guarded(take_back), name=f"Take back: {word['title']} is {SAID[word['kind']]}", kind="small"
        )


async def _tell(visit: Visit, slate: str, item: str, kind: str, value: float = 1.0) -> None:
    """Have feedback kept, with an id of its own: it may be said, taken back and said again."""
    given = wire.FeedbackIn(slate=slate, item=item, kind=kind, value=value, id=uuid.uuid4().hex)
    await visit.call(visit.service.settle)
    await visit.call(lambda: records.keep_feedback(visit.service, given).result(), scope="write")
    visit.service.forget_caches()


def _acts(visit: Visit, whom: Whom, slate: wire.Slate, again: Any, item: wire.Offered) -> None:
    """Put feedback and events under an item."""

    async def say(kind: str) -> None:
        assert slate.slate is not None
        await _tell(visit, slate.slate, item.id, kind)
        await again(f"{kind} on {item.title} is kept")

    async def choose() -> None:
        if whom.user is None:
            whom.history.append(item.id)
        else:
            event = wire.EventIn(user=whom.user, item=item.id, type="view")
            await visit.call(lambda: records.keep_events(visit.service, [event]).result(), scope="write")
        await again(f"they chose {item.title}")

    if whom.user is None or visit.may("write"):
        parts.button("They chose it", visit.guarded(choose), name=f"They chose {item.title}", kind="small")
    if visit.may("write") and slate.slate is not None:
        for kind in KINDS:
            work = visit.guarded(partial(say, kind))
            parts.button(kind.title(), work, name=f"{kind.title()} {item.title}", kind="small")


def _rights(visit: Visit, user: str) -> None:
    """Let an administrator take out, or erase, everything about a person."""
    with parts.panel("Rights", "Take out everything that is held about this person, or erase it."):
        if not visit.may("admin"):
            parts.text("This needs a key with the scope admin.", classes="soft")
            return

        async def export() -> None:
            held = await visit.call(privacy.export, visit.service, user, scope="admin")
            ui.download.content(json.dumps(held, indent=2, ensure_ascii=False, default=str), "person.json", "application/json")

        async def erase() -> None:
            question = f"Erase {user}?"
            consequence = "Every row about this person goes from the store and from the bundles. This can't be undone."
            if not await parts.sure(question, consequence, "Erase"):
                return
            gone = await visit.call(privacy.erase, visit.service, user, scope="admin")
            place.clear()
            with place:
                rows = ", ".join(show.counted(n, name.rstrip("s"), name) for name, n in gone.removed.items() if n) or "no rows"
                owed = f" Retrain to finish it: {', '.join(gone.retrain)} learnt from this person." if gone.retrain else ""
                parts.alert(f"{user} is erased: {rows}.{owed}", "fine")
                if gone.unchecked:
                    words = f"These bundles are gone from this machine, or damaged: {', '.join(gone.unchecked)}."
                    parts.alert(f"{words} Look for the person there.")
                if not gone.files_clean:
                    parts.alert(
                        "The rows are gone; their bytes may still be in the database's files. Erase again to finish it."
                    )

        with parts.box("div", "line"):
            parts.button("Export", visit.guarded(export), name="Export everything about this person", kind="side")
            parts.button("Erase", visit.guarded(erase), name="Erase this person", kind="danger")
        place = parts.box("div", "stack")
