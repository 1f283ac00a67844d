"""What a pipeline is made of, as read from ``palate.toml``: sources, filters, ranking, re-ranking, ordering, exploring.

A part is defined once, here; the file is checked against it when the service starts, and a wrong key names the nearest right
one.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from palate.contracts.config import Config

#: What stands in logs: what was answered under another name could not be written there.
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
#: Far from what a sum of weighted ranks can't hold.
Weight = Annotated[float, Field(ge=0, le=1e6)]


#: What a published version can be: a model answers from the whole catalogue, a ranker orders, a policy chooses by chance.
NeedKind = Literal["model", "ranker", "policy"]


class Need(NamedTuple):
    """A version that something answers with, and what it is there."""

    kind: NeedKind
    version: str


class _Kind(Config):
    """A part of one kind; what is written down names the kind."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["kind", *schema.get("required", [])]))


class ModelSource(_Kind):
    """Candidates of a fitted model."""

    kind: Literal["model"] = "model"
    name: Name = Field("personal", description="what the trace and the log call this source")
    model: str = Field("active", description="version of a model in the store, or 'active'")
    quota: int = Field(200, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(1.0, description="weight in the fused order")


class TrendingSource(_Kind):
    """What was chosen most in the last hours."""

    kind: Literal["trending"] = "trending"
    name: Name = Field("trending", description="what the trace and the log call this source")
    hours: float = Field(168.0, gt=0, description="how far back")
    types: tuple[str, ...] = Field((), description="types of events that count (none named: what the active model learns from)")
    quota: int = Field(50, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(0.05, description="weight in the fused order")


class NewSource(_Kind):
    """Items that came into the catalogue lately, newest first."""

    kind: Literal["new"] = "new"
    name: Name = Field("new", description="what the trace and the log call this source")
    days: float = Field(30.0, gt=0, description="how far back")
    only: Literal["all", "strangers"] = Field(
        "all", description="all of them, or only those that the active model has not learnt of (the others come from it)"
    )
    quota: int = Field(20, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(0.05, description="weight in the fused order")


class ContentSource(_Kind):
    """Items that say the like of what the person chose lately: by title, categories and text (see ``[search]``)."""

    kind: Literal["content"] = "content"
    name: Name = Field("content", description="what the trace and the log call this source")
    last: int = Field(20, gt=0, le=500, description="how many of the person's latest items stand for them")
    only: Literal["all", "strangers"] = Field(
        "strangers",
        description="all items, or only those that the active model has not learnt of, which nothing else brings up",
    )
    quota: int = Field(3, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(0.85, description="weight in the fused order")


class SimilarSource(_Kind):
    """Items like the last ones that the person chose (or like the items named in the request)."""

    kind: Literal["similar"] = "similar"
    name: Name = Field("similar", description="what the trace and the log call this source")
    model: str = Field("active", description="version of a model that knows which items are alike, or 'active'")
    last: int = Field(3, gt=0, le=50, description="how many of the person's latest items to start from")
    quota: int = Field(50, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(0.2, description="weight in the fused order")


class SearchSource(_Kind):
    """Items whose text matches the words of the request (stated preference or query)."""

    kind: Literal["search"] = "search"
    name: Name = Field("search", description="what the trace and the log call this source")
    quota: int = Field(200, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(1.0, description="weight in the fused order")


class MeaningSource(_Kind):
    """Items whose text means something like the words of the request, whether or not it holds them (see ``[search]``)."""

    kind: Literal["meaning"] = "meaning"
    name: Name = Field("meaning", description="what the trace and the log call this source")
    quota: int = Field(100, gt=0, le=5_000, description="candidates at most")
    weight: Weight = Field(0.9, description="weight in the fused order")


Source = Annotated[
    ModelSource | TrendingSource | NewSource | ContentSource | SimilarSource | SearchSource | MeaningSource,
    Field(discriminator="kind"),
]
#: The sources by kind.
SOURCES: dict[str, type[Config]] = {
    "model": ModelSource,
    "trending": TrendingSource,
    "new": NewSource,
    "content": ContentSource,
    "similar": SimilarSource,
    "search": SearchSource,
    "meaning": MeaningSource,
}


class RankConfig(Config):
    """How candidates of all sources come into one order."""

    kind: Literal["fuse", "model", "ranker"] = Field(
        "fuse", description="reciprocal ranks of the sources, or the score of one model, or of one ranker in context, for all"
    )
    model: str = Field("active", description="version of the model (or ranker) that scores (kind = 'model' or 'ranker')")
    task: str = Field("", description="what the ranker predicts, such as 'click'; empty: its first task")
    pool: int = Field(500, gt=0, le=5_000, description="how many of the best fused candidates the ranker scores")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.kind == "ranker" and self.model == "active":
            raise ValueError("a ranker is named by its version: model = 'VERSION'")
        return self

    constant: float = Field(60.0, gt=0, description="k of reciprocal rank fusion, Σ weight/(k + rank)")


class PreRankConfig(Config):
    """A cheap ranker (such as COLD) that looks over many candidates, and leaves the best of them to what ranks."""

    model: str = Field(..., min_length=1, description="version of the ranker in the store")
    task: str = Field("", description="what it predicts, such as 'click'; empty: its first task")
    pool: int = Field(2_000, gt=0, le=20_000, description="how many of the best fused candidates it scores")
    keep: int = Field(300, gt=0, le=5_000, description="how many of the best it keeps (never fewer than are asked for)")

    @model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.model == "active":
            raise ValueError("a ranker is named by its version: model = 'VERSION'")
        if self.keep > self.pool:
            raise ValueError("a pre-ranker keeps at most what it scores: keep <= pool")
        return self


class DiversityConfig(Config):
    """How a list is made less uniform."""

    kind: Literal["none", "mmr", "dpp", "calibrate"] = Field("none", description="method")
    level: float = Field(0.3, ge=0, le=1, description="0 leaves the order alone, 1 looks at diversity only")
    pool: int = Field(100, gt=0, le=2_000, description="how many of the best are looked at")


class OrderConfig(Config):
    """How the first items are ordered for people who scan a list and take the first item that attracts them."""

    kind: Literal["none", "cascade"] = Field("none", description="leave the order alone, or the best list by chance and value")
    chance: Literal["rates", "score", "expected"] = Field(
        "rates", description="click chance: logged rates, a logistic of the model's score, or what a ranker expects"
    )
    prior: tuple[PositiveFloat, PositiveFloat] = Field((1.0, 20.0), description="clicks and misses known beforehand (rates)")
    slope: float = Field(1.0, description="chance = 1 / (1 + exp(-(offset + slope * score))) (score)")
    offset: float = Field(0.0, description="see slope; both from a logistic fit of clicks on scores")
    value: str = Field("", description="what a click is worth: price, or the name of an attribute; empty: 1 for every item")
    rest: float = Field(0.0, ge=0, description="what a visit without a click is worth; items worth no more come last")
    pool: int = Field(50, gt=0, le=1_000, description="how many of the best are looked at")


class CapConfig(Config):
    """How many items of one value a list may hold."""

    field: str = Field("categories", description="categories, or the name of an attribute")
    most: int = Field(..., gt=0, description="items with the same value, at most")


class ExploreConfig(Config):
    """How the service learns about what it would not show."""

    kind: Literal["none", "epsilon", "thompson", "policy"] = Field(
        "none", description="even draws now and then, click rates of the log, or a published policy of the verb explore"
    )
    model: str = Field("", description="version of the policy (policy)")
    epsilon: float = Field(
        0.05,
        ge=0,
        le=1,
        description="chance that a position is drawn evenly from the pool, or (policy) from what the policy doesn't know of it",
    )
    pool: int = Field(50, gt=0, le=1_000, description="how many of the best may be drawn")
    prior: tuple[PositiveFloat, PositiveFloat] = Field(
        (1.0, 20.0), description="successes and failures known beforehand (thompson)"
    )
    draws: int = Field(256, gt=0, le=4_096, description="draws from which propensities are counted (thompson)")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.kind == "policy" and self.model in ("", "active"):
            raise ValueError("a policy is named by its version: model = 'VERSION'")
        return self


class FeedbackConfig(Config):
    """What a person's own feedback does to their next answers (events are told apart: ``seen`` is about them)."""

    hidden: Literal["exclude", "allow"] = Field("exclude", description="what the person hid: leave it out, or allow it")
    disliked: Literal["exclude", "allow"] = Field("exclude", description="what the person disliked: leave it out, or allow it")
    liked: Literal["history", "ignore"] = Field(
        "history", description="what the person liked: count it among what they chose (not for rankers), or ignore it"
    )


class PipelineConfig(Config):
    """A whole pipeline: ``[pipeline]`` and ``[[pipeline.sources]]`` of ``palate.toml``.

    Notes
    -----
    In the file::

        [pipeline]
        rule = 'item.price < 100.0'

        [[pipeline.sources]]
        kind = "trending"
        hours = 24

        [pipeline.explore]
        kind = "epsilon"

    Sources that the file names replace the default ones.
    """

    name: Name = Field("default", description="what answers and logs call this policy")
    sources: tuple[Source, ...] = Field(
        (
            ModelSource(),
            TrendingSource(),
            NewSource(only="strangers"),
            ContentSource(),
            SearchSource(),
            MeaningSource(),
        ),
        min_length=1,
        max_length=16,
        description="where candidates come from",
    )
    rule: str | None = Field(None, max_length=300, description="condition in CEL that every item shown must meet")
    pre_rank: PreRankConfig | None = Field(None, description="a cheap ranker that chooses what [pipeline.rank] looks at")
    rank: RankConfig = Field(RankConfig(), description="one order")
    diversity: DiversityConfig = Field(DiversityConfig(), description="less uniform lists")
    order: OrderConfig = Field(OrderConfig(), description="order of the first items")
    caps: tuple[CapConfig, ...] = Field((), max_length=8, description="limits of exposure in one list")
    pinned: tuple[str, ...] = Field((), max_length=20, description="items always first, in this order, where allowed")
    banned: tuple[str, ...] = Field((), max_length=10_000, description="items never shown")
    explore: ExploreConfig = Field(ExploreConfig(), description="exploration, with logged propensities")
    seen: Literal["exclude", "chosen", "allow"] = Field(
        "exclude",
        description="what a person had to do with: leave it out, only what they chose (where the active model doesn't learn "
        "from all events), or allow it",
    )
    feedback: FeedbackConfig = Field(FeedbackConfig(), description="what a person hid, disliked and liked")
    history: int = Field(500, gt=0, le=10_000, description="latest events of a person that are looked at")

    @model_validator(mode="after")
    def _ranked_after(self) -> Self:
        if self.pre_rank is not None and self.rank.kind == "fuse":
            raise ValueError("a pre-ranker stands before a model or ranker: set [pipeline.rank] kind = 'ranker' (or 'model')")
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """The versions that this pipeline answers with, beside the active one."""
        needs = {Need("model", source.model) for source in self.sources if isinstance(source, ModelSource | SimilarSource)}
        if self.rank.kind != "fuse":
            needs.add(Need("ranker" if self.rank.kind == "ranker" else "model", self.rank.model))
        if self.pre_rank is not None:
            needs.add(Need("ranker", self.pre_rank.model))
        if self.explore.kind == "policy":
            needs.add(Need("policy", self.explore.model))
        return frozenset(need for need in needs if need.version != "active")

    @property
    def model_version(self) -> str | None:
        """Version of the model that answers first of all: the one that ranks, else the first source's; or ``None``."""
        if self.rank.kind == "model":
            return self.rank.model
        return next((source.model for source in self.sources if isinstance(source, ModelSource)), None)
