"""Errors on the wire: one form for all; never a stack trace.

What the caller did is answered with 4xx, and told in full: what, where, the value and the next step. What is the service's own
trouble is answered with 5xx, and where it lies (a bundle's folder, the store's address) goes to the log, not out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from palate.errors import (
    BundleError,
    ConfigError,
    DataError,
    MissingExtraError,
    NotFittedError,
    PalateError,
    UnsupportedError,
    nearest,
    shorten,
)
from palate.serve.errors import BusyError, ConflictError, NotFound, SchemaError, StoreError, Unavailable
from palate.serve.wire import Problem

log = logging.getLogger("palate.serve")

#: Status of each kind of error; the first that fits counts.
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (ConflictError, 409, "conflict"),
    (BusyError, 503, "busy"),
    (Unavailable, 503, "unavailable"),
    (SchemaError, 500, "internal"),
    (StoreError, 503, "unavailable"),
    (UnsupportedError, 422, "unsupported"),
    (ConfigError, 422, "invalid"),
    (DataError, 422, "invalid"),
    (MissingExtraError, 501, "not_installed"),
    (BundleError, 500, "model"),
    (NotFittedError, 500, "model"),
    (PalateError, 500, "internal"),
)
#: What is said of the service's own trouble, instead of the error's words.
_INSIDE = {
    "model": "a model of the service can't be used.",
    "internal": "something went wrong inside.",
}
_LOG = "the service's log has the details"
#: A place on a machine: a file's whole path, or a URL.
_PLACE = re.compile(r"[/\\\\]|[A-Za-z]:[/\\\\]|[a-z][a-z0-9+.-]*://")
_WORDS = {
    400: ("bad_request", "the request can't be read."),
    401: ("no_key", "no valid API key came with the request."),
    403: ("scope", "the API key doesn't allow this."),
    404: ("not_found", "there is nothing here."),
    405: ("method", "this method is not allowed here."),
    413: ("too_large", "the body is too large."),
    429: ("too_many", "too many requests."),
}


class Refusal(HTTPException):
    """A request that is turned away at the door.

    Attributes
    ----------
    status
        HTTP status.
    remedy
        The next step.
    retry_after
        Seconds, where trying again helps.
    """

    def __init__(self, status: int, remedy: str, *, retry_after: float | None = None) -> None:
        super().__init__(status, remedy)
        self.status, self.remedy, self.retry_after = status, remedy, retry_after

    def problem(self, request_id: str) -> Problem:
        """Return the body."""
        code, what = _WORDS[self.status]
        return Problem(code=code, what=what, remedy=self.remedy, request=request_id)


def add_to(app: FastAPI) -> None:
    """Have every error answered in the one form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        first: dict[str, Any] = found[0]
        if first["type"] == "json_invalid":
            return answer(request, 400, "bad_json", "the body is not valid JSON.", value=first.get("ctx", {}).get("error"))
        place = ".".join(str(part) for part in first["loc"])
        return answer(
            request,
            422,
            "invalid",
            f"{first['msg']}.",
            where=place,
            value=shorten(first.get("input"), 80),
            remedy=_misnamed(found) or _right_key(request, first),
        )

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return _sent(error.problem(request_id(request)), error.status, error.retry_after)

    @app.exception_handler(PalateError)
    async def known(request: Request, error: PalateError) -> JSONResponse:
        problem, status = _told(error, request_id(request))
        return _sent(problem, status, getattr(error, "retry_after", 1.0 if status == 503 else None))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        code, what = _WORDS.get(error.status_code, ("refused", "the request was refused."))
        response = answer(request, error.status_code, code, what)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RecursionError)
    async def deep(request: Request, error: RecursionError) -> JSONResponse:
        return answer(request, 400, "bad_json", "the body is nested too deeply.")

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("request %s failed", request_id(request), exc_info=error)
        return answer(request, 500, "internal", _INSIDE["internal"], remedy=_LOG)


def _misnamed(found: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what to do where keys are sent that are not known while others are missing: one likely stands for the other."""
    unknown, missing = (
        [str(one["loc"][-1]) for one in found if one["type"] == kind] for kind in ("extra_forbidden", "missing")
    )
    if not (unknown and missing):
        return None
    return f"{', '.join(unknown)} is not known here; give {', '.join(missing)} instead"


def _right_key(request: Request, error: Mapping[str, Any]) -> str | None:
    """Return which keys stand at the place of one that is not known."""
    if error["type"] != "extra_forbidden":
        return None
    place, dependant = error["loc"], getattr(request.scope.get("route"), "dependant", None)
    body = next((param.field_info.annotation for param in getattr(dependant, "body_params", ())), None)
    at = _below(body, place[1:-1]) if place[0] == "body" else None
    return None if at is None else nearest(str(place[-1]), at.model_fields)


def _below(kind: Any, place: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the model at a place of a body; ``None`` where there is none, or where several may stand there."""
    if get_args(kind):
        models = [own for part in get_args(kind) if (own := _below(part, place)) is not None]
        return models[0] if len(models) == 1 else None
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return None
    names = [part for part in place if not isinstance(part, int)]
    if not names:
        return kind
    field = kind.model_fields.get(names[0])
    return None if field is None else _below(field.annotation, names[1:])


def _told(error: PalateError, request: str) -> tuple[Problem, int]:
    """Return what goes out of an error, and the status; the rest is logged."""
    status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
    if status < 500:
        value = None if error.value is None else shorten(error.value, 80)
        where = None if error.where is not None and _PLACE.match(error.where) else error.where
        if where != error.where:
            log.warning("request %s was refused: %s", request, error)
        return Problem(code=code, what=error.what, where=where, value=value, remedy=error.remedy, request=request), status
    log.error("request %s met the service's own trouble: %s", request, error)
    if code in _INSIDE:
        return Problem(code=code, what=_INSIDE[code], remedy=_LOG, request=request), status
    return Problem(code=code, what=error.what, remedy=error.remedy, request=request), status


def request_id(request: Request) -> str:
    """Return the id of a request."""
    return str(request.scope.get("palate.request", "-"))


def answer(request: Request, status: int, code: str, what: str, **more: Any) -> JSONResponse:
    """Return a problem as a response."""
    return _sent(Problem(code=code, what=what, request=request_id(request), **more), status)


def _sent(body: Problem, status: int, retry_after: float | None = None) -> JSONResponse:
    headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(_printable(body.model_dump(exclude_none=True)), status, headers)


def _printable(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with what UTF-8 can't carry replaced."""
    return {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in body.items()}


def raw(problem: Problem) -> bytes:
    """Return a problem as bytes, for answers given before the application is reached."""
    return json.dumps(problem.model_dump(exclude_none=True)).encode()
