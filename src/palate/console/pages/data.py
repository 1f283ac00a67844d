"""Data: a file in, its columns named, its split looked at, then into the store or into a model."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import Request
from nicegui import events, ui

from palate.catalog.registry import systems
from palate.console import format as show
from palate.console import parts, uploads
from palate.console.desk import Visit
from palate.console.frame import page
from palate.console.pages import training
from palate.console.setting import parse_settings
from palate.data.dataset import Dataset
from palate.data.readers import rows_dropped
from palate.data.readers.roles import NAMES, REQUIRED
from palate.data.split import Split
from palate.progress import Progress
from palate.serve.models import production

UPLOAD_BYTES = 50 * 2**20
#: Protocols that need nothing but events, in words.
PROTOCOLS = {
    "global_time": "one moment for all (as in life)",
    "leave_one_out": "each person's last event",
    "user_ratio": "a share of each person's events",
}
GRAVITY = {"hard": "leak", "warn": "warning", "info": "good to know"}


@page("data")
async def data(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("Data", "h1")
    if not visit.may("admin"):
        parts.text("Uploading data needs a key with the scope admin.")
        return
    with parts.panel("1. A file of events", "CSV or TSV, plain or gzip, at most 50 MB, with a line of column names."):
        parts.file_field(visit, "File", "upload", ".csv,.tsv,.gz", UPLOAD_BYTES, lambda event: came(event))
    rest = parts.box("div", "stack")

    async def came(event: events.UploadEventArguments) -> None:
        await visit.call(lambda: None, scope="admin")
        folder, path = uploads.place_for(event.file.name)
        await event.file.save(path)
        found = await visit.call(uploads.look, folder, path, event.file.name, scope="admin")
        rest.clear()
        with rest:
            _columns(visit, found)


def _columns(visit: Visit, found: uploads.Upload) -> None:
    """Let the columns be named."""
    with parts.panel("2. Columns", f"{found.name}: what each role is read from. Names were guessed; change what is wrong."):
        if found.trouble is not None:
            parts.alert(f"{found.trouble} Choose it below.")
        shown = found.columns[:12]
        at = [found.columns.index(name) for name in shown]
        parts.table("The first rows", shown, [[row[n] for n in at] for row in found.sample], stack=False)
        choices = {}
        with parts.box("div", "fields"):
            for role in NAMES:
                label = f"{role.title()}{' (needed)' if role in REQUIRED else ''}"
                options = {"": "none", **{name: name for name in found.columns}}
                choices[role] = parts.select(label, options, found.roles.get(role, ""))
        drop = ui.checkbox("Leave out rows that can't be used, and count them", value=False)

        async def go() -> None:
            roles = {role: str(choice.value or "") for role, choice in choices.items()}
            read = await visit.call(partial(uploads.take, found, roles, drop=bool(drop.value)), scope="admin")
            place.clear()
            with place:
                _split(visit, read)

        with parts.box("div", "line"):
            parts.button("Read", visit.guarded(go), name="Read the file")
    place = parts.box("div", "stack")


def _split(visit: Visit, data: Dataset) -> None:
    """Show what was read, and cut it."""
    with parts.panel(
        "3. Audit", "The events are cut into train, validation and test, and looked over before anything is fitted."
    ):
        time = data.interactions.time
        dropped = rows_dropped(data)
        parts.tiles(
            {
                "People": f"{data.n_users:,}",
                "Items": f"{data.n_items:,}",
                "Events": f"{len(data):,}",
                "From": show.DASH if time is None else show.day(float(time.min())),
                "To": show.DASH if time is None else show.day(float(time.max())),
                "Rows left out": show.plain(dropped) if dropped else "0",
            }
        )
        usable = {key: words for key, words in PROTOCOLS.items() if time is not None or key == "user_ratio"}
        protocol = parts.select("How to cut", usable, next(iter(usable))).classes("wide")

        async def go() -> None:
            made, found = await visit.call(uploads.audited, data, protocol.value, scope="admin")
            verdict.clear()
            place.clear()
            with verdict:
                _findings(made, found)
            with place:
                _use(visit, data, made)

        with parts.box("div", "line"):
            parts.button("Audit", visit.guarded(go), name="Cut and audit")
        verdict = parts.box("div", "stack")
    place = parts.box("div", "stack")


def _findings(made: Split, found: Any) -> None:
    held = {"train": made.train.interactions, "validation": made.valid, "test": made.test_part}
    sizes = ", ".join(f"{name} {len(part) if part is not None else 0:,}" for name, part in held.items())
    leaks = len(found.leaks)
    words = f"{show.counted(leaks, 'leak')}: mend the data before fitting." if leaks else "No leak was found."
    parts.alert(f"{words} Events: {sizes}.", "fault" if leaks else "fine")
    rows: list[list[parts.Cell]] = [
        [partial(parts.verdict, GRAVITY[f.severity]), f.message, ", ".join(_example(one) for one in f.examples)]
        for f in found.findings
    ]
    parts.table("Findings, the gravest first", ["Gravity", "What", "Such as"], rows, empty="Nothing to report.")


def _example(found: Any) -> str:
    return " with ".join(map(str, found)) if isinstance(found, tuple) else show.plain(found)


def _use(visit: Visit, data: Dataset, made: Split) -> None:
    """Offer what to do with the data."""
    with parts.box("div", "two"):
        _load(visit, data)
        _fit(visit, made)


def _load(visit: Visit, data: Dataset) -> None:
    words = "The events count in answers at once. The same file again changes nothing; of one that grew, the new rows come in."
    with parts.panel("4a. Into the store", words):

        async def begin() -> None:
            words = f"{len(data):,} events of {data.n_users:,} people go into the store."
            if not await parts.sure("Load into the store?", words, "Load"):
                return
            await visit.begin("load", "Load events", partial(uploads.into_store, visit.service, data))
            place.clear()
            with place:
                parts.follow(visit, visit.desk.jobs["load"], finished)

        def finished() -> None:
            job = visit.desk.jobs["load"]
            with place:
                if job.trouble is not None:
                    parts.trouble(job.trouble)
                else:
                    parts.alert(f"{show.counted(int(job.result or 0), 'event')} came in new.", "fine")

        with parts.box("div", "line"):
            parts.button("Load", visit.guarded(begin), name="Load into the store")
        place = parts.box("div", "stack")


def _fit(visit: Visit, made: Split) -> None:
    names = {s.name: s.title for s in systems().values() if s.status == "works" and s.verb == "recommend"}
    with parts.panel("4b. Fit a model", "On the training part; judged on the test part; saved among the models."):
        with parts.box("div", "line"):
            system = parts.select("System", names, "ease" if "ease" in names else next(iter(names)))
            name = parts.entry("Name of the model", f"{system.value}-upload")
        settings = parts.entry("Settings that differ (name=value, comma between)", classes="wide")
        system.on_value_change(lambda: name.set_value(f"{system.value}-upload"))

        async def begin() -> None:
            given, wanted, folder = parse_settings(settings.value, system.value), system.value, name.value.strip()

            def work(progress: Progress) -> uploads.Fitted:
                return uploads.fit(visit.service, made, wanted, given, folder, progress)

            await visit.begin("fit", f"Fit {wanted}", work)
            place.clear()
            with place:
                watch = training.watch(visit)
                parts.follow(visit, visit.desk.jobs["fit"], finished, watch)

        def finished() -> None:
            job = visit.desk.jobs["fit"]
            with place:
                if job.trouble is not None:
                    parts.trouble(job.trouble)
                else:
                    assert job.result is not None
                    _fitted(visit, job.result)

        with parts.box("div", "line"):
            parts.button("Fit", visit.guarded(begin), name="Fit the model")
        place = parts.box("div", "stack")


def _fitted(visit: Visit, done: uploads.Fitted) -> None:
    """Tell how good it is, and offer to publish it."""
    found = show.interval(float(done.accuracy.value), float(done.accuracy.low), float(done.accuracy.high))
    parts.alert(f"Saved as {done.folder.name} ({done.seconds:.1f} s). NDCG@10 on the test part: {found}.", "fine")

    async def publish() -> None:
        name = done.folder.name
        await visit.call(production.publish_named, visit.service, name, name, False, scope="admin")
        visit.say(f"{name} is published; activate it on the page Models.")

    with parts.box("div", "line"):
        parts.button("Publish", visit.guarded(publish), name="Publish the model", kind="side")
        parts.link("To the models", "/console/models")
