"""Items and users: make, change, read, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from palate.serve import records, wire
from palate.serve.http.routes.common import PathId, Reader, Writer, check_batch, errors, run, service_of

router = APIRouter()


@router.put("/items", response_model=wire.Kept, tags=["items"], responses=errors())
async def put_items(body: wire.ItemBatch, request: Request, caller: Writer) -> wire.Kept:
    """Make or replace many items: all or none. They can be recommended at once."""
    check_batch(len(body.items), request)
    return await run(request, records.put_items, service_of(request), body.items)


@router.get("/items", response_model=wire.ItemPage, tags=["items"], responses=errors())
async def list_items(
    request: Request,
    caller: Reader,
    after: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> wire.ItemPage:
    """List items by id, a page at a time."""
    return await run(request, records.list_items, service_of(request), after, limit)


@router.get("/items/{item_id}", response_model=wire.ItemOut, tags=["items"], responses=errors(404))
async def get_item(item_id: PathId, request: Request, caller: Reader) -> wire.ItemOut:
    """Return an item."""
    return await run(request, records.get_item, service_of(request), item_id)


@router.delete("/items/{item_id}", response_model=wire.Kept, tags=["items"], responses=errors(404))
async def delete_item(item_id: PathId, request: Request, caller: Writer) -> wire.Kept:
    """Delete an item: it never appears again; what people did with it stays."""
    return await run(request, records.delete_item, service_of(request), item_id)


@router.put("/users", response_model=wire.Kept, tags=["users"], responses=errors())
async def put_users(body: wire.UserBatch, request: Request, caller: Writer) -> wire.Kept:
    """Make or replace many users: all or none. Ties that are left out stay as they are."""
    check_batch(len(body.users), request)
    return await run(request, records.put_users, service_of(request), body.users)


@router.get("/users/{user_id}", response_model=wire.UserOut, tags=["users"], responses=errors(404))
async def get_user(user_id: PathId, request: Request, caller: Reader) -> wire.UserOut:
    """Return a user."""
    return await run(request, records.get_user, service_of(request), user_id)


@router.delete("/users/{user_id}", response_model=wire.Kept, tags=["users"], responses=errors(404))
async def delete_user(user_id: PathId, request: Request, caller: Writer) -> wire.Kept:
    """Delete a user: attributes and ties go, and the user is no longer listed or found.

    What the person did stays (events, slates, feedback, searches), goes on counting in answers to that id, and is learnt from.
    Putting the user in again makes it anew. To take a person out of everything, bundles included, erase the profile:
    ``DELETE /v1/profile/{user_id}``.
    """
    return await run(request, records.delete_user, service_of(request), user_id)
