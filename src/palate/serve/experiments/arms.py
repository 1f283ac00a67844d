"""Arms: running experiments in this process, and what becomes of them while a variant can't answer.

Models of variants are loaded beside the requests as soon as an experiment runs (or the service starts), and stay in memory
while it runs. While one of them isn't there, because it is still being loaded or because its bundle is gone or damaged, the
experiment *rests* in this process:

* people of a variant that can't answer get the control's answer (the service's own, where the control can't answer either),
  which is counted (:attr:`Arms.replaced`); people of the other variants are answered as ever;
* nobody's answer is part of the experiment, in any variant: it carries no experiment, and nobody is exposed.

Were a control's answer kept as an exposure to the variant, the variant's effect would be watered down, unseen. Were only the
people of the lost variant left out, the others would go on to be counted: arms would differ in size (which the check of sizes
reports as a fault of assignment) and in when their people came. As all rest together, those who are exposed are a fair draw of
the same moments in every arm, and totals of slates and feedback cover the same time. Events of people who met the experiment
before go on to count for the variant that they met: a rest makes a difference look smaller, never larger.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass

from palate.errors import PalateError
from palate.serve.experiments.live import Assigned, Running, salt_of
from palate.serve.models.loading import Loading
from palate.serve.pipeline.config import Need, PipelineConfig
from palate.serve.store import Store

log = logging.getLogger("palate.serve")


@dataclass(frozen=True)
class Rest:
    """An experiment that rests.

    Attributes
    ----------
    experiment
        Its name.
    words
        Which variant can't answer, and why.
    lost
        Whether something is wrong; if not, a model is being loaded, and it goes on in a moment.
    """

    experiment: str
    words: str
    lost: bool


class Arms:
    """The running experiments of this process.

    Parameters
    ----------
    store
        Where they are kept.
    loading
        Has their models loaded.
    base
        The service's own pipeline.

    Attributes
    ----------
    replaced
        How often people of an (experiment, variant) got the control's answer since the start, because the variant could not
        answer.
    """

    def __init__(self, store: Store, loading: Loading, base: PipelineConfig) -> None:
        self.store, self.loading, self.base = store, loading, base
        self.replaced: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._latest: list[Running] = []
        self._unread: dict[str, str] = {}

    def read(self) -> list[Running]:
        """Read running experiments from the store, the earliest first; have their models loaded, and those of the pipeline.

        One that can't be read any more (its spec doesn't fit this version) is passed over, and rests.
        """
        rows = sorted(self.store.experiments("running"), key=lambda row: (row.started or 0.0, row.name))
        salt = salt_of(self.store) if rows else ""
        found: list[Running] = []
        unread: dict[str, str] = {}
        for row in rows:
            try:
                found.append(Running.of(row, salt, self.base))
            except PalateError as error:
                unread[row.name] = error.what
                if row.name not in self._unread:
                    log.error("the running experiment %s can't be read: %s", row.name, error)
        self.loading.need(self, self.base.needs.union(*(needs for running in found for needs in running.needs)))
        self._latest, self._unread = found, unread
        return found

    def stand_in(self, assigned: Assigned) -> PipelineConfig | None:
        """Return the pipeline that answers somebody while their experiment rests; ``None`` where it doesn't rest."""
        running = assigned.running
        lost = [at for at in range(len(running.pipelines)) if not self._answers(running, at)]
        if not lost:
            return None
        own = running.pipelines[assigned.variant]
        if own is not None and assigned.variant not in lost and not assigned.interleaves:
            return own
        with self._lock:
            self.replaced[running.name, assigned.name] += 1
        control = running.pipelines[0]
        return self.base if control is None or 0 in lost else control

    @property
    def trouble(self) -> str | None:
        """Why something can't be loaded that the service's own pipeline answers with; ``None`` where nothing is wrong."""
        for need in sorted(self.base.needs):
            found = self.loading.trouble(need)
            if found is not None:
                return f"the pipeline answers with {_named(need)}, which can't be loaded: {found.words}"
        return None

    def resting(self) -> list[Rest]:
        """Return the experiments that rest, as of the last look at the store."""
        found = [Rest(name, f"it can't be read: {words}", True) for name, words in self._unread.items()]
        for running in self._latest:
            for at, variant in enumerate(running.spec.variants):
                words, lost = self._amiss(running, at)
                if words is not None:
                    found.append(Rest(running.name, f"the variant {variant.name} can't answer: {words}", lost))
        return found

    def _answers(self, running: Running, at: int) -> bool:
        return running.pipelines[at] is not None and all(map(self.loading.shelf.holds, running.needs[at]))

    def _amiss(self, running: Running, at: int) -> tuple[str | None, bool]:
        """Return why a variant can't answer (``None`` where it can), and whether that is more than a load under way."""
        if running.pipelines[at] is None:
            return running.amiss[at], True
        missing = [need for need in sorted(running.needs[at]) if not self.loading.shelf.holds(need)]
        for need in missing:
            trouble = self.loading.trouble(need)
            if trouble is not None:
                return f"{_named(need)} can't be loaded: {trouble.words}", True
        return (f"{_named(missing[0])} is being loaded.", False) if missing else (None, False)


def _named(need: Need) -> str:
    return f"the {need.kind} {need.version}"
