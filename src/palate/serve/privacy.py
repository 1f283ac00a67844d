"""A person's rights: everything that is held, and erasure from store, memory and bundles.

Erasing removes the person's rows from the store (and their bytes from its files) and cleans every published bundle: the raw id,
the stored history, and vectors that belong to the person alone. What models learnt about items from the person's events stays
in them until they are fitted again; those versions are named.
"""

from __future__ import annotations

from typing import Any

from palate.catalog.registry import load
from palate.contracts.bundle import read_manifest
from palate.serve import wire
from palate.serve.errors import NotFound
from palate.serve.service import Service


def export(service: Service, user: str) -> dict[str, Any]:
    """Return everything that is held about a person: rows of the store, and which bundles know the id."""
    held = service.store.export_user(user)
    bundles = [version for version in _versions(service) if service.shelf.fitted(version, service.folder).knows(user)]
    if not bundles and not any(held.values()):
        raise NotFound("nothing is held about this user.", where="user", value=user)
    return {**held, "bundles": bundles}


def erase(service: Service, user: str) -> wire.Erased:
    """Remove a person, and say what is still owed."""
    service.settle()
    cleaned = [version for version in _versions(service) if _clean(service, version, user)]
    gone = service.store.erase_user(user)
    service.forget_caches()
    if not cleaned and not any(gone.counts.values()):
        raise NotFound("nothing is held about this user.", where="user", value=user)
    owed = sorted({*cleaned, *gone.models_owed})
    return wire.Erased(removed=dict(gone.counts), bundles=cleaned, retrain=owed)


def _clean(service: Service, version: str, user: str) -> bool:
    """Take a person out of one bundle's files, and out of memory; say whether the bundle knew the person."""
    folder = service.folder(version)
    model = load(folder)
    if not model.forget([user]):
        return False
    model.save(folder, metrics=read_manifest(folder).get("metrics", {}))
    service.shelf.reload(version)
    return True


def _versions(service: Service) -> list[str]:
    return [row.version for row in service.store.models() if service.folder(row.version).is_dir()]
