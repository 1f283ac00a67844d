"""Login: asks for an API key, and keeps it in the signed session of this browser only."""

from __future__ import annotations

from typing import Annotated

import nicegui
from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response
from nicegui import ui

from palate.console import parts, style
from palate.console.desk import Desk
from palate.serve.errors import StoreError
from palate.serve.http.problems import Refusal
from palate.serve.http.security import address_of

#: Where the session keeps the key; the words for each outcome of a try.
KEY = "palate_key"
WORDS = {
    "401": "No such key, or it was taken back. Make one with: palate keys add NAME --scope admin",
    "403": "This key doesn't allow reading.",
    "429": "Too many tries; wait a moment.",
    "503": "The store can't be reached at the moment; try again.",
}


@ui.page("/login", title="Log in · Palate")
def show(request: Request, trouble: str = "") -> None:
    """Show the form."""
    ui.add_css(style.SHEET)
    with parts.box("div", "content"), parts.box("section", "panel login"):
        parts.text("Palate", "h1")
        parts.text("Log in with an API key of this service. It stays in this browser's session for twelve hours.")
        if trouble in WORDS:
            parts.alert(WORDS[trouble], "fault")
        with parts.box("form", "stack", method="post", action="login"):
            parts.text("API key", "label").props["for"] = "key"
            field = {"id": "key", "name": "key", "type": "password", "autocomplete": "current-password", "required": "required"}
            parts.box("input", **field)
            parts.text("Log in", "button", "plainbutton").props["type"] = "submit"
        parts.text(
            "With the scope read you may look; write also changes items and sends events; admin may do everything."
        ).classes("soft small")


@nicegui.app.post("/login", include_in_schema=False)
async def enter(request: Request, key: Annotated[str, Form(max_length=300)] = "") -> Response:
    """Check a key, and open the session."""
    desk: Desk = request.scope["palate.desk"]
    try:
        desk.doorman.admit(key.strip(), "read", address_of(request))
    except Refusal as refusal:
        return RedirectResponse(f"login?trouble={refusal.status}", 303)
    except StoreError:
        return RedirectResponse("login?trouble=503", 303)
    request.session[KEY] = key.strip()
    return RedirectResponse("./", 303)


@nicegui.app.post("/logout", include_in_schema=False)
async def leave(request: Request) -> Response:
    """Close the session."""
    request.session.pop(KEY, None)
    return RedirectResponse("login", 303)
