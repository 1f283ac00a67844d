"""What routes share: the service behind a request, threads for work that waits or computes, documented errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import Depends, Path, Request
from pydantic import BeforeValidator, StringConstraints

from palate.errors import DataError
from palate.serve.http.metrics import Meters
from palate.serve.http.paths import whole
from palate.serve.http.security import Caller, needs
from palate.serve.models.kinds import kind_of
from palate.serve.models.loading import being_loaded
from palate.serve.pipeline.config import Need
from palate.serve.service import Service
from palate.serve.wire import Problem

T = TypeVar("T")
#: Seconds that a request waits, at most, for a model that it names and that has to be loaded first.
PATIENCE = 5.0
Reader = Annotated[Caller, Depends(needs("read"))]
Writer = Annotated[Caller, Depends(needs("write"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
PathId = Annotated[str, Path(min_length=1, max_length=200), StringConstraints(pattern=r"^[^\x00]+$"), BeforeValidator(whole)]

_SAID = {
    400: "The request can't be read",
    401: "No valid key",
    403: "The key doesn't allow this",
    404: "Nothing there",
    409: "In conflict with what is kept",
    413: "Too large",
    422: "Something in the request is wrong",
    429: "Too many requests",
    500: "The service's own trouble; its log has the details",
    501: "The service was installed without what this needs",
    503: "The store can't be reached, or the model named is being loaded; try again after Retry-After seconds",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return documentation of the errors that a route can answer with; those of every route are always among them."""
    wanted = sorted({400, 401, 403, 413, 422, 429, 500, 501, 503, *statuses})
    return {status: {"model": Problem, "description": _SAID[status]} for status in wanted}


def service_of(request: Request) -> Service:
    """Return the service behind a request."""
    found: Service = request.app.state.service
    return found


def meters_of(request: Request) -> Meters:
    """Return the meters of a request's service."""
    found: Meters = request.app.state.meters
    return found


async def run(request: Request, work: Callable[..., T], *args: Any) -> T:
    """Run work in one of the service's threads."""
    return await to_thread.run_sync(work, *args, limiter=request.app.state.limiter)


async def loaded(request: Request, version: str | None, *, ranks: bool = False) -> None:
    """Have a version in memory that a request names; while it is loaded the request waits, but no thread that answers.

    Parameters
    ----------
    ranks
        Whether a ranker can answer too.

    Raises
    ------
    NotFound
        If there is no such version.
    Unavailable
        If loading takes longer than :data:`PATIENCE`, or several others are being loaded; it goes on, so ask again.
    PalateError
        What is wrong with the version.
    """
    service = service_of(request)
    if version is None or version == "active" or service.shelf.holds(Need("model", version)):
        return
    if ranks and service.shelf.holds(Need("ranker", version)):
        return

    def begin() -> Future[None] | None:
        known = service.store.model(version) if ranks else None
        ranker = known is not None and kind_of(known.system) == "ranker"
        return service.loading.ask(Need("ranker" if ranker else "model", version))

    load = await run(request, begin)
    if load is not None:
        done, _ = await asyncio.wait([asyncio.wrap_future(load)], timeout=PATIENCE)
        if not done:
            raise being_loaded(version)
        load.result()


def check_batch(n: int, request: Request) -> None:
    """Refuse batches that are too large."""
    most = service_of(request).settings.server.max_batch
    if n > most:
        raise DataError(
            "the batch is too large.",
            where="body",
            value=n,
            remedy=f"send at most {most} at a time; the limit is server.max_batch",
        )
