"""Service: the store, the catalogue as it is now, the models in memory and a pipeline, put together; what HTTP, console and
command line call.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import PalateError
from palate.serve.errors import BusyError, NotFound
from palate.serve.experiments.arms import Arms
from palate.serve.experiments.live import Running
from palate.serve.memory.catalogue import Catalogue
from palate.serve.memory.memo import Memo
from palate.serve.memory.people import Person
from palate.serve.memory.trends import Best, Trends
from palate.serve.models.forgetting import Forgetting
from palate.serve.models.loaded import Loaded
from palate.serve.models.loading import Loading
from palate.serve.models.policies import LoadedPolicy, Turn
from palate.serve.models.rankers import LoadedRanker
from palate.serve.models.shelf import Shelf
from palate.serve.models.succession import Succession
from palate.serve.pipeline.config import PipelineConfig, TrendingSource
from palate.serve.pipeline.pipeline import Pipeline
from palate.serve.pipeline.sources import Question
from palate.serve.questions import logged
from palate.serve.rows.asked import RECENT as RECENT_ITEMS
from palate.serve.rows.asked import Asker
from palate.serve.search.content import Content
from palate.serve.search.words import TextIndex
from palate.serve.settings import ServiceSettings
from palate.serve.store import Exposure, GroupWriter, Search, Shown, Store
from palate.serve.wire import Ready, RecommendIn, SearchIn, Slate

#: Seconds for which trending lists and click rates are remembered; up to USABLE they are given while the next are made.
FRESH, USABLE = 5.0, 10.0
#: Events that are counted in a few milliseconds.
MANY = 20_000
#: Seconds within which the store is not asked again what changed, unless this process wrote something itself.
RECENT = 0.1


@dataclass(frozen=True)
class KnownList:
    """An answer for nobody in particular as it goes out, and how many of its items each source ranked highest."""

    body: bytes
    sources: Mapping[str, int]


class Service:
    """Everything that answers, in one process.

    Parameters
    ----------
    store
        Open; it stays the caller's to close.
    settings
        Of ``palate.toml``.
    models
        Folder below which published bundles stand.
    clock
        Seconds since 1970.
    seed
        Fixes the draws of explorers (for tests); by default they differ with every start.

    Attributes
    ----------
    lost
        How many ``slates``, ``exposures`` and ``searches`` could not be logged since the start.
    """

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        models: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        self.store, self.settings, self.models, self.clock = store, settings, Path(models), clock
        self.catalogue = Catalogue()
        self.shelf = Shelf(self.catalogue, settings.retrieval)
        self.succession = Succession(self.shelf, self.folder)
        self.loading = Loading(self.shelf, self.folder)
        self.arms = Arms(store, self.loading, settings.pipeline)
        self._pipelines: dict[PipelineConfig, Pipeline] = {}
        self._memo, self._lists = Memo(FRESH, USABLE), Memo(FRESH, USABLE)
        self._trends = Trends(store)
        self.texts, self.content = TextIndex(self.catalogue), Content(self.catalogue, settings.search)
        self.writer = GroupWriter(store)
        self.pipeline = self.pipeline_of(settings.pipeline)
        self.lost = {"slates": 0, "exposures": 0, "searches": 0}
        self._seeds, self._seed_lock = np.random.SeedSequence(seed), threading.Lock()
        self._pulsed, self._uncounted = -RECENT, 0
        first = store.pulse()
        # this process's own caches only, whatever a subclass has others forget
        self.forgetting = Forgetting(store, self.shelf, first.erasures, partial(Service.forget_caches, self))
        if first.active is not None:
            self.succession.begin(first.active)
        self.pulse()
        self.running()

    def close(self) -> None:
        """Write what is under way, then stop."""
        self.succession.close()
        self.loading.close()
        self.forgetting.close()
        self.content.close()
        self._memo.close()
        self._lists.close()
        self.writer.close()

    def warm(self) -> None:
        """Begin to count, beside the requests, what the pipeline's sources will ask for, and to make vectors of texts."""
        self._uncounted = 0
        self.content.begin()
        for source in self.settings.pipeline.sources:
            if isinstance(source, TrendingSource):
                self._memo.begin(*self._trend(source.hours, source.types))

    def rng(self) -> np.random.Generator:
        """Return a generator of its own for one answer."""
        with self._seed_lock:
            return np.random.default_rng(self._seeds.spawn(1)[0])

    def pipeline_of(self, config: PipelineConfig) -> Pipeline:
        """Return the pipeline of a configuration; the latest ones are remembered."""
        found = self._pipelines.get(config)
        if found is None:
            found = Pipeline(config, self, self)
            self._pipelines = {**dict(list(self._pipelines.items())[-31:]), config: found}
        return found

    def attempt(self, config: PipelineConfig) -> None:
        """Answer a question for nobody known with a pipeline, so that what is wrong is told now, not to the first asker.

        Raises
        ------
        PalateError
            A model that is absent, damaged, gone from the disk or of another kind; a rule that can't be read; an unknown task.
        """
        self.loading.check(config.needs)
        Pipeline(config, self, self).answer(Question(Person(None), k=1, text="anything", now=self.clock()), self.rng)

    # -- staying up to date -------------------------------------------------------------------------

    def pulse(self) -> None:
        """Take up what changed in the store: items, erasures, which model is wanted (models are loaded beside the requests).

        The store is asked at most every :data:`RECENT` seconds, or at once after a write of this process (:meth:`stale`).
        """
        if time.monotonic() - self._pulsed < RECENT:
            return
        now = self.store.pulse()
        self._pulsed = time.monotonic()
        self.catalogue.refresh(self.store, now.items)
        self.forgetting.see(now.erasures)
        if now.active is not None:
            self.succession.want(now.active)

    def catch_up(self, seconds: float = 600.0) -> None:
        """Take up what changed, and wait until the wanted model answers.

        Raises
        ------
        PalateError
            If it can't be loaded, or takes longer than so many seconds.
        """
        while True:
            self.stale()
            self.pulse()
            self.succession.wait(seconds)
            if not self.succession.behind:
                return

    def stale(self, events: int = 0) -> None:
        """Have the store asked at the next :meth:`pulse`: something was written.

        After so many events that counting them takes long, trends follow at once, whether or not anybody asks for them.
        """
        self._pulsed = -RECENT
        self._uncounted += events
        if self._uncounted > MANY:
            self.warm()

    def known_list(self, key: tuple[object, ...], make: Callable[[], KnownList]) -> KnownList | None:
        """Return an answer for nobody in particular that needs no waiting, while nothing changed that it is made of."""
        if time.monotonic() - self._pulsed > RECENT:
            return None
        return self._lists.peek((key, *self._state()), make)

    def list_of(self, key: tuple[object, ...], make: Callable[[], KnownList]) -> KnownList:
        """Return an answer for nobody in particular, made only if it isn't remembered."""
        self.pulse()
        return self._lists.get((key, *self._state()), make)

    def _state(self) -> tuple[object, ...]:
        """Return what answers for nobody depend on, beside trends (which are as old as they may be)."""
        active = self.shelf.active
        return self.catalogue.revision, None if active is None else active.version

    def folder(self, version: str) -> Path:
        """Return the folder of a published model."""
        found = self.store.model(version)
        if found is None:
            raise NotFound("no such model.", where="models", value=version, remedy="see: palate models list")
        return Path(found.path)

    def running(self) -> list[Running]:
        """Return running experiments, the earliest first, at most a few seconds old; models that answers need are loaded."""
        return self._memo.get(("experiments",), self.arms.read)

    def ready(self) -> Ready:
        """Say whether the store answers and something can be recommended."""
        trouble = None
        try:
            self._memo.get(("check",), self.store.check)  # it writes, and anybody may ask whether the service is ready
            self.pulse()
            self.running()
        except PalateError as error:
            trouble = error.what
        active, items = self.shelf.active, int(self.catalogue.shown.sum())
        late = self.succession.trouble
        return Ready(
            ready=trouble is None and (active is not None or items > 0),
            store=trouble or "ok",
            model=None if active is None else active.version,
            wanted=self.succession.wanted,
            trouble=self.forgetting.trouble or self.arms.trouble if late is None else late.words,
            items=items,
            resting={rest.experiment: rest.words for rest in self.arms.resting()},
        )

    def settle(self) -> None:
        """Wait until everything that was handed to the writer so far is on disk."""
        self.writer.add_events([]).result()

    def forget_caches(self) -> None:
        """Drop everything that is remembered for a few seconds."""
        self._trends.clear()
        self._memo.clear()
        self._lists.clear()

    def forget_erased(self) -> None:
        """Drop what is remembered, and whomever the store's erasures removed from any process."""
        self.forgetting.catch_up()

    def log(
        self,
        asked: RecommendIn,
        slate: Slate,
        sources: Sequence[str | None],
        teams: Sequence[str | None],
        now: float,
        *,
        stochastic: bool,
    ) -> None:
        """Have a slate, and the exposure to its experiment, written soon; what can't be written is counted.

        ``sources`` names for each item the source that ranked it highest, ``teams`` the variant that supplied it to an
        interleaved list; ``now`` is the moment of the answer.
        """
        given = zip(slate.items, sources, teams, strict=True)
        rows = [Shown(item.id, item.position, item.propensity, source, team) for item, source, team in given]
        made = logged(asked, slate, rows, now, stochastic=stochastic)
        unit = asked.user or asked.anonymous
        self._soon("slates", lambda: self.writer.add_slate(made))
        if slate.experiment is not None and slate.variant is not None and unit is not None:
            met = Exposure(slate.experiment, unit, slate.variant, made.time)
            self._soon("exposures", lambda: self.writer.add_exposures([met]))

    def log_search(self, asked: SearchIn, found: Sequence[str]) -> None:
        """Have a search written soon, with the ids of what was found; what can't be written is counted."""
        made = Search(asked.query, asked.user, self.clock(), found, anonymous=asked.anonymous)
        self._soon("searches", lambda: self.writer.add_searches([made]))

    def _soon(self, kind: str, submit: Callable[[], Future[Any]]) -> None:
        """Hand something to the writer without waiting for it."""
        try:
            submit().add_done_callback(partial(self._written, kind))
        except BusyError:
            self._lose(kind)

    def _written(self, kind: str, future: Future[Any]) -> None:
        if future.exception() is not None:
            self._lose(kind)

    def _lose(self, kind: str) -> None:
        with self._seed_lock:
            self.lost[kind] += 1

    # -- what sources look at -----------------------------------------------------------------------

    def model(self, version: str) -> Loaded:
        """Return a model by version, or the active one."""
        return self.shelf.get(version, self.folder)

    def expected(self, version: str, question: Question, rows: np.ndarray, task: str) -> np.ndarray:
        """Return ``float64[m]``: what a ranker expects of rows, in the context of a question."""
        ranker = self.shelf.ranker(version, self.folder)
        asker = self.asker(question.person, question.context, question.now, ranker)
        return ranker.score(asker, self.catalogue, rows.tolist(), task)

    def turn(self, version: str, question: Question, rows: np.ndarray) -> Turn:
        """Return what a policy says of rows, in the context of a question."""
        policy = self.shelf.policy(version, self.folder)
        return policy.turn(self.asker(question.person, question.context, question.now, policy), self.catalogue, rows)

    def asker(self, person: Person, context: Mapping[str, Any], now: float, reader: LoadedRanker | LoadedPolicy) -> Asker:
        """Return who asks, as rows of a log tell it: by events alone; attributes are read where the reader wants them."""
        person = person.events()
        known = self.store.user(person.id) if reader.reads_user and person.id is not None else None
        history = [self.catalogue.items[row].id for row in person.rows[-RECENT_ITEMS:].tolist()]
        return Asker(person.id, history, now, {} if known is None else known.attributes, context, len(person.rows))

    def trending(self, hours: float, types: tuple[str, ...], limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and counts of what was chosen most lately; at most a few seconds old."""
        rows, counts = self._memo.get(*self._trend(hours, types))
        return rows[:limit], counts[:limit]

    def _trend(self, hours: float, types: tuple[str, ...]) -> tuple[tuple[Any, ...], Callable[[], Best]]:
        """Return the name of a trend, and what counts it: events of some types, or those that the active model learns from."""
        positive = None if types else self.shelf.positive
        name = ("trending", hours, types, positive)
        return name, lambda: self._trends.best(self.clock(), hours, types, self.catalogue.row, positive)

    def newest(self, since: float, limit: int, *, strangers: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and times of items that came in since a moment, newest first; all, or those the active model lacks."""
        active = self.shelf.active if strangers else None

        def sort() -> tuple[np.ndarray, np.ndarray]:
            items = self.catalogue.items
            rows = np.arange(len(items)) if active is None else active.strangers()
            rows = rows[self.catalogue.shown[rows]]
            created = np.fromiter((items[row].created for row in rows.tolist()), np.float64, len(rows))
            order = np.argsort(-created, kind="stable")
            return rows[order].astype(np.int32), created[order]

        key = ("newest", self.catalogue.revision, None if active is None else active.version)
        rows, created = self._memo.get(key, sort)
        stop = min(limit, int(np.searchsorted(-created, -since, side="right")))
        return rows[:stop], created[:stop].astype(np.float32)

    def search(self, text: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores of items whose text matches."""
        return self.texts.search(text, limit)

    def counts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``float64[n]`` times clicked and times shown, of rows; at most a few seconds old."""
        known = self._memo.get(("rates",), lambda: self.store.rates(self.clock() - 30 * 86_400))
        pairs = [known.get(self.catalogue.items[row].id, (0, 0)) for row in rows.tolist()]
        return np.array([p[0] for p in pairs], np.float64), np.array([p[1] for p in pairs], np.float64)

    # -- people -------------------------------------------------------------------------------------

    def person(self, user: str | None, anonymous: str | None = None, *, before: float = math.inf) -> Person:
        """Return a person as of now, or ``before`` a moment: what the active bundle knows, acknowledged events, feedback, ties.

        Who was erased, and may still be known to a model in memory, has no id; nor has a visitor.
        """
        if user is None and anonymous is None:
            return Person(None)
        most = self.settings.pipeline.history
        past = self.store.past_of(user, anonymous, limit=most, before=before, positive=self.shelf.positive)
        who = None if user is None or self.forgetting.bars(user) else user
        live = Person.of(who, past.items, past.times, self.catalogue, past.said, most, past.chosen)
        active = self.shelf.active
        own = active is not None and (active.store_position or ("",))[0] == self.store.identity
        if who is not None and self.shelf.reads_ties:
            named = self.store.ties_of(who)
            live = replace(live, ties=named if named or own else None)
        # what a model learnt from this very store stands in the events
        return live if who is None or active is None or own else live.after(active.base(who))
