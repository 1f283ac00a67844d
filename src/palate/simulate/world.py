"""A synthetic world with known truth: people with latent tastes, items with text and topics, events, ties, knowledge, slates
shown.

It scales by blocks of people: :meth:`World.events` and :meth:`World.impressions` give one block at a time,
:meth:`World.write` streams all of them to Parquet, and only :meth:`World.dataset` holds everything in memory. The same
settings always give the same world, whatever the number of threads.

How events come about is in :mod:`palate.simulate.truth`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.data.whole import whole_folder
from palate.errors import DataError
from palate.kernels.events import Draw, draw_events
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator
from palate.simulate.config import WorldConfig
from palate.simulate.exposure import slates
from palate.simulate.items import Items, attributes, knowledge
from palate.simulate.people import BLOCK, People, draw_people, ties
from palate.simulate.truth import Truth

#: The settings of a written world.
SETTINGS = "world.json"


class World:
    """A world made from settings.

    Parameters
    ----------
    config
        The settings; or give them by name.

    Examples
    --------
    >>> world = World(users=200, items=100, events=4_000, seed=1)
    >>> world.dataset().n_items
    100
    """

    def __init__(self, config: WorldConfig | None = None, **settings: Any) -> None:
        base = {} if config is None else config.model_dump()
        self.config = WorldConfig.parse({**base, **settings}, system="world")
        self._people: Callable[[int], People] = lru_cache(maxsize=8)(self._draw_people)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of people."""
        return -(-self.config.users // BLOCK)

    @cached_property
    def items(self) -> Items:
        """What is true of every item."""
        return Items.make(self.config)

    @cached_property
    def truth(self) -> Truth:
        """Preferences, relevance, propensities and the optimal ranking."""
        return Truth(self)

    def people(self, block: int) -> People:
        """Return interests and activity of one block of people."""
        if not 0 <= block < self.n_blocks:
            raise DataError("there is no such block.", where="block", value=block, remedy=f"0 to {self.n_blocks - 1}")
        return self._people(block)

    def interests(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``int32[n, s]`` topics and ``float64[n, s]`` shares of some people."""
        users = np.asarray(users, np.int64)
        shape = (len(users), self.config.interests)
        topics, shares = np.empty(shape, np.int32), np.empty(shape)
        for block in np.unique(users // BLOCK):
            people, rows = self.people(int(block)), users // BLOCK == block
            at = users[rows] - block * BLOCK
            topics[rows], shares[rows] = people.topics[at], people.shares[at]
        return topics, shares

    def events(self, block: int) -> Interactions:
        """Return the events of one block of people, sorted by person and time; sessions are numbered from 0 in the block."""
        people, config, items = self.people(block), self.config, self.items
        shares, base = self._observed_shares(people)
        key = int(generator(config.seed, "events").integers(2**63))
        draw = Draw(key, config.focus, config.session_length, config.start, round(config.days * 86_400), config.repeats)
        item, time, session = draw_events(people.users, people.counts, shares, people.topics, base, items.table, draw)
        user = np.repeat(people.users.astype(np.int32), people.counts)
        keep = item >= 0
        begins = np.ones(len(user), bool)
        begins[1:] = (user[1:] != user[:-1]) | (session[1:] != session[:-1])
        number = (np.cumsum(begins) - 1).astype(np.int32)
        return Interactions(user[keep], item[keep], time[keep], session=number[keep])

    def impressions(self, block: int) -> pa.Table:
        """Return the slates shown to one block of people, with clicks and known propensities (see
        :mod:`palate.simulate.exposure`).
        """
        return slates(block, self.config, self.people(block), self.truth)

    def social(self) -> Graph:
        """Return who knows whom."""
        parts = [ties(block, self.config, self.people(block)) for block in range(self.n_blocks)]
        head, tail = (np.concatenate([p[side] for p in parts]) for side in (0, 1))
        return Graph(head, np.zeros(len(head), np.int32), tail, "user", "user", Vocabulary(["knows"]))

    def dataset(
        self, *, text: bool = True, graphs: bool = True, impressions: bool = True, progress: Progress = silent
    ) -> Dataset:
        """Return the whole world in memory (20 bytes an event, and what else is asked for).

        Parameters
        ----------
        text
            Titles, descriptions, categories, makers and prices of items.
        graphs
            Social ties (``"social"``) and triples (``"knowledge"``).
        impressions
            Slates shown.
        """
        parts, sessions = [], 0
        for block in range(self.n_blocks):
            events = self.events(block)
            assert events.session is not None
            parts.append((events.user, events.item, events.time, events.session + np.int32(sessions)))
            sessions += int(events.session.max(initial=-1)) + 1
            progress(ProgressEvent("world: events", block + 1, self.n_blocks))
        columns = [np.concatenate([p[c] for p in parts]) for c in range(4)]
        for column in columns:
            column.flags.writeable = False
        return Dataset(
            Interactions(columns[0], columns[1], columns[2], session=columns[3]),
            Entities(Vocabulary.range(self.config.users)),
            Entities(Vocabulary.range(self.config.items), attributes(self.items, self.config) if text else None),
            MappingProxyType({"social": self.social(), "knowledge": knowledge(self.items, self.config)} if graphs else {}),
            impressions=self._all_impressions() if impressions else None,
            name=f"world-{self.config.users}x{self.config.items}",
            spec=({"step": "world", **self.config.model_dump()},),
        )

    def write(self, folder: str | Path, *, progress: Progress = silent) -> Path:
        """Stream the world to Parquet, one block in memory at a time: events, slates, items, ties, triples and the settings.

        The folder appears whole or not at all.
        """
        target = Path(folder)
        if target.exists():
            raise DataError("the folder exists already.", where=target, remedy="name a new one")
        with whole_folder(target, SETTINGS) as work:
            self._write_blocks(work, progress)
            self._write_items(work)
            (work / SETTINGS).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return target

    def _write_items(self, work: Path) -> None:
        numbers = pa.array(np.arange(len(self.items), dtype=np.int32))
        pq.write_table(attributes(self.items, self.config).add_column(0, "item", numbers), work / "items.parquet")
        triples = knowledge(self.items, self.config)
        names = triples.entities
        assert names is not None
        columns = {
            "item": triples.head,
            "relation": triples.relations.decode(triples.relation),
            "entity": names.decode(triples.tail),
        }
        pq.write_table(pa.table(columns), work / "knowledge.parquet")

    def _write_blocks(self, work: Path, progress: Progress) -> None:
        writers: dict[str, pq.ParquetWriter] = {}
        sessions = 0
        try:
            for block in range(self.n_blocks):
                events = self.events(block)
                assert events.session is not None
                head, tail = ties(block, self.config, self.people(block))
                session = events.session + np.int32(sessions)
                sessions += int(events.session.max(initial=-1)) + 1
                tables = {
                    "interactions": pa.table(
                        {"user": events.user, "item": events.item, "time": events.time, "session": session}
                    ),
                    "impressions": self.impressions(block),
                    "social": pa.table({"user": head, "friend": tail}),
                }
                for name, table in tables.items():
                    if name not in writers:
                        writers[name] = pq.ParquetWriter(work / f"{name}.parquet", table.schema, compression="zstd")
                    writers[name].write_table(table)
                progress(ProgressEvent("world: write", block + 1, self.n_blocks))
        finally:
            for writer in writers.values():
                writer.close()

    def _all_impressions(self) -> pa.Table:
        parts = [self.impressions(block) for block in range(self.n_blocks)]
        return pa.concat_tables(parts).combine_chunks()

    def _draw_people(self, block: int) -> People:
        return draw_people(block, self.config, self.items)

    def _observed_shares(self, people: People) -> tuple[np.ndarray, np.ndarray]:
        """Return cumulative shares of each person's topics among observed choices, and those of the background."""
        config, items = self.config, self.items
        base = items.topic_appeal * items.topic_exposure
        own = (1 - config.background) * people.shares * items.topic_exposure[people.topics]
        rest = np.full((len(people), 1), config.background * base.sum() / items.topic_appeal.sum())
        running = np.cumsum(np.concatenate([own, rest], axis=1), axis=1)
        return running / running[:, -1:], np.cumsum(base) / base.sum()
