"""A person's rights: everything that is held, and erasure from store, memory and bundles.

Erasing removes the person's rows from the store (and their bytes from its files) and cleans every published bundle: the raw id,
the stored history, and vectors that belong to the person alone. What models learnt about items from the person's events stays
in them until they are fitted again; those versions are named. So are versions whose bundles can't be looked into, because their
folder is gone from this machine or damaged. Erasing again finishes what could not be finished.

Bundles are cleaned before the store counts the erasure, so that whoever sees the count finds clean files. A version that was
published in between is looked into afterwards, and one that comes later is clean (:mod:`palate.serve.models.retrain`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from palate.catalog.registry import load
from palate.contracts.bundle import only_one, read_manifest
from palate.errors import BundleError
from palate.serve import wire
from palate.serve.errors import NotFound
from palate.serve.models.kinds import kind_of
from palate.serve.service import Service

log = logging.getLogger("palate.serve")


def export(service: Service, user: str) -> dict[str, Any]:
    """Return everything that is held about a person: rows of the store, and which bundles know the id.

    ``bundles_unchecked`` names versions that could not be looked into.
    """
    service.forgetting.catch_up()
    held = service.store.export_user(user)
    bundles, unchecked = _among_bundles(_published(service), lambda v: service.shelf.fitted(v, service.folder).knows(user))
    if not bundles and not any(held.values()):
        raise _nothing(user, unchecked)
    return {**held, "bundles": bundles, "bundles_unchecked": unchecked}


def erase(service: Service, user: str) -> wire.Erased:
    """Remove a person, and say what is still owed."""
    service.settle()
    again = service.store.erased_at(user) is not None
    new, looked = _published(service), set[str]()
    cleaned: list[str] = []
    unchecked: list[str] = []
    removed, owed = Counter[str](), _taught(service, user)
    while True:
        found, lost = _among_bundles(new, lambda version: _clean(service, version, user))
        gone = service.store.erase_user(user, elsewhere=bool(found))
        cleaned, unchecked, looked = [*cleaned, *found], [*unchecked, *lost], looked.union(new)
        removed.update(gone.counts)
        owed.update(found, gone.models_owed)
        new = [version for version in _published(service) if version not in looked]
        if not new:
            break
    service.forget_erased()
    if not (cleaned or again or any(removed.values())):
        raise _nothing(user, unchecked)
    return wire.Erased(
        removed=dict(removed), bundles=cleaned, retrain=sorted(owed), unchecked=unchecked, files_clean=gone.files_clean
    )


def _taught(service: Service, user: str) -> set[str]:
    """Return the rankers and policies that may have learnt from the person's slates: those published since the first."""
    first = service.store.first_slate_of(user)
    if first is None:
        return set()
    return {row.version for row in service.store.models() if row.created >= first and kind_of(row.system) != "model"}


def _published(service: Service) -> list[str]:
    return [row.version for row in service.store.models()]


def _among_bundles(versions: Iterable[str], find: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Return the versions of which something holds, and those that can't be looked into."""
    found: list[str] = []
    unchecked: list[str] = []
    for version in versions:
        try:
            if find(version):
                found.append(version)
        except BundleError as error:
            log.warning("the bundle of %s can't be looked into for a person: %s", version, error)
            unchecked.append(version)
    return found, unchecked


def _clean(service: Service, version: str, user: str) -> bool:
    """Take a person out of one bundle's files; say whether the bundle knew the person."""
    folder = service.folder(version)
    with only_one(folder):
        model = load(folder)
        if not model.forget([user]):
            return False
        model.save(folder, metrics=read_manifest(folder).get("metrics", {}))
        return True


def _nothing(user: str, unchecked: Sequence[str]) -> NotFound:
    words = f"these bundles could not be looked into: {', '.join(unchecked)}" if unchecked else None
    return NotFound("nothing is held about this user.", where="user", value=user, remedy=words)
