"""Search: words (BM25), meaning (vectors of texts), likeness to the best matches, and the person's taste, in one order.

An active model that reads words and knows some of the query is asked for its own best items for the query and the person, which
is their taste then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from palate.errors import UnsupportedError
from palate.retrieval.fusion import Fused, Source, weighted_scores
from palate.serve import wire
from palate.serve.memory.people import Person
from palate.serve.models.loaded import Loaded
from palate.serve.questions import allowed_rows, heard, kept_out
from palate.serve.service import Service

#: Best matches whose neighbours are found too, and how many of each.
SEEDS, EACH = 5, 20


def find(service: Service, asked: wire.SearchIn) -> Fused | None:
    """Return what answers a search, ``None`` where nothing does; every list is on a scale from 0 to 1, times its weight."""
    settings, feedback = service.settings.search, service.settings.pipeline.feedback
    person = service.person(asked.user, asked.anonymous)
    allows = allowed_rows(asked.filter, service.catalogue, kept_out(person, feedback))
    words = _passing(lambda wanted: service.texts.search(asked.query, wanted), service, allows, asked.k)
    meaning = _passing(lambda wanted: service.content.search(asked.query, wanted), service, allows, asked.k)
    lists = [Source("words", *words), Source("meaning", *meaning, settings.meaning)]
    active = service.shelf.active
    reads = active is not None and active.model.reads_words and settings.reading > 0
    if active is not None and reads:
        asking = heard(person, feedback) if asked.personal > 0 else Person(None)
        lists.append(_read(active, replace(asking, words=asked.query), service, allows, asked.k))
    lists = [source for source in lists if len(source.items)]
    if not lists:
        return None
    if active is not None:
        near, likeness = _near(active, lists[0].items[:SEEDS])
        kept = [at for at, row in enumerate(near.tolist()) if allows is None or allows(row)]
        lists.append(Source("likeness", near[kept], likeness[kept], settings.likeness))
        if asked.user is not None and asked.personal > 0 and not reads:
            lists = _personal(active, heard(person, feedback), lists, asked.personal)
    return weighted_scores([source for source in lists if len(source.items)], asked.k)


def _passing(
    fetch: Callable[[int], tuple[np.ndarray, np.ndarray]], service: Service, allows: Callable[[int], bool] | None, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and scores of what is shown and passes the caller's filter: at least ``k``, or all there are."""
    wanted = max(200, 4 * k)
    while True:
        rows, scores = fetch(wanted)
        good = service.catalogue.shown[rows]
        if allows is not None:
            good &= np.fromiter(map(allows, rows.tolist()), bool, len(rows))
        if np.count_nonzero(good) >= k or len(rows) < wanted:
            return rows[good].astype(np.int32), scores[good]
        wanted *= 8


def _read(model: Loaded, person: Person, service: Service, allows: Callable[[int], bool] | None, k: int) -> Source:
    """Return what a model that reads words finds for those of a person; nothing where it knows none of the words."""
    rows, scores = np.empty(0, np.int32), np.empty(0, np.float32)
    if model.informed(Person(None, words=person.words)):
        rows, scores = _passing(lambda wanted: model.best(person, wanted, rows)[:2], service, allows, k)
    return Source("model", rows, scores, service.settings.search.reading)


def _near(model: Loaded, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows like the best matches, best first, with scores; none where the model has no notion of likeness."""
    try:
        return model.alike(seeds, EACH)[:2]
    except UnsupportedError:
        return np.empty(0, np.int32), np.empty(0, np.float32)


def _personal(model: Loaded, person: Person, lists: list[Source], share: float) -> list[Source]:
    """Return the lists of a search with the person's taste among them; the others' weights shrink by its share."""
    rows = np.unique(np.concatenate([source.items for source in lists]))
    scores = model.score(person, rows)
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    places = np.linspace(1.0, 0.0, len(order), dtype=np.float32)
    taste = Source("taste", rows[order], places, share)
    return [*(Source(s.name, s.items, s.scores, s.weight * (1 - share)) for s in lists), taste]
