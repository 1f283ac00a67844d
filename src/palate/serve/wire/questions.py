"""What is asked, and what is answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from palate.serve.pipeline.filters import Filter
from palate.serve.wire.base import Id, Json, Line, Time, Wire, clean


class HistoryEvent(Wire):
    """An event of a history that comes with the request."""

    item: Id
    time: Time | None = None


class RecommendIn(Wire):
    """Ask for a slate."""

    user: Id | None = Field(None, description="a user of the store, known or new")
    anonymous: Id | None = Field(
        None,
        description="a key of somebody without an account, as a session; for experiments and feedback. Events name it as user",
    )
    history: list[Id | HistoryEvent] | None = Field(
        None, max_length=10_000, description="what the person chose, most recent last; added to what is known of the user"
    )
    items: list[Id] = Field(default_factory=list, max_length=50, description="items to start from (a basket, a page)")
    text: Line | None = Field(
        None, description="a preference in words: for sources that search, and for recommenders that read words"
    )
    k: int = Field(10, ge=1)
    filter: Filter | None = Field(None, description="condition that every item must meet")
    context: Json = Field(default_factory=dict, description="facts about the situation, for rules and logs")
    seen: Literal["exclude", "chosen", "allow"] | None = Field(
        None, description="what the person had to do with before (default: the pipeline's)"
    )
    exclude: list[Id] = Field(default_factory=list, max_length=10_000, description="items that must not come")
    diversity: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="0 best first … 1 as varied as can be")
    model: Id | None = Field(None, description="any published version, to compare with; its answer is not logged")
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
    model: str | None = Field(description="version that answered; nothing where two that are interleaved differ")
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
    user: Id | None = Field(None, description="for whom: what they hid or disliked does not come")
    anonymous: Id | None = Field(None, description="a key of somebody without an account: what they said under it counts")


class RankIn(Wire):
    """Put given candidates into order."""

    user: Id | None = None
    anonymous: Id | None = Field(None, description="a key of somebody without an account: what they said under it counts")
    history: list[Id | HistoryEvent] | None = Field(None, max_length=10_000)
    candidates: list[Id] = Field(min_length=1, max_length=2_000)
    text: Line | None = Field(None, description="a preference or a query in words; for recommenders that read them")
    context: Json = Field(default_factory=dict)
    k: int | None = Field(None, ge=1)
    model: Id | None = None


class SearchIn(Wire):
    """Ask for items by words."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=1_000), AfterValidator(clean)]
    user: Id | None = Field(None, description="whose taste counts")
    anonymous: Id | None = Field(
        None, description="a key of somebody without an account, such as a session; for the log and feedback"
    )
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
    unwanted: list[str] = Field(default_factory=list, description="candidates that the person hid or disliked; not ranked")
    model: str | None = None


class ExplainIn(Wire):
    """Ask why an item suits a person; of a ranker, why it expects what it does."""

    user: Id | None = None
    anonymous: Id | None = Field(None, description="a key of somebody without an account: what they said under it counts")
    history: list[Id | HistoryEvent] | None = Field(None, max_length=10_000)
    item: Id
    text: Line | None = Field(None, description="a preference or a query in words; for recommenders that read them")
    context: Json = Field(default_factory=dict, description="of the situation; a ranker reads it")
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
