"""A made-up app with a search box and a feed: the same people, the same items, and needs that only queries name.

Everybody has a taste that stays, ``p_u``, and from time to time a need ``k`` out of a few (``topics``), by habit and season::

    P(k | u, s) ∝ habit_u(k) season_s(k)        item = the one nearest to p_u + t_k + noise that they had not yet
    items stand at a_i + t_k(i)                 query = one to three words of need k

Half of the events begin in the search box, where words of the need are typed; the others in the feed, where it stays unsaid.
An item's title holds words of its need, so search engines by words have something to read.

Source: the world is ours; it follows the idea of a stable and a momentary intent of "Unified Dual-Intent Translation for Joint
Modeling of Search and Recommendation", KDD 2024.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from palate.contracts.config import Config
from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.runtime import generator

#: Seconds between a search and the interaction that it leads to.
PAUSE = 30
#: First second (2023-05-01), and seconds of a season.
START, SEASON = 1_682_899_200, 30 * 86_400


class DemandsConfig(Config):
    """What kind of app."""

    users: int = Field(600, ge=1, description="people")
    items: int = Field(400, ge=1, description="items")
    events: int = Field(24, ge=1, description="events of each person; at most the number of items")
    topics: int = Field(20, ge=1, description="needs")
    words: int = Field(6, ge=1, le=1_000, description="words of a need")
    dim: int = Field(8, ge=1, description="width of tastes and needs")
    spread: float = Field(2.0, ge=0, description="how far needs lie apart, in units of taste")
    noise: float = Field(0.5, ge=0, description="how much chance there is in a choice, in units of taste")
    habit: float = Field(0.3, gt=0, description="small: everybody has few needs; large: all have all")
    seasons: int = Field(6, ge=1, description="spans of time, each with needs of its own")
    fashion: float = Field(4.0, ge=1, description="how much likelier a need is in its season")
    search: float = Field(0.5, ge=0, le=1, description="chance that an event begins with a search")
    shared: float = Field(0.2, ge=0, le=1, description="chance that a word of a query belongs to any need")
    seed: int = Field(0, ge=0, description="fixes everything")


class Demands:
    """An app made from settings.

    Parameters
    ----------
    config
        The settings; or give them by name.

    Attributes
    ----------
    need_of_item
        ``int64[items]``, the need that each item serves.

    Examples
    --------
    >>> data = Demands(users=20, items=30, events=6, topics=3, seed=1).dataset()
    >>> len(data), data.searches.column_names
    (120, ['user', 'time', 'query', 'items'])
    """

    def __init__(self, config: DemandsConfig | None = None, **settings: Any) -> None:
        base = {} if config is None else config.model_dump()
        self.config = c = DemandsConfig.parse({**base, **settings}, system="demands")
        rng = generator(c.seed, "demands", "places")
        self.need_of_item = rng.permutation(np.arange(c.items) % c.topics)
        self.needs = c.spread * rng.standard_normal((c.topics, c.dim))
        self.places = rng.standard_normal((c.items, c.dim)) + self.needs[self.need_of_item]
        self.tastes = rng.standard_normal((c.users, c.dim))
        self.words = np.array([[f"need{k}word{w}" for w in range(c.words)] for k in range(c.topics)])

    @cached_property
    def events(self) -> dict[str, np.ndarray]:
        """What happens, in order of person and time: ``int64[n]`` of ``user``, ``item``, ``time``, ``need``, ``search``."""
        c, rng = self.config, generator(self.config.seed, "demands", "events")
        n = min(c.events, c.items)
        habits = rng.gamma(c.habit, size=(c.users, c.topics)) + 1e-9
        seasons = np.where(rng.random((c.seasons, c.topics)) < 1 / c.seasons, c.fashion, 1.0)
        time = np.sort(rng.integers(0, c.seasons * SEASON // 60, (c.users, n)), axis=1) * 60
        had = np.zeros((c.users, c.items), bool)
        item, need = np.empty((c.users, n), np.int64), np.empty((c.users, n), np.int64)
        for at in range(n):
            chances = np.cumsum(habits * seasons[time[:, at] // SEASON], axis=1)
            need[:, at] = (rng.random((c.users, 1)) * chances[:, -1:] > chances).sum(1)
            target = self.tastes + self.needs[need[:, at]] + c.noise * rng.standard_normal((c.users, c.dim))
            far = (self.places**2).sum(1) - 2 * target @ self.places.T
            item[:, at] = np.where(had, np.inf, far).argmin(1)
            had[np.arange(c.users), item[:, at]] = True
        search = rng.random((c.users, n)) < c.search
        user = np.repeat(np.arange(c.users), n)
        flat = {"item": item, "time": START + time, "need": need, "search": search.astype(np.int64)}
        return {"user": user, **{name: column.ravel() for name, column in flat.items()}}

    def dataset(self) -> Dataset:
        """Return the interactions of search box and feed, titles of items, and the searches that led to an interaction."""
        c, events = self.config, self.events
        rng = generator(c.seed, "demands", "words")
        searched = np.flatnonzero(events["search"])
        queries = [" ".join(self._say(need, int(rng.integers(1, 4)), rng)) for need in events["need"][searched]]
        titles = [" ".join(self._say(need, min(3, c.words), rng)) for need in self.need_of_item]
        table = pa.table(
            {
                "user": pa.array(events["user"][searched], pa.int32()),
                "time": pa.array(events["time"][searched] - PAUSE, pa.int64()),
                "query": pa.array(queries, pa.string()),
                "items": pa.array([[item] for item in events["item"][searched].tolist()], pa.list_(pa.int32())),
            }
        )
        return Dataset(
            Interactions.sorted(events["user"], events["item"], time=events["time"]),
            Entities(Vocabulary.range(c.users)),
            Entities(Vocabulary.range(c.items), pa.table({"title": titles})),
            searches=table,
            name=f"demands-{c.users}x{c.items}",
            spec=({"step": "demands", **c.model_dump()},),
        )

    def _say(self, need: int, count: int, rng: np.random.Generator) -> list[str]:
        """Return words of a need; now and then one of any need."""
        own = rng.permutation(self.words[need])[:count].tolist()
        return [str(rng.choice(self.words.ravel())) if rng.random() < self.config.shared else str(word) for word in own]
