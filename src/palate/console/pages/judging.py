"""Judging a pipeline by what was logged, before anybody sees it: a part of the page Experiments."""

from __future__ import annotations

from palate.console import charts, parts
from palate.console import format as show
from palate.console.desk import Visit
from palate.console.pages.changing import Change
from palate.progress import Progress
from palate.serve.experiments import live, offpolicy
from palate.serve.pipeline.config import PipelineConfig


def panel(visit: Visit, versions: list[str]) -> None:
    """Show the form that judges a candidate by the log."""
    about = (
        "What a candidate would have earned, by slates that were drawn by chance and logged with their propensities. "
        "Where the log can't tell, the answer is a refusal with its reason."
    )
    with parts.panel("Judge a candidate by the log", about):
        with parts.box("div", "fields"):
            change = Change(versions)
            days = parts.figure("Days to look back", 0, min=0, step=1).props('hint="0: everything"')

        async def begin() -> None:
            model, keys = change.given()
            service = visit.service
            candidate: PipelineConfig = service.settings.pipeline.replace(**keys)
            if model is not None:
                candidate = live.with_model(candidate, model)
            since = service.clock() - 86_400 * days.value if days.value else 0.0

            def work(progress: Progress) -> offpolicy.Judged:
                return offpolicy.judge(service, candidate, since=since)

            await visit.begin("judge", "Judge the candidate", work)
            place.clear()
            with place:
                parts.follow(visit, visit.desk.jobs["judge"], finished)

        def finished() -> None:
            job = visit.desk.jobs["judge"]
            place.clear()
            with place:
                if job.trouble is not None:
                    parts.trouble(job.trouble)
                else:
                    assert job.result is not None
                    _judged(visit, job.result)

        with parts.box("div", "line"):
            parts.button("Judge", visit.guarded(begin), name="Judge the candidate")
        place = parts.box("div", "stack")


def _judged(visit: Visit, found: offpolicy.Judged) -> None:
    parts.text(f"{found.slates:,} slates of {found.width} items; as logged, a slate earned {show.number(found.logged)}.")
    parts.text(
        "Logged by: " + ", ".join(f"{name} ({number:,})" for name, number in found.policies.items()) + ".", classes="soft small"
    )
    if found.left_out:
        parts.table("Slates left out", ["Why", "Slates"], [[why, f"{n:,}"] for why, n in found.words.items()], right=(1,))
    rows = [
        [
            one.title,
            show.interval(one.value, one.low, one.high) if one.refused is None else "refused",
            show.number(one.ess, 3),
            one.refused or one.leaves_out or (f"spans the interval of {one.spans}" if one.spans else ""),
        ]
        for one in found.estimates
    ]
    heads = [
        "Estimator",
        "Reward of a slate (95% interval)",
        "Effective sample",
        "Why not; what the interval spans or leaves out",
    ]
    parts.table("What the candidate would have earned", heads, rows, right=(1, 2))
    drawn = [charts.Estimate(one.title, one.value, one.low, one.high) for one in found.estimates if one.refused is None]
    if drawn:
        charts.draw(
            visit,
            "Reward of a slate under the candidate",
            lambda dark: charts.intervals(dark, drawn, axis_name="reward of a slate"),
            ["Estimator", "Reward"],
            charts.estimate_rows(drawn),
            height=70 + 44 * len(drawn),
        )
