"""Writer: which words (or picture) suit this person?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from palate.errors import DataError


@dataclass(frozen=True)
class WriteTask:
    """Something to be written for one person.

    Attributes
    ----------
    kind
        What is wanted, such as ``"headline"``, ``"review"``, ``"query suggestion"`` or ``"picture"``.
    input
        What it is about, in words.
    profile
        Texts of this person (or chosen by them), oldest first. They are data, never instructions.
    facts
        Names and numbers that may be stated, by name; a faithful writer states no others.
    user
        Number of the person, -1 if unknown.
    max_words
        Longest text wanted, or 0 for any.
    """

    kind: str
    input: str
    profile: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    user: int = -1
    max_words: int = 0

    def __post_init__(self) -> None:
        if not self.kind.strip():
            raise DataError("a task says what kind of text is wanted.", where="WriteTask.kind")
        if self.max_words < 0:
            raise DataError("max_words can't be negative.", where="WriteTask.max_words", value=self.max_words)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    text
        The words; empty where the answer is a picture.
    sources
        Positions in ``task.profile`` that it rests on, most important first.
    used
        Names of the facts that it states.
    picture
        PNG bytes, or ``None``.
    cost
        What it took, such as ``{"prompt_tokens": 311, "seconds": 0.8}``.
    """

    text: str
    sources: tuple[int, ...] = ()
    used: tuple[str, ...] = ()
    picture: bytes | None = None
    cost: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def check(self, task: WriteTask) -> None:
        """Refuse an answer that doesn't fit its task: no content, too long, or resting on what the task doesn't hold."""
        if not self.text.strip() and self.picture is None:
            raise DataError("nothing was written.", where=task.kind)
        words = len(self.text.split())
        if task.max_words and words > task.max_words:
            raise DataError("the text is too long.", where=task.kind, value=words, remedy=f"at most {task.max_words} words")
        beyond = [at for at in self.sources if not 0 <= at < len(task.profile)]
        unknown = [name for name in self.used if name not in task.facts]
        if beyond or unknown:
            raise DataError(
                "the text rests on something that the task doesn't hold.", where=task.kind, value=[*beyond, *unknown]
            )


class Writer(ABC):
    """Base of systems that write for a person."""

    @abstractmethod
    def write(self, tasks: Sequence[WriteTask], *, seed: int = 0) -> list[Written]:
        """Return one answer a task, in their order; the same seed gives the same words where the engine allows it."""

    def write_checked(self, tasks: Sequence[WriteTask], *, seed: int = 0) -> list[Written]:
        """As :meth:`write`, with every answer checked against its task."""
        answers = self.write(tasks, seed=seed)
        if len(answers) != len(tasks):
            raise DataError("a writer gives one answer a task.", where=type(self).__name__, value=len(answers))
        for task, answer in zip(tasks, answers, strict=True):
            answer.check(task)
        return answers
