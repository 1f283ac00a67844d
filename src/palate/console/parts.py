"""Parts that pages are made of: headings, panels, tables, facts, items, questions, progress. Text from outside stays text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from nicegui import events, ui
from nicegui.element import Element
from nicegui.elements.mixins.validation_element import ValidationElement

from palate.console import format as show
from palate.console.desk import Job, Visit
from palate.progress import Progress

T = TypeVar("T")

#: Characters from which a cell asks for room, and from which a figure of a tile is words.
LONG, WORDS = 32, 14
#: Columns up to which a table is as wide as what it holds, and from which its rows become cards on a phone.
NARROW, STACKED = 2, 3
#: Words that have a colour.
GOOD_OR_BAD = {
    **dict.fromkeys(("holds", "met", "differs", "active", "running", "safe"), "yes"),
    **dict.fromkeys(("does not hold", "not met", "leak", "harmed"), "no"),
}
#: A field that can be told to be wrong.
Field = ValidationElement[Any]
#: Makes the content of a cell by hand.
Cell = str | Callable[[], Any]


def text(words: str, tag: str = "p", classes: str = "") -> ui.label:
    """Put words down as text in an element of a kind; they are never read as HTML."""
    label = ui.label(words).classes(classes)
    label.tag = tag
    return label


def box(tag: str = "div", classes: str = "", **attributes: str) -> Element:
    """Make an element to be filled."""
    made = ui.element(tag).classes(classes)
    for name, value in attributes.items():
        made.props[name.replace("_", "-")] = value
    return made


@contextmanager
def panel(title: str, about: str | None = None) -> Iterator[Element]:
    """Make a section with a heading."""
    with box("section", "panel") as made:
        text(title, "h2")
        if about is not None:
            text(about, classes="soft small")
        yield made


@contextmanager
def group(title: str) -> Iterator[Element]:
    """Make a group of fields that has a name."""
    with box("fieldset") as made:
        text(title, "legend")
        yield made


def tiles(facts: Mapping[str, str]) -> None:
    """Show a few figures with their names."""
    with box("dl", "tiles"):
        for name, value in facts.items():
            with box("div", "long" if len(value) > WORDS else ""):
                text(name, "dt")
                text(value, "dd")


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    right: Sequence[int] = (),
    empty: str = "",
    stack: bool = True,
) -> None:
    """Show a table.

    Parameters
    ----------
    caption
        What it shows; read out by screen readers, and seen.
    rows
        Texts, or functions that put something into their cell.
    right
        Numbers of the columns that hold figures.
    empty
        What to say when there are no rows.
    stack
        Whether rows become cards on a phone.
    """
    if not rows:
        text(empty or "Nothing here yet.", classes="soft")
        return
    looks = f"figures{' narrow' if len(heads) <= NARROW else ''}{' stacked' if stack and len(heads) >= STACKED else ''}"
    # roles are named, because cards on a phone are laid out as no table, and would be read as none
    with box("div", "scroll", tabindex="0", role="region", aria_label=caption), box("table", looks, role="table"):
        text(caption, "caption")
        with box("thead", role="rowgroup"), box("tr", role="row"):
            for at, head in enumerate(heads):
                made = text(head, "th", "right" if at in right else "")
                made.props["scope"], made.props["role"] = "col", "columnheader"
        with box("tbody", role="rowgroup"):
            for row in rows:
                with box("tr", role="row"):
                    for at, cell in enumerate(row):
                        _cell(cell, heads[at] if at else "", "right" if at in right else "")


def _cell(cell: Cell, head: str, classes: str) -> None:
    if isinstance(cell, str):
        made: Element = text(cell, "td", f"{classes} long" if len(cell) > LONG else classes)
    else:
        with box("td", classes) as made:
            cell()
    made.props["role"] = "cell"
    if head:
        made.props["data-head"] = head


def verdict(word: str) -> None:
    """Show in one word how something came out, in a colour that goes with the word."""
    text(word, "span", f"badge {GOOD_OR_BAD.get(word, 'quiet')}")


def alert(words: str, kind: str = "") -> None:
    """Show a sentence that must not be overlooked (``fault``, ``fine`` or, by default, a warning)."""
    with box("div", f"alert {kind}", role="status"):
        text(words)


def trouble(what: show.Complaint) -> None:
    """Show an error in words, in place."""
    alert(str(what), "fault")


def button(label: str, handler: Callable[..., Awaitable[None]], *, name: str | None = None, kind: str = "main") -> ui.button:
    """Make a button (``main``, ``side``, ``small`` or ``danger``); ``name`` is what a screen reader says instead."""
    looks = {
        "main": "unelevated no-caps color=primary",
        "side": "outline no-caps color=primary",
        "small": "outline no-caps dense color=primary",
        "danger": "outline no-caps color=negative",
    }
    made = ui.button(label, on_click=handler).props(looks[kind]).classes("smallbutton" if kind == "small" else "")
    if name is not None:
        made.props["aria-label"] = name
    return made


def link(label: str, target: str, classes: str = "") -> None:
    """Make a link within the console."""
    made = text(label, "a", classes)
    made.props["href"] = target


def go_to(page: str, **query: str) -> None:
    """Open a page of the console in this window."""
    ui.navigate.to(show.address(page, **query).removeprefix("/console"))  # the place is put before it again


def thumb(reference: str | None) -> None:
    """Show a picture of an item where there is one (its title stands beside it, so it needs no words)."""
    address = show.picture(reference)
    if address is not None:
        box("img", "thumb", src=address, alt="", loading="lazy", referrerpolicy="no-referrer")


def select(label: str, options: Mapping[Any, str] | Sequence[str], value: Any, **more: Any) -> ui.select:
    """Make a choice among a few."""
    given = dict(options) if isinstance(options, Mapping) else list(options)
    return ui.select(given, label=label, value=value, **more).props("outlined dense options-dense").classes("field")


def entry(label: str, value: str = "", classes: str = "field", **more: Any) -> ui.input:
    """Make a line to write in."""
    return ui.input(label, value=value, **more).props("outlined dense").classes(classes)


def figure(label: str, value: float | None, classes: str = "field", **more: Any) -> ui.number:
    """Make a field for a number."""
    return ui.number(label, value=value, **more).props("outlined dense").classes(classes)


def choice(title: str, options: Mapping[str, tuple[str, str]], value: str, chosen: Callable[[str], Any]) -> None:
    """Make a choice of one among a few, each with a name and a sentence that says what it means.

    These are the browser's own radio buttons, which arrow keys and screen readers know.
    """
    dots: dict[str, Element] = {}

    def turn(key: str) -> None:
        for name, dot in dots.items():
            dot.props["checked"] = name == key
        chosen(key)

    with group(title) as made:
        for key, (label, meaning) in options.items():
            with box("label", "choice"):
                dots[key] = dot = box("input", type="radio", name=made.html_id, value=key)
                with box("span"):
                    called = text(label, "span", "strong")
                    about = text(meaning, "span", "soft small")
            dot.props["checked"] = key == value
            dot.props["aria-labelledby"], dot.props["aria-describedby"] = called.html_id, about.html_id
            dot.on("change", partial(turn, key), args=[])


def hint(field: Field, words: str) -> None:
    """Put words below a field, and let screen readers say them with it."""
    field.props["hint"] = words
    if field.error is None:
        field.props["aria-description"] = words


def fault(field: Field, words: str | None) -> None:
    """Tell beside a field what is wrong with it, or (``None``) that nothing is."""
    field.error = words
    field.props["aria-invalid"] = "false" if words is None else "true"
    field.props["aria-description"] = words or field.props.get("hint", "")


def forgives(field: Field) -> None:
    """Let a field forget what was wrong as soon as it is changed."""
    field.on_value_change(lambda: fault(field, None))


def said() -> ui.label:
    """Make a place for what is wrong with several fields at once; it is not seen until something is."""
    made = text("", classes="bad")
    made.props["role"] = "alert"
    return made


#: Focuses a field or a button (or the first of those within an element) once it is there, and again where drawing the page anew
#: or the button that was pressed takes the focus back; for two seconds, and not once the focus is led anywhere else.
LEAD = """
(id => {
  const able = 'input, textarea, button, [tabindex]', from = document.activeElement;
  let left = 40;
  const lead = () => {
    const found = getHtmlElement(id), field = found?.matches(able) ? found : found?.querySelector(able);
    const now = document.activeElement;
    if (left-- <= 0 || ![field, from, document.body, null].includes(now)) return;
    if (now !== field) field?.focus();
    setTimeout(lead, 50);
  };
  lead();
})(%d)
"""


def focus(element: Element) -> None:
    """Lead the keyboard to a field or a button, also to one that was just made."""
    element.client.run_javascript(LEAD % element.id)


async def sure(question: str, consequence: str, action: str) -> bool:
    """Ask before something that can't be taken back; say whether to go on."""
    with ui.dialog().props("persistent") as dialog, ui.card():
        dialog.props["aria-label"] = question
        text(question, "h2")
        text(consequence)
        with box("div", "line"):
            ui.button(action, on_click=lambda: dialog.submit(True)).props("unelevated no-caps color=negative")
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("outline no-caps color=primary autofocus")
    answer = bool(await dialog)
    dialog.clear()
    return answer


def follow(visit: Visit, job: Job[Any], finished: Callable[[], Any], watch: Callable[[Job[Any]], None] | None = None) -> None:
    """Show how far long work is, and call a function when it is done; ``watch`` is called with every look at it."""
    with box("div", "panel inner") as place:
        text(job.title, "h3")
        words = text("starting …", classes="soft small")
        words.props["role"] = "status"
        bar = ui.linear_progress(0.0, show_value=False).props("rounded instant-feedback aria-label='Progress'")

    def look() -> None:
        done, event = job.done, job.event
        if event is not None:
            count = f"{event.done:,} of {event.total:,}" if event.total else f"{event.done:,}"
            figures = ", ".join(f"{name} {show.number(float(value))}" for name, value in event.metrics.items())
            words.set_text(f"{event.stage}: {count}{'; ' + figures if figures else ''}")
            bar.set_value(event.done / event.total if event.total else 0.0)
        if watch is not None:
            watch(job)
        if done:
            timer.deactivate()
            place.delete()
            finished()

    timer = ui.timer(0.2, look)


async def work_in(
    visit: Visit, place: Element, kind: str, title: str, work: Callable[[Progress], T], then: Callable[[T], Any]
) -> None:
    """Do long work while ``place`` shows how far it is; ``then`` shows the result there, where it is not trouble."""
    await visit.call(visit.desk.begin, kind, title, work)
    place.clear()

    def finished() -> None:
        job = visit.desk.jobs.pop(kind, None)
        if job is None:
            return
        place.clear()
        with place:
            if job.trouble is not None:
                trouble(job.trouble)
            else:
                then(cast(T, job.result))

    with place:
        follow(visit, visit.desk.jobs[kind], finished)


def file_field(
    visit: Visit, label: str, name: str, accept: str, most: int, came: Callable[[events.UploadEventArguments], Awaitable[None]]
) -> None:
    """Make a field for one file of at most ``most`` bytes, and hand over what comes; ``name`` is its id in the page."""

    async def take(event: events.UploadEventArguments) -> None:
        await visit.guarded(came)(event)
        uploader.reset()

    limit = f"send at most {most // 2**20} MB"
    uploader = ui.upload(
        auto_upload=True,
        max_files=1,
        max_file_size=most,
        on_upload=take,
        on_rejected=lambda: visit.complain(show.Complaint("The file is too large.", label, None, limit)),
    ).classes("away")
    with box("div", "filing"):
        text(label, "label").props["for"] = name
        chosen = box("input", "file", id=name, type="file", accept=accept)
    # the browser's own field is what keyboards and screen readers know; the hidden part only sends
    chosen.on("change", js_handler=f"(e) => runMethod({uploader.id}, 'addFiles', [e.target.files])")


def by_words(lines: Sequence[str]) -> None:
    """Show sentences as a list."""
    with box("ul", "words"):
        for line in lines:
            text(line, "li")
