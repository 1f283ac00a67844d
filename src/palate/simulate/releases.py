"""A made-up season of films: people with tastes, and films whose texts tell mostly what is of no matter to anybody.

    taste  θ_u ~ N(0, 1.44 I_8)        film f has one useful topic t_f of ten, with a direction |v_t| = 1
    P(u goes to f) = σ( logit(tier_u) + 1.5 <θ_u, v_{t_f}> - 1 )        within a hundred days of the release

A text tells twelve words of each of three topics; two of the three are drawn from forty that say nothing of taste. Tiers are
2%, 6% and 15% (half, 35% and 15% of people).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities
from palate.runtime import generator

#: When the first film may come, in seconds, and length of a day.
START, DAY = 1_000_000_000, 86_400


def releases(people: int, films: int, seed: int = 0) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return events with plots, ``float64[films]`` days of release after ``START``, and ``<θ, v>`` of all pairs, the oracle."""
    rng = generator(seed, "planted")
    tastes, useful = rng.standard_normal((people, 8)) * 1.2, rng.integers(10, size=films)
    direction = rng.standard_normal((10, 8))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    liking = tastes @ direction[useful].T
    tier = rng.choice([0.02, 0.06, 0.15], people, p=[0.5, 0.35, 0.15])
    chance = 1 / (1 + np.exp(-(np.log(tier / (1 - tier))[:, None] + 1.5 * liking - 1)))
    user, item = np.nonzero(rng.random(chance.shape) < chance)
    day = np.sort(rng.integers(0, 1_500, films))
    time = START + DAY * (day[item] + rng.integers(0, 100, len(item)))
    noise = rng.integers(10, 50, (films, 2))
    words = [f"t{topic}w{w}" for topic in range(50) for w in range(30)]
    told = [
        " ".join(words[30 * t + w] for t in (useful[f], *noise[f]) for w in rng.integers(30, size=12)) for f in range(films)
    ]
    data = Dataset.from_columns(user, item, time=time, name="planted")
    films_known, people_known = data.items.ids.raw.to_numpy(), data.users.ids.raw.to_numpy()
    items = Entities(data.items.ids, pa.table({"plot": [told[f] for f in films_known]}))
    return replace(data, items=items), day[films_known].astype(float), liking[np.ix_(people_known, films_known)]
