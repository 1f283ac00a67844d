"""Agent: what to ask or offer next in this conversation?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np

from palate.contracts.shapes import check_distinct, check_shape
from palate.errors import DataError


@dataclass(frozen=True)
class Ask:
    """Ask the person about attributes.

    Attributes
    ----------
    attributes
        What is asked about, such as ``("genre",)``.
    choices
        The values offered, or nothing for an open question.
    text
        The question in words (may be empty where a template says it).
    """

    attributes: tuple[str, ...]
    choices: tuple[str, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if not self.attributes:
            raise DataError("a question asks about at least one attribute.", where="Ask.attributes")


@dataclass(frozen=True, eq=False)
class Offer:
    """Offer items.

    Attributes
    ----------
    items
        ``int32[k]`` distinct item numbers, best first.
    text
        What is said with it.
    reasons
        One reason an item, or nothing.
    """

    items: np.ndarray
    text: str = ""
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_shape(self.items, (None,), "Offer.items")
        check_distinct(self.items[None, :], "Offer.items")
        if not len(self.items) or (self.items < 0).any():
            raise DataError("an offer names at least one item, and no padding.", where="Offer.items")
        if self.reasons and len(self.reasons) != len(self.items):
            raise DataError("give one reason an item, or none.", where="Offer.reasons", value=len(self.reasons))


@dataclass(frozen=True)
class Say:
    """Say something that neither asks nor offers."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DataError("there is nothing to say.", where="Say.text")


#: What an agent may do in its turn.
Act = Ask | Offer | Say


@dataclass(frozen=True, eq=False)
class Turn:
    """One turn of a conversation.

    Attributes
    ----------
    speaker
        ``"person"`` or ``"agent"``.
    text
        What was said, where there are words.
    act
        What the agent did (agents only).
    accepted
        Item of the last offer that the person took, or -1.
    answers
        Attribute to the values that the person wants; an empty tuple means "none of them" or "I don't mind".
    """

    speaker: Literal["person", "agent"]
    text: str = ""
    act: Act | None = None
    accepted: int = -1
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.speaker == "agent" and (self.act is None or self.accepted >= 0 or self.answers):
            raise DataError("an agent's turn is an act, and nothing else.", where="Turn")
        if self.speaker == "person" and self.act is not None:
            raise DataError("only an agent asks, offers or says.", where="Turn")


@dataclass(frozen=True, eq=False)
class Session:
    """A conversation so far, as a value; :meth:`after` makes the next one.

    Attributes
    ----------
    user
        Number of the person, -1 if unknown.
    history
        ``int32[m]`` items they chose before, most recent last.
    turns
        All turns, oldest first.
    """

    user: int = -1
    history: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    turns: tuple[Turn, ...] = ()

    def after(self, turn: Turn) -> Session:
        """Return the session with one more turn."""
        if turn.accepted >= 0 and turn.accepted not in self.offered:
            raise DataError("the person took an item that was not offered.", where="Turn.accepted", value=turn.accepted)
        return Session(self.user, self.history, (*self.turns, turn))

    @property
    def offered(self) -> list[int]:
        """Items offered so far, in order."""
        offers = [turn.act.items.tolist() for turn in self.turns if isinstance(turn.act, Offer)]
        return [int(item) for items in offers for item in items]

    @property
    def rejected(self) -> list[int]:
        """Items offered and answered, but not taken."""
        last = max((at for at, turn in enumerate(self.turns) if turn.speaker == "person"), default=-1)
        return [item for item in Session(turns=self.turns[: last + 1]).offered if item != self.accepted]

    @property
    def accepted(self) -> int:
        """The item taken, or -1."""
        return next((turn.accepted for turn in self.turns if turn.accepted >= 0), -1)

    @property
    def stated(self) -> dict[str, tuple[str, ...]]:
        """What the person wants, by attribute; later words replace earlier ones."""
        return {name: values for turn in self.turns for name, values in turn.answers.items()}


class Agent(ABC):
    """Base of systems that lead a conversation.

    An agent keeps nothing between calls: all it may know of a conversation stands in the session.
    """

    @abstractmethod
    def act(self, session: Session) -> Act:
        """Return what to do next: ask, offer or say."""

    def act_many(self, sessions: Sequence[Session]) -> list[Act]:
        """As :meth:`act`, for many conversations at once; systems that can, answer them in one batch."""
        return [self.act(session) for session in sessions]
