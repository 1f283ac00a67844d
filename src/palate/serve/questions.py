"""From a request on the wire to a question that the pipeline understands: the person, what is barred, what may come; and what
of a request is noted with its slate, so that off-policy estimates can ask it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from palate.errors import DataError
from palate.serve.errors import NotFound
from palate.serve.memory.catalogue import Catalogue
from palate.serve.memory.people import Person
from palate.serve.pipeline.config import FeedbackConfig, PipelineConfig
from palate.serve.pipeline.filters import Filter, compile_filter
from palate.serve.pipeline.sources import Question
from palate.serve.store import Shown
from palate.serve.store import Slate as SlateRow
from palate.serve.store.checks import to_json
from palate.serve.wire import HistoryEvent, RecommendIn, Slate

#: What is noted of a request; user, visitor and context stand in the slate itself.
NOTED = ("history", "items", "text", "k", "filter", "seen", "exclude", "diversity")
#: Bytes of a note, at most; of what is larger, only the names are noted, and the slate can't be asked again.
MOST_NOTED = 65_536
#: Key of a note under which stand the names of what was left out of it.
LEFT_OUT = "left_out"


class Whose(Protocol):
    """A request that says for whom it is."""

    @property
    def user(self) -> str | None:
        """Id of a user."""

    @property
    def anonymous(self) -> str | None:
        """Key of somebody without an account."""


def noted(asked: RecommendIn) -> dict[str, Any]:
    """Return what is noted of a request with its slate, as plain JSON data.

    A history that came from nobody known is left out (nobody could ask for its erasure), and so is all of a very large request;
    the key ``left_out`` then names what.
    """
    kept = asked.model_dump(mode="json", by_alias=True, include=set(NOTED), exclude_defaults=True)
    length = {"k": asked.k}
    if asked.user is None and asked.anonymous is None and kept.pop("history", None):
        kept[LEFT_OUT] = ["history"]
    if len(to_json(kept, "asked").encode()) > MOST_NOTED:
        return {**length, LEFT_OUT: sorted({*kept, *kept.get(LEFT_OUT, ())} - {LEFT_OUT, "k"})}
    return {**kept, **length}


def logged(asked: RecommendIn, slate: Slate, shown: Sequence[Shown], now: float, *, stochastic: bool) -> SlateRow:
    """Return a slate (which has a name) as the store keeps it, with what was asked for."""
    assert slate.slate is not None
    return SlateRow(
        id=slate.slate,
        items=shown,
        user=asked.user,
        anonymous=asked.anonymous,
        time=now,
        policy=slate.policy,
        stochastic=stochastic,
        model=slate.model,
        experiment=slate.experiment,
        variant=slate.variant,
        context=asked.context,
        asked=noted(asked),
    )


def recalled(
    note: Mapping[str, Any], user: str | None, anonymous: str | None, context: Mapping[str, Any]
) -> RecommendIn | None:
    """Return the request that a note is of, or ``None`` where something was left out of it or is no longer understood."""
    if LEFT_OUT in note:
        return None
    try:
        return RecommendIn.model_validate({**note, "user": user, "anonymous": anonymous, "context": dict(context)})
    except ValidationError:
        return None


def question_of(asked: RecommendIn, person: Person, config: PipelineConfig, catalogue: Catalogue, now: float) -> Question:
    """Return the question that a pipeline is asked: the person as it listens to them, and what must not come.

    Raises
    ------
    NotFound
        If the request starts from an item that there is not.
    """
    near = np.array([row_of(item, catalogue) for item in asked.items], np.int32)
    heard_of, unwanted = heard(person, config.feedback), kept_out(person, config.feedback)
    person = replace(heard_of, words=asked.text or "")
    return Question(
        person,
        asked.k,
        near,
        asked.text or "",
        asked.context,
        barred_rows(person, [near, *unwanted.values()], asked.exclude, asked.seen or config.seen, catalogue),
        now,
        asked.diversity,
        allowed_rows(asked.filter, catalogue),
        unwanted,
    )


def heard(person: Person, config: FeedbackConfig) -> Person:
    """Return a person as a pipeline listens to them: with what they liked among what they chose, or without."""
    return person if config.liked == "history" else person.acts()


def kept_out(person: Person, config: FeedbackConfig) -> dict[str, np.ndarray]:
    """Return the rows that a person's feedback keeps out, by the words for it; nothing where nothing does."""
    told = {"hidden": (person.hidden, config.hidden), "disliked": (person.disliked, config.disliked)}
    return {f"{what} by the person": rows for what, (rows, does) in told.items() if len(rows) and does == "exclude"}


def given_history(history: Sequence[str | HistoryEvent] | None, user: str | None, catalogue: Catalogue) -> Person:
    """Return the person that a history on the wire describes."""
    items, times = [], []
    for event in history or ():
        items.append(event if isinstance(event, str) else event.item)
        times.append(0.0 if isinstance(event, str) or event.time is None else event.time)
    return Person.of(user, items, times, catalogue)


def row_of(item: str, catalogue: Catalogue) -> int:
    """Return the row of an item that exists.

    Raises
    ------
    NotFound
        If it doesn't, or was deleted.
    """
    if catalogue.known(item) is None:
        raise NotFound("no such item.", where="item", value=item, remedy="put it in with PUT /v1/items")
    return catalogue.row[item]


def allowed_rows(
    filter_: Filter | None, catalogue: Catalogue, unwanted: Mapping[str, np.ndarray] | None = None
) -> Callable[[int], bool] | None:
    """Return the test of rows that a caller's filter makes, and that of what a person's feedback keeps out, if any."""
    out = frozenset(row for rows in (unwanted or {}).values() for row in rows.tolist())
    if filter_ is None:
        return None if not out else lambda row: row not in out
    test, items = compile_filter(filter_), catalogue.items
    return lambda row: row not in out and test(items[row])


def barred_rows(
    person: Person, closed: Sequence[np.ndarray], exclude: Sequence[str], seen: str, catalogue: Catalogue
) -> np.ndarray:
    """Return ``int32[m]``: rows that must not come; ``closed`` are such already."""
    parts = [*closed, np.array(catalogue.rows_of(exclude), np.int32)]
    if seen != "allow":
        parts.append(person.seen if seen == "exclude" else person.rows)
    return np.unique(np.concatenate(parts)).astype(np.int32)


def check_k(k: int, most: int) -> int:
    """Refuse lists that are too long."""
    if k > most:
        raise DataError("k is too large.", where="k", value=k, remedy=f"ask for at most {most}; the limit is server.max_k")
    return k
