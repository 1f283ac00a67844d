"""LanguageModel: the one way in which Palate asks a language model, whichever engine answers.

An adapter (:mod:`palate.language.models`) implements :meth:`LanguageModel.answer` and what else its engine can do; all
convenience stands here once. Nothing of Palate needs a language model to run: what uses one takes it as an argument.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.errors import ConfigError, UnsupportedError, nearest
from palate.language.failures import SchemaError
from palate.language.quoting import clean
from palate.language.schema import Schema

Role = Literal["system", "user", "assistant"]


class Settings(BaseModel):
    """What shapes an answer; it is part of the key under which the answer is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    max_tokens: int = Field(256, gt=0, description="tokens of an answer, at most")
    temperature: float = Field(
        0.0, ge=0, le=5, description="divisor of the scores of tokens before sampling (0 = the likeliest)"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="sample among the likeliest tokens of this total probability")
    seed: int = Field(0, ge=0, lt=2**31, description="fixes sampling, where the engine can; change it to draw another answer")
    stop: tuple[str, ...] = Field((), max_length=8, description="texts before which an answer ends")

    @classmethod
    def parse(cls, base: Settings | None = None, **changes: Any) -> Self:
        """Return settings with some changed; an unknown or ill-typed one is a :class:`~palate.errors.ConfigError`."""
        unknown = [key for key in changes if key not in cls.model_fields]
        if unknown:
            raise ConfigError(
                "unknown setting.",
                where="settings of an answer",
                value=unknown[0],
                remedy=nearest(unknown[0], cls.model_fields),
            )
        try:
            return cls.model_validate({**({} if base is None else base.model_dump()), **changes})
        except ValidationError as error:
            raise invalid(error, "settings of an answer") from None


def invalid(error: ValidationError, where: str) -> ConfigError:
    """Say in one line what the first ill-typed value is."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return ConfigError(f"setting {key!r} is wrong: {first['msg'].lower()}.", where=where, value=first["input"])


@dataclass(frozen=True)
class Message:
    """A turn of a chat."""

    role: Role
    content: str

    def to_dict(self) -> dict[str, str]:
        """Return the form of the wire."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Call:
    """One question to a model: a chat, or a text to go on with.

    Attributes
    ----------
    messages
        The chat so far; empty for a plain continuation.
    prompt
        The text to go on with; ``None`` for a chat.
    settings, schema
        What shapes the answer.
    timeout
        Seconds that it may take (not part of the key).
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    settings: Settings = field(default_factory=Settings)
    schema: Schema | None = None
    timeout: float = 120.0

    @cached_property
    def key(self) -> str:
        """Hash of all that shapes the answer, but the model."""
        parts = {
            "messages": [m.to_dict() for m in self.messages],
            "prompt": self.prompt,
            "schema": None if self.schema is None else self.schema.document,
            "settings": self.settings.model_dump(mode="json"),
        }
        return hashlib.sha256(
            json.dumps(parts, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        ).hexdigest()

    @property
    def text(self) -> str:
        """All that the model is sent, as one text."""
        return self.prompt if self.prompt is not None else "\n".join(m.content for m in self.messages)


@dataclass(frozen=True)
class Answer:
    """What a model answered, and what it took.

    Attributes
    ----------
    text
        The words.
    finish
        ``"stop"``: it came to its end; ``"length"``: cut at ``max_tokens``.
    tokens_in, tokens_out
        Tokens read and written.
    seconds
        How long it took.
    cached
        It comes from the cache: nothing was spent now.
    cost
        Money spent, in the currency of the prices (0 where none are set).
    """

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cached: bool = False
    cost: float = 0.0

    def __str__(self) -> str:
        return self.text


class LanguageModel(ABC):
    """A language model. Methods that an engine lacks refuse with :class:`~palate.errors.UnsupportedError`."""

    #: What this adapter is, for messages.
    kind: ClassVar[str] = "language model"
    #: Whether the engine itself holds answers to a schema (grammar); validation and retries happen anyway.
    constrains: bool = False
    #: Whether :meth:`count_tokens` is exact, not an estimate.
    exact_tokens: bool = False
    #: The engine's special tokens beside the well-known forms; prompts keep data clean of them.
    special_tokens: tuple[str, ...] = ()
    #: Settings of a call that names none.
    settings: Settings = Settings()
    #: Seconds that a call may take.
    timeout: float = 120.0

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in tables and records of cost."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What fixes its answers beside the call: the weights' hash, or address and name; part of the cache's key."""

    @abstractmethod
    def answer(self, call: Call) -> Answer:
        """Answer one call.

        Raises
        ------
        TransientError
            If a later try may succeed.
        LanguageModelError
            If none will.
        """

    def pieces(self, call: Call) -> Iterator[str | Answer]:
        """Yield the answer to a call piece by piece, and at the end the whole of it; by default all at once."""
        answer = self.answer(call)
        yield answer.text
        yield answer

    def hidden_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]``, the mean of each text's last hidden states, not normalised."""
        raise UnsupportedError(
            f"{self.kind} gives no hidden states.", where=self.name, remedy="use a GGUF file or a local transformers folder"
        )

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text; an estimate where ``exact_tokens`` is false."""
        return estimate_tokens(text)

    def close(self) -> None:  # noqa: B027 (an engine that holds nothing has nothing to free)
        """Free what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def complete(self, prompt: str, settings: Settings | None = None, **changes: Any) -> Answer:
        """Go on with a text.

        Parameters
        ----------
        prompt
            The text.
        settings
            What shapes the answer; the model's own where ``None``.
        **changes
            Single settings by name, such as ``max_tokens=40``.
        """
        return self.answer(self.call(prompt, settings, continuation=True, **changes))

    def chat(self, messages: str | Sequence[Message], settings: Settings | None = None, **changes: Any) -> Answer:
        """Answer a chat (a plain text is one turn of the user)."""
        return self.answer(self.call(messages, settings, **changes))

    def stream(self, messages: str | Sequence[Message], settings: Settings | None = None, **changes: Any) -> Iterator[str]:
        """Yield the answer to a chat as it is written."""
        for piece in self.pieces(self.call(messages, settings, **changes)):
            if isinstance(piece, str):
                yield piece

    def json(
        self,
        messages: str | Sequence[Message],
        schema: type[BaseModel] | dict[str, Any] | Schema,
        settings: Settings | None = None,
        *,
        retries: int = 2,
        **changes: Any,
    ) -> Any:
        """Answer a chat with a value of a schema.

        Parameters
        ----------
        messages
            The chat.
        schema
            A pydantic class (its instance is returned) or a JSON schema (plain values are returned).
        retries
            More tries after a wrong answer; each shows the model its answer and what is wrong with it. One that was cut
            gets twice the tokens.

        Raises
        ------
        SchemaError
            If no try gave a value of the schema.
        """
        wanted = Schema.of(schema)
        call = self.call(messages, settings, schema=wanted, **changes)
        if not self.constrains:
            call = replace(call, messages=_with_schema(call.messages, wanted))
        for attempt in range(retries + 1):
            answer = self.answer(call)
            value, fault = wanted.read(answer.text)
            if fault is None:
                return value
            if answer.finish == "length":
                fault = "it was cut off before its end; be briefer."
                more = Settings.parse(call.settings, max_tokens=call.settings.max_tokens * 2)
                call = replace(call, settings=more)
            if attempt < retries:
                call = replace(call, messages=(*call.messages, *_correction(answer.text, fault)))
        raise SchemaError(
            f"no answer of the schema in {retries + 1} tries; the last: {fault}",
            where=self.name,
            value=answer.text,
            remedy="give an example in the prompt, a simpler schema, more max_tokens, or a larger model",
        )

    def call(
        self,
        messages: str | Sequence[Message],
        settings: Settings | None = None,
        *,
        continuation: bool = False,
        schema: Schema | None = None,
        **changes: Any,
    ) -> Call:
        """Return the call that :meth:`chat` or :meth:`complete` would make (for batches)."""
        shaped = Settings.parse(settings or self.settings, **changes)
        if continuation:
            if not isinstance(messages, str) or not messages:
                raise ConfigError("a text to go on with is needed.", where="prompt", value=messages)
            return Call(prompt=messages, settings=shaped, schema=schema, timeout=self.timeout)
        turns = (Message("user", messages),) if isinstance(messages, str) else tuple(messages)
        if not turns or not all(isinstance(m, Message) for m in turns):
            raise ConfigError("a chat is a text, or messages of which there is at least one.", where="messages", value=messages)
        return Call(messages=turns, settings=shaped, schema=schema, timeout=self.timeout)


def _with_schema(messages: tuple[Message, ...], schema: Schema) -> tuple[Message, ...]:
    """Tell an engine without a grammar what is wanted, in the system's words."""
    told = f"Answer with one JSON value of this schema, and nothing else:\n{json.dumps(schema.document, ensure_ascii=False)}"
    first, *rest = messages
    if first.role == "system":
        return (Message("system", f"{first.content}\n\n{told}"), *rest)
    return (Message("system", told), *messages)


def _correction(text: str, fault: str) -> tuple[Message, Message]:
    """Return the wrong answer and what is wrong; the fault may repeat words of the answer, so it is cleaned like data."""
    told = f"That answer is wrong: {clean(fault)} Answer again with JSON of the schema and nothing else."
    return Message("assistant", text or "{}"), Message("user", told)


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has: a quarter of its bytes, or four thirds of its words, whichever is more."""
    return math.ceil(max(len(text.encode("utf-8", "replace")) / 4, len(text.split()) * 4 / 3))
