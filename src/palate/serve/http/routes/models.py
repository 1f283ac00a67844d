"""Published models: list, publish, activate, roll back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from palate.serve import wire
from palate.serve.http.routes.common import Admin, PathId, Reader, errors, run, service_of
from palate.serve.models import drift, production

router = APIRouter(tags=["models"], prefix="/models")


@router.get("", response_model=wire.ModelList, responses=errors())
async def list_models(request: Request, caller: Reader) -> wire.ModelList:
    """List published models, newest first."""
    return await run(request, production.list_models, service_of(request))


@router.get("/drift", response_model=dict[str, Any], responses=errors())
async def drift_report(request: Request, caller: Reader, days: Annotated[float, Query(gt=0, le=3_650)] = 7.0) -> dict[str, Any]:
    """Say how far the last days are from the days before, and from what the active model learnt from."""
    return (await run(request, drift.drift, service_of(request), days)).plain()


@router.post("", response_model=wire.ModelOut, responses=errors(404, 409))
async def publish(body: wire.PublishIn, request: Request, caller: Admin) -> wire.ModelOut:
    """Publish a bundle that stands in the models folder; it is checked and loaded, and made active where asked."""
    return await run(request, production.publish_named, service_of(request), body.version, body.bundle, body.activate)


@router.post("/{version}/activate", response_model=wire.ModelOut, responses=errors(404))
async def activate(version: PathId, request: Request, caller: Admin) -> wire.ModelOut:
    """Make a model the one that answers: loaded and warmed up first, then exchanged at once."""
    return await run(request, production.activate, service_of(request), version)


@router.post("/rollback", response_model=wire.ModelOut, responses=errors(404, 409))
async def roll_back(request: Request, caller: Admin) -> wire.ModelOut:
    """Make the model active that was active before."""
    return await run(request, production.roll_back, service_of(request))
