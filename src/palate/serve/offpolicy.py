"""What a candidate pipeline would have earned, from the slates that were logged with their propensities.

Every slate that a policy drew by chance for a known user is put to the candidate again: the person as they were at that moment
(their events before it), the same length, the same things seen. How likely the candidate shows just that slate gives the
weights of the cascade estimators of :mod:`palate.evaluation.offpolicy` (``rips``, ``sips``, and these self-normalised), with
intervals, an effective sample size, and a refusal where the log can't tell.

Models, catalogue and trends are as they are now, not as they were then; caps and rules too. The estimate answers: what would
this pipeline have earned on those visits, had it run as it stands now? Visits of nobody known are left out, because the history
that came with such a request is not kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from palate.errors import DataError
from palate.evaluation.offpolicy.estimate import Estimate, estimate
from palate.evaluation.offpolicy.log import SlateLog
from palate.serve.people import Person
from palate.serve.pipeline.config import PipelineConfig
from palate.serve.pipeline.pipeline import Pipeline
from palate.serve.pipeline.sources import Question
from palate.serve.service import Service

#: Estimators reported, and slates looked at, at most.
NAMES, MOST = ("rips", "snrips", "sips", "snsips"), 5_000


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
    """

    slates: int
    width: int
    logged: float
    estimates: tuple[Estimate, ...]

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "slates": self.slates,
            "width": self.width,
            "logged": self.logged,
            "estimates": [found.plain() for found in self.estimates],
        }


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
        Only slates of this policy; by default of all that drew by chance.
    most
        Slates used, at most: the latest ones.

    Raises
    ------
    DataError
        If no slate was logged by a policy that draws by chance.
    """
    table = service.store.impressions_since(since, limit=most * service.settings.server.max_k)
    slates = _slates(table, policy)
    if not slates:
        raise DataError(
            "no slate for a known user was logged by a policy that draws by chance.",
            where="slates",
            remedy="set [pipeline.explore] kind = 'epsilon', and let answers flow",
        )
    width = int(np.bincount([len(s["item"]) for s in slates]).argmax())
    kept = [s for s in slates if len(s["item"]) == width][-most:]
    pipeline, rng = service.pipeline_of(candidate), service.rng()
    target = np.stack([_likelihood(service, pipeline, slate, rng) for slate in kept])
    reward = np.array([s["reward"] for s in kept], np.float64)
    log = SlateLog(
        reward=reward,
        propensity=np.array([s["propensity"] for s in kept], np.float64),
        target=target,
        unit=np.unique([s["user"] for s in kept], return_inverse=True)[1],
    )
    return Judged(len(kept), width, float(reward.sum(1).mean()), tuple(estimate(log, names=NAMES)))


def _slates(table: pa.Table, policy: str | None) -> list[dict[str, Any]]:
    """Return slates with lists of items, propensities and rewards by position; those without chance are left out."""
    found: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        if row["user"] is None or row["propensity"] is None or (policy is not None and row["policy"] != policy):
            continue
        slate = found.setdefault(
            row["slate"],
            {
                "user": row["user"],
                "time": row["time"],
                "context": json.loads(row["context"]) if row["context"] else {},
                "item": [],
                "propensity": [],
                "reward": [],
            },
        )
        for column in ("item", "propensity", "reward"):
            slate[column].append(row[column])
    return [slate for slate in found.values() if min(slate["propensity"]) < 1]


def _likelihood(service: Service, pipeline: Pipeline, slate: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Return how likely the candidate shows a logged slate, position by position; 0 from an item on that is gone."""
    person = _person_then(service, slate["user"], slate["time"])
    barred = person.seen if pipeline.config.seen == "exclude" else np.empty(0, np.int32)
    question = Question(person, len(slate["item"]), context=slate["context"], barred=barred, now=slate["time"])
    rows = np.array([service.catalogue.row.get(item, -1) for item in slate["item"]])
    return pipeline.likelihood(question, rows, rng)


def _person_then(service: Service, user: str, time: float) -> Person:
    """Return a person as they were at a moment."""
    person = service.person(user)
    before = person.times < time
    return Person(person.id, person.rows[before], person.times[before])
