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

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.errors import DataError
from palate.language.batch import batch
from palate.language.facts import Facts, check_facts
from palate.language.failures import LanguageModelError
from palate.language.model import LanguageModel, Message
from palate.language.profile_facts import Held, ItemFacts, favourites
from palate.language.profile_sentences import ProfileForm, frames, own_draws, told_item, told_user
from palate.language.prompt import Prompt
from palate.language.quoting import repeats_marks
from palate.language.texts import cut
from palate.progress import Progress, silent
from palate.runtime import generator

#: Who wrote a profile; ``"given"``: it came with the data; ``"nothing"``: there is none, as nothing is known.
Source = Literal["template", "model", "given", "nothing"]


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
        given = {"given": found["given"]} if found["given"] else {}
        return {**{name: found[name] for name in ("template", "model", "nothing")}, "refused": len(self.refused), **given}


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


SomeProfiles = TypeVar("SomeProfiles", bound=Profiles)


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
    facts = ItemFacts.of(entities)
    rng = generator(form.seed, "profiles", "items", form.version)
    texts = [told_item(*row, form, frame, rng) for row, frame in zip(facts.rows(), frames(len(entities), form), strict=True)]
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
    topics = favourites(matrix, items.held_topics, form.max_topics, least=1)
    makers = favourites(matrix, items.held_makers, form.max_makers, least=2)
    newest = [_newest(histories, row, items, form.max_items) for row in range(len(histories))]
    texts = []
    for row in range(len(histories)):
        names = [items.names[item] for item in newest[row] if items.names[item]]
        frame, rng = own_draws(form, topics[row], makers[row], names)
        texts.append(told_user(topics[row], makers[row], names, form, frame, rng))
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


def with_given(profiles: SomeProfiles, entities: Entities, column: str) -> SomeProfiles:
    """Return profiles with those that came with the data in the place of ours, where a row has one.

    What such texts were written from is not known here: those of people may tell what the test part asks for.

    Parameters
    ----------
    profiles
        Ours, of the same rows.
    entities
        People or items with attributes; where they lack the column, ours stay.
    column
        Attribute that holds the texts.
    """
    if entities.attributes is None or column not in entities.attributes.column_names:
        return profiles
    told = [" ".join(str(text).split()) if text is not None else "" for text in entities.attributes.column(column).to_pylist()]
    texts = [given or ours for given, ours in zip(told, profiles.texts, strict=True)]
    sources: list[Source] = ["given" if given else ours for given, ours in zip(told, profiles.sources, strict=True)]
    return replace(profiles, texts=texts, sources=sources)


def _bare(name: str, topics: Sequence[str], makers: Sequence[str], about: str) -> str:
    """Return the facts of an item as a model is told them."""
    lines = {"Title": name, "Categories": ", ".join(topics), "By": ", ".join(makers), "Text": about}
    return "\n".join(f"{label}: {value}" for label, value in lines.items() if value)


def _newest(histories: Histories, row: int, items: ItemProfiles, most: int) -> list[int]:
    """Return the last distinct items of a history that have a profile, newest first."""
    had = histories.items[histories.offsets[row] : histories.offsets[row + 1]][::-1].tolist()
    return [item for item in dict.fromkeys(had) if items.texts[item]][:most]


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
            f"{len(wrong)} of {len(rows)} profiles were not written; the first: {wrong[0].what}",
            where=writer.model.name if wrong[0].where is None else f"{writer.model.name}, {wrong[0].where}",
            value=wrong[0].value,
            remedy=wrong[0].remedy or "run again: answers that are kept are not asked for again",
        ) from wrong[0]
    refused = {}
    for row, question, answer in zip(rows, prompts, answers, strict=True):
        text = cut(" ".join(answer.value.split()), form.max_chars)
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
    if repeats_marks(text, (message.content for message in question)):
        return "it repeats the marks around what it was given"
    return "; ".join(map(str, check_facts(text, Facts.of(*question)))) if checked else ""
