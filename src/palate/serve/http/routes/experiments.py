"""Experiments: make, start, stop, read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from palate.serve import wire
from palate.serve.experiments import live, offpolicy, turning
from palate.serve.http.routes.common import Admin, PathId, Reader, errors, run, service_of
from palate.serve.store import ExperimentRow

router = APIRouter(tags=["experiments"], prefix="/experiments")


@router.get("", response_model=wire.ExperimentList, responses=errors())
async def list_experiments(request: Request, caller: Reader) -> wire.ExperimentList:
    """List experiments, newest first."""
    rows = await run(request, service_of(request).store.experiments)
    return wire.ExperimentList(experiments=[_out(row) for row in rows])


@router.post("", response_model=wire.ExperimentOut, responses=errors(404, 409))
async def make(body: wire.ExperimentIn, request: Request, caller: Admin) -> wire.ExperimentOut:
    """Make an experiment; it begins when it is started."""
    spec = live.ExperimentSpec.parse(body.spec, system=f"experiment {body.name}", strict=True)
    service = service_of(request)
    base = service.settings.pipeline
    return _out(await run(request, live.create, service.store, body.name, spec, base, service.attempt))


@router.post("/{name}/start", response_model=wire.ExperimentOut, responses=errors(404, 409))
async def start(name: PathId, request: Request, caller: Admin) -> wire.ExperimentOut:
    """Start an experiment: each variant's model is loaded first, and must be able to answer."""
    return _out(await run(request, turning.start, service_of(request), name))


@router.post("/{name}/stop", response_model=wire.ExperimentOut, responses=errors(404, 409))
async def stop(name: PathId, request: Request, caller: Admin) -> wire.ExperimentOut:
    """Stop an experiment; it can't be started again."""
    return _out(await run(request, turning.stop, service_of(request), name))


@router.post("/offpolicy", response_model=dict[str, Any], responses=errors())
async def off_policy(body: wire.JudgeIn, request: Request, caller: Admin) -> dict[str, Any]:
    """Estimate what another pipeline would have earned, from logged propensities; refused where the log can't tell."""
    service = service_of(request)
    candidate = service.settings.pipeline.differing(body.pipeline, system="the candidate pipeline")
    judged = await run(request, lambda: offpolicy.judge(service, candidate, since=body.since, policy=body.policy))
    return judged.plain()


@router.get("/{name}", response_model=dict[str, Any], responses=errors(404))
async def read(name: PathId, request: Request, caller: Reader) -> dict[str, Any]:
    """Say what may be concluded now: intervals that hold at any time, sizes of arms, guardrails, in numbers and words."""
    return await run(request, live.analysis, service_of(request).store, name)


def _out(row: ExperimentRow) -> wire.ExperimentOut:
    return wire.ExperimentOut(
        name=row.name, state=row.state, spec=dict(row.spec), created=row.created, started=row.started, stopped=row.stopped
    )
