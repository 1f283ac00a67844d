"""Events and feedback: acknowledged when they are on disk."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from palate.serve import records
from palate.serve.http.routes.common import Writer, check_batch, errors, meters_of, service_of
from palate.serve.wire import EventBatch, EventsIn, EventsKept, FeedbackIn, FeedbackKept

router = APIRouter(tags=["events"])


@router.post("/events", response_model=EventsKept, responses=errors(409))
async def add_events(body: EventsIn, request: Request, caller: Writer) -> EventsKept:
    """Keep one event, or many: all or none.

    The answer comes when they are on disk. With an ``id`` of your own, sending an event again is harmless; the same id with
    other content is a conflict. Users and items that are new come into being.
    """
    events = body.events if isinstance(body, EventBatch) else [body]
    check_batch(len(events), request)
    kept = await asyncio.wrap_future(records.keep_events(service_of(request), events))
    meters = meters_of(request)
    meters.events.inc(kept.stored)
    meters.repeated.inc(kept.repeated)
    return kept


@router.post("/feedback", response_model=FeedbackKept, responses=errors(404, 409))
async def add_feedback(body: FeedbackIn, request: Request, caller: Writer) -> FeedbackKept:
    """Say what a person made of an item in a slate (click, like, dislike, buy, skip, hide, or a word of your own)."""
    return await asyncio.wrap_future(records.keep_feedback(service_of(request), body))
