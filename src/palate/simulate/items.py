"""Items of the synthetic world: topics, appeal by a power law, words, makers, prices and knowledge triples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from palate.data.dataset import Graph
from palate.data.ragged import offsets_of
from palate.data.vocabulary import Vocabulary
from palate.kernels.events import TopicTable
from palate.runtime import generator
from palate.simulate.config import WorldConfig

#: Words of each topic, words that all share, and words of a description.
TOPIC_WORDS, COMMON_WORDS, DESCRIPTION = 24, 200, 14
#: Makers of each topic.
MAKERS = 6
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "ou")
_CODAS = ("", "l", "m", "n", "r", "s", "t", "x")


@dataclass(frozen=True)
class Items:
    """What is true of every item.

    Attributes
    ----------
    appeal
        ``float64[n]``, sums to 1: the item's share of all choices if everything were seen, ``rank^-α`` normalised.
    topics
        ``int32[n, 2]``: main and second topic.
    weights
        ``float64[n, 2]``: how the item's appeal divides between them.
    exposure
        ``float64[n]``: chance of being seen at all, ``(appeal / highest)^η``.
    n_topics
        Number of topics.
    """

    appeal: np.ndarray
    topics: np.ndarray
    weights: np.ndarray
    exposure: np.ndarray
    n_topics: int

    @classmethod
    def make(cls, config: WorldConfig) -> Items:
        """Draw the items; numbers don't betray appeal (ranks are shuffled)."""
        rng = generator(config.seed, "items")
        rank = rng.permutation(config.items) + 1.0
        appeal = rank**-config.exponent
        appeal /= appeal.sum()
        main = rng.integers(config.topics, size=config.items)
        main[: min(config.topics, config.items)] = np.arange(min(config.topics, config.items))
        step = rng.integers(1, config.topics, size=config.items) if config.topics > 1 else 0
        topics = np.stack([main, (main + step) % config.topics], axis=1).astype(np.int32)
        spread = config.spread if config.topics > 1 else 0.0
        weights = np.broadcast_to([1.0 - spread, spread], (config.items, 2)).copy()
        return cls(appeal, topics, weights, (appeal / appeal.max()) ** config.exposure, config.topics)

    def __len__(self) -> int:
        return len(self.appeal)

    @cached_property
    def topic_appeal(self) -> np.ndarray:
        """``float64[n_topics]``: each topic's share of all choices."""
        return np.bincount(self.topics.ravel(), (self.appeal[:, None] * self.weights).ravel(), minlength=self.n_topics)

    @cached_property
    def topic_exposure(self) -> np.ndarray:
        """``float64[n_topics]``: chance that a choice within the topic is of something seen."""
        seen = np.bincount(
            self.topics.ravel(), ((self.appeal * self.exposure)[:, None] * self.weights).ravel(), minlength=self.n_topics
        )
        return np.divide(seen, self.topic_appeal, out=np.zeros(self.n_topics), where=self.topic_appeal > 0)

    @cached_property
    def table(self) -> TopicTable:
        """Cumulative weights of each topic's seen items, for drawing."""
        mass = ((self.appeal * self.exposure)[:, None] * self.weights).ravel()
        topic, item = self.topics.ravel(), np.repeat(np.arange(len(self), dtype=np.int32), 2)
        keep = mass > 0
        topic, item, mass = topic[keep], item[keep], mass[keep]
        order = np.argsort(topic, kind="stable")
        topic, item, mass = topic[order], item[order], mass[order]
        offsets = offsets_of(np.bincount(topic, minlength=self.n_topics))
        cumulative = np.empty(len(mass))
        for k in range(self.n_topics):
            part = slice(offsets[k], offsets[k + 1])
            running = np.cumsum(mass[part])
            cumulative[part] = running / running[-1] if len(running) else running
        return TopicTable(offsets, item, cumulative)

    def within_topic(self) -> np.ndarray:
        """Return ``float32[n_topics, n]``: chance of each item when a person chooses within a topic (rows sum to 1)."""
        dense = np.zeros((self.n_topics, len(self)))
        for column in range(2):
            np.add.at(dense, (self.topics[:, column], np.arange(len(self))), self.appeal * self.weights[:, column])
        mass = self.topic_appeal[:, None]
        return np.divide(dense, mass, out=np.zeros_like(dense), where=mass > 0).astype(np.float32)


def attributes(items: Items, config: WorldConfig) -> pa.Table:
    """Return titles, descriptions, categories, makers and prices; words follow the topics."""
    rng = generator(config.seed, "attributes")
    n = len(items)
    words, common, names = _words(config)
    picks = rng.integers(TOPIC_WORDS, size=(n, 2))
    titles = words[items.topics[:, :1], picks]
    source = rng.random((n, DESCRIPTION))
    column = (source > 0.7).astype(np.int64)
    text = words[np.take_along_axis(items.topics, column, axis=1), rng.integers(TOPIC_WORDS, size=(n, DESCRIPTION))]
    text = np.where(source < 0.3, common[rng.integers(COMMON_WORDS, size=(n, DESCRIPTION))], text)
    scale = rng.lognormal(3.0, 0.7, size=items.n_topics)
    return pa.table(
        {
            "title": [f"{a.capitalize()} {b} {number}" for number, (a, b) in enumerate(titles)],
            "description": [" ".join(row) for row in text],
            "categories": [[names[t] for t in dict.fromkeys(row)] for row in items.topics.tolist()],
            "maker": [f"{names[t]} works {m}" for t, m in zip(items.topics[:, 0], _makers(items, config), strict=True)],
            "price": np.round(scale[items.topics[:, 0]] * rng.lognormal(0.0, 0.4, size=n), 2).astype(np.float32),
        }
    )


def knowledge(items: Items, config: WorldConfig) -> Graph:
    """Return triples: an item has categories and a maker, and its description is about words."""
    _, _, names = _words(config)
    n, k = len(items), items.n_topics
    number = np.arange(n, dtype=np.int32)
    maker = k + items.topics[:, 0] * MAKERS + _makers(items, config)
    two = items.weights[:, 1] > 0
    head = np.concatenate([number, number[two], number])
    tail = np.concatenate([items.topics[:, 0], items.topics[two, 1], maker]).astype(np.int32)
    relation = np.concatenate([np.zeros(n + int(two.sum()), np.int32), np.ones(n, np.int32)])
    entities = [*names, *(f"{name} works {m}" for name in names for m in range(MAKERS))]
    return Graph(head, relation, tail, "item", "entity", Vocabulary(["has_category", "made_by"]), Vocabulary(entities))


def _makers(items: Items, config: WorldConfig) -> np.ndarray:
    return generator(config.seed, "makers").integers(MAKERS, size=len(items)).astype(np.int32)


def _words(config: WorldConfig) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return made-up words: ``[n_topics, TOPIC_WORDS]``, common ones, and a name for each topic."""
    rng = generator(config.seed, "words")
    wanted = config.topics * (TOPIC_WORDS + 1) + COMMON_WORDS
    syllables = [o + v + c for o in _ONSETS for v in _VOWELS for c in _CODAS]
    found: dict[str, None] = {}
    while len(found) < wanted:
        picks = rng.integers(len(syllables), size=(wanted, 2))
        found.update(dict.fromkeys(syllables[a] + syllables[b] for a, b in picks))
    words = np.array(list(found)[:wanted])
    own = words[: config.topics * TOPIC_WORDS].reshape(config.topics, TOPIC_WORDS)
    names = words[config.topics * TOPIC_WORDS : config.topics * (TOPIC_WORDS + 1)].tolist()
    return own, words[-COMMON_WORDS:], names
