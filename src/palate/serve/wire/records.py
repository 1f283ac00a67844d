"""What is kept: events, feedback, items, users."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from palate.serve.wire.base import Id, Json, Line, Number, Prose, Time, Wire, Word


class EventIn(Wire):
    """Something that a person did."""

    user: Id = Field(description="whose it is; for somebody without an account, the anonymous key they are known by")
    item: Id
    type: Word = "view"
    value: Number | None = Field(None, description="rating, count or price paid")
    time: Time | None = Field(None, description="when, in seconds since 1970 (default: now)")
    id: Id | None = Field(None, description="your own id of the event: sending it again is harmless")
    session: Id | None = None
    context: Json = Field(default_factory=dict)


class EventBatch(Wire):
    """Many events: all are kept, or none."""

    events: list[EventIn] = Field(min_length=1)


def _one_or_many(value: Any) -> str:
    """Tell a batch by its key, so that a mistake in it is complained about once, with its row."""
    return "many" if isinstance(value, EventBatch) or (isinstance(value, dict) and "events" in value) else "one"


EventsIn = Annotated[Annotated[EventIn, Tag("one")] | Annotated[EventBatch, Tag("many")], Discriminator(_one_or_many)]


class EventsKept(Wire):
    """Events are on disk."""

    stored: int
    repeated: int = Field(description="events whose id was known already")
    position: int = Field(description="number of the last event of the store at that moment")


class FeedbackIn(Wire):
    """What a person made of an item in a slate; what they hide, dislike or like counts in their next answer."""

    slate: Id
    item: Id
    kind: Literal["click", "like", "dislike", "buy", "skip", "hide"] | Word = "click"
    value: Number = Field(1.0, description="how much; 0 takes back a hide, dislike or like of this item")
    time: Time | None = Field(None, description="when, in seconds since 1970 (default: now)")
    id: Id | None = Field(
        None,
        description="your own id of it: sending it again is harmless. Without one, the same words on a slate are kept once, "
        "so send one where something may be hidden, taken back and hidden again",
    )


class FeedbackKept(Wire):
    """Feedback is on disk."""

    stored: int
    repeated: int


class ItemIn(Wire):
    """An item; it is made, or replaced."""

    id: Id
    title: Line = ""
    text: Prose = ""
    categories: list[Word] = Field(default_factory=list, max_length=100)
    price: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None = None
    available: bool = True
    attributes: Json = Field(default_factory=dict)
    image: Line | None = None
    created: Time | None = Field(None, description="since when it exists (default: since it came into the store)")


class ItemBatch(Wire):
    """Many items: all are kept, or none."""

    items: list[ItemIn] = Field(min_length=1)


class ItemOut(ItemIn):
    """An item as kept."""

    created: float


class UserIn(Wire):
    """A user; it is made, or replaced."""

    id: Id
    attributes: Json = Field(default_factory=dict)
    ties: list[Id] | None = Field(
        None,
        max_length=10_000,
        description="ids of people whom they are tied to (friends, followed, trusted), in place of those of before; left out, "
        "those stay",
    )


class UserBatch(Wire):
    """Many users: all are kept, or none."""

    users: list[UserIn] = Field(min_length=1)


class UserOut(UserIn):
    """A user as kept."""

    created: float


class Kept(Wire):
    """How many were written."""

    kept: int


class ItemPage(Wire):
    """A page of items."""

    items: list[ItemOut]
    next: str | None = Field(description="pass it as 'after' for the next page; nothing on the last")
