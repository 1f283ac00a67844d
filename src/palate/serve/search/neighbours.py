"""What is like given items: by the model where it knows them, by what they say where it doesn't yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.retrieval.fusion import reciprocal_ranks_of_few
from palate.serve.memory.people import Person
from palate.serve.models.loaded import Loaded
from palate.serve.search.content import Content

#: Latest items of a person that stand for them where content is compared.
LATEST = 20


@dataclass(frozen=True)
class Near:
    """What is like some items.

    Attributes
    ----------
    rows, scores
        ``int32[m]`` and ``float32[m]``, best first, without the items themselves. Scores are the model's or likeness by
        content; where both were asked, sums of reciprocal ranks, because they have no common scale.
    more
        Whether there may be more than was asked for.
    by_model, by_content
        How many of the items the model knew, and how many it didn't.
    """

    rows: np.ndarray
    scores: np.ndarray
    more: bool
    by_model: int
    by_content: int


def neighbours(model: Loaded | None, content: Content, seeds: Sequence[int], k: int) -> Near:
    """Return what may be shown and is like any of some rows: ``k`` for each of them.

    Raises
    ------
    UnsupportedError
        If the model knows one of the rows, and has no notion of likeness.
    """
    distinct = np.array(list(dict.fromkeys(seeds)), np.int64)
    known = np.zeros(len(distinct), bool) if model is None else model.knows(distinct)
    lists: list[tuple[np.ndarray, np.ndarray]] = []
    more = False
    if model is not None and known.any():
        rows, scores, full = model.alike(distinct[known], k)
        lists, more = [(rows, scores)], full
    found = [content.similar(row, k) for row in distinct[~known].tolist()]
    if any(len(rows) for rows, _ in found):
        more = more or any(len(rows) >= k for rows, _ in found)
        lists.append(best_of(*(np.concatenate(column) for column in zip(*found, strict=True))))
    lists = [(rows[outside], scores[outside]) for rows, scores in lists if (outside := ~np.isin(rows, distinct)).any()]
    if len(lists) == 2:
        lists = [reciprocal_ranks_of_few([rows.tolist() for rows, _ in lists], [1.0, 1.0])]
    rows, scores = lists[0] if lists else (np.empty(0, np.int32), np.empty(0, np.float32))
    return Near(rows, scores, more, int(known.sum()), int((~known).sum()))


def best_of(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct rows, each with its best score, best first (equal ones by row)."""
    order = np.lexsort((rows, -scores))
    _, first = np.unique(rows[order], return_index=True)
    kept = order[np.sort(first)]
    return rows[kept].astype(np.int32), scores[kept].astype(np.float32)


def content_reasons(content: Content, person: Person, row: int) -> list[tuple[int, float]]:
    """Return what each of a person's latest items gives to the cosine between their middle and a row, the largest first.

    The parts add up to the cosine. Empty where the row or all of the items say nothing.
    """
    latest = np.array(list(dict.fromkeys(person.rows[::-1].tolist()))[:LATEST], np.int32)
    parts = content.parts(latest, row) if len(latest) else None
    if parts is None:
        return []
    pairs = zip(latest.tolist(), parts.tolist(), strict=True)
    return sorted(((at, part) for at, part in pairs if part != 0), key=lambda pair: (-abs(pair[1]), pair[0]))
