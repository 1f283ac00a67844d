"""What an interleaving experiment says: whose items people chose from lists that both variants had supplied.

Each person who met the experiment has one vote: the variant whose items got more feedback in all of the person's slates. The
preference is ``Δ = (wins + ½ ties) / people - ½`` (:mod:`palate.evaluation.experiments.interleaving`), with two readings: the
sign test and bootstrap interval for one reading at the planned size, and an interval that holds at any time, as the mean of
votes by :mod:`palate.evaluation.experiments.sequential`. Holm's correction runs over the metrics.

Feedback counts for the variant that is on record as the owner of its position; without such a record nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.errors import DataError
from palate.evaluation.experiments.interleaving import Preference, preferences
from palate.evaluation.experiments.results import Comparison, Conclusion, Reading
from palate.evaluation.experiments.sequential import START, anytime_p, best_clock, multiplier
from palate.evaluation.experiments.words import conclude
from palate.evaluation.significance import holm
from palate.serve.experiments import outcomes
from palate.serve.store import Store

if TYPE_CHECKING:
    from palate.serve.experiments.live import ExperimentSpec

CONFIDENCE = 0.95


def reading(store: Store, name: str, spec: ExperimentSpec) -> dict[str, Any]:
    """Return what may be concluded now, as plain values.

    Raises
    ------
    DataError
        If nobody was exposed yet, if an item was shown without its team on record, or if feedback came from somebody without an
        exposure.
    """
    people, _ = outcomes.units(store, name)
    if not people:
        raise DataError("nobody has met this experiment yet.", where=name, remedy="start it, and let answers flow")
    teams = list(spec.names)
    _check_teams(store, name, teams)
    row = {unit: at for at, unit in enumerate(people)}
    found = []
    for metric in spec.metrics:
        credits = np.zeros((len(people), len(teams)))
        for unit, team, credit in outcomes.team_credits(store, name, metric.type):
            if unit not in row:
                remedy = "exposures were lost: make a new experiment"
                raise DataError("feedback came from somebody without an exposure.", where=name, value=unit, remedy=remedy)
            credits[row[unit], teams.index(team)] += credit
        found.append((metric.name, preferences(credits, np.arange(len(people)), names=teams, baseline=0)[0]))
    return _plain(name, spec, teams, found)


def _check_teams(store: Store, name: str, teams: Sequence[str]) -> None:
    """Refuse slates whose items are not all on record as supplied by one of the teams."""
    others = {team: items for team, items in outcomes.team_items(store, name).items() if team not in teams}
    if others:
        raise DataError(
            "items were shown without a team of this experiment on record, so their feedback belongs to nobody.",
            where=name,
            value=others,
            remedy="log the team of every item, or make a new experiment",
        )


def _plain(name: str, spec: ExperimentSpec, teams: list[str], found: list[tuple[str, Preference]]) -> dict[str, Any]:
    """Return the preferences in the form that readings of other experiments have."""
    units, planned = found[0][1].units, spec.planned
    always = [_at_any_time(one, planned) for _, one in found]
    adjusted = holm(np.array([one.p for _, one in found])), holm(np.array([one[2] for one in always]))
    comparisons = []
    for at, (metric, one) in enumerate(found):
        fixed = Reading(one.low, one.high, math.nan, math.nan, one.p, float(adjusted[0][at]))
        low, high, p = always[at]
        sequential = Reading(low, high, math.nan, math.nan, p, float(adjusted[1][at]))
        conclusion = conclude(one.delta, fixed, sequential, 1 - CONFIDENCE, units >= planned, True)
        says = _says(metric, one, conclusion, sequential)
        row = Comparison(metric, teams[1], one.delta, math.nan, fixed, sequential, one.delta, None, conclusion, says)
        comparisons.append({**asdict(row), "wins": one.wins, "losses": one.losses, "ties": one.ties})
    share = f"{units:,} of {planned:,} planned people are in ({units / planned:.0%})"
    rule = (
        "what is said at the planned size is for one reading, there" if units >= planned else "the sign test must wait for all"
    )
    words = [f"{share}: {rule}; intervals and p-values at any time hold at every look.", *(c["says"] for c in comparisons)]
    facts = {"kind": spec.kind, "units": units, "planned": planned, "confidence": CONFIDENCE, "variants": teams}
    return {**facts, "metrics": {}, "comparisons": _finite(comparisons), "guardrails": [], "words": words}


def _at_any_time(one: Preference, planned: int) -> tuple[float, float, float]:
    """Return an interval of the preference, and a p-value, that hold at every look.

    One vote more for each side is put in when the error is estimated, so that it is not zero where all people agree.
    """
    if one.units < START:
        return -math.inf, math.inf, 1.0
    n, middle = one.units + 2, (one.wins - one.losses) / 2 / (one.units + 2)
    spread = (one.wins + one.losses + 2) / 4 - n * middle**2  # centred squares of votes of ½, 0 and -½
    error = math.sqrt(spread / (n - 1) / one.units)
    scale = best_clock(CONFIDENCE) * one.units / planned
    reach = float(multiplier(scale, confidence=CONFIDENCE)) * error
    return one.delta - reach, one.delta + reach, float(anytime_p(one.delta, error, scale))


def _says(metric: str, one: Preference, conclusion: Conclusion, always: Reading) -> str:
    """Return one comparison as a sentence."""
    votes = f"{one.wins:,} for {one.system}, {one.losses:,} for {one.baseline}, {one.ties:,} undecided"
    ends = f"{always.low:+.3f} to {always.high:+.3f}" if math.isfinite(always.low) else "without ends yet"
    state = {
        "not yet known": "which is preferred is not yet known",
        "no difference shown": "no preference is shown at the planned size",
    }.get(conclusion)
    if state is None:
        better = one.system if one.delta > 0 else one.baseline
        state = f"{better} is preferred" + (" at the planned size" if "planned" in conclusion else "; you may stop now")
    return f"{metric}: {state} ({votes}; preference {one.delta:+.3f}, {ends} at any number of looks)."


def _finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put ``None`` in place of what is unknown or has no end."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [plain(row) for row in rows]
