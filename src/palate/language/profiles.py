"""Profiles: a short text of whom an item suits, and of what a person likes, by template or by a language model.

Items come first, then people from the profiles of what they had::

    items = item_profiles(train)                          "Alien. Suits people who enjoy horror, sci-fi. …"
    people = user_profiles(train, items)                  "Enjoys sci-fi, thriller. Chose lately: Alien; Heat."

A person's profile sees the histories that are passed and nothing else: pass training data. Their favourite topics are those of

    weight(u, t) = Σ_{i in H_u} [i has t] · ln(N / n_t)

with ``N`` items, ``n_t`` of them with topic ``t``; topics are categories, or, of data without such a column, words of titles
and descriptions. ``version`` gives paraphrases: the same facts in another sentence form and order; the same version of the same
data with the same seed is the same text on every machine.

A language model gets the same facts through a prompt file (``item_profile``, ``profile``). What it answers is held to what it
was given (:mod:`palate.language.facts`); an answer that is refused gives its place to the template, and ``sources`` says so row
by row. An engine that fails is an error, never a template: with a :class:`~palate.language.managed.ManagedModel` the next run
asks only for what is missing.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import sparse

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.ragged import offsets_of
from palate.errors import ConfigError, DataError
from palate.language.batch import batch
from palate.language.facts import Facts, check_facts
from palate.language.failures import LanguageModelError
from palate.language.model import LanguageModel, Message
from palate.language.prompt import Prompt
from palate.language.texts import KNOWN, cut, text_columns
from palate.progress import Progress, silent
from palate.runtime import generator

#: Who wrote a profile; ``"nothing"``: there is none, as nothing is known.
Source = Literal["template", "model", "nothing"]

_NAMES = ("title", "name", "headline", "movie_title")
_TOPICS = ("categories", "category", "genres", "genre", "class", "tags", "cuisine")
_MAKERS = ("brand", "authors", "author", "artist", "director", "stars")
_ABOUT = tuple(column for column in KNOWN if column not in (*_NAMES, *_TOPICS, *_MAKERS))
_LISTED = (*_TOPICS, *_MAKERS)
_PARTED = re.compile(r"\s*[|;,]\s*")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]{4,}")
#: Words stand in for topics if they are of at least so many items, and at most of this share; the rarest of an item.
_LEAST, _MOST, _WORDS = 2, 0.2, 12


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


@dataclass(frozen=True)
class Writer:
    """A language model that writes profiles.

    Attributes
    ----------
    model
        The model; one in a :class:`~palate.language.managed.ManagedModel` keeps its answers.
    prompt
        Prompt file by name or path; ``None`` for Palate's own. For items with a slot ``item``, for people with ``liked``.
    max_tokens
        Tokens of a profile, at most.
    workers
        Calls under way at once.
    checked
        Whether names and numbers that the model was not given are refused.
    """

    model: LanguageModel
    prompt: str | None = None
    max_tokens: int = 160
    workers: int = 1
    checked: bool = True


@dataclass(frozen=True, eq=False)
class Profiles:
    """Profiles, a row each.

    Attributes
    ----------
    texts
        ``""`` where nothing is known.
    sources
        Who wrote each.
    refused
        Row of each answer of the model that was refused: why. Their texts are the template's.
    """

    texts: Sequence[str]
    sources: Sequence[Source]
    refused: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def known(self) -> np.ndarray:
        """``bool[n]``: rows that have a profile."""
        return np.array([bool(text) for text in self.texts], bool)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by source, and the answers refused."""
        found = Counter(self.sources)
        return {**{name: found[name] for name in ("template", "model", "nothing")}, "refused": len(self.refused)}


@dataclass(frozen=True, eq=False)
class ItemProfiles(Profiles):
    """Profiles of items, and the facts behind them.

    Attributes
    ----------
    names
        Title of each item; ``""`` where there is none.
    topics
        Categories of each item, or words of its texts.
    makers
        Brands, authors, artists.
    """

    names: Sequence[str] = ()
    topics: Sequence[Sequence[str]] = ()
    makers: Sequence[Sequence[str]] = ()

    @cached_property
    def held_topics(self) -> Held:
        """Which item has which topic."""
        return Held.of(self.topics)

    @cached_property
    def held_makers(self) -> Held:
        """Which item has which maker."""
        return Held.of(self.makers)


@dataclass(frozen=True, eq=False)
class Held:
    """Which item has which word: the distinct ``words``, a matrix items x words of ones, and ``ln(N / n)`` of each word."""

    words: Sequence[str]
    matrix: sparse.csr_matrix
    rarity: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[str]]) -> Held:
        """Return that of a list of words an item."""
        words = sorted({word for row in lists for word in row})
        place = {word: at for at, word in enumerate(words)}
        columns = np.array([place[word] for row in lists for word in row], np.int32)
        offsets = offsets_of([len(row) for row in lists])
        matrix = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), shape=(len(lists), len(words)))
        rarity = np.log(max(1, len(lists)) / np.maximum(np.bincount(columns, minlength=len(words)), 1))
        return cls(words, matrix, rarity)


def item_profiles(
    items: Dataset | Entities, form: ProfileForm | None = None, *, writer: Writer | None = None, progress: Progress = silent
) -> ItemProfiles:
    """Return a profile for each item, ``""`` where nothing is known of it.

    Parameters
    ----------
    items
        A data set, or items with attributes.
    form
        Version and lengths.
    writer
        A language model; templates where ``None``.

    Raises
    ------
    DataError
        If no attribute says what items are.
    LanguageModelError
        If the model left rows unanswered.
    """
    form = form or ProfileForm()
    entities = items.items if isinstance(items, Dataset) else items
    facts = _Facts.of(entities)
    rng = generator(form.seed, "profiles", "items", form.version)
    texts = [_told_item(*row, form, frame, rng) for row, frame in zip(facts.rows(), _frames(len(entities), form), strict=True)]
    sources: list[Source] = ["template" if text else "nothing" for text in texts]
    refused: dict[int, str] = {}
    if writer is not None:
        prompt = Prompt.load(writer.prompt or "item_profile")
        given = {row: {"item": _bare(*known)} for row, known in enumerate(facts.rows()) if texts[row]}
        refused = _write(writer, prompt, given, texts, sources, form, progress)
    return ItemProfiles(texts, sources, refused, facts.names, facts.topics_or_words(), facts.makers)


def user_profiles(
    known: Dataset | Histories,
    items: ItemProfiles,
    form: ProfileForm | None = None,
    *,
    users: np.ndarray | None = None,
    writer: Writer | None = None,
    progress: Progress = silent,
) -> Profiles:
    """Return a profile for each person from their history, ``""`` where it is empty or nothing is known of its items.

    Parameters
    ----------
    known
        Training data (``split.train``), or histories.
    items
        Profiles of the items.
    form, writer
        As for :func:`item_profiles`. The model is told names and profiles of the newest ``max_items`` items.
    users
        Numbers of the people wanted (a negative one has an empty history); all where ``None``.

    Raises
    ------
    DataError
        If a history holds an item without a row in ``items``.
    LanguageModelError
        If the model left rows unanswered.
    """
    form = form or ProfileForm()
    histories = known.histories if isinstance(known, Dataset) else known
    if users is not None:
        histories = histories.take(np.asarray(users))
    if len(histories.items) and not 0 <= int(histories.items.min()) <= int(histories.items.max()) < len(items):
        raise DataError("a history holds an item that has no profile.", where="items", value=len(items))
    matrix = histories.matrix(len(items))
    topics = _favourites(matrix, items.held_topics, form.max_topics, least=1)
    makers = _favourites(matrix, items.held_makers, form.max_makers, least=2)
    newest = [_newest(histories, row, items, form.max_items) for row in range(len(histories))]
    texts = []
    for row in range(len(histories)):
        names = [items.names[item] for item in newest[row] if items.names[item]]
        frame, rng = _own_draws(form, topics[row], makers[row], names)
        texts.append(_told_user(topics[row], makers[row], names, form, frame, rng))
    sources: list[Source] = ["template" if text else "nothing" for text in texts]
    refused: dict[int, str] = {}
    if writer is not None:
        prompt = Prompt.load(writer.prompt or "profile")
        given = {
            row: {"liked": [f"{items.names[item]}: {items.texts[item]}".removeprefix(": ") for item in newest[row][::-1]]}
            for row, text in enumerate(texts)
            if text
        }
        refused = _write(writer, prompt, given, texts, sources, form, progress)
    return Profiles(texts, sources, refused)


@dataclass(frozen=True, eq=False)
class _Facts:
    """What is known of each item."""

    names: list[str]
    topics: list[list[str]]
    makers: list[list[str]]
    about: list[str]
    has_topics: bool

    @classmethod
    def of(cls, entities: Entities) -> _Facts:
        columns = text_columns(entities)
        told = {name: list(_entries(entities, name, parted=name in _LISTED)) for name in columns}
        if not any(any(rows) for rows in told.values()):
            held = [] if entities.attributes is None else entities.attributes.column_names
            raise DataError(
                "no attribute says what an item is, so there can be no profiles.",
                where="attributes of items",
                value=", ".join(held) or "none",
                remedy=f"give items a column of text, such as {', '.join(KNOWN[:1] + _TOPICS[:1] + ('description',))}",
            )

        def joined(wanted: Iterable[str]) -> list[list[str]]:
            found = [told[name] for name in wanted if name in told]
            return [list(dict.fromkeys(entry for rows in found for entry in rows[at])) for at in range(len(entities))]

        return cls(
            [row[0] if row else "" for row in joined(_NAMES)],
            joined(_TOPICS),
            joined(_MAKERS),
            [" ".join(row) for row in joined(_ABOUT)],
            any(name in _TOPICS for name in columns),
        )

    def rows(self) -> Iterator[tuple[str, list[str], list[str], str]]:
        return zip(self.names, self.topics, self.makers, self.about, strict=True)

    def topics_or_words(self) -> list[list[str]]:
        """Return the topics; of data without a column of such, the rarest words that several items share."""
        if self.has_topics:
            return self.topics
        words = [set(_WORD.findall(f"{name} {about}".casefold())) for name, about in zip(self.names, self.about, strict=True)]
        counts = Counter(word for row in words for word in row)
        most = max(_LEAST, _MOST * len(words))
        kept = [[word for word in row if _LEAST <= counts[word] <= most] for row in words]
        return [sorted(row, key=lambda word: (counts[word], word))[:_WORDS] for row in kept]


def _entries(entities: Entities, name: str, *, parted: bool) -> Iterator[list[str]]:
    """Yield the entries of an attribute, tidy, a list an item; ``parted``: a text such as ``Action|Comedy`` lists several."""
    column = entities.column(name)
    assert column is not None
    for chunk in column.chunks:
        for value in chunk.to_pylist():
            rows = value if isinstance(value, list) else _PARTED.split(value) if parted and value else [value]
            tidy = (_SPACE.sub(" ", str(entry).replace("\0", " ")).strip() for entry in rows if entry is not None)
            yield [entry for entry in tidy if entry]


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


def _frames(n: int, form: ProfileForm) -> np.ndarray:
    """Return which sentences each row gets: versions below their number differ in every row."""
    if form.version == 0:
        return np.zeros(n, np.int64)
    others = len(_ITEM) - 1
    first = generator(form.seed, "profiles", "frames").integers(others, size=n)
    return 1 + (first + form.version - 1) % others


def _own_draws(form: ProfileForm, *facts: Sequence[str]) -> tuple[int, np.random.Generator]:
    """Return the sentences of a person, and the generator of their order: by the facts, whatever the row and its company."""
    key = zlib.crc32("\n".join(word for row in facts for word in row).encode()) if form.version else 0
    others = len(_USER) - 1
    frame = 1 + (key + form.version - 1) % others if form.version else 0
    return frame, generator(form.seed, "profiles", "people", form.version, key)


def _told_item(
    name: str,
    topics: Sequence[str],
    makers: Sequence[str],
    about: str,
    form: ProfileForm,
    frame: int,
    rng: np.random.Generator,
) -> str:
    *sentences, order = _ITEM[frame]
    lists = [_shuffled(topics[: form.max_topics], form, rng), _shuffled(makers[: form.max_makers], form, rng)]
    about = about if not about or about[-1] in ".!?…" else about + "."
    values = dict(zip("ntma", (name, *map(", ".join, lists), about), strict=True))
    return _joined(dict(zip("ntma", sentences, strict=True)), values, order, form.max_chars)


def _told_user(
    topics: Sequence[str],
    makers: Sequence[str],
    names: Sequence[str],
    form: ProfileForm,
    frame: int,
    rng: np.random.Generator,
) -> str:
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


def _bare(name: str, topics: Sequence[str], makers: Sequence[str], about: str) -> str:
    """Return the facts of an item as a model is told them."""
    lines = {"Title": name, "Categories": ", ".join(topics), "By": ", ".join(makers), "Text": about}
    return "\n".join(f"{label}: {value}" for label, value in lines.items() if value)


def _newest(histories: Histories, row: int, items: ItemProfiles, most: int) -> list[int]:
    """Return the last distinct items of a history that have a profile, newest first."""
    had = histories.items[histories.offsets[row] : histories.offsets[row + 1]][::-1].tolist()
    return [item for item in dict.fromkeys(had) if items.texts[item]][:most]


def _favourites(had: sparse.csr_matrix, held: Held, most: int, *, least: int) -> list[list[str]]:
    """Return what marks each person's items most, by how often times how rare; of what at least so many items have."""
    counts = (had @ held.matrix).tocsr()
    found = []
    for row in range(had.shape[0]):
        low, high = counts.indptr[row : row + 2]
        kept = np.flatnonzero(counts.data[low:high] >= least) + low
        own = counts.indices[kept]
        order = np.lexsort((own, -counts.data[kept] * held.rarity[own]))[:most]
        found.append([held.words[at] for at in own[order]])
    return found


def _write(
    writer: Writer,
    prompt: Prompt,
    given: Mapping[int, dict[str, Any]],
    texts: list[str],
    sources: list[Source],
    form: ProfileForm,
    progress: Progress,
) -> dict[int, str]:
    """Put the model's answers in place of the templates; return why some were refused."""
    rows = list(given)
    prompts = [prompt.render(writer.model, **given[row]) for row in rows]
    # A paraphrase is another draw of the same question.
    changes: dict[str, Any] = {"max_tokens": writer.max_tokens}
    if form.version:
        changes |= {"seed": form.seed * 1000 + form.version, "temperature": max(0.7, writer.model.settings.temperature)}
    answers = batch(writer.model, prompts, workers=writer.workers, progress=progress, **changes)
    wrong = [answer.error for answer in answers if answer.error is not None]
    if wrong:
        raise LanguageModelError(
            f"{len(wrong)} of {len(rows)} profiles were not written; the first: {wrong[0]}",
            where=writer.model.name,
            remedy="run again: answers that are kept are not asked for again",
        ) from wrong[0]
    refused = {}
    for row, question, answer in zip(rows, prompts, answers, strict=True):
        text = cut(_SPACE.sub(" ", answer.value).strip(), form.max_chars)
        fault = _fault(text, question, checked=writer.checked)
        if fault:
            refused[row] = fault
        else:
            texts[row], sources[row] = text, "model"
    return refused


def _fault(text: str, question: Sequence[Message], *, checked: bool) -> str:
    """Return why an answer is refused, or ``""``."""
    if not text:
        return "it is empty"
    return "; ".join(map(str, check_facts(text, Facts.of(*question)))) if checked else ""
