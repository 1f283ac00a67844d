"""Models: what is published and what answers; activate, roll back, retrain; drift, reports, curves, and what each costs."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui

from palate.catalog.registry import systems
from palate.console import format as show
from palate.console import numbers, parts, tradeoff
from palate.console.desk import Visit
from palate.console.frame import page
from palate.console.pages import drifting, reports, tradeoffs, training
from palate.console.setting import parse_settings, settings_table
from palate.console.weighing import Scale
from palate.progress import Progress
from palate.serve import wire
from palate.serve.models import production
from palate.serve.models.kinds import kind_of, use_of
from palate.serve.models.retrain import Retrained, retrain
from palate.serve.models.teaching import Taught, teach


@page("models")
async def models(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("Models", "h1")

    @ui.refreshable
    async def published() -> None:
        found = await visit.call(production.list_models, visit.service)
        _list(visit, found, published.refresh)

    with parts.panel("Published", "Every model that can answer; exactly one is active. A change drops no request."):
        await published()
    if visit.may("admin"):
        _retrain(visit, published.refresh)
    drifting.panel(visit)
    await reports.panel(visit)
    await training.panel(visit)
    _weigh(visit)


def _list(visit: Visit, found: wire.ModelList, refresh: Any) -> None:
    async def activate(version: str) -> None:
        words = "Requests from now on are answered by it. The one before stays published; you can roll back."
        if await parts.sure(f"Activate {version}?", words, "Activate"):
            await visit.call(production.activate, visit.service, version, scope="admin")
            visit.say(f"{version} answers now.")
            refresh()

    async def back() -> None:
        if await parts.sure("Roll back?", "The model that was active before answers again.", "Roll back"):
            row = await visit.call(production.roll_back, visit.service, scope="admin")
            visit.say(f"{row.version} answers again.")
            refresh()

    def act(model: wire.ModelOut) -> None:
        if model.state == "active":
            parts.text("answers now", "span", "good strong")
        elif kind_of(model.system) != "model":
            does = "orders" if kind_of(model.system) == "ranker" else "chooses among"
            parts.text(f"{does} what others find", "span", "soft")
        elif visit.may("admin"):
            work = visit.guarded(partial(activate, model.version))
            parts.button("Activate", work, name=f"Activate {model.version}", kind="small")

    rows: list[list[parts.Cell]] = [
        [
            m.version,
            m.system,
            partial(parts.verdict, m.state),
            show.plain(m.metrics),
            show.moment(m.created),
            "yes" if m.loaded else "no",
            partial(act, m),
        ]
        for m in found.models
    ]
    heads = ["Version", "System", "State", "Metrics", "Published", "In memory", "Action"]
    parts.table("Published models, newest first", heads, rows, empty="No model is published yet: retrain one below.")
    if visit.may("admin") and found.models:
        with parts.box("div", "line"):
            parts.button("Roll back", visit.guarded(back), kind="danger")
    elif not visit.may("admin"):
        parts.text("A key with the scope admin may activate, roll back and retrain.", classes="soft small")


def _retrain(visit: Visit, refresh: Any) -> None:
    """Show the form that retrains from the store."""
    working = [s for s in systems().values() if s.status == "works"]
    names = {s.name: s.title for s in working if s.verb == "recommend"}
    names |= {s.name: f"{s.title} (policy)" for s in working if s.verb == "explore"}
    same = "as the active model"
    with parts.panel(
        "Retrain",
        "Learns from everything in the store, holds the new model against the active one, and publishes it. A policy learns "
        "from all slates and what came of them; the choices below don't concern it.",
    ):
        with parts.box("div", "line middle"):
            system = parts.select("System", {"": same, **names}, "")
            learn_on = ui.checkbox("Learn on from the active model", value=False)
            gate = ui.checkbox("Gate: refuse what is worse", value=True)
            undecided = ui.checkbox("Publish also where it can't decide", value=False)
            activate = ui.checkbox("Activate it if it passes", value=False)
        settings = parts.entry("Settings that differ (name=value, comma between)", classes="wide")
        counted = visit.service.shelf.positive
        label = "Events that count (type or type:least value, comma between; empty: all)"
        positive = parts.entry(label, "" if counted is None else str(counted), classes="wide")
        with parts.box("details"):
            parts.text("What can be set", "summary")
            known = parts.box("div")

        def describe() -> None:
            known.clear()
            with known:
                settings_table(system.value) if system.value else parts.text(
                    "Choose a system to see its settings.", classes="soft"
                )

        async def begin() -> None:
            given = parse_settings(settings.value, system.value or None)
            service, name = visit.service, system.value or None
            events = [text for text in (positive.value or "").split(",") if text.strip()]

            def work(progress: Progress) -> Retrained | Taught:
                if name is not None and kind_of(name) == "policy":
                    return teach(service.store, service.models, name, given or None, progress=progress)
                done = retrain(
                    service.store,
                    service.models,
                    name,
                    given or None,
                    positive=events,
                    incremental=learn_on.value,
                    gate=gate.value,
                    undecided="publish" if undecided.value else "refuse",
                    activate=activate.value,
                    progress=progress,
                )
                service.catch_up()
                return done

            await visit.begin("retrain", f"Retrain {name or same}", work)
            follow()

        def follow() -> None:
            place.clear()
            job = visit.desk.jobs["retrain"]
            with place:
                watch = training.watch(visit)
                parts.follow(visit, job, partial(finished, news=not job.done), watch)

        def finished(*, news: bool) -> None:
            job = visit.desk.jobs["retrain"]
            with place:
                _outcome(job.result, job.trouble)
            if news:
                refresh()

        system.on_value_change(describe)
        with parts.box("div", "line"):
            parts.button("Retrain", visit.guarded(begin))
        place = parts.box("div", "stack")
        describe()
        if "retrain" in visit.desk.jobs:
            follow()


def _outcome(done: Retrained | Taught | None, trouble: show.Complaint | None) -> None:
    """Tell how a retraining ended."""
    if trouble is not None:
        parts.trouble(trouble)
        return
    assert done is not None
    if isinstance(done, Taught):
        parts.alert(f"{done.version} is published ({done.seconds:.1f} s).", "fine")
        parts.text(f"{done.words} Nothing answers with it yet: {use_of(done.system, done.version)}.")
        return
    origin = "" if done.before is None else f", learnt on from {done.before}"
    parts.alert(f"{done.version} is published ({done.seconds:.1f} s){origin}.", "fine")
    if done.forgotten:
        erased = show.counted(done.forgotten, "person was", "people were")
        parts.text(f"{erased} erased while it learnt: its bundle doesn't hold them. Retrain again to learn without them.")
    if done.positive is not None:
        parts.text(f"It learnt from these events: {done.positive}.")
    if done.gate is None:
        parts.text("The gate was left out, or no model was active.")
    elif not done.gate.decided:
        parts.text(f"The gate could not decide: {done.gate.reason}.")
    else:
        words = f"The gate let it pass: {done.gate.reason} ({show.counted(done.gate.people, 'person', 'people')} asked about)."
        parts.text(words)


def _weigh(visit: Visit) -> None:
    """Show accuracy against diversity and latency."""
    about = (
        "The last event of each person in a sample is hidden, and every model in memory answers the history before it. "
        "Intervals are 95% bootstraps over people."
    )
    with parts.panel("Accuracy, diversity, latency", about):
        with parts.box("div", "line middle"):
            sample = parts.figure("People in the sample", 200, min=tradeoff.FEWEST, max=2_000, step=10)
            every = ui.checkbox("Load every published model first", value=False)

        async def begin() -> None:
            count, service = int(sample.value or 200), visit.service

            def work(progress: Progress) -> list[tradeoff.Measured]:
                rows = production.list_models(service).models
                versions = [row.version for row in rows if (every.value or row.loaded) and kind_of(row.system) == "model"]
                people = numbers.latest_people(service.store, count)
                return tradeoff.measure(service, versions, people, progress)

            await visit.begin("weigh", "Measure", work)
            follow()

        def follow() -> None:
            place.clear()
            with place:
                parts.follow(visit, visit.desk.jobs["weigh"], finished)

        def finished() -> None:
            job = visit.desk.jobs["weigh"]
            with place:
                if job.trouble is not None:
                    parts.trouble(job.trouble)
                else:
                    _plots(visit, job.result or [])

        if visit.may("admin"):
            with parts.box("div", "line"):
                parts.button("Measure", visit.guarded(begin))
        place = parts.box("div", "stack")
        if "weigh" in visit.desk.jobs:
            follow()


def _plots(visit: Visit, found: list[tradeoff.Measured]) -> None:
    knowing = [f"{one.version} ({1 - one.unseen:.0%})" for one in found if one.unseen < 0.5]
    if knowing:
        words = (
            f"Fitted on this store, these have learnt from the hidden events: {', '.join(knowing)}. Their accuracy is "
            "flattered; for a fair comparison use the gate, or palate compare."
        )
        parts.alert(words)
    scales = [
        Scale("NDCG@10", 1, {one.version: one.accuracy for one in found}),
        Scale("Diversity of a list", 1, {one.version: one.diversity for one in found if one.diversity is not None}),
        Scale("Time of an answer (ms)", -1, {one.version: one.milliseconds for one in found}),
    ]
    tradeoffs.plots(visit, [one.version for one in found], scales, "Accuracy, diversity and latency, with 95% intervals")
