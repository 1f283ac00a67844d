"""What a candidate pipeline would have earned, from the slates that were logged with their propensities.

Every slate that a policy drew by chance for somebody known (a user, or a visitor with an ``anonymous`` key) is put to the
candidate again: the person as they were at that moment (their events and feedback before it, and the history that came with
the request), and the request as it was noted (length, words, filter, items to start from, items and things seen left out,
diversity). How likely the candidate shows just that slate gives the weights of the estimators of
:mod:`palate.evaluation.offpolicy`, with intervals, an effective sample size, and a refusal where the log can't tell. By
position: ``rips``, ``sips``, both self-normalised, and ``cascade_dr``; of the slate as one action: ``dm``, ``clipped_ips``,
``dr`` and ``switch_dr``. Those with a reward model use :mod:`palate.serve.experiments.reward_model`; what the candidate would
earn by it is a mean over :data:`DRAWS` of its slates.

Models, catalogue and trends are as they are now, not as they were then; caps and rules too. The estimate answers: what would
this pipeline have earned on those visits, had it run as it stands now? Every slate that is left out is counted, with the reason
(:data:`REASONS`); lists drafted by an interleaving experiment are left out unless they are asked for by name, because they are
two pipelines' lists, not one policy's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from palate.errors import DataError
from palate.evaluation.offpolicy.estimate import Estimate, estimate
from palate.evaluation.offpolicy.log import Log, SlateLog
from palate.serve.errors import NotFound
from palate.serve.experiments.live import INTERLEAVED
from palate.serve.experiments.reward_model import FOLDS, CrossRewards, ItemFacts
from palate.serve.memory.people import Person
from palate.serve.pipeline.config import PipelineConfig
from palate.serve.pipeline.pipeline import Pipeline, Prospect
from palate.serve.questions import given_history, question_of, recalled
from palate.serve.service import Service
from palate.serve.wire import RecommendIn

#: Estimators reported, by position and of the slate as one action; and slates looked at, at most.
NAMES, WHOLE, MOST = ("rips", "snrips", "sips", "snsips"), ("dm", "clipped_ips", "dr", "switch_dr"), 5_000
#: Slates of the candidate's own that are drawn for each visit. Few are enough: their chance averages out over the visits.
DRAWS = 8
#: Why slates are left out.
REASONS = {
    "interleaved": "drafted from two lists by an experiment",
    "sure": "nothing was drawn by chance",
    "nobody": "for nobody known",
    "unknown": "it is not on record what was asked",
    "gone": "the request starts from items that are gone",
    "length": "of another length than most",
}


@dataclass(frozen=True)
class Judged:
    """An off-policy comparison.

    Attributes
    ----------
    slates
        How many were used.
    width
        Positions of a slate.
    logged
        Mean reward of a slate as it was logged.
    estimates
        Of the mean reward of a slate under the candidate.
    policies
        Slates used, by the policy that logged them.
    left_out
        Slates left out, by reason (:data:`REASONS`).
    """

    slates: int
    width: int
    logged: float
    estimates: tuple[Estimate, ...]
    policies: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def words(self) -> dict[str, int]:
        """Slates left out, by the reason in words."""
        return {REASONS[reason]: number for reason, number in self.left_out.items()}

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "slates": self.slates,
            "width": self.width,
            "logged": self.logged,
            "policies": dict(self.policies),
            "left_out": self.words,
            "estimates": [found.plain() for found in self.estimates],
        }


@dataclass(frozen=True)
class _Logged:
    """A slate of the log, its items by position, and the request for it as far as it is known."""

    id: str
    user: str | None
    anonymous: str | None
    time: float
    policy: str
    context: Mapping[str, Any]
    stochastic: bool
    items: list[str] = field(default_factory=list)
    propensity: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    asked: RecommendIn | None = None

    @property
    def unit(self) -> tuple[bool, str]:
        """Whose it is: a user's or a visitor's."""
        return self.user is not None, str(self.user or self.anonymous)


@dataclass(frozen=True, eq=False)
class _Visit:
    """A logged slate, the person as they were, its items as rows of the catalogue, and what the candidate might have shown."""

    slate: _Logged
    person: Person
    shown: np.ndarray
    prospect: Prospect


def judge(
    service: Service, candidate: PipelineConfig, *, since: float = 0.0, policy: str | None = None, most: int = MOST
) -> Judged:
    """Estimate what a candidate pipeline would have earned on logged slates.

    Parameters
    ----------
    candidate
        The pipeline to judge.
    since
        Slates from this moment on (seconds since 1970).
    policy
        Only slates of this policy; by default of all that drew by chance, but for interleaved ones.
    most
        Slates looked at, at most: the latest ones, from 1.

    Raises
    ------
    DataError
        If no slate was logged by a policy that draws by chance.
    """
    left_out: Counter[str] = Counter()
    slates = _fitting(_slates(service, since, most), policy, left_out)
    slates = _recalled(service, slates, left_out)
    width = _width(slates, left_out)
    pipeline, rng = service.pipeline_of(candidate), service.rng()
    visits: list[_Visit] = []
    for slate in (slate for slate in slates if len(slate.items) == width):
        try:
            visits.append(_visit(service, pipeline, slate, rng))
        except NotFound:
            left_out["gone"] += 1
    if not visits:
        raise _nothing(left_out)
    log = _log(visits)
    policies = Counter(visit.slate.policy for visit in visits)
    found = tuple(_estimates(service, visits, log))
    return Judged(len(visits), width, float(log.reward.sum(1).mean()), found, policies, left_out)


def _log(visits: Sequence[_Visit]) -> SlateLog:
    """Return the visits as a log, position by position."""
    numbers: dict[tuple[bool, str], int] = {}
    return SlateLog(
        reward=np.array([visit.slate.reward for visit in visits], np.float64),
        propensity=np.array([visit.slate.propensity for visit in visits], np.float64),
        target=np.stack([visit.prospect.likelihood(visit.shown) for visit in visits]),
        unit=np.array([numbers.setdefault(visit.slate.unit, len(numbers)) for visit in visits], np.int64),
    )


def _estimates(service: Service, visits: Sequence[_Visit], log: SlateLog) -> list[Estimate]:
    """Return every estimate that the log can feed; a model needs a few people, whole slates need chances above 0."""
    found = estimate(log, names=NAMES)
    propensity, target = log.propensity.prod(1), log.target.prod(1)
    if (propensity < np.finfo(float).tiny).any():
        return found  # so long a slate that the chance of it as a whole is no number any more
    whole = Log(log.reward.sum(1), propensity, target, unit=log.unit)
    assert log.unit is not None
    if log.unit.max() + 1 < FOLDS:
        return [*found, *estimate(whole, names=["clipped_ips"])]
    shown = np.stack([visit.shown for visit in visits])
    rewards = CrossRewards(ItemFacts(service.catalogue), [visit.person for visit in visits], shown, log.reward, log.unit)
    q_logged, q_target, q_whole = _expected(visits, rewards, log.reward.shape)
    by_position = replace(log, q_logged=q_logged, q_target=q_target)
    modelled = whole.with_model(q_logged.sum(1), q_whole)
    return [*found, *estimate(by_position, names=["cascade_dr"]), *estimate(modelled, names=WHOLE)]


def _expected(
    visits: Sequence[_Visit], rewards: CrossRewards, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the reward model expects: ``[n, K]`` of the logged items, ``[n, K]`` of the candidate's choice at each
    position after the logged earlier ones, and ``[n]`` of the candidate's slates.
    """
    q_logged, q_target, q_whole = np.empty(shape), np.zeros(shape), np.empty(shape[0])
    for at, visit in enumerate(visits):
        q_logged[at] = rewards.expected(at, visit.shown, np.arange(shape[1]))
        for position, (rows, chances) in enumerate(visit.prospect.steps):
            q_target[at, position] = chances @ rewards.expected(at, rows, np.full(len(rows), position))
        slates = [slate[: shape[1]] for slate in visit.prospect.slates]
        rows, positions = np.concatenate(slates), np.concatenate([np.arange(len(slate)) for slate in slates])
        q_whole[at] = rewards.expected(at, rows, positions).sum() / len(slates)
    return q_logged, q_target, q_whole


def _slates(service: Service, since: float, most: int) -> list[_Logged]:
    """Return the latest slates, oldest first and so many at most, with items, propensities and rewards by position."""
    rows = most * service.settings.server.max_k + 1
    table = service.store.impressions_since(since, limit=rows, latest=True)
    slates = _gathered(table)
    whole = slates[1:] if table.num_rows == rows else slates  # some rows of the first may have been left out
    return whole[-most:]


def _gathered(table: pa.Table) -> list[_Logged]:
    found: dict[str, _Logged] = {}
    for row in table.to_pylist():
        slate = found.get(row["slate"])
        if slate is None:
            context = json.loads(row["context"]) if row["context"] else {}
            names = (row["user"], row["anonymous"], row["time"], row["policy"])
            slate = found[row["slate"]] = _Logged(row["slate"], *names, context, row["stochastic"])
        slate.items.append(row["item"])
        slate.propensity.append(row["propensity"])
        slate.reward.append(row["reward"])
    return list(found.values())


def _fitting(slates: Sequence[_Logged], policy: str | None, left_out: Counter[str]) -> list[_Logged]:
    """Return the slates that were drawn by chance for somebody known, by the policy that is asked for."""
    kept = []
    for slate in slates:
        if policy is not None and slate.policy != policy:
            continue
        if policy is None and slate.policy == INTERLEAVED:
            left_out["interleaved"] += 1
        elif not slate.stochastic:
            left_out["sure"] += 1
        elif slate.user is None and slate.anonymous is None:
            left_out["nobody"] += 1
        else:
            kept.append(slate)
    return kept


def _recalled(service: Service, slates: Sequence[_Logged], left_out: Counter[str]) -> list[_Logged]:
    """Return the slates with the requests for them; those of which it is not on record what was asked are left out."""
    notes = service.store.asked_of(slate.id for slate in slates)
    kept = []
    for slate in slates:
        note = notes.get(slate.id)
        asked = None if note is None else recalled(note, slate.user, slate.anonymous, slate.context)
        if asked is None:
            left_out["unknown"] += 1
        else:
            kept.append(replace(slate, asked=asked))
    return kept


def _width(slates: Sequence[_Logged], left_out: Counter[str]) -> int:
    """Return the length that most slates have; the others are left out.

    Raises
    ------
    DataError
        If there are no slates.
    """
    if not slates:
        raise _nothing(left_out)
    (width, number), *_ = Counter(len(slate.items) for slate in slates).most_common(1)
    if number < len(slates):
        left_out["length"] += len(slates) - number
    return width


def _nothing(left_out: Mapping[str, int]) -> DataError:
    reasons = "; ".join(f"{number} left out: {REASONS[reason]}" for reason, number in left_out.items())
    return DataError(
        "no slate for somebody known was logged by a policy that draws by chance.",
        where="slates",
        value=reasons or None,
        remedy="set [pipeline.explore] kind = 'epsilon', and let answers flow",
    )


def _visit(service: Service, pipeline: Pipeline, slate: _Logged, rng: np.random.Generator) -> _Visit:
    """Put the request for a logged slate to the candidate; an item of the slate that is gone has the row -1."""
    assert slate.asked is not None
    person = _person_then(service, slate.asked, slate.time)
    question = question_of(slate.asked, person, pipeline.config, service.catalogue, slate.time)
    rows = np.array([service.catalogue.row.get(item, -1) for item in slate.items], np.int64)
    return _Visit(slate, person, rows, pipeline.prospect(question, rows, rng, DRAWS))


def _person_then(service: Service, asked: RecommendIn, time: float) -> Person:
    """Return the person of a request as they were at its moment."""
    then = service.person(asked.user, asked.anonymous, before=time).until(time)
    return given_history(asked.history, then.id, service.catalogue).after(then) if asked.history else then
