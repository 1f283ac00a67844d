"""A person as of this moment: what they did, as rows of the catalogue, most recent last, and what they said of items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from palate.serve.memory.catalogue import Catalogue
from palate.serve.store.past import Said

#: Which words on the same item each kind of word ends.
ENDS: Mapping[str, tuple[str, ...]] = {"hide": (), "dislike": ("like",), "like": ("hide", "dislike")}


def _none() -> np.ndarray:
    return np.empty(0, np.int32)


@dataclass(frozen=True)
class Person:
    """Whom an answer is for.

    Attributes
    ----------
    id
        Id of the user, or ``None`` for somebody who is known by a history only.
    rows
        ``int32[m]`` rows of what they chose or liked, most recent last.
    times
        ``int64[m]`` seconds since 1970.
    liked
        ``bool[m]``: which rows stand there for a like alone, not for an event; ``None`` where none does.
    hidden, disliked
        ``int32[h]`` rows of what they hid, and of what they disliked, ascending.
    met, met_times
        Rows and times of all their events, also those that count as no choice; ``None`` where all count.
    words
        What they say in this request that they look for: a preference, or a query.
    ties
        Ids of the people whom they are tied to as of now; ``None`` where nothing is known of them but what a model learnt.
    """

    id: str | None
    rows: np.ndarray = field(default_factory=_none)
    times: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    liked: np.ndarray | None = None
    hidden: np.ndarray = field(default_factory=_none)
    disliked: np.ndarray = field(default_factory=_none)
    met: np.ndarray | None = None
    met_times: np.ndarray | None = None
    words: str = ""
    ties: Sequence[str] | None = None

    @classmethod
    def of(
        cls,
        user: str | None,
        items: Sequence[str],
        times: Sequence[float] | None,
        catalogue: Catalogue,
        said: Sequence[Said] = (),
        most: int = 0,
        chosen: Sequence[bool] | None = None,
    ) -> Person:
        """Build from ids of items, most recent last; those unknown to the catalogue are left out.

        Parameters
        ----------
        said
            What they said of items, oldest first. A like takes its place by its time, unless the item is there already.
        most
            How many of the latest rows stay then.
        chosen
            Which of the events count as choices; all by default.
        """
        row = catalogue.row
        kept = [(at, found) for at, item in enumerate(items) if (found := row.get(item)) is not None]
        rows = np.fromiter((found for _, found in kept), np.int32, len(kept))
        when = np.zeros(len(kept), np.int64)
        if times is not None:
            when = np.fromiter((int(times[at]) for at, _ in kept), np.int64, len(kept))
        person = cls(user, rows, when)
        if chosen is not None:
            counts = np.fromiter((chosen[at] for at, _ in kept), bool, len(kept))
            person = cls(user, rows[counts], when[counts], met=rows, met_times=when)
        return person._saying(said, catalogue, most) if said else person

    def _saying(self, said: Iterable[Said], catalogue: Catalogue, most: int) -> Person:
        kept = standing(said)
        found = {key: row for key in kept if (row := catalogue.row.get(key[0])) is not None}
        if not found:
            return self
        hidden, disliked = (np.unique([row for (_, k), row in found.items() if k == kind]) for kind in ("hide", "dislike"))
        person = replace(self, hidden=hidden.astype(np.int32), disliked=disliked.astype(np.int32))
        done = set(self.rows.tolist())
        likes = [(int(kept[key].time), row) for key, row in found.items() if key[1] == "like" and row not in done]
        if not likes:
            return person
        times, rows = (np.array(column, np.int64) for column in zip(*sorted(likes), strict=True))
        at = np.searchsorted(self.times, times, side="right")
        return replace(
            person,
            rows=np.insert(self.rows, at, rows)[-most:],
            times=np.insert(self.times, at, times)[-most:],
            liked=np.insert(np.zeros(len(self.rows), bool), at, True)[-most:],
        )

    def after(self, base: Person) -> Person:
        """Return the person with what is known of an older time put before this one."""
        person = self if base.ties is None else replace(self, ties=base.ties)
        if len(base.hidden) or len(base.disliked):
            hidden, disliked = np.union1d(base.hidden, self.hidden), np.union1d(base.disliked, self.disliked)
            person = replace(person, hidden=hidden, disliked=disliked)
        if not len(base.events().rows):
            return person
        nobody = base.liked is None and self.liked is None
        liked = None if nobody else np.concatenate([base._by_like, self._by_like])
        rows, times = np.concatenate([base.rows, self.rows]), np.concatenate([base.times, self.times])
        person = replace(person, rows=rows, times=times, liked=liked)
        if base.met is None and self.met is None:
            return person
        earlier, later = base.events(), self.events()
        met, met_times = np.concatenate([earlier.rows, later.rows]), np.concatenate([earlier.times, later.times])
        return replace(person, met=met, met_times=met_times)

    def acts(self) -> Person:
        """Return the person by what they did: without the rows that stand for a like."""
        return self if self.liked is None else self._only(~self.liked)

    def events(self) -> Person:
        """Return the person by all that they did, whether or not it counts as a choice."""
        if self.met is None or self.met_times is None:
            return self.acts()
        return replace(self, rows=self.met, times=self.met_times, liked=None, met=None, met_times=None)

    def until(self, time: float) -> Person:
        """Return the person by what they did or liked before a moment."""
        person = self._only(self.times < time)
        if self.met is None or self.met_times is None:
            return person
        earlier = self.met_times < time
        return replace(person, met=self.met[earlier], met_times=self.met_times[earlier])

    def _only(self, kept: np.ndarray) -> Person:
        liked = self._by_like[kept]
        return replace(self, rows=self.rows[kept], times=self.times[kept], liked=liked if liked.any() else None)

    @property
    def _by_like(self) -> np.ndarray:
        return np.zeros(len(self.rows), bool) if self.liked is None else self.liked

    @cached_property
    def seen(self) -> np.ndarray:
        """``int32[s]`` distinct rows of what they chose, liked or had to do with, ascending."""
        return np.unique(self.rows if self.met is None else np.concatenate([self.rows, self.met]))

    def mix(self, catalogue: Catalogue) -> Mapping[str, float]:
        """Return the share of each category in what they chose (an item's weight is split over its categories)."""
        shares: defaultdict[str, float] = defaultdict(float)
        for row in self.rows.tolist():
            categories = catalogue.items[row].categories
            for category in categories:
                shares[category] += 1 / len(categories)
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()} if total else {}


def standing(said: Iterable[Said]) -> dict[tuple[str, str], Said]:
    """Return the words that stand by item and kind, of words oldest first.

    The value 0 takes back what was said before of that item with that kind (so does any value below 0 of a like). A later like
    ends a dislike and brings back what was hidden; a later dislike ends a like.
    """
    kept: dict[tuple[str, str], Said] = {}
    for word in said:
        kept.pop((word.item, word.kind), None)
        if word.value == 0 or (word.kind == "like" and word.value < 0):
            continue
        for other in ENDS[word.kind]:
            kept.pop((word.item, other), None)
        kept[word.item, word.kind] = word
    return kept
