"""Frame: what every page has around it (skip link, navigation, day and night, who is logged in), and who may see it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from nicegui import ui

from palate.console import parts, style
from palate.console.desk import TOLD, Desk, Visit
from palate.console.format import complaint
from palate.console.login import KEY
from palate.errors import PalateError
from palate.serve.http.problems import Refusal
from palate.serve.http.security import address_of

log = logging.getLogger("palate.console")
#: Path and name of each page, in the order of the navigation.
PAGES = {
    "": "Overview",
    "people": "People",
    "items": "Items",
    "models": "Models",
    "experiments": "Experiments",
    "data": "Data",
    "systems": "Systems",
}
#: Remembers day or night in this browser; the first time it does as the system does.
_COOKIE = """
<script>
window.palateDark = (on) => {
  document.cookie = `palate_dark=${on ? 1 : 0}; path=/console; max-age=31536000; SameSite=Strict`;
};
</script>
"""
Body = Callable[[Visit, Request], Awaitable[None]]


def page(path: str) -> Callable[[Body], Body]:
    """Return a decorator that makes a function the content of a page."""

    def decorate(body: Body) -> Body:
        async def show(request: Request) -> Response | None:
            visit = _visit(request)
            if isinstance(visit, Response):
                return visit
            _top(visit, path)
            with parts.box("div", "content") as content:
                ui.skip_link("Skip to the content", target=content)
                try:
                    await body(visit, request)
                except Exception as error:
                    if not isinstance(error, TOLD):
                        log.exception("page %s failed", path or "overview")
                    parts.text(PAGES[path], "h1")
                    parts.trouble(complaint(error))
            return None

        ui.page(f"/{path}", title=f"{PAGES[path]} · Palate", response_timeout=30.0)(show)
        return body

    return decorate


def _visit(request: Request) -> Visit | Response:
    """Return who is there, or lead to the login."""
    desk: Desk = request.scope["palate.desk"]
    key = request.session.get(KEY)
    try:
        caller = desk.doorman.admit(key, "read", address_of(request))
    except Refusal as refusal:
        trouble = "" if key is None else f"?trouble={refusal.status}"
        return RedirectResponse(f"/console/login{trouble}", 303)
    except PalateError:
        return RedirectResponse("/console/login?trouble=503", 303)
    look = request.cookies.get("palate_dark")
    return Visit(desk, key, caller, dark=look == "1", chosen=look is not None)


def _top(visit: Visit, path: str) -> None:
    """Draw the header."""
    ui.add_css(style.SHEET)
    ui.add_head_html(_COOKIE)
    ui.colors(primary="#1d4ed8", positive="#166534", negative="#b91c1c", warning="#92400e", info="#1e40af")
    dark = ui.dark_mode(visit.dark)
    with ui.header(fixed=False).classes("top"):
        parts.text("Palate", "span", "brand")
        with parts.box("nav", aria_label="Pages"):
            for name, title in PAGES.items():
                made = parts.text(title, "a")
                made.props["href"] = f"/console/{name}"
                if name == path:
                    made.props["aria-current"] = "page"
        with parts.box("div", "who"):
            switch = parts.text("", "button")
            switch.props["type"] = "button"
            if visit.key is None:
                parts.text("no key needed here", "span")
            else:
                parts.text(f"key {visit.caller.name}", "span")
                with parts.box("form", method="post", action="/console/logout"):
                    parts.text("Log out", "button").props["type"] = "submit"

    def turn(on: bool) -> None:
        visit.dark = on
        dark.set_value(on)
        switch.set_text("Light" if on else "Dark")
        switch.props["aria-label"] = f"Switch to {'light' if on else 'dark'} colours"
        switch.update()
        for again in visit.repaint:
            again()

    def toggle() -> None:
        turn(not visit.dark)
        ui.run_javascript(f"window.palateDark({str(visit.dark).lower()})")

    turn(visit.dark)
    switch.on("click", toggle)

    async def as_the_system() -> None:
        if await ui.run_javascript("matchMedia('(prefers-color-scheme: dark)').matches", timeout=5.0):
            toggle()

    if not visit.chosen:
        ui.timer(0.0, as_the_system, once=True)
