"""Recommendations, similar items, ranking, search, reasons."""

from __future__ import annotations

from fastapi import APIRouter, Request

from palate.serve import answers, wire
from palate.serve.http.routes.common import Reader, errors, meters_of, run, service_of

router = APIRouter(tags=["answers"])


@router.post("/recommendations", response_model=wire.Slate, responses=errors(404))
async def recommend(body: wire.RecommendIn, request: Request, caller: Reader) -> wire.Slate:
    """Recommend to a user, to somebody known by a history only, or to nobody in particular.

    Every acknowledged event counts. The slate is logged with its propensities; give feedback on its id.
    """
    slate = await run(request, answers.recommend, service_of(request), body)
    meters = meters_of(request)
    meters.slates.labels(slate.policy, str(slate.cold).lower()).inc()
    return slate


@router.post("/similar", response_model=wire.ScoredList, responses=errors(404))
async def similar(body: wire.SimilarIn, request: Request, caller: Reader) -> wire.ScoredList:
    """Return items like one or several."""
    return await run(request, answers.similar, service_of(request), body)


@router.post("/rank", response_model=wire.ScoredList, responses=errors(404))
async def rank(body: wire.RankIn, request: Request, caller: Reader) -> wire.ScoredList:
    """Put your own candidates into order for a person."""
    return await run(request, answers.rank, service_of(request), body)


@router.post("/search", response_model=wire.ScoredList, responses=errors())
async def search(body: wire.SearchIn, request: Request, caller: Reader) -> wire.ScoredList:
    """Find items by words; a person's taste can count beside them."""
    return await run(request, answers.search, service_of(request), body)


@router.post("/explain", response_model=wire.Explained, responses=errors(404))
async def explain(body: wire.ExplainIn, request: Request, caller: Reader) -> wire.Explained:
    """Say why an item suits a person."""
    return await run(request, answers.explain, service_of(request), body)
