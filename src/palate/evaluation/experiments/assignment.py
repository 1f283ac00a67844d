"""Assignment of units to variants: a salted hash, the same in every process, on every machine, in every year.

    point(unit) = the upper 48 of the 64 bits of BLAKE2b(salt, experiment, purpose, unit)
    variant(unit) = the variant that owns the segment of [0, 2^48) in which the point falls

Weights are cut into whole points by the method of largest remainders, and segments follow each other like cumulative weights.
When weights change, a variant that shrinks gives up the upper ends of its segments and nobody else moves, so that the share
of units that change their variant is the least possible, ``½ Σ |w' - w|`` (cumulative weights cut anew would move more from
three variants on). Whether a unit takes part at all is drawn from a second hash: a larger share of traffic only adds units.

Every part of the key is preceded by its length, so that ("ab", "c") and ("a", "bc") differ. The experiment's name is part of
the key, therefore assignments of two experiments are independent. A unit is known by its text: 7 and "7" are the same unit.

Source: R. Kohavi, R. Longbotham, D. Sommerfield and R. Henne, "Controlled experiments on the web", 2009, section 4.1.2 (hash
and partition).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palate.errors import ConfigError, DataError

#: Points that the variants share. Below 2^53, so that segments survive JSON in any language.
SPACE = 2**48
#: The variant of a unit that stays outside the experiment.
OUTSIDE = -1


@dataclass(frozen=True)
class Allocation:
    """Which variant owns which points.

    Attributes
    ----------
    stops
        Ends of the segments, rising; the first begins at 0, the last ends at ``SPACE``.
    owners
        Variant of each segment.
    size
        Number of variants, with those that own nothing (any more).
    """

    stops: tuple[int, ...]
    owners: tuple[int, ...]
    size: int

    def __post_init__(self) -> None:
        starts = (0, *self.stops[:-1])
        rising = all(start < stop for start, stop in zip(starts, self.stops, strict=True))
        if not (self.stops and self.stops[-1] == SPACE and rising and len(self.owners) == len(self.stops)):
            raise ConfigError(f"segments rise to {SPACE}, and each has an owner.", where="allocation", value=self.stops)
        if not all(0 <= owner < self.size for owner in self.owners):
            raise ConfigError("an owner is a variant from 0.", where="allocation", value=self.owners)

    @classmethod
    def of(cls, weights: Sequence[float]) -> Allocation:
        """Cut the points among variants by weights, which are not below 0 and need not sum to 1."""
        points = _quotas(weights)
        return cls._joined([(int(stop), at) for at, stop in enumerate(np.cumsum(points)) if points[at]], len(points))

    @property
    def weights(self) -> tuple[float, ...]:
        """The share of each variant; they sum to 1."""
        return tuple(points / SPACE for points in self._owned())

    def changed(self, weights: Sequence[float]) -> Allocation:
        """Return the allocation with other weights that moves as few units as can be.

        More weights than before add variants. A variant that ends keeps its number, with a weight of 0.
        """
        wanted, owned = _quotas(weights), self._owned()
        if len(wanted) < self.size:
            raise ConfigError(
                "a variant can't be taken away while it has units.", where="weights", value=list(weights), remedy="weigh it 0"
            )
        owned += [0] * (len(wanted) - self.size)
        spare = [max(0, have - want) for have, want in zip(owned, wanted, strict=True)]
        short = [max(0, want - have) for have, want in zip(owned, wanted, strict=True)]
        pieces: list[tuple[int, int]] = []
        for start, stop, owner in reversed(list(self._segments())):
            given = min(spare[owner], stop - start)
            spare[owner] -= given
            while given:
                taker = next(at for at, points in enumerate(short) if points)
                part = min(given, short[taker])
                pieces.append((stop, taker))
                short[taker] -= part
                given, stop = given - part, stop - part
            if stop > start:
                pieces.append((stop, owner))
        return self._joined(pieces[::-1], len(wanted))

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return ``int32[n]``: the variant of each point ``int64[n]``."""
        segment = np.searchsorted(np.array(self.stops, np.int64), np.asarray(points, np.int64), side="right")
        return np.array(self.owners, np.int32)[segment]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` reads."""
        return {"stops": list(self.stops), "owners": list(self.owners), "size": self.size}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Allocation:
        """Read what :meth:`to_dict` gave."""
        return cls(tuple(map(int, found["stops"])), tuple(map(int, found["owners"])), int(found["size"]))

    @classmethod
    def _joined(cls, pieces: list[tuple[int, int]], size: int) -> Allocation:
        """Join neighbours of one owner."""
        kept = [piece for at, piece in enumerate(pieces) if at + 1 == len(pieces) or pieces[at + 1][1] != piece[1]]
        return cls(tuple(stop for stop, _ in kept), tuple(owner for _, owner in kept), size)

    def _segments(self) -> Iterable[tuple[int, int, int]]:
        return zip((0, *self.stops[:-1]), self.stops, self.owners, strict=True)

    def _owned(self) -> list[int]:
        owned = [0] * self.size
        for start, stop, owner in self._segments():
            owned[owner] += stop - start
        return owned


@dataclass(frozen=True)
class Assignment:
    """Who gets which variant of an experiment.

    Parameters
    ----------
    experiment
        Name of the experiment; another name is another, independent assignment.
    salt
        A secret or at least private word of the installation: whoever knows it can choose ids that fall into a variant.
    allocation
        Who owns which points.
    traffic
        Share of units that take part, from 0 to 1. The others stay outside; they are the same ones at every assignment of the
        same experiment and salt, and a larger share keeps those who were in.
    """

    experiment: str
    salt: str = field(repr=False)
    allocation: Allocation
    traffic: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.traffic <= 1:
            raise ConfigError("traffic is a share from 0 to 1.", where="traffic", value=self.traffic)
        if not self.experiment:
            raise ConfigError("an experiment has a name: it keeps its assignment apart from others.", where="experiment")

    def of(self, units: Iterable[object]) -> np.ndarray:
        """Return ``int32[n]``: the variant of each unit (text or whole number), ``OUTSIDE`` for those who don't take part."""
        known = list(units)
        variants = self.allocation.at(points(known, self.salt, self.experiment, "variant"))
        if self.traffic < 1:
            within = points(known, self.salt, self.experiment, "traffic") < round(self.traffic * SPACE)
            variants = np.where(within, variants, np.int32(OUTSIDE))
        return variants

    def one(self, unit: object) -> int:
        """Return the variant of one unit, as :meth:`of` does."""
        return int(self.of([unit])[0])


def points(units: Iterable[object], salt: str, experiment: str, purpose: str = "variant") -> np.ndarray:
    """Return ``int64[n]``: the point of each unit in ``[0, SPACE)``; uniform, and independent between purposes."""
    keyed = hashlib.blake2b(digest_size=8)
    for part in (salt, experiment, purpose):
        keyed.update(_lengthened(part))
    found = bytearray()
    for unit in units:
        own = keyed.copy()
        own.update(_lengthened(_text(unit)))
        found += own.digest()
    return (np.frombuffer(bytes(found), ">u8") >> np.uint64(16)).astype(np.int64)


def _lengthened(part: str) -> bytes:
    text = part.encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "big") + text


def _text(unit: object) -> str:
    if isinstance(unit, str):
        return str(unit)
    if isinstance(unit, int | np.integer) and not isinstance(unit, bool):
        return str(int(unit))
    raise DataError("a unit is known by text or by a whole number.", where="units", value=unit, remedy="give its raw id")


def _quotas(weights: Sequence[float]) -> list[int]:
    """Return whole points that sum to ``SPACE``, by largest remainders (the lower number first where equal)."""
    given = [float(weight) for weight in weights]
    if not given or not all(np.isfinite(w) and w >= 0 for w in given) or not sum(given) > 0:
        raise ConfigError("weights are numbers from 0, not all of them 0.", where="weights", value=list(weights))
    whole = sum(given)
    exact = [weight / whole * SPACE for weight in given]
    out = [int(points) for points in exact]
    order = sorted(range(len(given)), key=lambda at: out[at] - exact[at])
    for at in [at for at in order if given[at]][: SPACE - sum(out)]:
        out[at] += 1
    return out
