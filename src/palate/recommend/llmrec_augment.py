"""What LLMRec is told beside the interactions, and by whom: picks among candidates, attributes of items, profiles of people.

An :class:`Augmentor` answers three questions once, before training:

- *pick*: of a few candidates, which one would a person like most, and which least? Candidates are the first items of a base
  recommender that was fitted on the training pairs (:func:`propose`); what the person had is none.
- *item_attributes*: texts that say more of each item (a director, a country, a maker);
- *user_profiles*: a text that says what each person likes.

Two back ends: :class:`RuleAugmentor` reads the catalogue and asks nobody; :class:`LanguageAugmentor` asks a language model.
Whoever answers, a pick is a candidate of that person or nothing: :func:`picked` holds every back end to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model
from scipy import sparse

from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError
from palate.language.batch import Row, batch
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.failures import LanguageModelError, SchemaError
from palate.language.model import LanguageModel, Message
from palate.language.profiles import Writer, item_profiles, user_profiles
from palate.language.prompt import Prompt
from palate.language.schema import Schema
from palate.language.texts import ItemTexts, item_texts, text_columns, titles
from palate.progress import Progress, silent

#: Base recommenders that may propose candidates.
Base = Literal["ials", "item_knn", "lightgcn", "popularity"]
#: People whose candidates are compared at once.
BLOCK = 4096


@dataclass(frozen=True)
class Candidates:
    """What was proposed to people with a history.

    Attributes
    ----------
    users
        ``int32[n]``, ascending.
    items
        ``int32[n, c]``, best first; -1 where fewer were found.
    """

    users: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Picks:
    """Of each person's candidates, the one liked most and the one liked least.

    Attributes
    ----------
    liked, disliked
        ``int32[n]`` in the order of the candidates; both are -1 where nothing was picked.
    refused
        Answers that could not be used.
    """

    liked: np.ndarray
    disliked: np.ndarray
    refused: int = 0


class Augmentor(ABC):
    """Base of what answers the three questions."""

    #: What it is called in records.
    name: ClassVar[str]

    @abstractmethod
    def pick(self, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
        """Return a pick for each person of the candidates, or none."""

    @abstractmethod
    def item_attributes(self, dataset: Dataset, *, progress: Progress = silent) -> Mapping[str, Sequence[str]]:
        """Return texts of each item (``""`` where nothing is known), by the name of the attribute."""

    @abstractmethod
    def user_profiles(self, dataset: Dataset, *, progress: Progress = silent) -> Sequence[str]:
        """Return a text of each person (``""`` where nothing is known), from the training histories alone."""


def propose(dataset: Dataset, base: Base, k: int, *, seed: int = 0, progress: Progress = silent) -> Candidates:
    """Fit a base recommender on the training pairs; return its first ``k`` items for each person with a history.

    Items that a person had are left out: a liked one would tell nothing new, a disliked one would tell something wrong.
    """
    model = _base(base).fit(dataset, seed=seed, progress=progress)
    users = np.flatnonzero(dataset.histories.lengths > 0).astype(np.int32)
    found = model.recommend(Requests.of_users(dataset, users), k).items
    return Candidates(users, found)


def _base(name: Base) -> Recommender:
    """Return the base recommender: LightGCN of two layers and 30 epochs, iALS of small width, or another by its defaults."""
    if name == "ials":
        from palate.recommend.ials import IALS

        return IALS(dim=64)
    if name == "item_knn":
        from palate.recommend.item_knn import ItemKNN

        return ItemKNN()
    if name == "lightgcn":
        from palate.recommend.lightgcn import LightGCN

        return LightGCN(layers=2, epochs=30)
    from palate.recommend.popularity import Popularity

    return Popularity()


def picked(augmentor: Augmentor, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
    """Return an augmentor's picks, held to the candidates.

    Raises
    ------
    DataError
        If a pick is no candidate of its person, if the liked and the disliked one are the same, or if one stands alone.
    """
    found = augmentor.pick(dataset, candidates, progress=progress)
    for name, items in (("liked", found.liked), ("disliked", found.disliked)):
        if items.shape != (len(candidates),):
            raise DataError("an augmentor picks once a person.", where=f"{augmentor.name}, {name}", value=items.shape)
        strange = (items != -1) & ~(candidates.items == items[:, None]).any(axis=1)
        if strange.any():
            at = int(np.flatnonzero(strange)[0])
            where = f"{augmentor.name}, {name} of person {candidates.users[at]}"
            raise DataError("an augmentor may pick candidates only.", where=where, value=int(items[at]))
    half = (found.liked == -1) != (found.disliked == -1)
    same = (found.liked == found.disliked) & (found.liked != -1)
    if (half | same).any():
        at = int(np.flatnonzero(half | same)[0])
        value = (int(found.liked[at]), int(found.disliked[at]))
        raise DataError("a pick is two different candidates, or none.", where=augmentor.name, value=value)
    return found


class RuleAugmentor(Augmentor):
    """Answers from the catalogue's texts, without any model.

    The pick is the candidate whose text is most (least) like the texts of the history, by the cosine of TF-IDF vectors; nothing
    where all are equally alike. Attributes are the catalogue's own columns of text. Profiles are written by a template.

    Parameters
    ----------
    dim
        Width of the vectors in which texts are compared.
    """

    name = "rule"

    def __init__(self, dim: int = 128) -> None:
        self.dim = dim

    def pick(self, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
        """Return the most and the least similar candidate of each person."""
        none = np.full(len(candidates), -1, np.int32)
        texts = item_texts(dataset)
        if not any(text.strip() for text in texts):
            return Picks(none, none.copy())
        vectors = TfidfEncoder(dim=self.dim).fit(texts).encode(texts)
        matrix = dataset.matrix()
        parts = [
            _alike(matrix[candidates.users[low : low + BLOCK]], vectors, candidates.items[low : low + BLOCK])
            for low in range(0, len(candidates), BLOCK)
        ]
        liked, disliked = (np.concatenate([none[:0], *(part[side] for part in parts)]) for side in (0, 1))
        return Picks(liked, disliked)

    def item_attributes(self, dataset: Dataset, *, progress: Progress = silent) -> dict[str, list[str]]:
        """Return the catalogue's columns of text but for titles, each by itself."""
        plain = ("title", "name", "headline", "movie_title")
        names = [name for name in text_columns(dataset) if name not in plain]
        return {name: item_texts(dataset, ItemTexts(columns=(name,), labels=False)) for name in names}

    def user_profiles(self, dataset: Dataset, *, progress: Progress = silent) -> list[str]:
        """Return what the template of :mod:`palate.language.profiles` says of each person."""
        return list(user_profiles(dataset, item_profiles(dataset), progress=progress).texts)


def _alike(histories: sparse.csr_matrix, vectors: np.ndarray, candidates: np.ndarray) -> list[np.ndarray]:
    """Return the most and the least similar of each row of candidates (-1 where there is no telling)."""
    taste = np.asarray(histories @ vectors)
    close = np.einsum("nd,ncd->nc", taste, vectors[candidates])
    usable = (candidates >= 0) & (np.abs(vectors[candidates]).max(axis=2) > 0)
    rows = np.arange(len(candidates))
    best = np.where(usable, close, -np.inf).argmax(axis=1)
    worst = np.where(usable, close, np.inf).argmin(axis=1)
    told = (usable.sum(axis=1) > 1) & (close[rows, best] > close[rows, worst])
    return [np.where(told, candidates[rows, at], -1).astype(np.int32) for at in (best, worst)]


class LanguageAugmentor(Augmentor):
    """Asks a language model.

    A pick is answered as two numbers of a JSON schema that allows the numbers of that person's candidates only. Answers that
    break the schema after all tries leave their person (or item) without, and are counted; an engine that fails is an error.
    With a :class:`~palate.language.managed.ManagedModel` every answer is kept as soon as it is there: after a kill or a spent
    budget the same fit asks only for what is missing.

    Parameters
    ----------
    model
        What answers.
    attributes
        What is asked of each item.
    most
        Items of a history that are told, the latest.
    workers
        Calls under way at once.
    """

    name = "language model"

    def __init__(
        self,
        model: LanguageModel,
        *,
        attributes: Sequence[str] = ("director", "country", "language"),
        most: int = 20,
        workers: int = 1,
    ) -> None:
        if len(set(attributes)) != len(attributes) or not all(a.strip() for a in attributes):
            raise ConfigError("attributes have different names of at least a letter.", where="attributes", value=attributes)
        if most < 1:
            raise ConfigError("at least one item of a history is told.", where="most", value=most)
        self.model, self.attributes, self.most, self.workers = model, tuple(attributes), most, workers

    def pick(self, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
        """Return what the model picks, by the numbers that it answers."""
        texts = _short(dataset)
        liked, disliked = (np.full(len(candidates), -1, np.int32) for _ in range(2))
        refused = 0
        widths = (candidates.items >= 0).sum(axis=1)
        for width in np.unique(widths[widths > 1]):
            rows = np.flatnonzero(widths == width)
            prompts = self._pick_prompts(dataset, candidates, rows, texts)
            shape = pick_schema(int(width))
            answers = batch(self.model, prompts, schema=shape, workers=self.workers, progress=progress, max_tokens=60)
            _unanswered(answers, "picks")
            for row, answer in zip(rows, answers, strict=True):
                if not answer.ok or answer.value.liked == answer.value.disliked:
                    refused += 1
                    continue
                own = candidates.items[row][candidates.items[row] >= 0]
                liked[row], disliked[row] = own[answer.value.liked - 1], own[answer.value.disliked - 1]
        return Picks(liked, disliked, refused)

    def _pick_prompts(
        self, dataset: Dataset, candidates: Candidates, rows: np.ndarray, texts: Sequence[str]
    ) -> Iterator[Sequence[Message]]:
        prompt = Prompt.load("pick")
        for row in rows:
            own = dataset.histories.take(candidates.users[row : row + 1]).items[-self.most :]
            offered = candidates.items[row]
            yield prompt.render(
                self.model,
                history=[texts[item] for item in own],
                candidates=[texts[item] for item in offered if item >= 0],
            )

    def item_attributes(self, dataset: Dataset, *, progress: Progress = silent) -> dict[str, list[str]]:
        """Return what the model says of each item that has a text.

        These are words of the model's own: their form is checked (a text of at most 100 letters, or nothing, for each attribute
        asked), their truth is not, as a catalogue has no list of directors or languages to hold them to. What is wrong in them
        can't reach ranking but through vectors of text, at the weight ``attribute_weight``; look at them before they are shown.
        """
        texts, prompt = item_texts(dataset), Prompt.load("attributes")
        told = [at for at, text in enumerate(texts) if text.strip()]
        found: dict[str, list[str]] = {name: [""] * len(texts) for name in self.attributes}
        if not told or not self.attributes:
            return found
        prompts = (prompt.render(self.model, item=texts[at], wanted=list(self.attributes)) for at in told)
        shape = attribute_schema(self.attributes)
        answers = batch(self.model, prompts, schema=shape, workers=self.workers, progress=progress)
        _unanswered(answers, "descriptions")
        for at, answer in zip(told, answers, strict=True):
            if answer.ok:
                for name in self.attributes:
                    found[name][at] = answer.value[name] or ""
        return found

    def user_profiles(self, dataset: Dataset, *, progress: Progress = silent) -> list[str]:
        """Return what the model says of each person (:mod:`palate.language.profiles`, which holds it to the titles given)."""
        writer = Writer(self.model, workers=self.workers)
        return list(user_profiles(dataset, item_profiles(dataset), writer=writer, progress=progress).texts)


class Liking(BaseModel):
    """What a model answers about candidates; ``pick_schema`` narrows the numbers to those of the candidates."""

    model_config = ConfigDict(extra="forbid")

    liked: int = Field(ge=1, description="number of the candidate liked most")
    disliked: int = Field(ge=1, description="number of the candidate liked least")


@lru_cache(maxsize=128)
def pick_schema(width: int) -> Schema:
    """Return the schema of a pick among ``width`` candidates: two of their numbers."""
    numbers = {"le": width, "ge": 1}
    fields = {name: (int, Field(**numbers)) for name in Liking.model_fields}  # type: ignore[call-overload]
    return Schema.of(create_model("Liking", __base__=Liking, **fields))  # type: ignore[call-overload]


def attribute_schema(names: Sequence[str]) -> dict[str, Any]:
    """Return the schema of an item's attributes: a text each, or null."""
    kind = {"type": ["string", "null"], "maxLength": 100}
    return {
        "type": "object",
        "properties": dict.fromkeys(names, kind),
        "required": list(names),
        "additionalProperties": False,
    }


def _short(dataset: Dataset) -> list[str]:
    """Return a few words of each item, its raw id where nothing is known of it."""
    texts = item_texts(dataset, ItemTexts(max_chars=120))
    return [text or name for text, name in zip(texts, titles(dataset), strict=True)]


def _unanswered(answers: Sequence[Row], what: str) -> None:
    """Refuse to go on without answers that a later run could get; answers that broke the schema are no such."""
    wrong = [row.error for row in answers if row.error is not None and not isinstance(row.error, SchemaError)]
    if wrong:
        raise LanguageModelError(
            f"{len(wrong)} of {len(answers)} {what} were not answered; the first: {wrong[0]}",
            remedy="run again: answers that are kept are not asked for again",
        ) from wrong[0]
