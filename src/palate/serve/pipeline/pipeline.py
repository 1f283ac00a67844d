"""Pipeline: sources → filters → one order → diversity → order by value → exploration, each step timed and traced.

Where filters and rules eat so many candidates that the list can't be filled, sources are asked again for more, up to the whole
catalogue: a narrow filter makes an answer slower, never empty while something fits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from palate.retrieval.fusion import reciprocal_ranks_of_few
from palate.serve.pipeline.caps import Caps, room_for
from palate.serve.pipeline.config import MeaningSource, ModelSource, PipelineConfig, SearchSource
from palate.serve.pipeline.diversity import diversify
from palate.serve.pipeline.explorers import Fits, Greedy, Rates, explorer
from palate.serve.pipeline.order import Order, order_of
from palate.serve.pipeline.ranking import in_order
from palate.serve.pipeline.rules import Rule
from palate.serve.pipeline.sources import Found, Question, World, ask
from palate.serve.pipeline.trace import Trace

#: Rank (from 1) and score of an item in each source that named it.
_Sources = dict[str, tuple[int, float]]
#: How many times more is asked for when a list can't be filled; candidates asked for at first, for each item wanted.
GROWTH, AT_FIRST = 8, 3
#: Most weight of a ranking by popularity beside an answer that is of the person: that of trends.
IMPERSONAL = 0.05


@dataclass(frozen=True)
class Pick:
    """An item of an answer.

    Attributes
    ----------
    row
        In the catalogue.
    score
        In the fused order, or of the model that ranks.
    propensity
        How likely it was at its position, given those before it.
    sources
        Rank (from 1) and score in each source that named it.
    """

    row: int
    score: float
    propensity: float
    sources: dict[str, tuple[int, float]]


@dataclass(frozen=True)
class Answer:
    """A slate, and how it came about."""

    picks: tuple[Pick, ...]
    trace: Trace


@dataclass(frozen=True, eq=False)
class Prospect:
    """What a pipeline might show where a slate was shown.

    Attributes
    ----------
    steps
        For each position, given the slate before it: rows ``int64[m]`` that may come, and their chances ``float64[m]``; up to
        the first position that this pipeline can't fill as the slate does.
    slates
        Slates of its own, ``int64[k']`` each.
    """

    steps: list[tuple[np.ndarray, np.ndarray]]
    slates: list[np.ndarray]

    def likelihood(self, shown: np.ndarray) -> np.ndarray:
        """Return ``float64[k]``: how likely the slate is, position by position, each given those before it."""
        found = np.zeros(len(shown))
        for at, (rows, chances) in enumerate(self.steps):
            found[at] = chances[rows == shown[at]].sum()
        return found


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Candidates in one order, the first ``pins`` of them pinned; ``named`` says which sources named each row."""

    rows: np.ndarray
    scores: np.ndarray
    named: dict[int, dict[str, tuple[int, float]]]
    pins: int
    trace: Trace


class Pipeline:
    """A configured way from a question to a slate."""

    def __init__(self, config: PipelineConfig, world: World, rates: Rates) -> None:
        self.config, self.world = config, world
        self.rule = None if config.rule is None else Rule(config.rule)
        self.explorer = explorer(config.explore, rates, world)
        self.order: Order | None = order_of(config, rates)
        self.banned, self.pinned = frozenset(config.banned), config.pinned

    def answer(self, question: Question, rng: Callable[[], np.random.Generator], *, explore: bool = True) -> Answer:
        """Answer one question; a generator is asked for only where something is drawn."""
        ordered = self._ordered(question)
        return Answer(self._slate(question, ordered, rng, explore=explore), ordered.trace)

    def likelihood(self, question: Question, shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``float64[k]``: how likely this pipeline shows these rows, position by position, each given those before it.

        This is what off-policy estimates need of a candidate pipeline.
        """
        return self.prospect(question, shown, rng).likelihood(shown)

    def prospect(self, question: Question, shown: np.ndarray, rng: np.random.Generator, draws: int = 0) -> Prospect:
        """Return what this pipeline might show where these rows were shown, and ``draws`` slates of its own."""
        ordered = self._ordered(question)
        chooser = self.explorer.asked(question)
        pins = ordered.rows[: ordered.pins]
        fixed = min(len(pins), len(shown))
        steps = [(pins[at : at + 1], np.ones(1)) for at in range(fixed)]
        different = np.flatnonzero(pins[:fixed] != shown[:fixed])
        left, fits = self._left(ordered)
        rows = ordered.rows[left]
        if len(different):
            steps = steps[: different[0] + 1]
        elif fixed < len(shown):
            place = {int(row): at for at, row in enumerate(rows.tolist())}
            places = np.array([place.get(int(row), -1) for row in shown[fixed:].tolist()])
            steps += [(rows[p], share) for p, share in chooser.along(rows, places, rng, fits, question.k - fixed)]
        drawn = [chooser.choose(rows, question.k - len(pins), rng, self._left(ordered)[1])[0] for _ in range(draws)]
        return Prospect(steps, [np.concatenate([pins, rows[chosen]]) for chosen in drawn])

    def _ordered(self, question: Question) -> _Ordered:
        """Bring the candidates into one order, pinned ones first."""
        trace = Trace()
        pins = self._pins(question)
        rows, scores, named = self._candidates(question, trace, wanted=question.k + len(pins))
        rows, scores = in_order(self.config, question, rows, scores, self.world, trace)
        rows, scores = self._diversify(question, rows, scores, trace)
        if len(pins):
            outside = ~np.isin(rows, pins)
            rows, scores = rows[outside], scores[outside]
        rows, scores = self._order(question.k - len(pins), pins, rows, scores, trace)
        if len(pins):
            rows, scores = np.concatenate([pins, rows]), np.concatenate([np.zeros(len(pins)), scores])
            for pin in pins.tolist():
                trace.moved(pin, "pinned")
        return _Ordered(rows, scores, named, len(pins), trace)

    # -- candidates ---------------------------------------------------------------------------------

    def _candidates(self, question: Question, trace: Trace, wanted: int) -> tuple[np.ndarray, np.ndarray, dict[int, _Sources]]:
        """Ask the sources until enough candidates pass, or no source has more."""
        growth, most = 1, AT_FIRST * max(wanted, self._pool(question))
        while True:
            steps = len(trace.steps)
            found, more = self._ask_all(question, growth, growth * most, trace)
            started = time.perf_counter()
            named = _named(found)
            passed = self._passed(question, named)
            trace.add("filter", len(named), len(passed), started, self._note(question))
            if len(passed) >= min(wanted, len(self.world.catalogue)) or not more:
                return (*self._fuse(found, passed), passed)
            growth *= GROWTH
            del trace.steps[steps:]

    def _pool(self, question: Question) -> int:
        """Return how many candidates later steps want to choose from."""
        config = self.config
        varied = config.diversity.kind != "none" or question.diversity is not None
        ordered, drawn = config.order.kind != "none", config.explore.kind != "none"
        wanted = ((config.diversity, varied), (config.order, ordered), (config.explore, drawn))
        ranked = config.rank.pool if config.rank.kind == "ranker" else 0
        before = 0 if config.pre_rank is None else config.pre_rank.pool
        return max(before, ranked, *(part.pool if used else 0 for part, used in wanted))

    def _ask_all(self, question: Question, growth: int, most: int, trace: Trace) -> tuple[dict[str, Found], bool]:
        """Ask every source for its quota, or for as many as are of use where that is less."""
        found: dict[str, Found] = {}
        more = False
        for source in self.config.sources:
            if isinstance(source, (SearchSource, MeaningSource)) and not question.text:
                continue
            started, quota = time.perf_counter(), min(source.quota * growth, most, max(1, len(self.world.catalogue)))
            answer = ask(source, question, self.world, quota)
            found[source.name] = answer
            more = more or (len(answer.rows) >= quota and quota < len(self.world.catalogue))
            trace.add(f"source {source.name}", quota, len(answer.rows), started, answer.note)
        return found, more

    def _passed(self, question: Question, named: dict[int, _Sources]) -> dict[int, _Sources]:
        """Return what may be shown, and passes the rule, the caller's filter and the list of the banned."""
        if self.rule is None and question.allows is None and not self.banned:
            shown = self.world.catalogue.shown
            return {row: sources for row, sources in named.items() if shown[row]}
        test = self._test(question)
        return {row: sources for row, sources in named.items() if test(row)}

    def _fuse(self, found: dict[str, Found], passed: dict[int, _Sources]) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and fused scores, best first: Σ weight/(constant + rank among those that passed).

        A model that knows nothing of the person ranks by popularity: beside an answer that is of the person, or of the words of
        the request, it counts for no more than :data:`IMPERSONAL`.
        """
        asked = [source for source in self.config.sources if source.name in found]
        lists = [[row for row in found[source.name].rows.tolist() if row in passed] for source in asked]
        personal = [found[source.name].personal for source in asked]
        weights = [source.weight for source in asked]
        if any(own and len(rows) for own, rows in zip(personal, lists, strict=True)):
            lost = [isinstance(source, ModelSource) and not own for source, own in zip(asked, personal, strict=True)]
            weights = [min(weight, IMPERSONAL) if low else weight for weight, low in zip(weights, lost, strict=True)]
        rows, scores = reciprocal_ranks_of_few(lists, weights, constant=self.config.rank.constant)
        return rows.astype(np.int64), scores.astype(np.float64)

    def _test(self, question: Question) -> Callable[[int], bool]:
        items, shown, banned, rule = self.world.catalogue.items, self.world.catalogue.shown, self.banned, self.rule
        allows, context = question.allows, question.context

        def passes(row: int) -> bool:
            item = items[row]
            return bool(
                shown[row]
                and item.id not in banned
                and (rule is None or rule.allows(item, context))
                and (allows is None or allows(row))
            )

        return passes

    def _note(self, question: Question) -> str:
        notes = [f"{len(rows)} {words} kept out" for words, rows in question.unwanted.items()]
        failed = 0 if self.rule is None else self.rule.failed
        if failed:
            notes.append(f"the rule could not be answered {failed} times since the start")
        return "; ".join(notes)

    def _pins(self, question: Question) -> np.ndarray:
        if not self.pinned:
            return np.empty(0, np.int64)
        test = self._test(question)
        rows = self.world.catalogue.rows_of(self.pinned)
        out = {*question.near.tolist(), *(row for rows in question.unwanted.values() for row in rows.tolist())}
        return np.array([row for row in rows if test(row) and row not in out][: question.k], np.int64)

    # -- order --------------------------------------------------------------------------------------

    def _diversify(
        self, question: Question, rows: np.ndarray, scores: np.ndarray, trace: Trace
    ) -> tuple[np.ndarray, np.ndarray]:
        config = self.config.diversity
        level = config.level if question.diversity is None else question.diversity
        kind = config.kind if config.kind != "none" or question.diversity is None else "mmr"
        if kind == "none" or level == 0 or len(rows) < 2:
            return rows, scores
        started, pool = time.perf_counter(), max(config.pool, question.k)
        order, note = diversify(kind, level, rows[:pool], scores[:pool], question.person, self.world)
        trace.reordered(rows, order, lambda place, at: f"{kind}: {place + 1} to {at + 1}")
        trace.add(f"diversity {kind} {level:g}", len(rows), len(rows), started, note)
        whole = np.concatenate([order, np.arange(len(order), len(rows))])
        return rows[whole], scores[whole]

    def _order(
        self, k: int, pins: np.ndarray, rows: np.ndarray, scores: np.ndarray, trace: Trace
    ) -> tuple[np.ndarray, np.ndarray]:
        """Put the best list of ``k`` before the others; what is drawn by chance is drawn from this order, with its chances."""
        if self.order is None or k < 1 or len(rows) < 2:
            return rows, scores
        started, pool = time.perf_counter(), rows[: self.order.pool(k)]
        room = room_for(self.config.caps, self.world.catalogue, pins.tolist(), pool)
        order, note = self.order.places(k, pool, scores[: len(pool)], self.world.catalogue, room)
        trace.reordered(rows, order, lambda place, at: f"{self.config.order.kind}: {place + 1} to {at + 1}")
        trace.add(f"order {self.config.order.kind}", len(rows), len(rows), started, note)
        whole = np.concatenate([order, np.arange(len(order), len(rows))])
        return rows[whole], scores[whole]

    # -- slate --------------------------------------------------------------------------------------

    def _left(self, ordered: _Ordered) -> tuple[np.ndarray, Fits]:
        """Return the places that the explorer may draw from, after the pinned ones, and its test of what still fits."""
        caps = Caps(self.config.caps, self.world.catalogue, ordered.rows)
        left = np.arange(ordered.pins, len(ordered.rows))
        for pin in range(ordered.pins):
            left = left[caps.fits(pin, left)]
        return left, lambda taken, rest: caps.fits(int(left[taken]), left[rest])

    def _slate(
        self, question: Question, ordered: _Ordered, rng: Callable[[], np.random.Generator], *, explore: bool
    ) -> tuple[Pick, ...]:
        """Fill the positions: pinned items first, then what the explorer draws from the rest."""
        started, trace, pins = time.perf_counter(), ordered.trace, ordered.pins
        chooser = self.explorer.asked(question) if explore else Greedy()
        if isinstance(chooser, Greedy) and not self.config.caps:
            places = list(range(min(question.k, len(ordered.rows))))
            chances = np.ones(len(places) - pins)
        else:
            left, fits = self._left(ordered)
            chosen, chances = chooser.choose(ordered.rows[left], question.k - pins, rng(), fits)
            places = [*range(pins), *left[chosen].tolist()]
        kind = self.config.explore.kind if explore else "off"
        if kind not in ("none", "off"):
            for at, place in enumerate(places):
                if place > at:
                    trace.moved(int(ordered.rows[place]), f"{kind}: {place + 1} to {at + 1}")
        trace.add(f"slate, explore {kind}", len(ordered.rows), len(places), started, chooser.note)
        rows, scores = ordered.rows[places].tolist(), ordered.scores[places].tolist()
        likely = [1.0] * pins + chances.tolist()
        return tuple(Pick(r, s, c, ordered.named.get(r, {})) for r, s, c in zip(rows, scores, likely, strict=True))


def _named(found: dict[str, Found]) -> dict[int, _Sources]:
    """Return for each row its rank and score in every source that named it."""
    named: dict[int, _Sources] = {}
    for source, answer in found.items():
        for rank, (row, score) in enumerate(zip(answer.rows.tolist(), answer.scores.tolist(), strict=True), 1):
            named.setdefault(row, {})[source] = (rank, score)
    return named
