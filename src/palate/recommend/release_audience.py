"""Who would go to a film: people ranked by the probability that they buy, for recommenders that place films and people.

The facts of a pair are the distance between the person's mean and the film, ``ln(1 + films of the last year)``, days since the
last one, and the length of the mean (:mod:`palate.training.purchase_head`). People are taken in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.errors import DataError
from palate.kernels.topk import topk_dense
from palate.training.purchase_head import PurchaseHead, fit_head
from palate.training.release_pairs import DAY, first_events, kept_events, weighted_means

#: What the head is told of a pair.
FACTS = ("distance", "frequency", "recency", "norm")
#: Numbers of one block of people times films; groups of new films with one cut each; a year in seconds.
BLOCK, COHORTS, YEAR = 2**22, 8, 365 * DAY


@dataclass(frozen=True)
class Audience:
    """Who would go: for each film asked about, people by falling probability.

    Attributes
    ----------
    people
        ``int32[n, k]`` user numbers; -1 where there are fewer.
    probabilities
        ``float64[n, k]``; NaN where there is no head, and beside -1.
    expected
        ``float64[n]``: sum of the probabilities of all people asked (NaN without a head).
    """

    people: np.ndarray
    probabilities: np.ndarray
    expected: np.ndarray


class AudienceRecommender(VectorRecommender):
    """Base of recommenders that place films and put people at the mean of theirs; a subclass sets the arrays.

    Attributes
    ----------
    places_
        ``float32[n_items, d]`` (zero where nothing is known), and ``placed_`` ``bool[n_items]`` where something is.
    head_
        Fitted by ``_learn_head``, or ``None``.
    clock_
        ``float64[2]``: the moment of a question that names none, in seconds; days since the last film where they aren't known.
    """

    places_: np.ndarray
    placed_: np.ndarray
    head_: PurchaseHead | None
    clock_: np.ndarray

    def embed_items(self, attributes: pa.Table) -> np.ndarray:
        """Return ``float32[n, d]``: places of films that need not be in the catalogue (zero where nothing is known)."""
        raise NotImplementedError

    @property
    def head_facts(self) -> tuple[str, ...]:
        """Those of :data:`FACTS` that the head may use."""
        raise NotImplementedError

    @property
    def half_life(self) -> float:
        """Days after which a film counts half in a person's mean (0: all alike)."""
        raise NotImplementedError

    @property
    def head_people(self) -> int:
        """People without the film who are drawn for each film of the head."""
        raise NotImplementedError

    def _learn_head(self, had: Histories, held: np.ndarray, order: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        films = np.flatnonzero(held & self.placed_)
        films = films[np.argsort(order[films], kind="stable")]
        known = kept_events(had, np.flatnonzero(~held[had.items]))
        cohorts = [part for part in np.array_split(films, min(COHORTS, max(1, len(films)))) if len(part)]
        parts = [rows for cohort in cohorts for rows in self._head_rows(had, known, cohort, rng)]
        earlier = parts[: (len(parts) + 1) // 2] if len(parts) > 3 else parts
        rows = [np.concatenate(column) for column in zip(*earlier, strict=True)] if earlier else []
        if not rows or rows[1].all() or not rows[1].any():
            return {"head": "none: no new film has people with and without it"}
        self.head_ = fit_head(*rows)
        if had.times is not None:
            self.clock_[1] = float(np.average(rows[0][:, 2], weights=rows[2]))
        later = parts[len(earlier) :]
        if later:
            self.head_ = self.head_.calibrate(*(np.concatenate(column) for column in zip(*later, strict=True)))
        return {"head": self.head_.weights.tolist(), "head_films": len(parts), "calibrated": bool(later)}

    def _head_rows(self, had: Histories, known: Histories, cohort: np.ndarray, rng: np.random.Generator) -> list[Any]:
        """Return facts, buyers and weights for each film of a cohort, with histories that end before its first event."""
        moment = np.inf
        if had.times is not None:
            moment = float(had.times[np.isin(had.items, cohort)].min())
            assert known.times is not None
            known = kept_events(known, np.flatnonzero(known.times < moment))
        people = np.flatnonzero(self._informed_by(known))
        at = np.full(len(known), self.clock_[0] if had.times is None else moment)
        points, facts = self._people(known, at)
        owner, found = np.repeat(np.arange(len(had)), had.lengths), []
        for film in cohort:
            bought = np.zeros(len(had), bool)
            bought[owner[had.items == film]] = True
            others = people[~bought[people]]
            drawn = rng.permutation(others)[: self.head_people]
            chosen = np.concatenate([people[bought[people]], drawn])
            if not len(chosen):
                continue
            weight = np.where(bought[chosen], 1.0, len(others) / max(1, len(drawn)))
            own = self._facts(points[chosen], facts[chosen], self.places_[[film]])[:, 0]
            found.append((own, bought[chosen], weight))
        return found

    def _people(self, histories: Histories, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points ``float32[n, d]``, and ``float64[n, 3]``: ln(1 + films of a year), days since the last, ``|p|``."""
        points = weighted_means(histories, self.half_life, self.places_)
        frequency, recency = histories.lengths.astype(float), np.full(len(histories), self.clock_[1])
        if histories.times is not None:
            rows = np.repeat(np.arange(len(histories)), histories.lengths)
            frequency = np.bincount(rows, histories.times >= at[rows] - YEAR, minlength=len(histories)).astype(float)
            last = np.full(len(histories), -np.inf)
            np.maximum.at(last, rows, histories.times.astype(float))
            recency = np.where(np.isfinite(last), np.maximum(at - last, 0) / DAY, recency)
        return points, np.column_stack([np.log1p(frequency), recency, np.linalg.norm(points, axis=1)])

    @staticmethod
    def _away(points: np.ndarray, films: np.ndarray) -> np.ndarray:
        """Return ``float64[n, m]`` squared distances."""
        p, q = points.astype(np.float64), films.astype(np.float64)
        found: np.ndarray = (p * p).sum(1)[:, None] + (q * q).sum(1) - 2 * p @ q.T
        return found

    def _facts(self, points: np.ndarray, facts: np.ndarray, films: np.ndarray) -> np.ndarray:
        """Return ``float64[n, m, 4]``: the distance of each person to each film, then the person's own facts."""
        away = self._away(points, films)
        out = np.empty((*away.shape, 4))
        out[..., 0], out[..., 1:] = np.sqrt(np.maximum(away, 0)), facts[:, None, :]
        return out * self._used

    @property
    def _used(self) -> np.ndarray:
        """``float64[4]``: 1 for facts that the head uses, 0 for others, which then don't vary and get no weight."""
        return np.array([fact in self.head_facts for fact in FACTS], float)

    def _cut(self, requests: Requests) -> tuple[Histories, np.ndarray]:
        known = self._told(requests.histories)
        at = np.full(len(requests), self.clock_[0]) if requests.times is None else requests.times.astype(float)
        return known, at

    def probability(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n, m]``: the probability that each person buys each of the films ``int32[n, m]``.

        Where nothing is known of the person or the film, the share of buyers among all pairs that the head was fitted on.

        Raises
        ------
        DataError
            If no head could be fitted (no new film with buyers and others).
        """
        self._check_request(requests, 1)
        items, head = self._check_items(items, "the films asked about"), self._head()
        out = np.empty(items.shape)
        size, start = max(1, BLOCK // max(1, items.shape[1] * self.places_.shape[1])), 0
        for block in requests.blocks(size):
            stop = start + len(block)
            out[start:stop] = self._chances(block, items[start:stop], head)
            start = stop
        return out

    def _chances(self, requests: Requests, items: np.ndarray, head: PurchaseHead) -> np.ndarray:
        histories, at = self._cut(requests)
        points, facts = self._people(histories, at)
        away = np.square(points.astype(np.float64)[:, None, :] - self.places_[items]).sum(2)
        rows = np.concatenate([np.sqrt(away)[..., None], np.repeat(facts[:, None, :], items.shape[1], 1)], axis=2)
        known = (histories.lengths > 0)[:, None] & self.placed_[items]
        return np.where(known, head.probabilities(head.logits(rows * self._used)), head.rate)

    def audience(self, films: np.ndarray | pa.Table, k: int = 10, *, new_only: bool = True) -> Audience:
        """Return the people of the bundle who would go to each film, likeliest first, in blocks of people.

        Parameters
        ----------
        films
            Numbers of films in the catalogue, or attributes of films that need not be in it.
        k
            People wanted for each.
        new_only
            Whether people who had the film are left out (of ``expected`` too).

        Raises
        ------
        DataError
            If nothing is known of a film.
        """
        self._check_fitted()
        if k < 1:
            raise DataError("k must be at least 1.", value=k)
        numbers = None if isinstance(films, pa.Table) else self._check_items(films, "the films asked about").ravel()
        places = self.embed_items(films) if numbers is None else self.places_[numbers]
        silent = ~places.any(axis=1) if numbers is None else ~self.placed_[numbers]
        if silent.any():
            raise DataError("nothing is known of a film.", value=int(np.flatnonzero(silent)[0]), remedy="give a text for it")
        n, total = len(places), np.zeros(len(places))
        best = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32), np.full((n, k), np.nan)
        size = max(1, BLOCK // max(1, 8 * n))
        for start in range(0, len(self.histories_), size):
            logits, chance = self._block(start, start + size, places, numbers if new_only else None)
            total += chance.sum(axis=0)
            who, score = topk_dense(np.ascontiguousarray(logits.T), k)
            own = np.where(np.isfinite(score), np.take_along_axis(chance.T, np.maximum(who, 0).astype(np.int64), 1), np.nan)
            found = np.where(np.isfinite(score), who + start, -1).astype(np.int32), score, own
            both = [np.concatenate(pair, axis=1) for pair in zip(best, found, strict=True)]
            order = np.argsort(-both[1], axis=1, kind="stable")[:, :k]
            best = tuple(np.take_along_axis(table, order, 1) for table in both)  # type: ignore[assignment]
        if self.head_ is None:
            return Audience(best[0], np.full((n, k), np.nan), np.full(n, np.nan))
        return Audience(best[0], best[2], total)

    def _block(self, start: int, stop: int, places: np.ndarray, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``[people, films]`` logits (``-inf``: not to be named) and probabilities of a block of people."""
        stored = self.histories_.slice(start, stop)
        histories = self._told(stored)
        points, facts = self._people(histories, np.full(len(stored), self.clock_[0]))
        rows, informed = self._facts(points, facts, places), histories.lengths > 0
        logits = -np.sqrt(np.maximum(self._away(points, places), 0)) if self.head_ is None else self.head_.logits(rows)
        chance = np.zeros_like(logits) if self.head_ is None else self.head_.probabilities(logits)
        if self.head_ is not None:
            chance[~informed] = self.head_.rate
        logits[~informed] = -np.inf
        if own is not None:
            column = {film: np.flatnonzero(own == film) for film in np.unique(own)}
            owner = np.repeat(np.arange(len(stored)), stored.lengths)
            for film, at in column.items():
                buyers = owner[stored.items == film]
                logits[np.ix_(buyers, at)], chance[np.ix_(buyers, at)] = -np.inf, 0
        return logits.astype(np.float32), chance

    def _head(self) -> PurchaseHead:
        if self.head_ is None:
            raise DataError("no probability could be learnt: no new film has people with and without it.", where=self.name)
        return self.head_

    def _told(self, histories: Histories) -> Histories:
        """Return the histories with each placed film once."""
        own = first_events(histories)
        return kept_events(own, np.flatnonzero(self.placed_[own.items]))

    def _informed_by(self, histories: Histories) -> np.ndarray:
        known = np.concatenate([[0], np.cumsum(self.placed_[histories.items])])
        return np.asarray(known[histories.offsets[1:]] > known[histories.offsets[:-1]])
