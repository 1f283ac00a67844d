"""What is kept: events, feedback, slates, items and users, between the wire and the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from palate.serve import wire
from palate.serve.errors import NotFound
from palate.serve.service import Service
from palate.serve.store import Added, Event, Feedback, ItemRow, UserRow

A = TypeVar("A")
B = TypeVar("B")


def keep_events(service: Service, events: Sequence[wire.EventIn]) -> Future[wire.EventsKept]:
    """Have events written; the future is done when they are on disk."""
    rows = [
        Event(
            user=e.user,
            item=e.item,
            type=e.type,
            value=e.value,
            time=e.time,
            session=e.session,
            context=e.context,
            id=e.id,
        )
        for e in events
    ]

    def kept(added: Added) -> wire.EventsKept:
        service.stale(added.stored)  # an event may bring a new item
        return wire.EventsKept(stored=added.stored, repeated=added.repeated, position=added.position)

    return _then(service.writer.add_events(rows), kept)


def keep_feedback(service: Service, given: wire.FeedbackIn) -> Future[wire.FeedbackKept]:
    """Have feedback written; the future is done when it is on disk."""
    row = Feedback(slate=given.slate, item=given.item, kind=given.kind, value=given.value, time=given.time, id=given.id)
    return _then(service.writer.add_feedback([row]), lambda kept: wire.FeedbackKept(stored=kept.stored, repeated=kept.repeated))


def _then(future: Future[A], change: Callable[[A], B]) -> Future[B]:
    """Return a future of the changed result."""
    changed: Future[B] = Future()

    def done(first: Future[A]) -> None:
        error = first.exception()
        if error is not None:
            changed.set_exception(error)
        else:
            changed.set_result(change(first.result()))

    future.add_done_callback(done)
    return changed


def put_items(service: Service, items: Sequence[wire.ItemIn]) -> wire.Kept:
    """Make or replace items; they can be recommended at once."""
    rows = [
        ItemRow(
            id=i.id,
            title=i.title,
            text=i.text,
            categories=tuple(i.categories),
            price=i.price,
            available=i.available,
            attributes=i.attributes,
            image=i.image,
            created=i.created,
        )
        for i in items
    ]
    service.store.put_items(rows)
    service.stale()
    service.pulse()
    return wire.Kept(kept=len(rows))


def list_items(service: Service, after: str | None, limit: int) -> wire.ItemPage:
    """Return a page of items by id."""
    rows = service.store.items(after=after, limit=limit)
    return wire.ItemPage(items=[_item(row) for row in rows], next=rows[-1].id if len(rows) == limit else None)


def get_item(service: Service, item: str) -> wire.ItemOut:
    """Return an item."""
    found = service.store.item(item)
    if found is None:
        raise NotFound("no such item.", where="item", value=item)
    return _item(found)


def delete_item(service: Service, item: str) -> wire.Kept:
    """Delete an item: it is never shown again."""
    if not service.store.delete_items([item]):
        raise NotFound("no such item.", where="item", value=item)
    service.stale()
    service.pulse()
    return wire.Kept(kept=1)


def put_users(service: Service, users: Sequence[wire.UserIn]) -> wire.Kept:
    """Make or replace users."""
    service.store.put_users([UserRow(id=u.id, attributes=u.attributes, ties=u.ties) for u in users])
    return wire.Kept(kept=len(users))


def get_user(service: Service, user: str) -> wire.UserOut:
    """Return a user."""
    found = service.store.user(user)
    if found is None:
        raise NotFound("no such user.", where="user", value=user)
    named = service.store.ties_of(user)
    return wire.UserOut(id=found.id, attributes=dict(found.attributes), created=found.created, ties=named)


def delete_user(service: Service, user: str) -> wire.Kept:
    """Delete a user: attributes and ties go; what the person did stays (see :mod:`palate.serve.privacy` for an erasure)."""
    if not service.store.delete_user(user):
        raise NotFound("no such user.", where="user", value=user)
    return wire.Kept(kept=1)


def _item(row: Any) -> wire.ItemOut:
    return wire.ItemOut(
        id=row.id,
        title=row.title,
        text=row.text,
        categories=list(row.categories),
        price=row.price,
        available=row.available,
        attributes=dict(row.attributes),
        image=row.image,
        created=row.created,
    )
