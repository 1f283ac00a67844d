"""Fitted models in this process: several at once, one of them active, and each able to answer in rows of the catalogue.

A model is loaded, given its index and warmed up beside the one that answers; only then does one assignment make it the active
one, so no request is dropped or sees half a model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, get_args

from palate.contracts.bundle import read_manifest
from palate.contracts.policy import Policy
from palate.contracts.ranker import Ranker
from palate.contracts.recommender import Recommender
from palate.data.positive import Positive
from palate.serve.errors import NotFound
from palate.serve.memory.catalogue import Catalogue
from palate.serve.models.kinds import kind_of
from palate.serve.models.loaded import EXACT, Loaded
from palate.serve.models.policies import LoadedPolicy
from palate.serve.models.rankers import LoadedRanker
from palate.serve.models.turns import Turns
from palate.serve.pipeline.config import Need, NeedKind
from palate.serve.settings import RetrievalSettings

T = TypeVar("T")
#: Models, rankers and policies in memory, at most; more only where more are needed for answers, and then one beside those.
MOST = 4


class Shelf:
    """The models, rankers and policies of this process by version, one of the models active.

    Whenever one comes in, the longest unused of those beyond :data:`MOST` are let go: never the active one, nor what is kept
    (:meth:`keep`) because running experiments or the pipeline answer with it.
    """

    def __init__(self, catalogue: Catalogue, retrieval: RetrievalSettings = EXACT) -> None:
        self.catalogue, self.retrieval = catalogue, retrieval
        self._models: dict[str, Loaded] = {}
        self._rankers: dict[str, LoadedRanker] = {}
        self._policies: dict[str, LoadedPolicy] = {}
        self._active: Loaded | None = None
        self._lock = threading.Lock()  # of what is here, kept and active; never held while something is loaded
        self._turns = Turns[Need]()
        self._kept: dict[object, frozenset[Need]] = {}
        self._used: dict[Need, int] = {}
        self._uses = count()

    @property
    def active(self) -> Loaded | None:
        """The model that answers, or ``None``."""
        return self._active

    @property
    def positive(self) -> Positive | None:
        """Which events count as choices: those that the active model learnt from; ``None`` where all do."""
        active = self._active
        return None if active is None else active.positive

    @property
    def reads_ties(self) -> bool:
        """Whether any of the models in memory reads ties when it answers."""
        return any(loaded.model.reads_ties for loaded in list(self._models.values()))

    def versions(self) -> list[str]:
        """Return the versions of models in memory."""
        return list(self._models)

    def find(self, version: str) -> Loaded | None:
        """Return a model that is in memory, or ``None``."""
        return self._models.get(version)

    def holds(self, need: Need) -> bool:
        """Say whether a version is in memory as what is needed."""
        return need.version in self._of(need.kind)

    def policies(self) -> list[LoadedPolicy]:
        """Return the policies in memory."""
        return list(self._policies.values())

    def keep(self, owner: object, needs: Iterable[Need]) -> None:
        """Let none of these go while the owner needs them, in place of what the owner needed before."""
        with self._lock:
            self._kept[owner] = frozenset(needs)
            if not self._kept[owner]:
                del self._kept[owner]
            self._trim()

    def get(self, version: str, folder_of: Callable[[str], str | Path] | None = None) -> Loaded:
        """Return a model by version (or ``"active"``), loading it from its folder where it is not in memory."""
        if version == "active":
            if self._active is None:
                raise NotFound("no model is active.", remedy="publish a bundle and activate it: palate publish DIR --activate")
            return self._active
        if folder_of is not None:
            return self._kept_or(Need("model", version), self._models, lambda: self._made(version, folder_of(version)))
        found = self._models.get(version)
        if found is None:
            raise NotFound("no such model.", where="models", value=version)
        self._used[Need("model", version)] = next(self._uses)
        return found

    def ranker(self, version: str, folder_of: Callable[[str], str | Path]) -> LoadedRanker:
        """Return a ranker by version, loading it from its folder where it is not in memory."""

        def make() -> LoadedRanker:
            made = LoadedRanker(version, folder_of(version))
            made.warm(self.catalogue)
            return made

        return self._kept_or(Need("ranker", version), self._rankers, make)

    def policy(self, version: str, folder_of: Callable[[str], str | Path]) -> LoadedPolicy:
        """Return a policy by version, loading it from its folder where it is not in memory."""

        def make() -> LoadedPolicy:
            made = LoadedPolicy(version, folder_of(version))
            made.warm()
            return made

        return self._kept_or(Need("policy", version), self._policies, make)

    def _kept_or(self, need: Need, kept: dict[str, T], make: Callable[[], T]) -> T:
        """Return what is in memory under a version, or make it, one thread at a time, and keep it."""
        found = kept.get(need.version)
        if found is not None:
            self._used[need] = next(self._uses)
            return found
        with self._turns.alone(need):
            found = kept.get(need.version)
            if found is None:
                found = make()
                with self._lock:
                    kept[need.version] = found
                    self._came(need)
            return found

    def load(self, need: Need, folder_of: Callable[[str], str | Path]) -> None:
        """Load and warm a version up where it is not in memory as what is needed; raises what is wrong with it."""
        loads: dict[NeedKind, Callable[..., object]] = {"model": self.get, "ranker": self.ranker, "policy": self.policy}
        loads[need.kind](need.version, folder_of)

    def fitted(self, version: str, folder_of: Callable[[str], str | Path]) -> Recommender | Ranker | Policy:
        """Return what was fitted of a version, loading it where it is not in memory; raises what is wrong with it."""
        kind = kind_of(str(read_manifest(folder_of(version))["system"]))
        if kind == "ranker":
            return self.ranker(version, folder_of).model
        return self.policy(version, folder_of).policy if kind == "policy" else self.get(version, folder_of).model

    def activate(self, version: str, folder: str | Path) -> None:
        """Load and warm a model up, then make it the one that answers."""
        while not self.turn_to(version):
            self.get(version, lambda _: folder)

    def turn_to(self, version: str) -> bool:
        """Make a model that is in memory the one that answers, at once; say whether it is there."""
        with self._lock:
            found = self._models.get(version)
            if found is None:
                return False
            if self._active is not None:
                self._used[Need("model", self._active.version)] = next(self._uses)
            self._active = found
            self._came(Need("model", version))
            return True

    def reload(self, version: str) -> None:
        """Read a model's or ranker's bundle anew: its files were changed, as by an erasure (a policy holds nobody)."""
        with self._turns.alone(Need("ranker", version)):
            ranker = self._rankers.get(version)
            if ranker is not None:
                anew = LoadedRanker(version, ranker.folder)
                with self._lock:
                    if self._rankers.get(version) is ranker:
                        self._rankers[version] = anew
        with self._turns.alone(Need("model", version)):
            old = self._models.get(version)
            if old is None:
                return
            made = self._made(version, old.folder)
            with self._lock:
                if self._models.get(version) is not old:  # let go meanwhile
                    made.close()
                    return
                self._models[version] = made
                if self._active is old:
                    self._active = made
            old.close()

    def settled(self) -> list[Loaded | LoadedRanker]:
        """Return the models and rankers in memory, after what is being loaded now."""
        found: list[Loaded | LoadedRanker | None] = []
        for need in self._turns.had():
            with self._turns.alone(need):
                if need.kind != "policy":
                    found.append((self._rankers if need.kind == "ranker" else self._models).get(need.version))
        return [held for held in found if held is not None]

    def drop(self, version: str) -> None:
        """Let a model go; the active one stays."""
        with self._lock:
            found = self._models.get(version)
            if found is not None and found is not self._active:
                self._let_go(Need("model", version))

    def _came(self, need: Need) -> None:
        """Note that something is here now, and make room for it (with the lock)."""
        self._used[need] = next(self._uses)
        self._trim()

    def _trim(self) -> None:
        """Let the longest unused of what is too much go (with the lock)."""
        needed = frozenset[Need]().union(*self._kept.values())
        here = [Need(kind, version) for kind in get_args(NeedKind) for version in self._of(kind)]
        loose = [need for need in here if need not in needed and (need.kind != "model" or not self._answers(need.version))]
        room = max(1, MOST - (len(here) - len(loose)))
        loose.sort(key=lambda need: self._used.get(need, -1))
        for need in loose[: max(0, len(loose) - room)]:
            self._let_go(need)

    def _of(self, kind: NeedKind) -> dict[str, Any]:
        held: dict[NeedKind, dict[str, Any]] = {"model": self._models, "ranker": self._rankers, "policy": self._policies}
        return held[kind]

    def _answers(self, version: str) -> bool:
        return self._active is not None and self._active.version == version

    def _let_go(self, need: Need) -> None:
        self._used.pop(need, None)
        found = self._of(need.kind).pop(need.version)
        if isinstance(found, Loaded):
            found.close()

    def _made(self, version: str, folder: str | Path) -> Loaded:
        """Return a model that is loaded and warmed up."""
        made = Loaded(version, folder, self.catalogue, self.retrieval)
        try:
            made.warm()
        except BaseException:
            made.close()
            raise
        return made
