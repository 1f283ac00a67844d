"""Policies in this process: a bundle of the verb ``explore``, asked which of the candidates is likely to come next.

A policy knows the items that it was fitted on, by their ids. It reads the latest items of the person's history, if at all, and
numbers about the situation: the column ``NAME`` of its settings is that key of the request's context, ``user.NAME`` the
person's attribute. Requests are made by the same code for answers and for learning (:mod:`palate.serve.models.teaching`).

Where a number is missing (or is none) the policy can't be asked; that is counted, logged once, and told in the trace.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import load
from palate.contracts.bundle import read_manifest
from palate.contracts.policy import NextChances, Policy
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import UnsupportedError
from palate.serve.memory.catalogue import Catalogue
from palate.serve.rows.asked import Asker, number_of

log = logging.getLogger("palate.serve")


@dataclass(frozen=True, eq=False)
class Turn:
    """What a policy says of one slate.

    Attributes
    ----------
    known
        ``bool[m]``: which of the candidates it can speak of: those that it knows; none where it can't be asked.
    chances
        The chances of those, in their order; ``None`` where there are none.
    note
        What a trace should say.
    """

    known: np.ndarray
    chances: NextChances | None
    note: str


class LoadedPolicy:
    """A policy that chooses slates.

    Attributes
    ----------
    version
        Its name in the store.
    policy
        The policy.
    facts
        The manifest of its bundle.
    lacked
        How often it could not be asked, by the context column that was missing.
    """

    def __init__(self, version: str, folder: str | Path) -> None:
        self.version, self.folder = version, Path(folder)
        self.facts: Mapping[str, Any] = read_manifest(folder)
        policy = load(folder)
        if not isinstance(policy, Policy):
            remedy = "name a version of a policy, such as linucb: palate models --verb explore"
            raise UnsupportedError("this model is no policy.", where=version, value=self.facts.get("system"), remedy=remedy)
        self.policy = policy
        self.lacked: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def reads_user(self) -> bool:
        """Whether it reads attributes of people."""
        return any(name.startswith("user.") for name in self.policy.context_columns)

    def turn(self, asker: Asker, catalogue: Catalogue, rows: np.ndarray) -> Turn:
        """Return what it says of some rows of the catalogue."""
        numbers = self.policy.items_.ids.encode([catalogue.items[row].id for row in rows.tolist()])
        known = numbers >= 0
        context, lacking = context_of(self.policy, asker)
        if lacking is not None:
            self._lack(lacking)
            return Turn(np.zeros(len(rows), bool), None, f"the policy was not asked: the request lacks {lacking!r}")
        note = "" if known.all() else f"{int((~known).sum())} unknown to the policy"
        if not known.any():
            return Turn(known, None, note)
        request = replace(requests_of(self.policy, [asker], [context]), candidates=Ragged.from_rows([numbers[known]]))
        return Turn(known, self.policy.next_chances(request), note)

    def warm(self) -> None:
        """Ask once for nobody in particular: kernels are compiled, and a policy that can't serve says so.

        Raises
        ------
        UnsupportedError
            If it can't say what is likely to come next.
        """
        check_served(self.policy)

    def _lack(self, column: str) -> None:
        with self._lock:
            self.lacked[column] += 1
            first = self.lacked[column] == 1
        if first:
            log.warning("requests lack %r, which the policy %s reads: it is not asked", column, self.version)


def check_served(policy: Policy) -> None:
    """Have a fitted policy fill a slate from its first items, for nobody in particular; it raises what is in the way."""
    nobody = requests_of(policy, [Asker(None, [], 0.0, {}, {}, 0)], [[0.0] * len(policy.context_columns)])
    items = np.arange(min(3, policy.n_items))
    chances = policy.next_chances(replace(nobody, candidates=Ragged.from_rows([items])))
    taken = -1
    for place in range(len(items)):
        chances(taken, items[place:])
        taken = place


def context_of(policy: Policy, asker: Asker) -> tuple[list[float], str | None]:
    """Return the numbers of a policy's context columns, or the name of the first that is missing or no number."""
    found: list[float] = []
    for name in policy.context_columns:
        group = name.partition(".")[0]
        number = number_of(asker.value(name if group in ("user", "context") else f"context.{name}"))
        if number is None:
            return found, name
        found.append(number)
    return found, None


def requests_of(policy: Policy, askers: Sequence[Asker], contexts: Sequence[Sequence[float]]) -> Requests:
    """Return the requests of some people in a policy's numbers; items of histories that it doesn't know are left out."""
    histories = Histories.empty(len(askers))
    if policy.reads_histories:
        numbers = [policy.items_.ids.encode(asker.history) for asker in askers]
        histories = Histories.from_rows([row[row >= 0] for row in numbers])
    names, columns = policy.context_columns, np.array(contexts, np.float64).reshape(len(askers), -1).T
    context = pa.table(dict(zip(names, map(pa.array, columns), strict=True))) if names else None
    return Requests(np.full(len(askers), -1, np.int32), histories, context=context)
