"""The application: routes, door and errors around one service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import CapacityLimiter, create_task_group, sleep, to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from palate import __version__
from palate.errors import PalateError
from palate.serve.http import problems
from palate.serve.http.guard import Guard
from palate.serve.http.metrics import Meters
from palate.serve.http.routes import answers, catalogue, events, experiments, health, models, profiles
from palate.serve.http.security import Doorman
from palate.serve.service import Service

log = logging.getLogger("palate.serve")
TITLE = "Palate"
SUMMARY = "Events in, recommendations out: measured, explained, live."
#: Seconds between looks into the store while nobody asks anything.
LOOK = 5.0


async def _look(service: Service) -> None:
    """Take up what changed in the store also while nobody asks: an erased person must not wait for the next request."""
    while True:
        try:
            await to_thread.run_sync(service.pulse)
        except PalateError as error:
            log.debug("the store could not be looked at: %s", error.what)  # /v1/ready tells of it
        await sleep(LOOK)


async def _retain(service: Service) -> None:
    """Delete what is older than the retention setting allows, now and every hour."""
    days = service.settings.store.retention_days
    assert days is not None
    while True:
        try:
            await to_thread.run_sync(service.store.retain, days)
        except PalateError as error:
            log.warning("retention could not be kept: %s", error.what)
        await sleep(3_600)


def make_app(service: Service, extend: Callable[[FastAPI, Service], None] | None = None) -> FastAPI:
    """Return the ASGI application of a service; closing the application closes the service.

    ``extend`` may add to it, such as the console's pages.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.limiter = CapacityLimiter(service.settings.server.workers)
        async with create_task_group() as tasks:
            tasks.start_soon(_look, service)
            if service.settings.store.retention_days is not None:
                tasks.start_soon(_retain, service)
            yield
            tasks.cancel_scope.cancel()
        service.close()

    app = FastAPI(title=TITLE, summary=SUMMARY, version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.service, app.state.meters = service, Meters()
    app.state.meters.watch(service)
    app.state.doorman = Doorman(service.store, service.settings.server)
    app.state.wider_bodies = {}  # beginnings of paths whose bodies may be larger, and how large; for ``extend``
    app.state.all_meters = None  # async () -> bytes, where several processes answer as one service
    for router in (
        events.router,
        catalogue.router,
        answers.router,
        profiles.router,
        models.router,
        experiments.router,
        health.router,
    ):
        app.include_router(router, prefix="/v1")
    problems.add_to(app)
    if extend is not None:
        extend(app, service)
    app.add_middleware(
        Guard, meters=app.state.meters, most=service.settings.server.max_body_bytes, wider=app.state.wider_bodies
    )
    if service.settings.server.allow_origins:
        origins = list(service.settings.server.allow_origins)
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["Authorization", "Content-Type"]
        )
    if service.settings.server.trusted_proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(service.settings.server.trusted_proxies))
    return app
