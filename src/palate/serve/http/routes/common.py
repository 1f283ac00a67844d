"""What routes share: the service behind a request, threads for work that waits or computes, documented errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import Depends, Path, Request
from pydantic import BeforeValidator, StringConstraints

from palate.errors import DataError
from palate.serve.http.metrics import Meters
from palate.serve.http.paths import whole
from palate.serve.http.security import Caller, needs
from palate.serve.service import Service
from palate.serve.wire import Problem

T = TypeVar("T")
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
    503: "The store can't be reached; try again after Retry-After seconds",
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
