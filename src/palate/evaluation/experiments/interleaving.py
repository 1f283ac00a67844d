"""Team-draft interleaving: rankings of several systems in one list, and which of them people choose from.

In each round the teams draft in a random order; each in its turn puts the best item of its own ranking that isn't in the list
yet, and owns that position. A click goes to the owner. A team whose ranking is used up is passed over. Over the draws every
team owns every position equally often, so that clicks made without regard to content fall equally on all.

Preference of system ``a`` over ``b``: each unit (person) is one vote, by which team got more credit from it in all its lists,

    Δ_ab = (wins + ½ ties) / units - ½    in [-½, ½]

with a sign test of wins against losses (exact binomial, ties left out) and a bootstrap interval over units. Where all ``n``
units vote alike, which a bootstrap takes for certain, the interval is exact: at most ``1 - (α/2)^(1/n)`` of people vote
otherwise. Several pairs are corrected by Holm. The test is one for a fixed number of units.

Source: F. Radlinski, M. Kurup and T. Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008; for
several teams A. Schuth et al., "Multileaved comparisons for fast online evaluation", CIKM 2014; Δ from O. Chapelle et al.,
"Large-scale validation and analysis of interleaved search evaluation", TOIS 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import ConfigError, DataError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.significance import holm

#: No item, and no team, at a position.
EMPTY = -1


class Interleaved(NamedTuple):
    """Lists to show, and what to log with them.

    Attributes
    ----------
    items
        ``int32[n, length]``, ``EMPTY`` where all rankings were used up.
    teams
        ``int32[n, length]``: which ranking supplied each position.
    """

    items: np.ndarray
    teams: np.ndarray


@dataclass(frozen=True)
class Preference:
    """One system against another, over units.

    Attributes
    ----------
    system, baseline
        Names, or numbers as text.
    units, wins, losses, ties
        Units in all; those that gave the system more, less, and equal credit (or none to either).
    delta, low, high
        Preference for the system from -½ to ½, and its interval.
    p, p_adjusted
        Two-sided sign test, and after Holm's correction over the pairs.
    """

    system: str
    baseline: str
    units: int
    wins: int
    losses: int
    ties: int
    delta: float
    low: float
    high: float
    p: float
    p_adjusted: float


def team_draft(rankings: ArrayLike, length: int, rng: np.random.Generator) -> Interleaved:
    """Draft lists from rankings.

    Parameters
    ----------
    rankings
        ``int[n, k, m]``: for each of ``n`` requests the best ``m`` items of ``k`` systems, best first; ``EMPTY`` pads.
    length
        Positions of the list.
    rng
        Draws the order of teams in each round.
    """
    given = np.asarray(rankings)
    if given.ndim != 3 or given.dtype.kind not in "iu" or given.shape[1] < 2:
        remedy = "give item numbers as int[requests, systems, items]"
        raise DataError("rankings of two systems or more are needed.", where="rankings", value=list(given.shape), remedy=remedy)
    if length < 1:
        raise ConfigError("a list has a position.", where="length", value=length)
    n, teams, _ = given.shape
    items, owners = np.full((n, length), EMPTY, np.int32), np.full((n, length), EMPTY, np.int32)
    filled, open_ = np.zeros(n, np.int64), given != EMPTY
    rows = np.flatnonzero(open_.any((1, 2)))
    while len(rows):
        order = np.argsort(rng.random((len(rows), teams)), axis=1)
        for turn in range(teams):
            _draft(given, open_, rows, order[:, turn], items, owners, filled)
        rows = rows[(filled[rows] < length) & open_[rows].any((1, 2))]
    return Interleaved(items, owners)


def _draft(
    given: np.ndarray,
    open_: np.ndarray,
    rows: np.ndarray,
    team: np.ndarray,
    items: np.ndarray,
    owners: np.ndarray,
    filled: np.ndarray,
) -> None:
    """Let one team of each row put its best open item into the next position, if it has one and there is one."""
    own = open_[rows, team]
    able = own.any(1) & (filled[rows] < items.shape[1])
    rows, team, best = rows[able], team[able], np.argmax(own[able], axis=1)
    item, place = given[rows, team, best], filled[rows]
    items[rows, place], owners[rows, place] = item, team
    filled[rows] += 1
    open_[rows] &= given[rows] != item[:, None, None]


def credit(teams: ArrayLike, clicks: ArrayLike, size: int) -> np.ndarray:
    """Return ``float64[n, size]``: the clicks of each list by the team that supplied the position.

    Parameters
    ----------
    teams
        ``int[n, length]`` as logged; positions of ``EMPTY`` give nothing.
    clicks
        ``[n, length]``: booleans, counts, or worth (purchases, seconds).
    size
        Number of teams.
    """
    owners, worth = np.asarray(teams), np.asarray(clicks, np.float64)
    if owners.ndim != 2 or owners.shape != worth.shape or not np.isfinite(worth).all():
        raise DataError("one owner and one finite worth a position are needed.", value=[owners.shape, worth.shape])
    if owners.size and not (owners.min() >= EMPTY and owners.max() < size):
        raise DataError("a position is owned by no team of these.", where="teams", value=int(owners.max()))
    cell = np.arange(len(owners))[:, None] * (size + 1) + owners + 1
    return np.bincount(cell.ravel(), worth.ravel(), len(owners) * (size + 1)).reshape(-1, size + 1)[:, 1:]


def preferences(
    credits: ArrayLike,
    units: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    baseline: int | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Preference]:
    """Return the preference of each pair of systems, or of each system against a baseline.

    Parameters
    ----------
    credits
        ``float[n, k]`` of lists, as :func:`credit` gives.
    units
        ``[n]``: who saw each list. Lists of one unit are summed first: people who come often don't vote often.
    names
        Of the systems; by default their numbers.
    baseline
        Number of the system that all others are compared with; by default all pairs.
    confidence, resamples, seed
        Of the bootstrap.
    """
    table, who = np.asarray(credits, np.float64), np.asarray(units)
    if table.ndim != 2 or table.shape[1] < 2 or who.shape != table.shape[:1]:
        raise DataError("credit of two systems or more and one unit a list are needed.", value=[table.shape, who.shape])
    size = table.shape[1]
    titles = [str(at) for at in range(size)] if names is None else list(names)
    if len(titles) != size or not (baseline is None or 0 <= baseline < size):
        raise ConfigError(f"there are {size} systems.", where="names or baseline", value=[titles, baseline])
    code = np.unique(who, return_inverse=True)[1]
    totals = np.stack([np.bincount(code, column) for column in table.T], axis=1)
    pairs = list(combinations(range(size), 2)) if baseline is None else [(at, baseline) for at in range(size) if at != baseline]
    # sums of the same worths in another order differ by rounding; such units are ties
    gaps = np.stack([totals[:, a] - totals[:, b] for a, b in pairs], axis=1)
    gaps[np.abs(gaps) <= 1e-12 * np.abs(totals).sum(1, keepdims=True)] = 0
    votes = np.sign(gaps) / 2
    ends = bootstrap_ci(votes, confidence=confidence, resamples=resamples, seed=seed)
    found = [
        _preference(votes[:, at], titles[a], titles[b], _ends(votes[:, at], ends.low[at], ends.high[at], confidence))
        for at, (a, b) in enumerate(pairs)
    ]
    adjusted = holm(np.array([one.p for one in found]))
    return [replace(one, p_adjusted=float(p)) for one, p in zip(found, adjusted, strict=True)]


def _ends(votes: np.ndarray, low: float, high: float, confidence: float) -> tuple[float, float]:
    """Return the ends of an interval: those given, or exact ones where all votes are alike."""
    if not len(votes) or (votes != votes[0]).any():
        return float(low), float(high)
    others = 1 - ((1 - confidence) / 2) ** (1 / len(votes))
    # of those others each may be for the one or the other side: -½ and ½ beside the vote of all
    return float(votes[0] - others * (votes[0] + 0.5)), float(votes[0] + others * (0.5 - votes[0]))


def _preference(votes: np.ndarray, system: str, baseline: str, ends: tuple[float, float]) -> Preference:
    from scipy import stats  # half a second to import

    wins, losses = int((votes > 0).sum()), int((votes < 0).sum())
    p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    delta = float(votes.mean()) if len(votes) else float("nan")
    ties = len(votes) - wins - losses
    return Preference(system, baseline, len(votes), wins, losses, ties, delta, float(ends[0]), float(ends[1]), p, p)
