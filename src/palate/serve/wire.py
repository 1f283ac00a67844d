"""What goes over the wire: every body and answer of ``/v1``, typed and strict.

Types are not bent (``false`` is no number, ``"1"`` is no integer), unknown keys are refused, and every text and list has a
limit.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from palate.serve.pipeline.filters import Filter

#: Bytes and depth that a free JSON object may have.
OBJECT_BYTES, OBJECT_DEPTH = 16_384, 8


_UNCLEAN = re.compile("[\x00\ud800-\udfff]")


def _clean(text: str) -> str:
    """Refuse what no store keeps: NUL, and halves of surrogate pairs."""
    if _UNCLEAN.search(text):
        raise ValueError("it holds a NUL or a broken character")
    return text


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse objects that are deep, large, or hold what JSON can't."""
    size = 0
    level: list[tuple[Any, int]] = [(value, 1)]
    while level:
        at, depth = level.pop()
        if depth > OBJECT_DEPTH:
            raise ValueError(f"it is nested more than {OBJECT_DEPTH} deep")
        inner = list(at.items()) if isinstance(at, dict) else list(enumerate(at))
        for key, below in inner:
            size += len(str(key)) + 8
            if isinstance(key, str):
                _clean(key)
            if isinstance(below, str):
                size += len(_clean(below).encode())
            elif isinstance(below, float) and not math.isfinite(below):
                raise ValueError("it holds a number that is not finite")
            elif isinstance(below, int) and abs(below) >= 2**63:
                raise ValueError("it holds a number beyond 64 bits")
            elif isinstance(below, (dict, list)):
                level.append((below, depth + 1))
            if size > OBJECT_BYTES:
                raise ValueError(f"it is larger than {OBJECT_BYTES:,} bytes")
    return value


Id = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_clean)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_clean)]
Line = Annotated[str, StringConstraints(max_length=1_000), AfterValidator(_clean)]
Prose = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_clean)]
Json = Annotated[dict[str, Any], AfterValidator(_bounded)]
#: Seconds since 1970, up to the year 2200.
Time = Annotated[float, Field(ge=0, le=7_258_118_400, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Wire(BaseModel):
    """Base of bodies and answers."""

    model_config = ConfigDict(extra="forbid", strict=True)


# -- what happens ---------------------------------------------------------------------------------


class EventIn(Wire):
    """Something that a person did."""

    user: Id
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
    """What a person made of an item in a slate."""

    slate: Id
    item: Id
    kind: Literal["click", "like", "dislike", "buy", "skip", "hide"] | Word = "click"
    value: Number = 1.0
    time: Time | None = None
    id: Id | None = None


class FeedbackKept(Wire):
    """Feedback is on disk."""

    stored: int
    repeated: int


# -- things and people ----------------------------------------------------------------------------


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


# -- questions ------------------------------------------------------------------------------------


class HistoryEvent(Wire):
    """An event of a history that comes with the request."""

    item: Id
    time: Time | None = None


class RecommendIn(Wire):
    """Ask for a slate."""

    user: Id | None = Field(None, description="a user of the store, known or new")
    anonymous: Id | None = Field(None, description="a key of somebody without an account, such as a session; for experiments")
    history: list[Id | HistoryEvent] | None = Field(
        None, max_length=10_000, description="what the person chose, most recent last; added to what is known of the user"
    )
    items: list[Id] = Field(default_factory=list, max_length=50, description="items to start from (a basket, a page)")
    text: Line | None = Field(None, description="a preference in words")
    k: int = Field(10, ge=1)
    filter: Filter | None = Field(None, description="condition that every item must meet")
    context: Json = Field(default_factory=dict, description="facts about the situation, for rules and logs")
    seen: Literal["exclude", "allow"] | None = Field(None, description="what the person chose before (default: the pipeline's)")
    exclude: list[Id] = Field(default_factory=list, max_length=10_000, description="items that must not come")
    diversity: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="0 best first … 1 as varied as can be")
    model: Id | None = Field(None, description="a version to compare with; the answer is not logged as the active policy's")
    experiments: bool = Field(True, description="false keeps this answer out of experiments and exploration")
    trace: bool = Field(False, description="tell where each item came from and what moved it")
    why: bool = Field(False, description="give reasons for each item (slower)")


class Reason(Wire):
    """One reason why."""

    kind: str
    text: str
    item: str | None = None
    weight: float


class Origin(Wire):
    """A source that named an item."""

    source: str
    rank: int
    score: float


class Offered(Wire):
    """An item of a slate."""

    id: str
    title: str
    categories: list[str]
    price: float | None
    image: str | None
    score: float
    position: int = Field(description="from 1")
    propensity: float = Field(description="chance of this item at this position, given those before it")
    sources: list[Origin] | None = None
    moves: list[str] | None = None
    why: list[Reason] | None = None


class TraceStep(Wire):
    """A step on the way to an answer."""

    step: str
    came: int
    left: int
    ms: float
    note: str


class Slate(Wire):
    """An answer."""

    slate: str | None = Field(
        description="id to give feedback on; nothing where the answer was not logged (for nobody known, or of another model)"
    )
    items: list[Offered]
    policy: str
    model: str | None
    experiment: str | None = None
    variant: str | None = None
    cold: bool = Field(description="nothing is known of this person")
    trace: list[TraceStep] | None = None


class SimilarIn(Wire):
    """Ask for items like one or several."""

    items: list[Id] = Field(min_length=1, max_length=50)
    k: int = Field(10, ge=1)
    filter: Filter | None = None
    model: Id | None = None


class RankIn(Wire):
    """Put given candidates into order."""

    user: Id | None = None
    history: list[Id | HistoryEvent] | None = Field(None, max_length=10_000)
    candidates: list[Id] = Field(min_length=1, max_length=2_000)
    context: Json = Field(default_factory=dict)
    k: int | None = Field(None, ge=1)
    model: Id | None = None


class SearchIn(Wire):
    """Ask for items by words."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=1_000), AfterValidator(_clean)]
    user: Id | None = Field(None, description="whose taste counts")
    personal: Annotated[float, Field(ge=0, le=1)] = Field(0.3, description="how much taste counts beside the words")
    k: int = Field(10, ge=1)
    filter: Filter | None = None


class Scored(Wire):
    """An item with a score."""

    id: str
    title: str
    categories: list[str]
    price: float | None
    image: str | None
    score: float | None = Field(description="nothing where the model doesn't know the item")


class ScoredList(Wire):
    """Items in order."""

    items: list[Scored]
    unknown: list[str] = Field(default_factory=list, description="ids that the catalogue doesn't hold, or doesn't show")
    model: str | None = None


class ExplainIn(Wire):
    """Ask why an item suits a person."""

    user: Id | None = None
    history: list[Id | HistoryEvent] | None = Field(None, max_length=10_000)
    item: Id
    model: Id | None = None


class Explained(Wire):
    """Reasons, strongest first."""

    item: str
    score: float
    reasons: list[Reason]
    exact: bool = Field(description="whether the weights (with rest) add up to the score")
    rest: float
    method: str
    model: str


# -- persons' rights, models, keys ----------------------------------------------------------------


class Profile(Wire):
    """A person in short."""

    user: str
    known: bool
    attributes: dict[str, Any]
    events: int
    recent: list[dict[str, Any]] = Field(description="latest events, newest first")
    taste: dict[str, float] = Field(description="share of each category in what they chose")


class Erased(Wire):
    """What was removed, and what is still owed."""

    removed: dict[str, int]
    bundles: list[str] = Field(description="versions of models whose files were cleaned of the person")
    retrain: list[str] = Field(description="versions that learnt from the person's events: retrain to finish the erasure")


class ModelOut(Wire):
    """A published model."""

    version: str
    system: str
    state: str
    metrics: dict[str, Any]
    created: float
    activated: float | None
    loaded: bool


class ModelList(Wire):
    """Published models, newest first."""

    models: list[ModelOut]
    active: str | None


class PublishIn(Wire):
    """Publish a bundle of this machine's models folder."""

    version: Id
    bundle: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="name of a folder below the models folder"
    )
    activate: bool = False


class ExperimentIn(Wire):
    """An experiment to make."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    spec: dict[str, Any] = Field(description="variants, metrics, planned size, traffic; see palate.serve.experiments")


class ExperimentOut(Wire):
    """An experiment."""

    name: str
    state: str
    spec: dict[str, Any]
    created: float
    started: float | None
    stopped: float | None


class ExperimentList(Wire):
    """Experiments, newest first."""

    experiments: list[ExperimentOut]


class JudgeIn(Wire):
    """A candidate pipeline to judge by what was logged."""

    pipeline: dict[str, Any] = Field(description="keys of the pipeline that differ from the running one")
    since: Time = 0.0
    policy: Word | None = Field(None, description="only slates of this policy")


class Health(Wire):
    """Whether the process lives."""

    status: Literal["ok"] = "ok"
    version: str


class Ready(Wire):
    """Whether it can answer."""

    ready: bool
    store: str
    model: str | None
    items: int


class Problem(Wire):
    """What went wrong."""

    code: str
    what: str
    where: str | None = None
    value: str | None = None
    remedy: str | None = None
    request: str = Field(description="id of this request, for the logs")
