"""Positive events: which of the things that people did count as a choice.

A log holds more than choices: views beside purchases, ratings of one star beside five. What a model learns from is said by
the type of an event (its action) and its value::

    purchase          events of this type
    rating:4          events of this type with a value of at least 4
    :4                events of any type with a value of at least 4

An event is positive where any of the terms holds. One without a value counts 1. A model's bundle remembers the terms in the
steps of its data, so that what serves it can start from the same events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError, nearest

#: Name of the step in a data set's spec.
STEP = "positive"


@dataclass(frozen=True)
class Term:
    """One kind of event.

    Attributes
    ----------
    type
        Its type; ``None`` for any.
    least
        Smallest value; ``None`` where the value doesn't matter.
    """

    type: str | None = None
    least: float | None = None

    @classmethod
    def parse(cls, text: str) -> Term:
        """Read ``TYPE``, ``TYPE:NUMBER`` or ``:NUMBER``."""
        name, colon, bound = text.strip().rpartition(":")
        try:
            least = float(bound) if colon else None
        except ValueError:
            name, least = text.strip(), None  # a type whose name holds a colon
        else:
            name = name if colon else text.strip()
        if (not name.strip(":") and least is None) or (least is not None and not math.isfinite(least)):
            raise ConfigError(
                "this names no events.", where=STEP, value=text, remedy="say TYPE, TYPE:NUMBER or :NUMBER, such as rating:4"
            )
        return cls(name or None, least)

    def __str__(self) -> str:
        bound = "" if self.least is None else f":{np.format_float_positional(self.least, trim='-')}"
        return (self.type or "") + bound


@dataclass(frozen=True)
class Positive:
    """Which events count.

    Attributes
    ----------
    terms
        One of them must hold.
    """

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Positive | None:
        """Read terms; ``None`` where there are none, and everything counts.

        Raises
        ------
        ConfigError
            If one can't be read.
        """
        terms = tuple(dict.fromkeys(Term.parse(text) for text in texts))
        return cls(terms) if terms else None

    @classmethod
    def of_spec(cls, spec: Sequence[Mapping[str, Any]]) -> Positive | None:
        """Return what a data set's spec says; ``None`` where everything counts.

        Other filters, such as a least value of ratings, were of that data set alone: they say nothing of events to come.
        """
        found = [step["events"] for step in spec if step.get("step") == STEP]
        return cls.parse(found[-1]) if found else None

    @property
    def texts(self) -> list[str]:
        """The terms as they are written."""
        return [str(term) for term in self.terms]

    def __str__(self) -> str:
        return ", ".join(self.texts)

    def mask(self, dataset: Dataset) -> np.ndarray:
        """Return ``bool[n]``: which interactions are positive."""
        events, codes = dataset.interactions, _codes(dataset)
        value = np.ones(len(events), np.float32) if events.value is None else events.value
        action = np.full(len(events), -1) if events.action is None else events.action
        kept = np.zeros(len(events), bool)
        for term in self.terms:
            holds = np.ones(len(events), bool) if term.least is None else value >= np.float32(term.least)
            if term.type is not None:
                holds &= (action == codes[term.type]) if term.type in codes else False
            kept |= holds
        return kept

    def select(self, dataset: Dataset) -> Dataset:
        """Return a data set with the positive interactions only; all users and items stay.

        Raises
        ------
        DataError
            If no interaction is positive.
        """
        kept = self.mask(dataset)
        step = {"step": STEP, "events": self.texts, "rows": int(kept.sum()), "rows_removed": int((~kept).sum())}
        if not step["rows"]:
            types = ", ".join(_codes(dataset)) or "none"
            remedy = f"name others, or lower the bound (types of these events: {types})"
            raise DataError("no event is positive.", where=dataset.name, value=str(self), remedy=remedy)
        events = dataset.interactions if kept.all() else dataset.interactions.take(kept)
        return dataset.derive(step, interactions=events)

    def check(self, dataset: Dataset) -> None:
        """Refuse terms that no event of a data set can meet.

        Raises
        ------
        DataError
            If there are no events of a type that is named, or no values where a bound is; the term is named.
        """
        types, where = list(_codes(dataset)), f"positive events of {dataset.name}"
        for term in self.terms:
            if term.type is not None and term.type not in types:
                what = "there are no events of this type." if types else "these events have no types."
                advice = nearest(term.type, types) if types else "read them with columns={'action': …}"
                raise DataError(what, where=where, value=term.type, remedy=advice)
            if term.least is not None and dataset.interactions.value is None:
                remedy = "name a type alone, or read them with columns={'value': …}"
                raise DataError("these events have no values.", where=where, value=str(term), remedy=remedy)


def _codes(dataset: Dataset) -> dict[str, int]:
    """Return the code of each type of event by its name."""
    names = [] if dataset.actions is None else dataset.actions.raw.to_pylist()
    return {str(name): code for code, name in enumerate(names)}
