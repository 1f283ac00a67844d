"""A person's rights: see, take away, erase."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from palate.serve import answers, privacy, wire
from palate.serve.http.routes.common import Admin, PathId, Reader, errors, run, service_of

router = APIRouter(tags=["profile"], prefix="/profile")


@router.get("/{user_id}", response_model=wire.Profile, responses=errors())
async def profile(user_id: PathId, request: Request, caller: Reader) -> wire.Profile:
    """Return what is known of a person, in short."""
    return await run(request, answers.profile, service_of(request), user_id)


@router.get("/{user_id}/export", response_model=dict[str, Any], responses=errors(404))
async def export(user_id: PathId, request: Request, caller: Admin) -> dict[str, Any]:
    """Return everything that is held about a person."""
    return await run(request, privacy.export, service_of(request), user_id)


@router.delete("/{user_id}", response_model=wire.Erased, responses=errors(404))
async def erase(user_id: PathId, request: Request, caller: Admin) -> wire.Erased:
    """Erase a person from store, caches and bundles, and say which models must be retrained to finish it."""
    return await run(request, privacy.erase, service_of(request), user_id)
