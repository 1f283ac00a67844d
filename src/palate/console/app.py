"""Mount: the console put on a service's application, at ``/console``."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import nicegui
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from nicegui import ui

from palate.console import login, pages  # noqa: F401  (their routes come into being with them)
from palate.console.desk import Desk
from palate.serve.service import Service
from palate.serve.store import Store

#: Where the console stands, where the store keeps what its sessions are signed with, and the largest upload.
PLACE, SECRET, UPLOAD_BYTES = "/console", "console.secret", 50 * 2**20
#: Hours after which one must log in again.
HOURS = 12
#: Pictures of items may stand elsewhere; nothing else may come from, or go to, another place.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: https: http:; font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'self'; "
    "object-src 'none'; frame-ancestors 'none'"
)
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def mount(app: FastAPI, service: Service) -> None:
    """Put the console at ``/console``, and let ``/`` lead there.

    NiceGUI keeps one application in a process; mounting a second time moves the console to the newer service.

    Parameters
    ----------
    app
        Made by :func:`palate.serve.http.app.make_app`.
    service
        What is seen and steered.
    """
    nicegui.app.user_middleware.clear()
    nicegui.app.middleware_stack = None
    nicegui.app.config.quasar_config["loadingBar"] = {"skipHijack": True}
    desk = Desk(service, app.state.doorman, app.state.meters)
    app.add_api_route("/", _home, include_in_schema=False)
    ui.run_with(
        app,
        mount_path=PLACE,
        title="Palate",
        favicon="🍽️",
        language="en-US",
        dark=None,
        tailwind=False,
        storage_secret=_secret(service.store),
        session_middleware_kwargs={"session_cookie": "palate_console", "same_site": "strict", "max_age": 3_600 * HOURS},
        show_welcome_message=False,
    )
    app.add_middleware(Here, desk=desk)
    limits = getattr(app.state, "wider_bodies", None)
    if limits is not None:
        limits[PLACE + "/_nicegui/client/"] = UPLOAD_BYTES + 2**20


async def _home() -> RedirectResponse:
    return RedirectResponse(PLACE + "/")


def _secret(store: Store) -> str:
    """Return the private word that sessions of a store are signed with; it is made once."""
    if store.setting(SECRET) is None:
        store.set_setting(SECRET, secrets.token_hex(32))
    return str(store.setting(SECRET))


class Here:
    """ASGI middleware: pages of the console are told whose they are, and are sent with a strict content policy."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], desk: Desk) -> None:
        self.app, self.desk = app, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or one connection."""
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(PLACE + "/"):
            await self.app(scope, receive, send)
            return
        scope["palate.desk"] = self.desk

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = ((b"content-security-policy", POLICY.encode()), (b"x-frame-options", b"DENY"))
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, receive, sending)
