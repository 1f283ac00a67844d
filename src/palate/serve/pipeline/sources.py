"""Sources: where candidates come from. Each gives rows of the catalogue, best first, with scores of its own kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from palate.serve.errors import NotFound
from palate.serve.memory.catalogue import Catalogue
from palate.serve.memory.people import Person
from palate.serve.models.loaded import Loaded
from palate.serve.models.policies import Turn
from palate.serve.pipeline.config import (
    ContentSource,
    MeaningSource,
    ModelSource,
    NewSource,
    SearchSource,
    SimilarSource,
    Source,
    TrendingSource,
)
from palate.serve.search.content import Content
from palate.serve.search.neighbours import neighbours

#: New items that are compared with a person, at most: the newest.
COMPARED = 1_000


@dataclass(frozen=True)
class Question:
    """What is asked of a pipeline.

    Attributes
    ----------
    person
        For whom.
    k
        How many items.
    near
        Rows to start from (items named in the request), or none.
    text
        Words of the request: a stated preference, or a query.
    context
        Plain facts about the situation.
    barred
        Rows that must not come, ascending.
    now
        Seconds since 1970.
    diversity
        Overrides the level of the pipeline.
    allows
        The caller's filter: says whether a row may come; ``None`` lets all pass.
    unwanted
        Rows, all of them barred, that the person's own feedback keeps out, by the words for it.
    """

    person: Person
    k: int = 10
    near: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    text: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    barred: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    now: float = 0.0
    diversity: float | None = None
    allows: Callable[[int], bool] | None = None
    unwanted: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Found:
    """What a source gave.

    Attributes
    ----------
    rows, scores
        ``int32[m]`` and ``float32[m]``, best first.
    note
        What a trace should say, such as that the person is unknown to the model.
    personal
        Whether the answer depends on the person or on the words of the request.
    """

    rows: np.ndarray
    scores: np.ndarray
    note: str = ""
    personal: bool = True

    @classmethod
    def nothing(cls, note: str) -> Found:
        """Return an empty answer with its reason."""
        return cls(np.empty(0, np.int32), np.empty(0, np.float32), note)


class World(Protocol):
    """What sources may look at."""

    catalogue: Catalogue
    content: Content

    def model(self, version: str) -> Loaded:
        """Return a model by version, or the active one."""

    def expected(self, version: str, question: Question, rows: np.ndarray, task: str) -> np.ndarray:
        """Return ``float64[m]``: what a ranker expects of rows, in the context of a question."""

    def turn(self, version: str, question: Question, rows: np.ndarray) -> Turn:
        """Return what a policy says of rows, in the context of a question."""

    def trending(self, hours: float, types: tuple[str, ...], limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and weights of what was chosen lately, best first."""

    def newest(self, since: float, limit: int, *, strangers: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and times of items that came in since a moment, newest first; all, or those the active model lacks."""

    def search(self, text: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores of items whose text matches."""


def ask(source: Source, question: Question, world: World, quota: int) -> Found:
    """Ask one source for candidates: at most ``quota``, none of them barred or hidden."""
    answers: Mapping[type, Callable[..., Found]] = {
        ModelSource: _model,
        TrendingSource: _trending,
        NewSource: _new,
        ContentSource: _content,
        SimilarSource: _similar,
        SearchSource: _search,
        MeaningSource: _meaning,
    }
    return answers[type(source)](source, question, world, quota)


def _model(source: ModelSource, question: Question, world: World, quota: int) -> Found:
    rows, scores, cold = world.model(source.model).best(question.person, quota, question.barred)
    return Found(rows, scores, "nothing is known of the person: by popularity" if cold else "", personal=not cold)


def _trending(source: TrendingSource, question: Question, world: World, quota: int) -> Found:
    rows, scores = world.trending(source.hours, source.types, quota + len(question.barred))
    return replace(_open(rows, scores, question, world, quota), personal=False)


def _new(source: NewSource, question: Question, world: World, quota: int) -> Found:
    since, strangers = question.now - 86_400 * source.days, source.only == "strangers"
    rows, times = world.newest(since, quota + len(question.barred), strangers=strangers)
    return replace(_open(rows, times, question, world, quota), personal=False)


def _content(source: ContentSource, question: Question, world: World, quota: int) -> Found:
    history = np.array(list(dict.fromkeys(question.person.rows[::-1].tolist()))[: source.last], np.int32)
    if not len(history):
        return Found.nothing("nothing is known of the person")
    note = world.content.words
    if source.only == "all":
        rows, scores = world.content.nearest(history, quota + len(question.barred))
    elif _alone(world, history):
        quota = max(quota, question.k)
        rows, scores = world.content.nearest(history, quota + len(question.barred))
        note = "; ".join(filter(None, (note, "the model knows nothing of the person's: all items are compared")))
    else:
        fresh, _ = world.newest(-np.inf, COMPARED, strangers=True)
        if not len(fresh):
            return Found.nothing("the model knows every item")
        rows, scores = world.content.among(history, fresh)
    return _open(rows, scores, question, world, quota, note)


def _alone(world: World, history: np.ndarray) -> bool:
    """Say whether the active model knows none of some items, so that it can say nothing of who chose them."""
    try:
        return not world.model("active").knows(history).any()
    except NotFound:
        return False


def _similar(source: SimilarSource, question: Question, world: World, quota: int) -> Found:
    seeds = question.near if len(question.near) else question.person.rows[::-1][: source.last]
    if not len(seeds):
        return Found.nothing("no item to start from")
    try:
        model = world.model(source.model)
    except NotFound:
        if source.model != "active":
            raise
        model = None  # none is active yet: by content alone
    near = neighbours(model, world.content, seeds.tolist(), quota)
    note = f"{near.by_content} of the items by content: the model doesn't know them" if near.by_content else ""
    return _open(near.rows, near.scores, question, world, quota, note)


def _search(source: SearchSource, question: Question, world: World, quota: int) -> Found:
    if not question.text.strip():
        return Found.nothing("no words to search for")
    rows, scores = world.search(question.text, quota + len(question.barred))
    return _open(rows, scores, question, world, quota)


def _meaning(source: MeaningSource, question: Question, world: World, quota: int) -> Found:
    if not question.text.strip():
        return Found.nothing("no words to search for")
    rows, scores = world.content.search(question.text, quota + len(question.barred))
    return _open(rows, scores, question, world, quota, world.content.words)


def _open(rows: np.ndarray, scores: np.ndarray, question: Question, world: World, quota: int, note: str = "") -> Found:
    """Leave out what is barred or hidden, and cut."""
    good = world.catalogue.shown[rows]
    if len(question.barred):
        places = np.searchsorted(question.barred, rows)
        good &= question.barred[np.minimum(places, len(question.barred) - 1)] != rows
    return Found(rows[good][:quota].astype(np.int32), scores[good][:quota].astype(np.float32), note)
