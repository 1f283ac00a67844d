"""Experiments are started and stopped: nobody meets one whose variants can't all answer."""

from __future__ import annotations

from palate.errors import ConfigError, DataError
from palate.serve.errors import ConflictError, NotFound
from palate.serve.experiments.live import ExperimentSpec, check_variant
from palate.serve.service import Service
from palate.serve.store import ExperimentRow


def start(service: Service, name: str) -> ExperimentRow:
    """Start an experiment once each variant has answered a question in this process: its models are loaded, warmed up and fit.

    They stay in memory while the experiment runs; other processes over the same store load them beside their requests. One that
    runs already stays as it is.

    Raises
    ------
    NotFound
        If there is no such experiment.
    ConflictError
        If a variant can't answer (it is named, with the reason), or the experiment was stopped before.
    """
    row = service.store.experiment(name)
    if row is None or row.state != "draft":
        return _turned(service, name, "running")
    spec, base = ExperimentSpec.parse(row.spec, system=f"experiment {name}"), service.settings.pipeline
    try:
        for at, variant in enumerate(spec.variants):
            try:
                service.shelf.keep(("start", name, at), spec.pipeline_of(at, base).needs)
                check_variant(spec, at, base, service.attempt)
            except (NotFound, ConfigError, DataError) as error:
                words, remedy = f"the variant {variant.name} can't answer: {error.what}", error.remedy
                raise ConflictError(words, where=f"variants.{at}", value=error.value, remedy=remedy) from error
        return _turned(service, name, "running")
    finally:
        for at in range(len(spec.variants)):
            service.shelf.keep(("start", name, at), ())


def stop(service: Service, name: str) -> ExperimentRow:
    """Stop an experiment; it can't be started again.

    Raises
    ------
    NotFound
        If there is no such experiment.
    """
    return _turned(service, name, "stopped")


def _turned(service: Service, name: str, state: str) -> ExperimentRow:
    row = service.store.move_experiment(name, state)
    service.forget_caches()
    service.running()
    return row
