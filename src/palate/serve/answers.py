"""Answers: what the service says to each kind of question of ``/v1``."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.contracts.explanation import Explanation
from palate.errors import UnsupportedError
from palate.serve import wire
from palate.serve.experiments.interleave import interleaved
from palate.serve.experiments.live import INTERLEAVED, Assigned, assign, with_model
from palate.serve.memory.people import Person, standing
from palate.serve.models.kinds import kind_of
from palate.serve.models.loaded import Loaded
from palate.serve.models.rankers import LoadedRanker
from palate.serve.pipeline.config import Need
from palate.serve.pipeline.pipeline import Answer, Pick, Pipeline
from palate.serve.pipeline.sources import Question
from palate.serve.questions import Whose, allowed_rows, check_k, given_history, heard, kept_out, question_of, row_of
from palate.serve.search.finding import find
from palate.serve.search.neighbours import content_reasons, neighbours
from palate.serve.service import Service


@dataclass(frozen=True)
class Recommended:
    """A slate, and how many of its items each source ranked highest (``pinned``: none did)."""

    slate: wire.Slate
    sources: Mapping[str, int]


def recommend(service: Service, asked: wire.RecommendIn) -> wire.Slate:
    """Answer with a slate, and log it with its propensities."""
    return recommended(service, asked).slate


def recommended(service: Service, asked: wire.RecommendIn) -> Recommended:
    """Answer with a slate, log it with its propensities, and say where its items came from."""
    service.pulse()
    check_k(asked.k, service.settings.server.max_k)
    assigned, pipelines = _plan(service, asked)
    person = _person(service, asked, asked.history)
    now = service.clock()
    questions = [question_of(asked, person, pipeline.config, service.catalogue, now) for pipeline in pipelines]
    answer, teams = _answer(service, asked, assigned, pipelines, questions)
    slate = _slate(service, pipelines, asked, questions, answer, teams)
    logged = asked.model is None and not for_nobody(asked)
    slate.slate = uuid.uuid4().hex if logged else None
    if assigned is not None:
        slate.experiment, slate.variant = assigned.running.name, assigned.name
    sources = [min(p.sources, key=lambda name: p.sources[name][0]) if p.sources else None for p in answer.picks]
    if logged:
        drawn = len(pipelines) > 1 or (pipelines[0].config.explore.kind != "none" and asked.experiments)
        names = None if assigned is None or not assigned.interleaves else assigned.running.spec.names
        suppliers = [None if names is None else names[team] for team in teams]
        service.log(asked, slate, sources, suppliers, now, stochastic=drawn)
    return Recommended(slate, Counter(source or "pinned" for source in sources))


def for_nobody(asked: wire.RecommendIn) -> bool:
    """Say whether a request is for nobody in particular: no user, no key of a visitor, no history."""
    return asked.user is None and asked.anonymous is None and not asked.history


def _plan(service: Service, asked: wire.RecommendIn) -> tuple[Assigned | None, list[Pipeline]]:
    """Return the experiment that the answer is part of, if any, and what answers: the service's own pipeline, an experiment's
    variant (or both), what stands in while the experiment rests, or a pipeline with another model.
    """
    unit = asked.user or asked.anonymous
    if asked.model is not None:
        version = _named(service, asked.model).version
        return None, [service.pipeline_of(with_model(service.settings.pipeline, version))]
    assigned = assign(service.running(), unit) if unit is not None and asked.experiments else None
    if assigned is None:
        return None, [service.pipeline]
    instead = service.arms.stand_in(assigned)
    if instead is not None:
        return None, [service.pipeline_of(instead)]
    teams = (0, 1) if assigned.interleaves else (assigned.variant,)
    configs = [config for team in teams if (config := assigned.running.pipelines[team]) is not None]
    if assigned.interleaves:
        configs = [config.model_copy(update={"caps": ()}) for config in configs]
    return assigned, [service.pipeline_of(config) for config in configs]


def _named(service: Service, version: str) -> Loaded:
    """Return a recommender that the caller names: at once, or not at all (see :meth:`Loading.require`)."""
    if version != "active":
        service.loading.require(Need("model", version))
    return service.model(version)


def _answer(
    service: Service,
    asked: wire.RecommendIn,
    assigned: Assigned | None,
    pipelines: Sequence[Pipeline],
    questions: Sequence[Question],
) -> tuple[Answer, Sequence[int]]:
    """Return the answer, and which of the pipelines supplied each item."""
    if len(pipelines) == 1:
        answer = pipelines[0].answer(questions[0], service.rng, explore=asked.model is None and asked.experiments)
        return answer, [0] * len(answer.picks)
    assert assigned is not None
    control = assigned.running.pipelines[0]
    assert control is not None
    both, asks = (pipelines[0], pipelines[1]), (questions[0], questions[1])
    found = interleaved(both, assigned.running.spec.names, asks, service.rng, control.caps)
    return found.answer, found.teams


def _slate(
    service: Service,
    pipelines: Sequence[Pipeline],
    asked: wire.RecommendIn,
    questions: Sequence[Question],
    answer: Answer,
    teams: Sequence[int],
) -> wire.Slate:
    used = [_used(service, pipeline) for pipeline in pipelines]
    versions = {None if model is None else model.version for model in used}
    reasons = [
        _why(service, used[team], questions[team].person, pick.row) if asked.why else None
        for pick, team in zip(answer.picks, teams, strict=True)
    ]
    steps = [wire.TraceStep(step=s.step, came=s.came, left=s.left, ms=s.ms, note=s.note) for s in answer.trace.steps]
    return wire.Slate(
        slate=None,
        items=[
            _offered(service, pick, at, answer, asked.trace, why)
            for at, (pick, why) in enumerate(zip(answer.picks, reasons, strict=True), 1)
        ],
        policy=pipelines[0].config.name if len(pipelines) == 1 else INTERLEAVED,
        model=versions.pop() if len(versions) == 1 else None,
        cold=not any(len(question.person.rows) for question in questions),
        trace=steps if asked.trace else None,
    )


def _used(service: Service, pipeline: Pipeline) -> Loaded | None:
    """Return the model that a pipeline answers with first of all, if any."""
    version = pipeline.config.model_version
    return service.model(version) if version is not None and (version != "active" or service.shelf.active) else None


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
    """Answer with items like one or several: by the model, and by what they say where it doesn't know them yet."""
    service.pulse()
    check_k(asked.k, service.settings.server.max_k)
    bare = asked.model is None and service.shelf.active is None and not service.content.off
    model = None if bare else _named(service, asked.model or "active")
    unwanted = kept_out(_person(service, asked), service.settings.pipeline.feedback)
    allows = allowed_rows(asked.filter, service.catalogue, unwanted)
    seeds = [row_of(item, service.catalogue) for item in asked.items]
    wanted = asked.k + len(seeds)
    while True:
        near = neighbours(model, service.content, seeds, wanted)
        kept = [at for at, row in enumerate(near.rows.tolist()) if allows is None or allows(row)][: asked.k]
        if len(kept) >= asked.k or not near.more or wanted >= len(service.catalogue):
            break
        wanted *= 8
    found = _scored(service, near.rows[kept].tolist(), near.scores[kept].tolist())
    return wire.ScoredList(items=found, model=model.version if model is not None and near.by_model else None)


def rank(service: Service, asked: wire.RankIn) -> wire.ScoredList:
    """Put the caller's candidates into order; what the model doesn't know comes last, in the order given.

    What the person hid or disliked is named apart.
    """
    service.pulse()
    person, ranker = _person(service, asked, asked.history), _ranker(service, asked)
    feedback = service.settings.pipeline.feedback
    wanted, person = (
        allowed_rows(None, service.catalogue, kept_out(person, feedback)),
        _saying(asked.text, heard(person, feedback)),
    )
    rows, unknown, unwanted = [], [], []
    for item in dict.fromkeys(asked.candidates):
        found = service.catalogue.known(item)
        if found is None or not found.shown:
            unknown.append(item)
        elif wanted is not None and not wanted(service.catalogue.row[item]):
            unwanted.append(item)
        else:
            rows.append(service.catalogue.row[item])
    if ranker is not None:
        _no_words(asked.text, ranker.version)
        version, told = ranker.version, service.asker(person, asked.context, service.clock(), ranker)
        scores = ranker.score(told, service.catalogue, rows) if rows else np.empty(0)
    else:
        model = _named(service, asked.model or "active")
        version = model.version
        if asked.text:
            model.model.check_words()
        scores = model.score(person, np.array(rows, np.int64)) if rows else np.empty(0, np.float32)
    order = np.argsort(-scores, kind="stable")[: asked.k]
    scored = _scored(service, [rows[at] for at in order], [float(scores[at]) for at in order])
    return wire.ScoredList(items=scored, unknown=unknown, unwanted=unwanted, model=version)


def _ranker(service: Service, asked: wire.RankIn) -> LoadedRanker | None:
    """Return the ranker that the caller names, or that the pipeline ranks by; ``None`` where a recommender scores."""
    rank = service.settings.pipeline.rank
    version = asked.model or (rank.model if rank.kind == "ranker" else None)
    return None if version is None else _ranker_of(service, version)


def _ranker_of(service: Service, version: str) -> LoadedRanker | None:
    """Return the ranker of a version, or ``None`` where it is the active model's or a recommender's."""
    if version == "active":
        return None
    known = service.store.model(version)
    if known is None or kind_of(known.system) != "ranker":
        return None
    need = Need("ranker", version)
    if need not in service.settings.pipeline.needs:
        service.loading.require(need)
    return service.shelf.ranker(version, service.folder)


def search(service: Service, asked: wire.SearchIn) -> wire.ScoredList:
    """Answer words: what holds them or means the like, likeness to the best of it, and the person's taste."""
    service.pulse()
    check_k(asked.k, service.settings.server.max_k)
    found, active = find(service, asked), service.shelf.active
    rows, scores = ([], []) if found is None else (found.items.tolist(), found.scores.tolist())
    return wire.ScoredList(items=_scored(service, rows, scores), model=None if active is None else active.version)


def asked_search(service: Service, asked: wire.SearchIn) -> wire.ScoredList:
    """Answer words, and log the search: who asked for what, and what was found."""
    found = search(service, asked)
    service.log_search(asked, [item.id for item in found.items])
    return found


def explain(service: Service, asked: wire.ExplainIn) -> wire.Explained:
    """Say why an item suits a person: by the active model, or by the recommender or ranker that is named."""
    service.pulse()
    person, row = _person(service, asked, asked.history), row_of(asked.item, service.catalogue)
    person = _saying(asked.text, heard(person, service.settings.pipeline.feedback))
    ranker = None if asked.model is None else _ranker_of(service, asked.model)
    if ranker is not None:
        _no_words(asked.text, ranker.version)
        told = service.asker(person, asked.context, service.clock(), ranker)
        found, version = ranker.explain(told, service.catalogue, row), ranker.version
        reasons = [wire.Reason(kind=one.kind, text=str(one.subject), weight=one.weight) for one in found.evidence]
    else:
        model = _named(service, asked.model or "active")
        if asked.text:
            model.model.check_words()
        own = [] if model.knows(np.array([row]))[0] else content_reasons(service.content, person, row)
        if own:
            return _by_content(service, asked.item, own, model.version)
        found, version = model.explain(person, row), model.version
        reasons = _reasons(model, found)
    return wire.Explained(
        item=asked.item,
        score=found.score,
        reasons=reasons,
        exact=found.exact,
        rest=found.rest,
        method=found.method,
        model=version,
    )


def _by_content(service: Service, item: str, parts: Sequence[tuple[int, float]], version: str) -> wire.Explained:
    """Say why an item that the model doesn't know yet suits a person: by what it says beside what they chose lately."""
    return wire.Explained(
        item=item,
        score=sum(weight for _, weight in parts),
        reasons=_content_reasons(service, parts),
        exact=True,
        rest=0.0,
        method="content, as the model does not know the item yet: cosine with the middle of the latest items",
        model=version,
    )


def profile(service: Service, user: str, recent: int = 50) -> wire.Profile:
    """Return a person in short."""
    service.pulse()
    kept, events = service.store.user(user), service.store.events_of(user, recent)
    person, said = service.person(user), dict(service.store.said_by(user))
    words = sorted(standing(said).values(), key=lambda word: word.time)[::-1]
    taste = sorted(person.mix(service.catalogue).items(), key=lambda pair: -pair[1])
    return wire.Profile(
        user=user,
        known=kept is not None or len(person.rows) > 0 or len(words) > 0,
        attributes={} if kept is None else dict(kept.attributes),
        ties=service.store.ties_of(user),
        events=len(person.events().rows),
        said=[
            {"item": w.item, "title": _title(service, w.item), "kind": w.kind, "time": w.time, "slate": said[w]} for w in words
        ],
        recent=[
            {"item": e.item, "title": _title(service, e.item), "type": e.type, "time": e.time, "value": e.value}
            for e in reversed(events)
        ],
        taste=dict(taste[:30]),
    )


def _person(service: Service, asked: Whose, history: Sequence[str | wire.HistoryEvent] | None = None) -> Person:
    """Return the person of a request: what is known of the user (or visitor), then the history that came with it."""
    known = service.person(asked.user, asked.anonymous)
    return given_history(history, known.id, service.catalogue).after(known) if history else known


def _saying(text: str | None, person: Person) -> Person:
    """Return a person with the words of a request."""
    return replace(person, words=text or "")


def _no_words(text: str | None, version: str) -> None:
    """Refuse words for a ranker."""
    if text:
        raise UnsupportedError("a ranker can't read words.", where="text", value=version, remedy="leave text out")


def _scored(service: Service, rows: Sequence[int], scores: Sequence[float]) -> list[wire.Scored]:
    return [
        wire.Scored(**service.catalogue.items[row].public(), score=score if np.isfinite(score) else None)
        for row, score in zip(rows, scores, strict=True)
    ]


def _why(service: Service, model: Loaded | None, person: Person, row: int) -> list[wire.Reason]:
    """Return the reasons of one item: the model's (none where it can't give any), or of content where it lacks the item."""
    if model is None:
        return []
    if not model.knows(np.array([row]))[0]:
        return _content_reasons(service, content_reasons(service.content, person, row))[:5]
    try:
        return _reasons(model, model.explain(person, row))[:5]
    except UnsupportedError:
        return []


def _content_reasons(service: Service, parts: Sequence[tuple[int, float]]) -> list[wire.Reason]:
    items = service.catalogue.items
    return [
        wire.Reason(kind="content", text=items[row].title or items[row].id, item=items[row].id, weight=weight)
        for row, weight in parts
    ]


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
