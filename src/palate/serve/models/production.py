"""Models in production: publish, activate without a dropped request, roll back."""

from __future__ import annotations

from pathlib import Path

from palate.contracts.bundle import read_bundle, read_manifest
from palate.errors import BundleError, DataError, UnsupportedError
from palate.serve import wire
from palate.serve.errors import ConflictError, NotFound
from palate.serve.models.kinds import kind_of, use_of
from palate.serve.service import Service
from palate.serve.store import ModelRow, Store


def publish(
    store: Store,
    version: str,
    folder: str | Path,
    *,
    activate: bool = False,
    position: int | None = None,
    unless_after: int | None = None,
) -> ModelRow:
    """Enter a bundle into the store under a version, and make it active where asked, in one step.

    The manifest is checked now, and every file of what is to be active. Running services take an activation up by themselves:
    the new model is loaded beside the requests. ``position`` is the last event of the store that the model learnt from, where
    known; ``unless_after`` the last erasure whose person the bundle is known not to hold.

    Raises
    ------
    BundleError
        If it is no bundle, or is to be active and damaged.
    ErasedMeanwhile
        If somebody was erased after ``unless_after``.
    UnsupportedError
        If a ranker or policy is to be active.
    """
    facts = read_manifest(folder)
    use = use_of(str(facts["system"]), version) if activate else None
    if use is not None:
        raise UnsupportedError(
            f"a {kind_of(str(facts['system']))} can't answer from the whole catalogue.",
            where=folder,
            value=facts["system"],
            remedy=f"publish it without activating; then: {use}",
        )
    if activate:
        read_bundle(folder)
    made = ModelRow(
        version=version,
        system=str(facts["system"]),
        path=str(Path(folder).resolve()),
        metrics=facts.get("metrics", {}),
        position=position,
    )
    return store.add_model(made, activate=activate, unless_after=unless_after)


def list_models(service: Service) -> wire.ModelList:
    """Return published models, newest first."""
    rows = service.store.models()
    active = next((row.version for row in rows if row.state == "active"), None)
    return wire.ModelList(models=[_model(service, row) for row in rows], active=active)


def publish_named(service: Service, version: str, bundle: str, activate_it: bool) -> wire.ModelOut:
    """Publish a folder below the models folder: it must load here before it is entered."""
    folder = (service.models / bundle).resolve()
    if folder.parent != service.models.resolve():
        raise DataError("the bundle is named by a folder's name alone.", where="bundle", value=bundle)
    if not folder.is_dir():
        raise NotFound("no such folder among the models.", where="bundle", value=bundle, remedy="copy the bundle there first")
    known = service.store.model(version)
    if known is not None and Path(known.path) != folder:
        raise ConflictError("there is another model of that version.", where="version", value=version)
    try:
        service.shelf.fitted(version, lambda _: folder)
    except BundleError as error:
        raise DataError(f"the bundle can't be loaded: {error.what}", where="bundle", value=bundle) from error
    row = publish(service.store, version, folder, activate=activate_it)
    service.catch_up()
    return _model(service, row)


def activate(service: Service, version: str) -> wire.ModelOut:
    """Make a model the one that answers: it is loaded and warmed up before the store and this process turn to it."""
    _load(service, version)
    row = service.store.activate(version)
    service.catch_up()
    return _model(service, row)


def roll_back(service: Service) -> wire.ModelOut:
    """Return to the model that was active before; it is loaded and warmed up before the store and this process turn to it."""
    before = service.store.model_before()
    if before is not None:
        _load(service, before.version)
    row = service.store.roll_back()
    service.catch_up()
    return _model(service, row)


def _load(service: Service, version: str) -> None:
    """Load and warm a model up, or refuse to turn to it."""
    try:
        service.shelf.get(version, service.folder)
    except BundleError as error:
        raise ConflictError(
            f"the model can't be loaded, so the one that answers stays: {error.what}",
            where="version",
            value=version,
            remedy="restore its bundle (the service's log says where), or choose another version",
        ) from error


def _model(service: Service, row: ModelRow) -> wire.ModelOut:
    loaded = service.shelf.find(row.version)
    return wire.ModelOut(
        version=row.version,
        system=row.system,
        state=row.state,
        metrics=dict(row.metrics),
        created=row.created,
        activated=row.activated,
        loaded=loaded is not None,
        index=None if loaded is None else loaded.index_words,
    )
