"""People of the synthetic world, block by block: interests, activity and social ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.ragged import offsets_of
from palate.runtime import generator
from palate.simulate.config import WorldConfig
from palate.simulate.items import Items

#: People of a block: part of the world's definition (a block is drawn as a whole), and what bounds memory.
BLOCK = 16_384


@dataclass(frozen=True)
class People:
    """Some consecutive people.

    Attributes
    ----------
    users
        ``int64[n]`` numbers.
    topics
        ``int32[n, s]`` interests (a topic may be drawn twice).
    shares
        ``float64[n, s]``, rows sum to 1: weight of each interest.
    counts
        ``int64[n]`` events.
    """

    users: np.ndarray
    topics: np.ndarray
    shares: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def main(self) -> np.ndarray:
        """``int32[n]``: the interest with the most weight."""
        best = np.argmax(self.shares, axis=1)
        return self.topics[np.arange(len(self)), best]


def draw_people(block: int, config: WorldConfig, items: Items) -> People:
    """Draw one block of people.

    Interests are drawn from the topics' shares of all choices, with symmetric Dirichlet weights; so the mean taste of the
    population is exactly the topics' appeal, and item popularity follows the power law that was asked for.
    """
    users = np.arange(block * BLOCK, min((block + 1) * BLOCK, config.users), dtype=np.int64)
    rng = generator(config.seed, "people", block)
    n, s = len(users), config.interests
    topics = rng.choice(config.topics, size=(n, s), p=items.topic_appeal / items.topic_appeal.sum()).astype(np.int32)
    shares = rng.dirichlet(np.full(s, config.concentration), size=n)
    return People(users, topics, shares, _counts(n, config, rng))


def ties(block: int, config: WorldConfig, people: People) -> tuple[np.ndarray, np.ndarray]:
    """Return the social ties inside a block, each in both directions, sorted, without doubles."""
    rng = generator(config.seed, "ties", block)
    n = len(people)
    head = np.repeat(np.arange(n), rng.poisson(config.friends / 2, size=n))
    alike = rng.random(len(head)) < config.homophily
    order = np.argsort(people.main, kind="stable")
    groups = offsets_of(np.bincount(people.main, minlength=config.topics))
    mine = people.main[head]
    low, size = groups[mine], groups[mine + 1] - groups[mine]
    draw = rng.random(len(head))
    tail = np.where(alike, order[low + (draw * size).astype(np.int64)], (draw * n).astype(np.int64))
    pairs = np.concatenate([head * n + tail, tail * n + head])
    pairs = np.unique(pairs[np.concatenate([head != tail] * 2)])
    first = people.users[0] if n else 0
    return (first + pairs // max(n, 1)).astype(np.int32), (first + pairs % max(n, 1)).astype(np.int32)


def _counts(n: int, config: WorldConfig, rng: np.random.Generator) -> np.ndarray:
    more = max(0.0, config.events / config.users - config.min_events)
    drawn = rng.lognormal(-(config.activity**2) / 2, config.activity, size=n) * more
    counts = config.min_events + np.floor(drawn + rng.random(n)).astype(np.int64)
    return counts if config.repeats else np.minimum(counts, config.items // 2)
