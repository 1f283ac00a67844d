"""Prompts are files with typed slots; what fills a slot is data, unless the file itself lists the words that may stand there.

A file (TOML) reads::

    title = "Why an item suits a person"
    system = "You explain recommendations."
    user = '''Explain in one sentence. {{ facts }}'''

    [slots.facts]
    kind = "texts"
    max_tokens = 300
    description = "what is known"

Kinds of slots: ``text`` and ``texts`` (cleaned, cut, fenced: :mod:`palate.language.quoting`), ``number``, and ``choice`` (one
of the words that the file lists). There is no kind that puts a caller's text into a prompt bare.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate.errors import ConfigError, nearest
from palate.language.model import LanguageModel, Message, estimate_tokens
from palate.language.quoting import Counter, Fence, clean, cut

_SLOT = re.compile(r"\{\{\s*([a-z][a-z0-9_]*)\s*\}\}")


class Slot(BaseModel):
    """A place in a prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["text", "texts", "number", "choice"]
    description: str = Field(min_length=1, description="what stands here")
    max_tokens: int = Field(200, gt=0, description="tokens of a text, at most (of texts: each)")
    max_items: int = Field(50, gt=0, description="texts, at most; later ones are left out")
    choices: tuple[str, ...] = Field((), description="the words that may stand here")
    optional: bool = Field(False, description="may be left out: then it says that there is nothing")

    @property
    def is_data(self) -> bool:
        """Whether others wrote what stands here."""
        return self.kind in ("text", "texts")

    @model_validator(mode="after")
    def _words_of_a_choice(self) -> Self:
        if (self.kind == "choice") != bool(self.choices):
            raise ValueError("choices belong to the kind 'choice', and to no other")
        return self


class Prompt(BaseModel):
    """A prompt: its texts and slots, checked against each other when it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    user: str = Field(min_length=1)
    system: str = ""
    slots: dict[str, Slot] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _slots_meet_texts(self) -> Self:
        named = set(_SLOT.findall(self.user)) | set(_SLOT.findall(self.system))
        if named != set(self.slots):
            raise ValueError(f"slots and texts differ: {', '.join(sorted(named ^ set(self.slots)))}")
        data = {name for name in _SLOT.findall(self.system) if self.slots[name].is_data}
        if data:
            raise ValueError(f"data does not belong into the system's text: {', '.join(sorted(data))}")
        return self

    @classmethod
    def load(cls, name: str | Path) -> Prompt:
        """Read a prompt of Palate by its name, or one of yours by its path (``.toml``).

        Raises
        ------
        ConfigError
            If there is none, or its texts and slots don't meet.
        """
        path = Path(name)
        if path.suffix == ".toml":
            if not path.is_file():
                raise ConfigError("there is no such prompt.", where=path)
            text = path.read_text(encoding="utf-8")
        else:
            if str(name) not in names():
                raise ConfigError("unknown prompt.", value=str(name), remedy=nearest(str(name), names()))
            text = _folder().joinpath(f"{name}.toml").read_text(encoding="utf-8")
        try:
            return cls.model_validate(tomllib.loads(text))
        except (ValidationError, tomllib.TOMLDecodeError) as error:
            told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ConfigError(f"the prompt is wrong: {told}", where=name) from None

    def render(self, model: LanguageModel | None = None, **values: Any) -> tuple[Message, ...]:
        """Fill the slots; return the messages.

        Parameters
        ----------
        model
            Counts tokens (an estimate stands in where ``None``), and names its special tokens.
        **values
            One a slot.

        Raises
        ------
        ConfigError
            If a slot is missing, unknown, or gets what it is not for.
        """
        self._meet(values)
        count: Counter = estimate_tokens if model is None else model.count_tokens
        special = () if model is None else model.special_tokens
        data = {name: _data(slot, name, values.get(name), count, special) for name, slot in self.slots.items()}
        fence = Fence(text for name, texts in data.items() if self.slots[name].is_data for text in texts)
        shown = {name: _show(self.slots[name], texts, fence) for name, texts in data.items()}

        def fill(text: str) -> str:
            return _SLOT.sub(lambda match: shown[match.group(1)], text)

        fenced = any(texts and self.slots[name].is_data for name, texts in data.items())
        system = "\n\n".join(part for part in (fill(self.system).strip(), fence.rule if fenced else "") if part)
        turns = (Message("user", fill(self.user).strip()),)
        return (Message("system", system), *turns) if system else turns

    def _meet(self, values: dict[str, Any]) -> None:
        for name in values:
            if name not in self.slots:
                advice = nearest(name, self.slots) if self.slots else "this prompt has no slots"
                raise ConfigError("the prompt has no such slot.", where=self.title, value=name, remedy=advice)
        for name, slot in self.slots.items():
            if values.get(name) is None and not slot.optional:
                raise ConfigError("a slot of the prompt is empty.", where=self.title, value=name, remedy=slot.description)


def _data(slot: Slot, name: str, value: Any, count: Counter, special: Iterable[str]) -> list[str]:
    """Return what stands in a slot, as texts."""
    if value is None:
        return []
    if slot.kind == "number":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _wrong(slot, name, value, "a finite number")
        return [f"{value:g}" if isinstance(value, float) else str(value)]
    if slot.kind == "choice":
        if value not in slot.choices:
            raise _wrong(slot, name, value, f"one of {', '.join(slot.choices)}")
        return [value]
    texts = [value] if slot.kind == "text" else value
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise _wrong(slot, name, value, "a text" if slot.kind == "text" else "a list of texts")
    return [cut(clean(text, special).strip(), slot.max_tokens, count) for text in texts[: slot.max_items]]


def _show(slot: Slot, texts: Sequence[str], fence: Fence) -> str:
    if not texts:
        return "(nothing)"
    if slot.kind in ("number", "choice"):
        return texts[0]
    if slot.kind == "text":
        return fence.quote(texts[0])
    return "\n".join(f"{number}. {fence.quote(text)}" for number, text in enumerate(texts, 1))


def _wrong(slot: Slot, name: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"the slot {name!r} is for {wanted}.", where=slot.description, value=value)


def names() -> list[str]:
    """Return the names of Palate's own prompts."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def _folder() -> Any:
    return resources.files("palate.language").joinpath("prompts")
