"""What a model has seen of a store: for questions that are fair, one asks about later events only.

A bundle that was fitted on this very store says up to which event. Of another, the latest time that it remembers is the border;
one that remembers no times leaves it open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.sql.elements import ColumnElement

from palate.contracts.recommender import Recommender
from palate.data.interactions import Interactions
from palate.data.positive import Positive
from palate.serve.store import Store
from palate.serve.store.tables import events


@dataclass(frozen=True)
class Seen:
    """Up to where a model has seen the events of a store.

    Attributes
    ----------
    position
        Number of the last event, where the model learnt from this store.
    time
        Whole second of the last event, where it learnt from elsewhere.
    """

    position: int | None = None
    time: int | None = None

    @classmethod
    def of(cls, store: Store, facts: Mapping[str, Any], model: Recommender) -> Seen:
        """Look at a bundle's manifest, then at what it remembers."""
        origin = position_of(facts)
        if origin is not None and origin[0] == store.identity:
            return cls(position=origin[1])
        times = model.histories_.times
        return cls(time=None if times is None or not len(times) else int(times.max()))

    @property
    def words(self) -> str:
        """Why nothing can be said, where that is so."""
        return "it is not known what the active model has seen: it learnt from elsewhere, and remembers no times"

    @property
    def later(self) -> ColumnElement[bool] | None:
        """The condition on rows of the store's events that the model has not seen; ``None`` where that is not known."""
        if self.position is not None:
            return events.c.n > self.position
        return None if self.time is None else events.c.time >= self.time + 1

    def after(self, interactions: Interactions, numbers: np.ndarray) -> np.ndarray | None:
        """Return ``bool[n]``: which interactions the model has not seen; ``None`` where that is not known.

        Parameters
        ----------
        numbers
            The store's number of each source row (:func:`palate.serve.store.exchange.numbered_dataset`).
        """
        found: np.ndarray | None = None
        if self.position is not None:
            found = numbers[interactions.file_order] > self.position
        elif self.time is not None and interactions.time is not None:
            found = interactions.time > self.time
        return found


def position_of(facts: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return which store a bundle's training events came from, and up to which event; ``None`` if they came from elsewhere."""
    found = facts.get("fit", {}).get("notes", {}).get("store")
    return (str(found["id"]), int(found["position"])) if isinstance(found, Mapping) else None


def positive_of(facts: Mapping[str, Any]) -> Positive | None:
    """Return which events a bundle's model learnt from; ``None`` where all counted."""
    return Positive.of_spec(facts.get("data", {}).get("spec", ()))
