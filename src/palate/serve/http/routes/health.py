"""Life signs: for load balancers, and for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from palate import __version__
from palate.serve.http.routes.common import Reader, errors, meters_of, run, service_of
from palate.serve.wire import Health, Ready

router = APIRouter(tags=["health"])


@router.get("/health", response_model=Health)
async def health() -> Health:
    """Say that the process lives (no key needed)."""
    return Health(version=__version__)


@router.get("/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
async def ready(request: Request) -> JSONResponse:
    """Say whether the store answers and a model is active (no key needed)."""
    state = await run(request, service_of(request).ready)
    if state.ready:
        return JSONResponse(state.model_dump())
    return JSONResponse(state.model_dump(), 503, headers={"Retry-After": "1"})


@router.get("/metrics", response_class=Response, responses=errors())
async def metrics(request: Request, caller: Reader) -> Response:
    """Return the meters in Prometheus' text form."""
    meters = meters_of(request)
    meters.items.set(int(service_of(request).catalogue.shown.sum()))
    whole = request.app.state.all_meters
    text = meters.text() if whole is None else await whole()
    return Response(text, media_type="text/plain; version=0.0.4")
