"""Visitors in experiments: what metrics of events can say of people who are met by an ``anonymous`` key.

A slate knows a visitor by that key; an event knows whom it is of by its ``user``. The two are joined where the application
sends a visitor's events with the key as the user. Where it doesn't, every visitor's total is 0 whatever they do, and a
difference between variants is nothing but noise, or none. So it is counted how many visitors have any event, and said; and
where all who met the experiment are visitors without any, metrics of events are not read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.errors import DataError
from palate.serve.experiments import outcomes
from palate.serve.store import Store

_REMEDY = "send visitors' events with their key as the user, or measure feedback, which belongs to slates"


@dataclass(frozen=True)
class Visitors:
    """Visitors among the units of an experiment.

    Attributes
    ----------
    number
        How many units are visitors.
    heard
        Of how many of them any event is kept.
    units
        How many units there are.
    """

    number: int
    heard: int
    units: int

    @classmethod
    def of(cls, store: Store, experiment: str, units: int) -> Visitors:
        """Count them."""
        return cls(*outcomes.visitors(store, experiment), units)

    @property
    def silent(self) -> bool:
        """Whether metrics of events can't be read: nobody but visitors met the experiment, and none of them has an event."""
        return self.number == self.units and not self.heard

    def check(self, metrics: Sequence[str], goals: int, name: str) -> None:
        """Refuse to read an experiment of which nothing is left.

        Parameters
        ----------
        metrics
            Metrics of events.
        goals
            How many goals there are beside them.

        Raises
        ------
        DataError
            If all goals are metrics of events, which can't be read.
        """
        if metrics and self.silent and not goals:
            what = "only visitors met this experiment, and no event of any of them is kept, so its metrics would all read 0."
            raise DataError(what, where=name, value=", ".join(metrics), remedy=_REMEDY)

    def words(self, metrics: Sequence[str]) -> list[str]:
        """Say in a sentence what metrics of events cover; nothing where there are no visitors, or no such metrics."""
        if not metrics or not self.number:
            return []
        named = f"{self.number:,} of {self.units:,} people are visitors, met by an anonymous key"
        told = f"events are kept of {self.heard:,} of them" if self.heard else "no event of any of them is kept"
        if self.silent:
            return [f"{named}; {told}: {', '.join(metrics)} can't be read ({_REMEDY})."]
        return [f"{named}; {told}: {', '.join(metrics)} count a visitor's events by that key, and 0 for the others."]
