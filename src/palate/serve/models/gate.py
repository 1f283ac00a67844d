"""The gate before a model is published: is the candidate no worse than the model that answers, and are the new events sound?

Both are asked about the same events, which neither has seen: the newest of those that came since the active model learnt (the
later half of them, a tenth of all events at most). The active bundle answers as it stands, with everything it doesn't know; the
candidate learns from all before. Two things must hold::

    no worse    the interval of the difference in NDCG@10, person by person, reaches above -2% of the active model's value
    sound       what people did still fits them: the personal part of the active model's NDCG@10 has not surely (one-sided 95%)
                fallen below half of what it was. The personal part is what is left after the NDCG of the same lists on what
                strangers did. Where ids of people or items were mixed up it falls to nothing, though both models may be
                equally bad on such events.

The personal part of before stands in the active bundle's metrics; where it doesn't, the active system is fitted once more on
what the bundle learnt from, and asked about its newest tenth.

Where too few came since to ask about (fewer than 20 people), another system or other settings are still weighed against the
active ones by fitting both on all but the newest tenth of everything. For the same system and settings that would say nothing:
the gate can't decide then, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.protocols.cut import DROP, TEST, TRAIN, cut
from palate.data.ragged import Ragged
from palate.data.split import HeldOut, Split
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.facts import Facts
from palate.evaluation.judge import judge
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator
from palate.study.renumber import Renumbered

#: What is measured: accuracy, and its personal part.
METRIC, PERSONAL = "ndcg@10", "personal_ndcg@10"
DEPTH = 10
#: Share of events held out, people below which nothing is decided, and above which a sample is asked.
HELD_OUT, FEWEST, MOST = 0.1, 20, 10_000
#: What is put up with: a loss against the active model, and what must be left of the personal part.
TOLERANCE, SOUND = 0.02, 0.5
#: A personal part below this is too small to fall by half.
SMALLEST = 0.01
#: Strangers whose events each list is held against.
STRANGERS = 16


@dataclass(frozen=True)
class Gate:
    """How a candidate stood against the active model.

    Attributes
    ----------
    candidate, active
        NDCG@10 on the held-out events; ``None`` where nothing could be asked.
    difference, low, high
        Candidate minus active, person by person, with its 95% interval.
    people
        How many were asked about.
    unknown
        Share of what they did that is on items which the active model doesn't know; ``None`` where both were fitted anew.
    personal, personal_before
        Personal part of the active model's NDCG@10 on the new events, and as it was before.
    personal_candidate
        The candidate's own, kept for the next gate.
    decided
        Whether there was enough to decide.
    passed
        Whether it may be published.
    reason
        Why, in words.
    """

    candidate: float | None
    active: float | None
    difference: float | None
    low: float | None
    high: float | None
    people: int
    unknown: float | None
    personal: float | None
    personal_before: float | None
    personal_candidate: float | None
    decided: bool
    passed: bool
    reason: str

    @classmethod
    def undecided(cls, reason: str, people: int = 0) -> Gate:
        """Return the answer of a gate that can't decide."""
        return cls(None, None, None, None, None, people, None, None, None, None, False, False, reason)

    @property
    def words(self) -> str:
        """What it found, in one line."""
        return self.reason if self.decided else f"it could not decide: {self.reason}"

    @property
    def metrics(self) -> dict[str, float]:
        """What goes into the new bundle's manifest."""
        found = {METRIC: self.candidate, PERSONAL: self.personal_candidate}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Answers:
    """What a model made of the questions.

    Attributes
    ----------
    ndcg
        ``float64[n]`` by person.
    personal
        ``float64[m]`` personal part, of the people of whom the model knows anything, on the items that it knows.
    known
        Share of the answers that it knows at all.
    """

    ndcg: np.ndarray
    personal: np.ndarray
    known: float


def hold(
    data: Dataset,
    unseen: np.ndarray,
    active: Recommender,
    metrics: Mapping[str, Any],
    learn: Callable[[Dataset], Recommender],
    again: Callable[[], Recommender] | None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Gate:
    """Hold a candidate against the active model (see the module's text).

    Parameters
    ----------
    data
        Everything in the store.
    unseen
        ``bool[n]``: which of its interactions came after the active model learnt.
    active
        As it stands; it isn't changed.
    metrics
        Of its bundle.
    learn
        Makes the candidate from the events before the questions.
    again
        Makes an unfitted candidate, where its system or settings differ from the active model's; ``None`` where they are equal.
    """
    times = data.interactions.time
    if times is None:
        return Gate.undecided("the events have no times")
    asked = _since(data, times, unseen, seed)
    if asked is None or len(asked[1]) < FEWEST:
        people = 0 if asked is None else len(asked[1])
        if again is not None and unseen.sum() <= HELD_OUT * len(unseen):
            return _fitted_anew(data, times, active, again(), seed, progress)
        words = f"the newest events that the active model has not seen are by {people} people, and {FEWEST} are needed"
        return Gate.undecided(words, people)
    split, questions = asked
    progress(ProgressEvent("Gate", 0, 3))
    new = ask(learn(split.train), questions, split.train, seed)
    progress(ProgressEvent("Gate", 1, 3))
    old = ask(active, questions, split.train, seed)
    before = metrics.get(PERSONAL)
    if before is None:
        progress(ProgressEvent("Gate", 2, 3))
        before = _personal_before(data, times, unseen, active, seed)
    progress(ProgressEvent("Gate", 3, 3))
    return _verdict(new, old, before, seed)


def ask(model: Recommender, questions: HeldOut, train: Dataset, seed: int = 0) -> Answers:
    """Have a model answer questions in the numbers of a data set, and judge what it says of people and of strangers."""
    view = Renumbered(model, train)
    facts = Facts.of(view.dataset)
    ranking = view.recommend(Requests.of_held_out(questions), DEPTH)
    items = ranking.items
    ndcg = judge(items, questions, [METRIC], facts).per_user[METRIC]
    numbers = view.to_model[questions.truth.values]
    known = (numbers >= 0) & (model.item_counts_[np.maximum(numbers, 0)] > 0)
    rows = np.flatnonzero(~ranking.cold)
    truth = Ragged.group(questions.truth.row_numbers[known], questions.truth.values[known], len(questions)).take(rows)
    personal = _personal(items[rows], questions.take(rows), truth, facts, seed)
    return Answers(ndcg, personal, float(known.mean()))


def _personal(items: np.ndarray, questions: HeldOut, truth: Ragged, facts: Facts, seed: int) -> np.ndarray:
    """Return ``float64[m]``: NDCG of lists on what was new to their people, less the same on what strangers did."""
    if len(questions) < 2:
        return np.empty(0)
    seen = questions.histories.ragged
    has = np.unique(seen.row_numbers * facts.n_items + seen.values)

    def worth(of: np.ndarray) -> np.ndarray:
        told = truth.take(of)
        new = ~np.isin(told.row_numbers * facts.n_items + told.values, has)
        kept = Ragged.group(told.row_numbers[new], told.values[new], len(told))
        found: np.ndarray = judge(items, HeldOut(questions.users, questions.histories, kept), [METRIC], facts).per_user[METRIC]
        return found

    around = generator(seed, "gate", "strangers").permutation(len(questions))
    place = np.argsort(around)
    shifts = range(1, min(STRANGERS, len(questions) - 1) + 1)
    strangers = np.stack([worth(around[(place + shift) % len(questions)]) for shift in shifts])
    defined = ~np.isnan(strangers)
    others = np.where(defined, strangers, 0).sum(0) / np.maximum(defined.sum(0), 1)
    part = worth(np.arange(len(questions))) - others
    return part[~np.isnan(part) & defined.any(0)]


def _since(data: Dataset, times: np.ndarray, unseen: np.ndarray, seed: int) -> tuple[Split, HeldOut] | None:
    """Return the questions about the newest events that the active model has not seen; ``None`` where there are none."""
    held = min(int(unseen.sum()) // 2, int(HELD_OUT * len(times)))
    if not held:
        return None
    border = int(np.sort(times[unseen])[-held])
    return _questions(data, np.where(times < border, TRAIN, np.where(unseen, TEST, DROP)), border, seed)


def _questions(data: Dataset, code: np.ndarray, border: int, seed: int) -> tuple[Split, HeldOut] | None:
    if not ((code == TRAIN).any() and (code == TEST).any()):
        return None
    split = cut(data, code, "gate", seed, {"test_at": border})
    questions = split.held_out("test")
    if len(questions) > MOST:
        some = generator(seed, "gate", "people").choice(len(questions), MOST, replace=False)
        questions = questions.take(np.sort(some))
    return split, questions


def _personal_before(data: Dataset, times: np.ndarray, unseen: np.ndarray, active: Recommender, seed: int) -> float | None:
    """Return the personal part of the active system on the newest of what its bundle learnt from, fitted without that."""
    held = int(HELD_OUT * (~unseen).sum())
    if not held:
        return None
    border = int(np.sort(times[~unseen])[-held])
    asked = _questions(data, np.where(unseen, DROP, np.where(times < border, TRAIN, TEST)), border, seed)
    if asked is None or len(asked[1]) < FEWEST:
        return None
    split, questions = asked
    part = ask(type(active)(active.config).fit(split.train, seed=seed), questions, split.train, seed).personal
    return float(part.mean()) if len(part) >= FEWEST else None


def _fitted_anew(
    data: Dataset, times: np.ndarray, active: Recommender, candidate: Recommender, seed: int, progress: Progress
) -> Gate:
    """Weigh other settings against the active ones, both fitted on all but the newest tenth."""
    border = int(np.sort(times)[-max(1, int(HELD_OUT * len(times)))])
    asked = _questions(data, np.where(times < border, TRAIN, TEST), border, seed)
    if asked is None or len(asked[1]) < FEWEST:
        people = 0 if asked is None else len(asked[1])
        return Gate.undecided(f"the newest tenth of all events is by {people} people, and {FEWEST} are needed", people)
    split, questions = asked
    progress(ProgressEvent("Gate", 0, 2))
    new = ask(candidate.fit(split.train, seed=seed), questions, split.train, seed)
    progress(ProgressEvent("Gate", 1, 2))
    old = ask(type(active)(active.config).fit(split.train, seed=seed), questions, split.train, seed)
    progress(ProgressEvent("Gate", 2, 2))
    return _verdict(new, old, None, seed, anew=True)


def _verdict(new: Answers, old: Answers, before: float | None, seed: int, *, anew: bool = False) -> Gate:
    """Compare two models' values person by person, and what is left of the personal part."""
    interval = bootstrap_ci(new.ndcg - old.ndcg, seed=seed)
    value, low, high = float(interval.value), float(interval.low), float(interval.high)
    no_worse = high >= -TOLERANCE * float(old.ndcg.mean())
    words = [f"NDCG@10 {new.ndcg.mean():.4f} against {old.ndcg.mean():.4f}, difference {low:+.4f} to {high:+.4f}"]
    sound, personal = True, None
    if anew:
        words.append("both fitted anew, as too little came since the active model learnt")
    elif len(old.personal) >= FEWEST:
        part = bootstrap_ci(old.personal, confidence=0.9, seed=seed)  # a one-sided bound of 95%
        personal = float(part.value)
        sound = before is None or before < SMALLEST or float(part.high) >= SOUND * before
        if not sound:
            words.insert(
                0,
                "the new events don't fit the people (were ids mixed up?): the personal part of the active model's NDCG@10 is "
                f"{part.low:+.4f} to {part.high:+.4f} on them, and was {before:+.4f}",
            )
    if not anew and old.known < 1:
        words.append(f"{1 - old.known:.0%} of it on items that the active model doesn't know")
    return Gate(
        candidate=float(new.ndcg.mean()),
        active=float(old.ndcg.mean()),
        difference=value,
        low=low,
        high=high,
        people=len(new.ndcg),
        unknown=None if anew else 1 - old.known,
        personal=personal,
        personal_before=before,
        personal_candidate=float(new.personal.mean()) if len(new.personal) >= FEWEST else None,
        decided=True,
        passed=no_worse and sound,
        reason="; ".join(words),
    )
