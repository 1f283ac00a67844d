"""Recommendations, similar items, ranking, search, reasons."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from palate.serve import answers, wire
from palate.serve.http.routes.common import Reader, errors, loaded, meters_of, run, service_of
from palate.serve.service import KnownList, Service

router = APIRouter(tags=["answers"])


@router.post("/recommendations", response_model=wire.Slate, responses=errors(404))
async def recommend(body: wire.RecommendIn, request: Request, caller: Reader) -> Response:
    """Recommend to a user, to somebody known by a history only, or to nobody in particular.

    Every acknowledged event counts. The slate is logged with its propensities; give feedback on its id.

    Any published version may be compared with (``model``). One that isn't in memory is loaded first: the request waits some
    seconds for it, and is told to come again (503 with Retry-After) where that isn't enough.
    """
    service, meters = service_of(request), meters_of(request)
    key = _list_key(service, body)
    if key is None:
        await loaded(request, body.model)
        found = await run(request, answers.recommended, service, body)
        meters.slate(found.slate.policy, found.slate.cold, found.sources)
        return Response(found.slate.model_dump_json(), media_type="application/json")

    def make() -> KnownList:
        made = answers.recommended(service, body)
        return KnownList(made.slate.model_dump_json().encode(), made.sources)

    known = service.known_list(key, make)
    if known is None:
        known = await run(request, service.list_of, key, make)
    meters.slate(service.pipeline.config.name, True, known.sources)
    return Response(known.body, media_type="application/json")


def _list_key(service: Service, body: wire.RecommendIn) -> tuple[object, ...] | None:
    """Return what an answer for nobody in particular depends on, where it may be remembered: plain, and without chance."""
    plain = answers.for_nobody(body) and not (body.items or body.text or body.filter or body.context or body.exclude)
    fixed = service.pipeline.config.explore.kind == "none" or not body.experiments
    if not plain or not fixed or body.model is not None or body.trace or body.why:
        return None
    return body.k, body.diversity, body.experiments


@router.post("/similar", response_model=wire.ScoredList, responses=errors(404))
async def similar(body: wire.SimilarIn, request: Request, caller: Reader) -> wire.ScoredList:
    """Return items like one or several."""
    await loaded(request, body.model)
    return await run(request, answers.similar, service_of(request), body)


@router.post("/rank", response_model=wire.ScoredList, responses=errors(404))
async def rank(body: wire.RankIn, request: Request, caller: Reader) -> wire.ScoredList:
    """Put your own candidates into order for a person."""
    await loaded(request, body.model, ranks=True)
    return await run(request, answers.rank, service_of(request), body)


@router.post("/search", response_model=wire.ScoredList, responses=errors())
async def search(body: wire.SearchIn, request: Request, caller: Reader) -> wire.ScoredList:
    """Find items by words; a person's taste can count beside them. The search is logged, with what was found."""
    return await run(request, answers.asked_search, service_of(request), body)


@router.post("/explain", response_model=wire.Explained, responses=errors(404))
async def explain(body: wire.ExplainIn, request: Request, caller: Reader) -> wire.Explained:
    """Say why an item suits a person."""
    await loaded(request, body.model, ranks=True)
    return await run(request, answers.explain, service_of(request), body)
