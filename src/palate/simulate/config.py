"""Settings of the synthetic world."""

from __future__ import annotations

from pydantic import Field

from palate.contracts.config import Config


class WorldConfig(Config):
    """What kind of world: how many people, items and events, and how they come about."""

    users: int = Field(1_000, ge=1, le=2**31 - 1, description="people")
    items: int = Field(1_000, ge=2, le=2**31 - 1, description="items of the catalogue")
    events: int = Field(50_000, ge=1, description="about how many events in all")
    seed: int = Field(0, ge=0, description="fixes everything")

    topics: int = Field(32, ge=1, le=4096, description="latent topics; also the categories")
    interests: int = Field(4, ge=1, le=64, description="topics that a person cares for")
    concentration: float = Field(1.0, gt=0, description="evenness of a person's interests (Dirichlet)")
    background: float = Field(0.1, gt=0, le=1, description="share of events that follow no personal interest")
    spread: float = Field(0.25, ge=0, lt=1, description="share of an item's weight in its second topic")
    exponent: float = Field(0.8, ge=0, le=3, description="α of the power law: appeal of the item of rank r is r^-α")
    exposure: float = Field(0.0, ge=0, le=3, description="η: an item is seen with probability (appeal / highest appeal)^η")

    activity: float = Field(1.0, ge=0, le=3, description="spread of events a person (σ of a lognormal)")
    min_events: int = Field(3, ge=0, description="fewest events of a person")
    repeats: bool = Field(False, description="whether a person may take an item again")
    session_length: float = Field(5.0, ge=1, description="mean events of a session")
    focus: float = Field(0.3, ge=0, le=1, description="chance that an event stays with its session's topic")
    days: float = Field(180.0, gt=0, description="days in which sessions begin")
    start: int = Field(1_704_067_200, ge=0, description="first second of the world (2024-01-01)")

    friends: float = Field(8.0, ge=0, description="mean social ties of a person")
    homophily: float = Field(0.7, ge=0, le=1, description="chance that a tie joins people of the same main interest")
    slates: float = Field(1.0, ge=0, description="mean slates shown to a person by the logging policy")
    slate: int = Field(10, ge=1, description="items of a slate")
    exploration: float = Field(0.2, gt=0, le=1, description="share of uniform choice in the logging policy")
    position_decay: float = Field(1.0, ge=0, description="examination of position p is p^-decay")
