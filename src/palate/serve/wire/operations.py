"""Persons' rights, models, experiments, health, and errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from palate.contracts.config import KeysOf
from palate.serve.experiments.live import ExperimentSpec
from palate.serve.pipeline.config import PipelineConfig
from palate.serve.wire.base import Id, Keys, Time, Wire, Word


class Profile(Wire):
    """A person in short."""

    user: str
    known: bool
    attributes: dict[str, Any]
    ties: list[str] = Field(default_factory=list, description="ids of people whom they are tied to")
    events: int
    recent: list[dict[str, Any]] = Field(description="latest events, newest first")
    taste: dict[str, float] = Field(description="share of each category in what they chose")
    said: list[dict[str, Any]] = Field(
        default_factory=list,
        description="what they hid, disliked and liked, and did not take back (item, title, kind, time, slate), newest first",
    )


class Erased(Wire):
    """What was removed, and what is still owed."""

    removed: dict[str, int]
    bundles: list[str] = Field(description="versions of models whose files were cleaned of the person")
    retrain: list[str] = Field(
        description="versions that learnt from the person's events or ties: retrain to finish the erasure"
    )
    unchecked: list[str] = Field(
        default=[], description="versions whose bundles are gone from this machine, or damaged: look for the person there"
    )
    files_clean: bool = Field(
        False,
        description="whether the rows' bytes are gone from the database's files too; where not, erase again later to finish it "
        "(on PostgreSQL never known: its log, archives and backups are the administrator's)",
    )


class ModelOut(Wire):
    """A published model."""

    version: str
    system: str
    state: str
    metrics: dict[str, Any]
    created: float
    activated: float | None
    loaded: bool
    index: str | None = Field(None, description="what searches its vectors, where it is loaded and has some")


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
    spec: Annotated[Keys, KeysOf(ExperimentSpec)] = Field(description="variants, metrics, planned size, traffic")


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

    pipeline: Annotated[Keys, KeysOf(PipelineConfig)] = Field(
        description="keys of the pipeline that differ from the running one"
    )
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
    model: str | None = Field(description="version of the model that answers")
    wanted: str | None = Field(None, description="version that the store wants active; another one answers while it is loaded")
    trouble: str | None = Field(
        None,
        description="why the wanted model can't be loaded (the one before goes on answering), or an erasure is behind",
    )
    items: int
    resting: dict[str, str] = Field(
        default_factory=dict,
        description="running experiments that rest, each with the reason: a variant can't answer, so its people get the "
        "control's answer, and nobody is counted meanwhile",
    )


class Problem(Wire):
    """What went wrong."""

    code: str
    what: str
    where: str | None = None
    value: str | None = None
    remedy: str | None = None
    request: str = Field(description="id of this request, for the logs")
