"""Training curves on the pages Models and Data: of published models, of a log, and of a fit while it learns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import events

from palate.console import charts, curves, parts
from palate.console.desk import Job, Visit
from palate.console.format import number
from palate.errors import PalateError
from palate.serve.models import production

#: The largest log that is taken.
MOST = 5 * 2**20
HEADS = ("Model", "Epoch", "Loss", "Validation")


def draw(visit: Visit, drawn: list[curves.Curve]) -> None:
    """Draw curves with their figures as a table, and say which epoch was best."""
    for one in drawn:
        if one.best is not None:
            epoch, value = one.best
            parts.text(
                f"{one.title}: best at epoch {epoch} of {one.epochs[-1]}, {one.metric} {number(value)}.", classes="small"
            )
        else:
            parts.text(f"{one.title}: {len(one.epochs)} epochs, loss {number(one.loss[-1])}; not validated.", classes="small")
    heights = charts.epochs_height(drawn)
    charts.draw(
        visit, "Training curves", lambda dark: charts.epochs(dark, drawn), HEADS, charts.epoch_rows(drawn), height=heights
    )


def watch(visit: Visit) -> Callable[[Job[Any]], None]:
    """Make a place for the curve of a fit under way; return what draws it with every epoch that ends."""
    place = parts.box("div", "stack")
    shown: list[curves.Curve] = []
    redraw: list[Callable[[int | None], None]] = []

    def look(job: Job[Any]) -> None:
        curve = curves.of_progress(job.epochs)
        if curve is None or [curve] == shown:
            return
        shown[:] = [curve]
        height = charts.epochs_height(shown)
        if redraw:
            redraw[0](height)
            return
        with place:
            parts.text(f"{curve.title} while it learns", "h3")
            name = f"Training curve of {curve.title}"
            redraw.append(charts.paint(visit, name, lambda dark: charts.epochs(dark, shown), height=height))

    return look


async def panel(visit: Visit) -> None:
    """Show the curves that published models keep, and those of a log."""
    kept, troubles = await visit.call(_kept, visit)

    async def chosen() -> None:
        show([kept[model.value]] if model.value else [])

    async def came(event: events.UploadEventArguments) -> None:
        with tempfile.TemporaryDirectory(prefix="palate-log-") as folder:
            path = Path(folder) / "log.jsonl"
            await event.file.save(path)
            curve = await visit.call(curves.of_log, path, event.file.name)
        show([curve, *([kept[model.value]] if kept and model.value else [])])

    def show(drawn: list[curves.Curve]) -> None:
        place.clear()
        with place:
            if drawn:
                draw(visit, drawn)

    about = "Loss and validation value, epoch by epoch: what a bundle keeps of its fit, or what palate fit --log wrote."
    with parts.panel("Training curves", about):
        if not kept:
            parts.text("No published model keeps its epochs (some learn in one go).", classes="soft")
        with parts.box("div", "line"):
            if kept:
                model = parts.select("Model", {"": "choose one", **{name: name for name in kept}}, "")
                model.on_value_change(visit.guarded(chosen))
            parts.file_field(visit, "A log of epochs (JSON lines)", "log", ".jsonl,.json,.log", MOST, came)
        for trouble in troubles:
            parts.alert(trouble)
        place = parts.box("div", "stack")


def _kept(visit: Visit) -> tuple[dict[str, curves.Curve], list[str]]:
    """Return the curves of published models that keep one, and what is wrong with bundles that can't be read."""
    found, troubles = {}, []
    for model in production.list_models(visit.service).models:
        try:
            curve = curves.of_bundle(visit.service.folder(model.version), model.version)
        except PalateError as error:
            troubles.append(f"{model.version}: {error.what}")
            continue
        if curve is not None:
            found[model.version] = curve
    return found, troubles
