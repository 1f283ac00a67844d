"""Slates that a logging policy showed, with clicks and the propensities that unbiased learning needs.

Each slot holds an independent draw from the logging policy (:meth:`palate.simulate.truth.Truth.logging_policy`), so its
propensity is known exactly; an item may stand twice in a slate. A slot is examined with chance ``position^-decay``; what is
examined is clicked with the chance of its relevance to the person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from palate.runtime import generator
from palate.simulate.config import WorldConfig
from palate.simulate.people import People

if TYPE_CHECKING:
    from palate.simulate.truth import Truth


def slates(block: int, config: WorldConfig, people: People, truth: Truth) -> pa.Table:
    """Return one row a slot.

    Columns: ``slate`` (``int64``, unique in the world), ``user``, ``time``, ``position`` (from 1), ``item``, ``propensity``
    (chance that the policy puts this item in a slot), ``examination`` (chance that a person looks at this position) and
    ``click``.
    """
    rng = generator(config.seed, "slates", block)
    shown = rng.poisson(config.slates, size=len(people))
    n, width = int(shown.sum()), config.slate
    user = np.repeat(people.users, shown)
    time = config.start + rng.integers(max(1, round(config.days * 86_400)), size=n)
    order = np.lexsort((time, user))
    policy = truth.logging_policy()
    cumulative = np.cumsum(policy)
    item = np.searchsorted(cumulative / cumulative[-1], rng.random(n * width), side="right").clip(max=len(policy) - 1)
    position = np.tile(np.arange(1, width + 1), n)
    examination = position.astype(float) ** -config.position_decay
    each = np.repeat(user, width)
    click = rng.random(n * width) < examination * truth.relevance_of(each, item)
    return pa.table(
        {
            "slate": np.repeat(np.arange(n, dtype=np.int64) + (np.int64(block) << 40), width),
            "user": each.astype(np.int32),
            "time": np.repeat(time[order], width).astype(np.int64),
            "position": position.astype(np.int16),
            "item": item.astype(np.int32),
            "propensity": policy[item].astype(np.float32),
            "examination": examination.astype(np.float32),
            "click": click,
        }
    )
