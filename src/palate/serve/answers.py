"""Answers: what the service says to each kind of question of ``/v1``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np

from palate.contracts.explanation import Explanation
from palate.errors import UnsupportedError
from palate.retrieval.fusion import Source, weighted_scores
from palate.serve import wire
from palate.serve.experiments import Assigned, assign, with_model
from palate.serve.people import Person
from palate.serve.pipeline.pipeline import Answer, Pick, Pipeline
from palate.serve.pipeline.sources import Question
from palate.serve.questions import allowed_rows, barred_rows, check_k, given_history, row_of
from palate.serve.service import Service
from palate.serve.shelf import Loaded

#: Best text matches whose neighbours are found too, and how much likeness to them counts beside the words.
SEEDS, LIKENESS = 5, 0.2


def recommend(service: Service, asked: wire.RecommendIn) -> wire.Slate:
    """Answer with a slate, and log it with its propensities."""
    service.pulse()
    check_k(asked.k, service.settings.server.max_k)
    assigned = _assigned(service, asked)
    pipeline = _pipeline(service, asked, assigned)
    person = _person(service, asked.user, asked.history)
    near = np.array([row_of(item, service.catalogue) for item in asked.items], np.int32)
    seen = asked.seen or pipeline.config.seen
    question = Question(
        person,
        asked.k,
        near,
        asked.text or "",
        asked.context,
        barred_rows(person, near, asked.exclude, seen, service.catalogue),
        service.clock(),
        asked.diversity,
        allowed_rows(asked.filter, service.catalogue),
    )
    answer = pipeline.answer(question, service.rng(), explore=asked.model is None and asked.experiments)
    slate = _slate(service, pipeline, asked, person, answer)
    logged = asked.model is None and not for_nobody(asked)
    slate.slate = uuid.uuid4().hex if logged else None
    if assigned is not None:
        slate.experiment, slate.variant = assigned.running.name, assigned.name
    if logged:
        sources = [min(p.sources, key=lambda name: p.sources[name][0]) if p.sources else None for p in answer.picks]
        service.log(asked, slate, sources, stochastic=pipeline.config.explore.kind != "none" and asked.experiments)
    return slate


def for_nobody(asked: wire.RecommendIn) -> bool:
    """Say whether a request is for nobody in particular: no user, no key of a visitor, no history."""
    return asked.user is None and asked.anonymous is None and not asked.history


def _assigned(service: Service, asked: wire.RecommendIn) -> Assigned | None:
    unit = asked.user or asked.anonymous
    if unit is None or asked.model is not None or not asked.experiments:
        return None
    return assign(service.running(), unit)


def _pipeline(service: Service, asked: wire.RecommendIn, assigned: Assigned | None) -> Pipeline:
    """Return the pipeline that answers: the service's own, an experiment's variant, or one with another model."""
    if asked.model is not None:
        return service.pipeline_of(with_model(service.settings.pipeline, service.model(asked.model).version))
    if assigned is None:
        return service.pipeline
    return service.pipeline_of(assigned.running.spec.pipeline_of(assigned.variant, service.settings.pipeline))


def _slate(service: Service, pipeline: Pipeline, asked: wire.RecommendIn, person: Person, answer: Answer) -> wire.Slate:
    version = pipeline.config.model_version
    used = service.model(version) if version is not None and (version != "active" or service.shelf.active) else None
    reasons = [_why(used, person, pick.row) if asked.why else None for pick in answer.picks]
    steps = [wire.TraceStep(step=s.step, came=s.came, left=s.left, ms=s.ms, note=s.note) for s in answer.trace.steps]
    return wire.Slate(
        slate=None,
        items=[
            _offered(service, pick, at, answer, asked.trace, why)
            for at, (pick, why) in enumerate(zip(answer.picks, reasons, strict=True), 1)
        ],
        policy=pipeline.config.name,
        model=None if used is None else used.version,
        cold=not len(person.rows),
        trace=steps if asked.trace else None,
    )


def _offered(
    service: Service, pick: Pick, position: int, answer: Answer, trace: bool, why: list[wire.Reason] | None
) -> wire.Offered:
    item = service.catalogue.items[pick.row]
    return wire.Offered(
        **item.public(),
        score=pick.score,
        position=position,
        propensity=pick.propensity,
        sources=[wire.Origin(source=n, rank=r, score=s) for n, (r, s) in pick.sources.items()] if trace else None,
        moves=answer.trace.moves.get(pick.row, []) if trace else None,
        why=why,
    )


def similar(service: Service, asked: wire.SimilarIn) -> wire.ScoredList:
    """Answer with items like one or several."""
    service.pulse()
    check_k(asked.k, service.settings.server.max_k)
    model, allows = service.model(asked.model or "active"), allowed_rows(asked.filter, service.catalogue)
    seeds = [row_of(item, service.catalogue) for item in asked.items]
    wanted = asked.k + len(seeds)
    while True:
        best: dict[int, float] = {}
        full = False
        for seed in seeds:
            rows, scores = model.similar(seed, wanted)
            full = full or len(rows) >= wanted
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
                best[row] = max(best.get(row, -np.inf), score)
        rows_left = [row for row in best if row not in seeds and (allows is None or allows(row))]
        if len(rows_left) >= asked.k or not full or wanted >= len(service.catalogue):
            break
        wanted *= 8
    order = sorted(rows_left, key=lambda row: (-best[row], row))[: asked.k]
    return wire.ScoredList(items=_scored(service, order, [best[row] for row in order]), model=model.version)


def rank(service: Service, asked: wire.RankIn) -> wire.ScoredList:
    """Put the caller's candidates into order; what the model doesn't know comes last, in the order given."""
    service.pulse()
    model, person = service.model(asked.model or "active"), _person(service, asked.user, asked.history)
    rows, unknown = [], []
    for item in dict.fromkeys(asked.candidates):
        found = service.catalogue.known(item)
        if found is None or not found.shown:
            unknown.append(item)
        else:
            rows.append(service.catalogue.row[item])
    scores = model.score(person, np.array(rows, np.int64)) if rows else np.empty(0, np.float32)
    order = np.argsort(-scores, kind="stable")[: asked.k]
    scored = _scored(service, [rows[at] for at in order], [float(scores[at]) for at in order])
    return wire.ScoredList(items=scored, unknown=unknown, model=model.version)


def search(service: Service, asked: wire.SearchIn) -> wire.ScoredList:
    """Answer words: BM25, likeness to its best matches, and the person's taste, each on a scale from 0 to 1."""
    service.pulse()
    check_k(asked.k, service.settings.server.max_k)
    allows, shown = allowed_rows(asked.filter, service.catalogue), service.catalogue.shown
    wanted = max(200, 4 * asked.k)
    while True:
        hits, scores_of_hits = service.texts.search(asked.query, wanted)
        good = [row for row in hits.tolist() if shown[row] and (allows is None or allows(row))]
        if len(good) >= asked.k or len(hits) < wanted:
            break
        wanted *= 8
    score_of = dict(zip(hits.tolist(), scores_of_hits.tolist(), strict=True))
    lists = [Source("words", np.array(good, np.int32), np.array([score_of[row] for row in good], np.float32))]
    active = service.shelf.active
    if active is not None and good:
        near, likeness = _near(active, good[:SEEDS])
        kept = [at for at, row in enumerate(near.tolist()) if allows is None or allows(row)]
        lists.append(Source("likeness", near[kept], likeness[kept], LIKENESS))
        if asked.user is not None and asked.personal > 0:
            lists = _personal(active, service.person(asked.user), lists, asked.personal)
    fused = weighted_scores([source for source in lists if len(source.items)], asked.k) if good else None
    found, scores = ([], []) if fused is None else (fused.items.tolist(), fused.scores.tolist())
    return wire.ScoredList(items=_scored(service, found, scores), model=None if active is None else active.version)


def _personal(model: Loaded, person: Person, lists: list[Source], share: float) -> list[Source]:
    """Return the lists of a search with the person's taste among them; the others' weights shrink by its share."""
    rows = np.unique(np.concatenate([source.items for source in lists]))
    scores = model.score(person, rows)
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    places = np.linspace(1.0, 0.0, len(order), dtype=np.float32)
    taste = Source("taste", rows[order], places, share)
    return [*(Source(s.name, s.items, s.scores, s.weight * (1 - share)) for s in lists), taste]


def _near(model: Loaded, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows like the best matches, best first, with scores; none where the model has no notion of likeness."""
    best: dict[int, float] = {}
    try:
        for seed in seeds:
            for row, score in zip(*model.similar(seed, 20), strict=True):
                best[int(row)] = max(best.get(int(row), -np.inf), float(score))
    except UnsupportedError:
        best = {}
    order = sorted(best, key=lambda row: (-best[row], row))
    return np.array(order, np.int32), np.array([best[row] for row in order], np.float32)


def explain(service: Service, asked: wire.ExplainIn) -> wire.Explained:
    """Say why an item suits a person."""
    service.pulse()
    model, person = service.model(asked.model or "active"), _person(service, asked.user, asked.history)
    found = model.explain(person, row_of(asked.item, service.catalogue))
    return wire.Explained(
        item=asked.item,
        score=found.score,
        reasons=_reasons(model, found),
        exact=found.exact,
        rest=found.rest,
        method=found.method,
        model=model.version,
    )


def profile(service: Service, user: str, recent: int = 50) -> wire.Profile:
    """Return a person in short."""
    service.pulse()
    kept, events = service.store.user(user), service.store.events_of(user, recent)
    person = service.person(user)
    taste = sorted(person.mix(service.catalogue).items(), key=lambda pair: -pair[1])
    return wire.Profile(
        user=user,
        known=kept is not None or len(person.rows) > 0,
        attributes={} if kept is None else dict(kept.attributes),
        events=len(person.rows),
        recent=[
            {"item": e.item, "title": _title(service, e.item), "type": e.type, "time": e.time, "value": e.value}
            for e in reversed(events)
        ],
        taste=dict(taste[:30]),
    )


def _person(service: Service, user: str | None, history: Sequence[str | wire.HistoryEvent] | None) -> Person:
    """Return the person of a request: what is known of the user, then the history that came with it."""
    known = service.person(user)
    return given_history(history, user, service.catalogue).after(known) if history else known


def _scored(service: Service, rows: Sequence[int], scores: Sequence[float]) -> list[wire.Scored]:
    return [
        wire.Scored(**service.catalogue.items[row].public(), score=score if np.isfinite(score) else None)
        for row, score in zip(rows, scores, strict=True)
    ]


def _why(model: Loaded | None, person: Person, row: int) -> list[wire.Reason]:
    """Return the reasons of one item, or none where the model can't give any."""
    if model is None:
        return []
    try:
        return _reasons(model, model.explain(person, row))[:5]
    except UnsupportedError:
        return []


def _reasons(model: Loaded, found: Explanation) -> list[wire.Reason]:
    reasons = []
    for evidence in found.evidence:
        row = int(model.row_of[evidence.subject]) if evidence.kind == "history" and isinstance(evidence.subject, int) else -1
        item = model.catalogue.items[row] if row >= 0 else None
        text = str(evidence.subject) if item is None else item.title or item.id
        reasons.append(
            wire.Reason(kind=evidence.kind, text=text, item=None if item is None else item.id, weight=evidence.weight)
        )
    return reasons


def _title(service: Service, item: str) -> str:
    known = service.catalogue.known(item)
    return item if known is None else known.title or item
