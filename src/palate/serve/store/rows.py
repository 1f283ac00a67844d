"""What goes into the store and comes out of it. Times are seconds since 1970 (float), ids are texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person did.

    Attributes
    ----------
    user, item
        Who and what; unknown ones come into being.
    type
        Such as ``"view"``, ``"buy"``.
    value
        Rating, count or price paid.
    time
        When; ``None`` is the moment of writing (and a repetition of the event may leave it out again).
    session
        Visit that it belongs to.
    context
        A JSON object.
    id
        The client's own id of the event: writing it again is harmless.
    n
        Its number in the store, on events that come out of it.
    """

    user: str
    item: str
    type: str = "view"
    value: float | None = None
    time: float | None = None
    session: str | None = None
    context: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    id: str | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch.

    Attributes
    ----------
    stored, repeated
        Rows written, and rows that were there already.
    position
        Number of the store's last event at that moment.
    """

    stored: int
    repeated: int
    position: int


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user. ``created``, ``updated`` and ``deleted`` are the store's.

    ``ties`` are ids of people whom they are tied to. Put in, ``None`` leaves those as they are; they come out as ``None`` (ask
    :meth:`Store.ties_of`).
    """

    id: str
    attributes: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    created: float = 0.0
    updated: float = 0.0
    deleted: float | None = None
    ties: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item. ``created`` may be given; ``updated``, ``revision`` and ``deleted`` are the store's."""

    id: str
    title: str = ""
    text: str = ""
    categories: Sequence[str] = ()
    price: float | None = None
    available: bool = True
    attributes: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    image: str | None = None
    created: float | None = None
    updated: float = 0.0
    revision: int = 0
    deleted: float | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """An item in a slate.

    Attributes
    ----------
    item
        Id.
    position
        From 1.
    propensity
        Chance of this item at this position, given those before it; above 0 and at most 1. ``None`` where the policy is
        deterministic and does not say.
    source
        What named it.
    team
        In an interleaved list, the variant whose ranking supplied it.
    """

    item: str
    position: int
    propensity: float | None = None
    source: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Slate:
    """An answer that was shown, to a ``user`` or to somebody with an ``anonymous`` key (or to nobody known).

    ``asked`` is what else the request said, by which it can be asked again (see :func:`palate.serve.questions.noted`);
    ``None`` where it was not noted.
    """

    id: str
    items: Sequence[Shown]
    user: str | None = None
    anonymous: str | None = None
    time: float | None = None
    policy: str = ""
    stochastic: bool = True
    model: str | None = None
    experiment: str | None = None
    variant: str | None = None
    context: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    asked: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person made of an item in a slate.

    With an ``id``, repeating it is harmless; without one, the same slate, item, kind and value are kept once.
    """

    slate: str
    item: str
    kind: str = "click"
    value: float = 1.0
    time: float | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """A query, of a ``user`` or of somebody with an ``anonymous`` key (or of nobody known), and the ids of what was found."""

    query: str
    user: str | None = None
    time: float | None = None
    results: Sequence[str] = ()
    context: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    anonymous: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation: turns are JSON objects, oldest first. ``created`` and ``updated`` are the store's."""

    id: str
    user: str | None = None
    turns: Sequence[Mapping[str, Any]] = ()
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """An experiment; ``state`` is ``draft``, ``running`` or ``stopped``."""

    name: str
    spec: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    state: str = "draft"
    created: float = 0.0
    started: float | None = None
    stopped: float | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """The first time that a unit (mostly a user) met its variant of an experiment."""

    experiment: str
    unit: str
    variant: str
    time: float | None = None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A published bundle.

    Attributes
    ----------
    version
        Its name.
    system, path, metrics
        What it is, where it stands, how good it was.
    state
        ``published``, ``active`` or ``retired``.
    position
        Number of the last event that it learnt from, where known.
    created, activated
        Times; the store's.
    """

    version: str
    system: str
    path: str
    metrics: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    state: str = "published"
    position: int | None = None
    created: float = 0.0
    activated: float | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key: only its hash is kept."""

    name: str
    hash: str
    scopes: tuple[str, ...]
    created: float
    revoked: float | None = None


@dataclass(frozen=True, slots=True)
class Pulse:
    """What tells a worker whether it is up to date: last event, last revision of items, active model, last erasure."""

    events: int
    items: int
    active: str | None
    erasures: int


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of a person.

    Attributes
    ----------
    counts
        Rows removed, by table.
    models_owed
        Versions of models that may have learnt from the person's events.
    files_clean
        Whether the bytes are gone from the database's files too (always ``False`` on PostgreSQL, whose files, archives and
        backups are the administrator's).
    """

    counts: Mapping[str, int]
    models_owed: Sequence[str]
    files_clean: bool
