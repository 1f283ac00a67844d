"""Choices of a policy: slates with the chance of each position, as rows that a log keeps.

A block is an Arrow table, one row a position: ``slate`` (number of the question), ``user``, ``position`` (from 1), ``item``
(raw id), ``propensity`` (chance of the item given the positions before it), and ``label`` where asked for. Rewards beside
these columns make the log that :mod:`palate.evaluation.offpolicy` reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from palate.contracts.policy import Policy
from palate.study.questions import asked


def choices(
    policy: Policy,
    pieces: Iterable[pa.Table],
    k: int,
    rng: np.random.Generator,
    *,
    include_seen: bool = False,
    labels: bool = False,
) -> Iterator[pa.Table]:
    """Let a policy choose slates for questions by the piece.

    Parameters
    ----------
    policy
        A fitted one.
    pieces
        From :mod:`palate.study.questions`, with histories.
    k
        Positions of a slate.
    rng
        The only source of chance.
    include_seen
        Whether items of the history may be shown.
    labels
        Whether rows carry the items' names.
    """
    for piece in pieces:
        for block in asked(piece, policy, include_seen=include_seen):
            slate = policy.act(block.requests, k, rng)
            rows, positions = np.nonzero(slate.items >= 0)
            numbers = slate.items[rows, positions]
            columns = {
                "slate": pa.array(block.start + rows),
                "user": block.people.take(pa.array(rows)),
                "position": pa.array((positions + 1).astype(np.int32)),
                "item": policy.items_.ids.decode(numbers),
                "propensity": pa.array(slate.propensities[rows, positions]),
            }
            if labels:
                columns["label"] = pa.array(policy.items_.labels(numbers), pa.string())
            yield pa.table(columns)
