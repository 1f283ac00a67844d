"""Interleaving on live traffic: the lists of two pipelines are drafted into one answer, by teams.

In each round a coin says which team begins; each in its turn puts in the best item of its own list that isn't in the answer yet
and that still fits (limits of exposure hold for the answer as a whole), and owns the position. A team with nothing left is
passed over. This is :func:`palate.evaluation.experiments.interleaving.team_draft` for one request, with limits, and with the
chance of every item: whose turn it is can't be seen from the items, so with the chance ``b`` that it is team ``A``'s, given
the items so far::

    p(item) = b [item is A's best left] + (1 - b) [item is B's best left]
    b = 1/2 at the beginning of a round;  in its second half  b = P(B had the first half | items) = (1 - b') [B's best] / p'

Slates are logged with these chances, so off-policy estimates can use them too. Pipelines draw nothing by chance of their own
meanwhile: rankings are compared, not luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.serve.pipeline.caps import Caps
from palate.serve.pipeline.config import CapConfig
from palate.serve.pipeline.explorers import Fits
from palate.serve.pipeline.pipeline import Answer, Pick, Pipeline
from palate.serve.pipeline.sources import Question
from palate.serve.pipeline.trace import Step, Trace

#: How many times as long as the answer each team's list is, where limits of exposure leave items out.
DEEPER = 4


@dataclass(frozen=True)
class Drafted:
    """A drafted list: its places in the pool, the team (0 or 1) of each, and its chance given those before it."""

    places: tuple[int, ...]
    teams: tuple[int, ...]
    chances: tuple[float, ...]


def draft(
    lists: tuple[Sequence[int], Sequence[int]], length: int, rng: np.random.Generator, fits: Fits | None = None
) -> Drafted:
    """Draft one list from two.

    Parameters
    ----------
    lists
        Places in a pool, best first, of each team.
    length
        Positions of the list, at most.
    rng
        Throws the coins.
    fits
        Tells which places still fit, after each that was taken; by default all do.
    """
    left = [list(dict.fromkeys(places)) for places in lists]
    found: list[tuple[int, int, float]] = []
    belief, turn = 0.5, -1  # -1: a round begins
    while len(found) < length and any(left):
        if not all(left):
            team, chance = int(not left[0]), 1.0
        else:
            first = turn < 0
            team = int(rng.integers(2)) if first else turn
            bests = [places[0] for places in left]
            mine = belief * (bests[0] == bests[team])  # the item, and team 0 has put it in
            chance = mine + (1 - belief) * (bests[1] == bests[team])
            belief, turn = (1 - mine / chance, 1 - team) if first else (0.5, -1)
        place = left[team][0]
        found.append((place, team, float(chance)))
        rest = np.array(sorted({other for places in left for other in places} - {place}), np.int64)
        open_ = set((rest if fits is None else rest[fits(place, rest)]).tolist())
        left = [[other for other in places if other in open_] for places in left]
    places, teams, chances = zip(*found, strict=True) if found else ((), (), ())
    return Drafted(places, teams, chances)


@dataclass(frozen=True)
class Interleaved:
    """An answer drafted from those of two pipelines, and the team (0 or 1) of each item."""

    answer: Answer
    teams: tuple[int, ...]


def interleaved(
    pipelines: tuple[Pipeline, Pipeline],
    names: Sequence[str],
    questions: tuple[Question, Question],
    rng: Callable[[], np.random.Generator],
    caps: Sequence[CapConfig] = (),
) -> Interleaved:
    """Answer with one list drafted from two.

    Parameters
    ----------
    pipelines, names
        The teams. Their pipelines have no limits of exposure of their own.
    questions
        One question, as each pipeline is to understand it (what a person has seen may be barred for one only).
    rng
        Gives the generator of the coins.
    caps
        Limits of exposure in the list that is drafted.
    """
    k = questions[0].k
    deep = [replace(question, k=DEEPER * k if caps else k) for question in questions]
    answers = [pipeline.answer(question, rng, explore=False) for pipeline, question in zip(pipelines, deep, strict=True)]
    picks = [{pick.row: pick for pick in answer.picks} for answer in answers]
    pool = np.array(list(dict.fromkeys(row for mine in picks for row in mine)), np.int64)
    place = {row: at for at, row in enumerate(pool.tolist())}
    fits = Caps(caps, pipelines[0].world.catalogue, pool).fits if caps else None
    lists = [place[row] for row in picks[0]], [place[row] for row in picks[1]]
    found = draft(lists, k, rng(), fits)
    rows = pool[list(found.places)].tolist()
    chosen = [
        replace(picks[team][row], propensity=chance) for row, team, chance in zip(rows, found.teams, found.chances, strict=True)
    ]
    return Interleaved(Answer(tuple(chosen), _trace(answers, names, chosen, found.teams)), found.teams)


def _trace(answers: Sequence[Answer], names: Sequence[str], chosen: Sequence[Pick], teams: Sequence[int]) -> Trace:
    """Return what happened in both pipelines, and who supplied each item."""
    trace = Trace()
    for answer, name in zip(answers, names, strict=True):
        trace.steps.extend(replace(step, step=f"{name}: {step.step}") for step in answer.trace.steps)
    came = sum(len(answer.picks) for answer in answers)
    trace.steps.append(Step("team draft", came, len(chosen), 0.0, f"{names[0]} {teams.count(0)}, {names[1]} {teams.count(1)}"))
    for pick, team in zip(chosen, teams, strict=True):
        trace.moves[pick.row] = [*answers[team].trace.moves.get(pick.row, []), f"supplied by {names[team]}"]
    return trace
