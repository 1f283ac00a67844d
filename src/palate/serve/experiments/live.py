"""Experiments on live traffic: who gets which variant, what they did then, and what may be concluded.

A variant is a change of the pipeline or another model. In an experiment of the kind ``split`` people are assigned by a salted
hash of their id, so every worker gives the same answer without asking anybody; the first time somebody meets a variant is kept
as an exposure, and only what happens after it counts. In one of the kind ``interleaving`` every answer to those who take part
is drafted from the lists of both variants (:mod:`palate.serve.experiments.interleave`), and whose items they choose says what
they prefer (:mod:`palate.serve.experiments.preferences`): a person is compared with themselves, so fewer decide, but about
rankings only. An answer is part of one experiment at most: the first running one, by start, whose traffic the person is in.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from palate.contracts.config import Config, KeysOf
from palate.errors import BundleError, ConfigError, DataError, PalateError
from palate.evaluation.experiments.analysis import analyse
from palate.evaluation.experiments.assignment import OUTSIDE, Allocation, Assignment
from palate.evaluation.experiments.guardrails import Guardrail
from palate.serve.errors import ConflictError, NotFound, StoreError
from palate.serve.experiments import outcomes, preferences
from palate.serve.experiments.visitors import Visitors
from palate.serve.pipeline.config import Need, PipelineConfig
from palate.serve.store import ExperimentRow, Store

log = logging.getLogger("palate.serve")
#: Where the store keeps the salt of assignments.
SALT = "experiments.salt"
#: What answers of an interleaving experiment have as their variant, and as their policy.
INTERLEAVED = "interleaved"


def _amiss(words: str, *path: str | int) -> PydanticCustomError:
    """Return an error about settings that don't fit together, with the path of the one to change."""
    return PydanticCustomError("experiment", "{words}", {"words": words, "path": path})


class Variant(Config):
    """One arm."""

    name: str = Field(..., min_length=1, max_length=100, description="what reports call it")
    weight: float = Field(1.0, gt=0, description="its share, beside the others'")
    model: str | None = Field(None, description="version of a model that replaces the active one")
    pipeline: Annotated[dict[str, Any], KeysOf(PipelineConfig)] = Field(
        default_factory=dict, description="keys of the pipeline that differ"
    )


class Metric(Config):
    """What is counted for each person, after the exposure."""

    name: str = Field(..., min_length=1, max_length=100, description="what reports call it")
    kind: Literal["events", "value", "feedback", "slates", "events_per_slate", "feedback_per_slate"] = Field(
        ..., description="number of events, their summed values, feedback on slates, slates, or shares of slates"
    )
    type: str | None = Field(None, description="type of event or kind of feedback (none: all)")
    guardrail: float | None = Field(None, ge=0, description="must not get worse by more than this share; then it is no goal")
    better: Literal["higher", "lower"] = Field("higher", description="which way is good, for a guardrail")

    @property
    def of_events(self) -> bool:
        """Whether it counts events, of which those of visitors have to be sent with their key as the user."""
        return self.kind.startswith("events") or self.kind == "value"


class Owners(Config):
    """Who owns which points (:class:`palate.evaluation.experiments.assignment.Allocation`)."""

    stops: tuple[int, ...] = Field(..., min_length=1, description="ends of segments, rising to 2^48")
    owners: tuple[int, ...] = Field(..., min_length=1, description="number of the variant of each segment")
    size: int = Field(..., gt=0, description="number of variants")


class ExperimentSpec(Config):
    """A whole experiment, settled before it begins."""

    kind: Literal["split", "interleaving"] = Field(
        "split", description="a person gets one variant, or answers drafted from both in turn"
    )
    variants: tuple[Variant, ...] = Field(..., min_length=2, max_length=10, description="the first is the control")
    metrics: tuple[Metric, ...] = Field(..., min_length=1, max_length=20, description="what is measured")
    planned: int = Field(..., gt=1, description="people in all arms at which it is to be read")
    traffic: float = Field(1.0, gt=0, le=1, description="share of people who take part")
    covariate_days: float | None = Field(
        None, gt=0, description="days before the exposure whose events reduce the variance (CUPED); none: not used"
    )
    allocation: Annotated[dict[str, Any], KeysOf(Owners)] | None = Field(
        None, description="who owns which points; made by the service"
    )

    @model_validator(mode="after")
    def _distinct(self) -> ExperimentSpec:
        for what, names in (("variants", [v.name for v in self.variants]), ("metrics", [m.name for m in self.metrics])):
            again = next((at for at, name in enumerate(names) if name in names[:at]), None)
            if again is not None:
                raise _amiss(f"names of {what} must differ", what, again, "name")
        if all(m.guardrail is not None for m in self.metrics):
            raise _amiss("at least one metric must be a goal, not a guardrail", "metrics")
        return self

    @model_validator(mode="after")
    def _owned(self) -> ExperimentSpec:
        try:
            if self.allocation is None:
                weights = [v.weight for v in self.variants]
                if not sum(weights) < math.inf:
                    raise _amiss("weights of variants must not be endless together", "variants")
            elif Allocation.from_dict(Owners.parse(self.allocation).model_dump()).size != len(self.variants):
                raise _amiss("an allocation is of as many variants as there are: leave it out, and it is made", "allocation")
        except ConfigError as error:
            raise _amiss(f"an allocation is wrong: {error.what} Leave it out, and it is made", "allocation") from None
        return self

    @model_validator(mode="after")
    def _interleaves(self) -> ExperimentSpec:
        if self.kind != "interleaving":
            return self
        if len(self.variants) != 2 or any(v.weight != 1 for v in self.variants):
            raise _amiss("interleaving drafts from two variants, in turn: name two, and no weights", "variants")
        if any(m.kind != "feedback" or m.guardrail is not None for m in self.metrics):
            words = "interleaving counts feedback on items: metrics are of kind 'feedback', without guardrails"
            raise _amiss(words, "metrics")
        if self.covariate_days is not None:
            raise _amiss("interleaving takes no covariates: a person is compared with themselves", "covariate_days")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variants."""
        return tuple(variant.name for variant in self.variants)

    def allotted(self) -> ExperimentSpec:
        """Return the experiment with its allocation: made now, or as it is."""
        if self.allocation is not None:
            return self
        return self.replace(allocation=Allocation.of([v.weight for v in self.variants]).to_dict())

    def pipeline_of(self, variant: int, base: PipelineConfig) -> PipelineConfig:
        """Return the pipeline of a variant."""
        chosen = self.variants[variant]
        config = base.replace(**chosen.pipeline) if chosen.pipeline else base
        return config if chosen.model is None else with_model(config, chosen.model)


def with_model(config: PipelineConfig, version: str) -> PipelineConfig:
    """Return a pipeline in which another model takes the place of the active one."""
    sources = tuple(
        source.replace(model=version) if getattr(source, "model", None) == "active" else source for source in config.sources
    )
    rank = config.rank.replace(model=version) if config.rank.model == "active" else config.rank
    return config.model_copy(update={"sources": sources, "rank": rank})


@dataclass(frozen=True)
class Running:
    """A running experiment, ready to assign.

    Attributes
    ----------
    pipelines
        Of each variant; ``None`` where its changes don't fit the service's own pipeline (any more).
    amiss
        What is wrong with those, by number of the variant.
    needs
        What each variant answers with, beside the active model.
    """

    name: str
    spec: ExperimentSpec
    assignment: Assignment
    pipelines: tuple[PipelineConfig | None, ...]
    amiss: Mapping[int, str]
    needs: tuple[frozenset[Need], ...]

    @classmethod
    def of(cls, row: ExperimentRow, salt: str, base: PipelineConfig) -> Running:
        """Read a row of the store.

        Raises
        ------
        ConfigError
            If its spec is none.
        """
        spec = ExperimentSpec.parse(row.spec, system=f"experiment {row.name}").allotted()
        assert spec.allocation is not None
        assignment = Assignment(row.name, salt, Allocation.from_dict(spec.allocation), spec.traffic)
        pipelines: list[PipelineConfig | None] = []
        amiss: dict[int, str] = {}
        for at in range(len(spec.variants)):
            try:
                pipelines.append(spec.pipeline_of(at, base))
            except ConfigError as error:
                pipelines.append(None)
                amiss[at] = error.what
        needs = tuple(frozenset() if config is None else config.needs for config in pipelines)
        return cls(row.name, spec, assignment, tuple(pipelines), amiss, needs)


@dataclass(frozen=True)
class Assigned:
    """What somebody gets: experiment, and number of the variant."""

    running: Running
    variant: int

    @property
    def interleaves(self) -> bool:
        """Whether the answer is drafted from both variants."""
        return self.running.spec.kind == "interleaving"

    @property
    def name(self) -> str:
        """Name of the variant, or that it is drafted from both."""
        return INTERLEAVED if self.interleaves else self.running.spec.variants[self.variant].name


def assign(running: Sequence[Running], unit: str) -> Assigned | None:
    """Return the variant of a unit: of the first experiment that it takes part in."""
    for experiment in running:
        variant = experiment.assignment.one(unit)
        if variant != OUTSIDE:
            return Assigned(experiment, variant)
    return None


def salt_of(store: Store) -> str:
    """Return the private word that assignments of a store are salted with; it is made once."""
    if store.setting(SALT) is None:
        store.set_setting(SALT, secrets.token_hex(16))
    return str(store.setting(SALT))


def check_variant(spec: ExperimentSpec, at: int, base: PipelineConfig, attempt: Callable[[PipelineConfig], object]) -> None:
    """Have a variant answer once (see :func:`create`): what it answers with is loaded, warmed up, and of the right kind.

    Raises
    ------
    ConflictError
        If something of the service is in the way; variant and reason are named.
    NotFound, ConfigError, DataError
        If the spec itself is wrong.
    Unavailable
        If the store can't be asked.
    """
    variant = spec.variants[at]
    try:
        attempt(spec.pipeline_of(at, base))
    except (StoreError, ConfigError, DataError):
        raise
    except Exception as error:
        log.error("the variant %s can't answer: %s", variant.name, error, exc_info=not isinstance(error, PalateError))
        words = error.what if isinstance(error, PalateError) else "it could not be loaded, or can't be asked."
        known = error.remedy if isinstance(error, PalateError) and not isinstance(error, BundleError) else None
        raise ConflictError(
            f"the variant {variant.name} can't answer: {words}",
            where=f"variants.{at}",
            value=variant.model,
            remedy=known or "restore the bundle (the service's log says where), or name another version",
        ) from error


def create(
    store: Store, name: str, spec: ExperimentSpec, base: PipelineConfig, attempt: Callable[[PipelineConfig], object]
) -> ExperimentRow:
    """Enter an experiment as a draft; every variant must make a pipeline that answers, and name a model that there is.

    Parameters
    ----------
    base
        The service's own pipeline.
    attempt
        Answers a question with a pipeline, and raises what is wrong with it (:meth:`palate.serve.service.Service.attempt`).

    Raises
    ------
    NotFound
        If there is no such model.
    ConflictError
        If a variant's model can't be loaded or is of another kind than is needed; variant and reason are named.
    ConfigError
        If a pipeline is wrong, or two that are to be interleaved have other limits of exposure or pinned items.
    """
    for at, variant in enumerate(spec.variants):
        if variant.model is not None and store.model(variant.model) is None:
            raise NotFound("a variant names a model that there is not.", where=variant.name, value=variant.model)
        base.differing(variant.pipeline, system=f"variant {variant.name}")
        check_variant(spec, at, base, attempt)
    if spec.kind == "interleaving":
        first, second = (spec.pipeline_of(at, base) for at in range(2))
        if (first.caps, first.pinned) != (second.caps, second.pinned):
            what = "variants that are interleaved must have the same caps and pinned items: they share one list."
            raise ConfigError(what, where=name, remedy="leave caps and pinned out, or give both the same")
    return store.add_experiment(name, spec.allotted().model_dump(mode="json"))


def analysis(store: Store, name: str) -> dict[str, Any]:
    """Return what may be concluded about an experiment now.

    Raises
    ------
    NotFound
        If there is none of that name.
    DataError
        If nobody was exposed yet, or if only visitors were, of whom no event is kept, and nothing but events is measured
        (:mod:`palate.serve.experiments.visitors`); of interleaving, if it is not on record who supplied what.
    """
    row = store.experiment(name)
    if row is None:
        raise NotFound("no such experiment.", where="experiment", value=name)
    spec = ExperimentSpec.parse(row.spec, system=f"experiment {name}")
    facts = {"experiment": name, "state": row.state, "started": row.started}
    if spec.kind == "interleaving":
        return {**facts, **preferences.reading(store, name, spec)}
    units, arms = outcomes.units(store, name)
    if not units:
        raise DataError("nobody has met this experiment yet.", where=name, remedy="start it, and let answers flow")
    number = {variant.name: at for at, variant in enumerate(spec.variants)}
    variants = np.array([number[arm] for arm in arms])
    of_events = [metric.name for metric in spec.metrics if metric.of_events]
    people = Visitors.of(store, name, len(units))
    people.check(of_events, sum(not m.of_events and m.guardrail is None for m in spec.metrics), name)
    metrics = [m for m in spec.metrics if not (m.of_events and people.silent)]
    values, bases = {}, {}
    for metric in metrics:
        values[metric.name], bases[metric.name] = _totals(store, name, metric, units)
    before = {}
    if spec.covariate_days is not None:
        earlier = outcomes.events_before(store, name, spec.covariate_days)
        before["events before"] = np.array([earlier.get(unit, 0.0) for unit in units], np.float64)
    found = analyse(
        units,
        variants,
        values,
        planned=spec.planned,
        variants=[v.name for v in spec.variants],
        weights=[v.weight for v in spec.variants],
        denominators={key: base for key, base in bases.items() if base is not None},
        covariates=before,
        guardrails={m.name: Guardrail(m.guardrail, relative=True, better=m.better) for m in metrics if m.guardrail is not None},
    )
    told = found.to_dict()
    seen = {"units": people.number, "with_events": people.heard}
    return {**facts, "kind": spec.kind, **told, "visitors": seen, "words": [*people.words(of_events), *told["words"]]}


def _totals(store: Store, name: str, metric: Metric, units: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return each unit's total of a metric since its exposure, and the base of a share."""
    slates: Mapping[str, float] = outcomes.slate_totals(store, name) if "slate" in metric.kind else {}
    if metric.kind == "slates":
        found = slates
    elif metric.kind.startswith("feedback"):
        found = outcomes.feedback_totals(store, name, metric.type)
    else:
        found = outcomes.event_totals(store, name, metric.type, values=metric.kind == "value")
    totals = np.array([found.get(unit, 0.0) for unit in units], np.float64)
    if not metric.kind.endswith("_per_slate"):
        return totals, None
    return totals, np.array([slates.get(unit, 0.0) for unit in units], np.float64)
