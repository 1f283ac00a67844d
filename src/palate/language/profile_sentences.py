"""Sentences of profiles by template: a plain form, and paraphrases of the same facts in another form and order."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palate.errors import ConfigError
from palate.language.texts import cut
from palate.runtime import generator


@dataclass(frozen=True)
class ProfileForm:
    """How profiles are made.

    Attributes
    ----------
    version
        0 is the plain form; others are paraphrases.
    seed
        Of the paraphrases.
    max_chars
        Most characters of a profile; it is cut at the end of a word.
    max_topics, max_makers
        Most that are named.
    max_items
        Most items of a person that are named, the newest ones.
    """

    version: int = 0
    seed: int = 0
    max_chars: int = 600
    max_topics: int = 6
    max_makers: int = 3
    max_items: int = 10

    def __post_init__(self) -> None:
        for name in ("max_chars", "max_topics", "max_makers", "max_items"):
            if getattr(self, name) < 1:
                raise ConfigError("it is at least 1.", where=name, value=getattr(self, name))
        if self.version < 0 or self.seed < 0:
            raise ConfigError("version and seed are not negative.", value={"version": self.version, "seed": self.seed})


#: Sentences of an item: name, topics, makers, text, and their order; the first is the plain form.
_ITEM = (
    ("{}.", "Suits people who enjoy {}.", "By {}.", "About: {}", "ntma"),
    ("The item is {}.", "It is for those who like {}.", "It comes from {}.", "In short: {}", "nmta"),
    ("The name is {}.", "Fans of {} would choose this.", "Made by {}.", "What it is: {}", "tnma"),
    ("It is called {}.", "Its kind is {}.", "Behind it stands {}.", "Its text says: {}", "antm"),
    ("{} is offered here.", "Whoever is fond of {} may like it.", "The maker is {}.", "A description: {}", "tman"),
)
#: Sentences of a person: topics, makers, names, and their order.
_USER = (
    ("Enjoys {}.", "Often chooses {}.", "Chose lately: {}.", "tmn"),
    ("This person likes {}.", "Comes back to {}.", "Among the last choices are {}.", "ntm"),
    ("The taste leans to {}.", "A frequent choice is {}.", "Recently had: {}.", "mtn"),
    ("Fond of {}.", "Trusts {}.", "Picked {}.", "tnm"),
    ("Looks for {}.", "Goes for {} again and again.", "The history names {}.", "nmt"),
)


def frames(n: int, form: ProfileForm) -> np.ndarray:
    """Return which sentences each row gets: versions below their number differ in every row."""
    if form.version == 0:
        return np.zeros(n, np.int64)
    others = len(_ITEM) - 1
    first = generator(form.seed, "profiles", "frames").integers(others, size=n)
    return 1 + (first + form.version - 1) % others


def own_draws(form: ProfileForm, *facts: Sequence[str]) -> tuple[int, np.random.Generator]:
    """Return the sentences of a person, and the generator of their order: by the facts, whatever the row and its company."""
    key = zlib.crc32("\n".join(word for row in facts for word in row).encode()) if form.version else 0
    others = len(_USER) - 1
    frame = 1 + (key + form.version - 1) % others if form.version else 0
    return frame, generator(form.seed, "profiles", "people", form.version, key)


def told_item(
    name: str,
    topics: Sequence[str],
    makers: Sequence[str],
    about: str,
    form: ProfileForm,
    frame: int,
    rng: np.random.Generator,
) -> str:
    """Return the profile of an item."""
    *sentences, order = _ITEM[frame]
    lists = [_shuffled(topics[: form.max_topics], form, rng), _shuffled(makers[: form.max_makers], form, rng)]
    about = about if not about or about[-1] in ".!?…" else about + "."
    values = dict(zip("ntma", (name, *map(", ".join, lists), about), strict=True))
    return _joined(dict(zip("ntma", sentences, strict=True)), values, order, form.max_chars)


def told_user(
    topics: Sequence[str],
    makers: Sequence[str],
    names: Sequence[str],
    form: ProfileForm,
    frame: int,
    rng: np.random.Generator,
) -> str:
    """Return the profile of a person."""
    *sentences, order = _USER[frame]
    texts = [", ".join(_shuffled(topics, form, rng)), ", ".join(_shuffled(makers, form, rng))]
    values = dict(zip("tmn", (*texts, "; ".join(_shuffled(names, form, rng))), strict=True))
    return _joined(dict(zip("tmn", sentences, strict=True)), values, order, form.max_chars)


def _joined(sentences: Mapping[str, str], values: Mapping[str, str], order: str, most: int) -> str:
    """Return the sentences that have something to say."""
    return cut(" ".join(sentences[part].format(values[part]) for part in order if values[part]), most)


def _shuffled(words: Sequence[str], form: ProfileForm, rng: np.random.Generator) -> list[str]:
    if form.version == 0:
        return list(words)
    return [words[at] for at in rng.permutation(len(words))]
