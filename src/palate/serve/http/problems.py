"""Errors on the wire: one form for all, with what, where, the value and the next step; never a stack trace."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from palate.errors import ConfigError, DataError, NotFittedError, PalateError, UnsupportedError, shorten
from palate.serve.errors import BusyError, ConflictError, NotFound, StoreError, Unavailable
from palate.serve.wire import Problem

log = logging.getLogger("palate.serve")

#: Status of each kind of error; the first that fits counts.
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (ConflictError, 409, "conflict"),
    (BusyError, 503, "busy"),
    (Unavailable, 503, "unavailable"),
    (StoreError, 503, "unavailable"),
    (UnsupportedError, 422, "unsupported"),
    (NotFittedError, 409, "not_fitted"),
    (ConfigError, 422, "invalid"),
    (DataError, 422, "invalid"),
    (PalateError, 400, "refused"),
)
_WORDS = {
    400: ("bad_request", "the request can't be read."),
    401: ("no_key", "no valid API key came with the request."),
    403: ("scope", "the API key doesn't allow this."),
    404: ("not_found", "there is nothing here."),
    405: ("method", "this method is not allowed here."),
    413: ("too_large", "the body is too large."),
    429: ("too_many", "too many requests with this key."),
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
        first: dict[str, Any] = error.errors()[0]
        if first["type"] == "json_invalid":
            return answer(request, 400, "bad_json", "the body is not valid JSON.", value=first.get("ctx", {}).get("error"))
        place = ".".join(str(part) for part in first["loc"])
        return answer(request, 422, "invalid", f"{first['msg']}.", where=place, value=shorten(first.get("input"), 80))

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return _sent(error.problem(request_id(request)), error.status, error.retry_after)

    @app.exception_handler(PalateError)
    async def known(request: Request, error: PalateError) -> JSONResponse:
        status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
        value = None if error.value is None else shorten(error.value, 80)
        body = Problem(
            code=code, what=error.what, where=error.where, value=value, remedy=error.remedy, request=request_id(request)
        )
        return _sent(body, status, getattr(error, "retry_after", None))

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
        return answer(request, 500, "internal", "something went wrong inside.", remedy="the service's log has the details")


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
