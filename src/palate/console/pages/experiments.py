"""Experiments: make one, start, stop and read it; and judge a pipeline by what was logged, before anybody sees it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui

from palate.console import charts, parts
from palate.console import format as show
from palate.console.desk import Visit
from palate.console.frame import page
from palate.errors import ConfigError
from palate.progress import Progress
from palate.serve.experiments import live, offpolicy
from palate.serve.models import production
from palate.serve.pipeline.config import PipelineConfig
from palate.serve.store import ExperimentRow

#: Kinds of metrics, in words.
METRICS = {
    "events": "events of each person",
    "value": "summed values of their events",
    "feedback": "feedback of each person",
    "slates": "slates of each person",
    "events_per_slate": "events per slate",
    "feedback_per_slate": "feedback per slate",
}


@page("experiments")
async def experiments(visit: Visit, request: Request) -> None:
    """Fill the page."""
    parts.text("Experiments", "h1")
    detail: dict[str, Any] = {}

    @ui.refreshable
    async def table() -> None:
        rows = await visit.call(visit.service.store.experiments)
        _list(visit, rows, table.refresh, detail)

    with parts.panel(
        "All experiments", "People are assigned by a salted hash of their id; only what follows the first exposure counts."
    ):
        await table()
    detail["place"] = parts.box("div", "stack")
    found = await visit.call(production.list_models, visit.service)
    versions = [model.version for model in found.models]
    if visit.may("admin"):
        _make(visit, versions, table.refresh)
        _judge(visit, versions)
    else:
        parts.text("A key with the scope admin may make, start and stop experiments.", classes="soft small")


def _list(visit: Visit, rows: list[ExperimentRow], refresh: Any, detail: dict[str, Any]) -> None:
    async def move(name: str, state: str) -> None:
        words = {
            "running": ("Start", "People meet its variants from now on."),
            "stopped": ("Stop", "Everybody gets the control again. It can't be started a second time."),
        }[state]
        if await parts.sure(f"{words[0]} {name}?", words[1], words[0]):
            await visit.call(visit.service.store.move_experiment, name, state, scope="admin")
            visit.service.forget_caches()
            visit.say(f"{name} is {state}.")
            refresh()

    async def read(name: str) -> None:
        place = detail["place"]
        place.clear()
        found = await visit.call(live.analysis, visit.service.store, name)
        with place:
            _reading(visit, found)
        ui.run_javascript(f"getHtmlElement({place.id}).scrollIntoView({{block: 'start'}})")

    def acts(row: ExperimentRow) -> None:
        following = {"draft": ("Start", "running"), "running": ("Stop", "stopped")}.get(row.state)
        with parts.box("div", "line middle"):
            parts.button("Read", visit.guarded(partial(read, row.name)), name=f"Read {row.name}", kind="small")
            if following is not None and visit.may("admin"):
                work = visit.guarded(partial(move, row.name, following[1]))
                parts.button(following[0], work, name=f"{following[0]} {row.name}", kind="small")

    cells: list[list[parts.Cell]] = [
        [
            row.name,
            partial(parts.verdict, row.state),
            ", ".join(str(v["name"]) for v in row.spec.get("variants", ())) or show.DASH,
            show.number(row.spec.get("planned")),
            show.moment(row.started),
            show.moment(row.stopped),
            partial(acts, row),
        ]
        for row in rows
    ]
    heads = ["Name", "State", "Variants", "People planned", "Started", "Stopped", "Action"]
    parts.table("Experiments, newest first", heads, cells, right=(3,), empty="No experiment yet: make one below.")


def _reading(visit: Visit, found: dict[str, Any]) -> None:
    """Show what may be concluded now; of a kind of experiment that has no arms side by side, whatever is known."""
    if "comparisons" not in found or "metrics" not in found:
        with parts.panel(f"Reading of {found.get('experiment', 'the experiment')}"):
            parts.by_words([str(line) for line in found.get("words", ())])
            facts = [[name.replace("_", " "), show.plain(value)] for name, value in found.items() if name != "words"]
            parts.table("What is known", ["Fact", "Value"], facts)
        return
    with parts.panel(f"Reading of {found['experiment']}", f"{found['units']:,} of {found['planned']:,} planned people so far."):
        parts.by_words(found["words"])
        arms = [
            [name, arm["variant"], f"{arm['n']:,}", show.interval(arm["value"], arm["low"], arm["high"])]
            for name, row in found["metrics"].items()
            for arm in row
        ]
        parts.table(
            "As measured, by variant", ["Metric", "Variant", "People", "Mean (interval at a fixed size)"], arms, right=(2, 3)
        )
        pairs = found["comparisons"]
        rows = [
            [
                one["metric"],
                one["variant"],
                show.interval(one["difference"], one["sequential"]["low"], one["sequential"]["high"]),
                show.share(one["lift"]),
                show.number(one["sequential"]["p_adjusted"], 3),
                one["conclusion"],
            ]
            for one in pairs
        ]
        heads = ["Metric", "Variant", "Difference (holds at any time)", "Lift", "p", "Conclusion"]
        parts.table("Against the control", heads, rows, right=(2, 3, 4), empty="No variant can be compared yet.")
        drawn = [
            charts.Estimate(
                f"{one['variant']}: {one['metric']}", one["difference"], one["sequential"]["low"], one["sequential"]["high"]
            )
            for one in pairs
            if None not in (one["difference"], one["sequential"]["low"], one["sequential"]["high"])
        ]
        if drawn:
            name = "Differences from the control, with intervals that hold at any time"
            charts.draw(
                visit,
                name,
                lambda dark: charts.intervals(dark, drawn, axis_name="difference from the control", zero=True),
                ["Variant and metric", "Difference"],
                charts.estimate_rows(drawn),
                height=70 + 44 * len(drawn),
            )


def _make(visit: Visit, versions: list[str], refresh: Any) -> None:
    """Show the form that makes an experiment."""
    with parts.panel(
        "Make an experiment", "The control is the service as it stands; the variant differs in model, diversity or more."
    ):
        with parts.group("What differs"), parts.box("div", "fields"):
            name = parts.entry("Name")
            variant = parts.entry("Name of the variant", "treatment")
            change = _change(versions)
        with parts.group("Whom it is for, and what decides"), parts.box("div", "fields"):
            kind = parts.select("Goal", METRICS, "events")
            type_ = parts.entry("Only of the type").props('hint="of event or feedback; empty: all"')
            planned = parts.figure("People in all arms", 1_000, min=2, step=100)
            traffic = parts.figure("Take part", 1.0, min=0.01, max=1, step=0.1).props('hint="share of all people"')
            share = parts.figure("Get the variant", 0.5, min=0.01, max=0.99, step=0.1).props('hint="share of those"')
        with parts.group("What must not get worse"), parts.box("div", "fields"):
            guard = parts.select("Guardrail", {"": "none", **METRICS}, "")
            margin = parts.figure("At most worse by", 0.05, min=0, max=1, step=0.01).props('hint="share of its value"')
            days = parts.figure("Days of events before", 0, min=0, step=7).props('hint="lowers the variance; 0: none"')

        async def make() -> None:
            metrics: list[dict[str, Any]] = [
                {"name": METRICS[kind.value], "kind": kind.value, "type": type_.value.strip() or None},
            ]
            if guard.value:
                metrics.append(
                    {"name": f"guardrail: {METRICS[guard.value]}", "kind": guard.value, "guardrail": float(margin.value)}
                )
            part = float(share.value or 0.5)
            model, pipeline = change()
            spec = {
                "variants": [
                    {"name": "control", "weight": 1 - part},
                    {"name": variant.value.strip(), "weight": part, "model": model, "pipeline": pipeline},
                ],
                "metrics": metrics,
                "planned": int(planned.value or 0),
                "traffic": float(traffic.value or 1.0),
                "covariate_days": float(days.value) if days.value else None,
            }
            wanted = name.value.strip()
            if not wanted:
                raise ConfigError("an experiment needs a name.", where="name", remedy="letters, digits, dots and dashes")
            parsed = live.ExperimentSpec.parse(spec, system=f"experiment {wanted}")
            store, base = visit.service.store, visit.service.settings.pipeline
            await visit.call(live.create, store, wanted, parsed, base, scope="admin")
            visit.say(f"{wanted} is made; start it when you are ready.")
            refresh()

        with parts.box("div", "line"):
            parts.button("Make", visit.guarded(make), name="Make the experiment")


def _change(versions: list[str]) -> Any:
    """Show what may differ from the running pipeline; return a function that gives model and keys."""
    model = parts.select("Model", {"": "the active one", **{v: v for v in versions}}, "")
    diversity = parts.select(
        "Diversity", {"": "as it is", "none": "none", "mmr": "MMR", "dpp": "DPP", "calibrate": "calibrated"}, ""
    )
    level = parts.figure("Its level", 0.3, min=0, max=1, step=0.1)
    more = parts.entry("Other keys of the pipeline", classes="field").props('hint="as JSON"')

    def given() -> tuple[str | None, dict[str, Any]]:
        keys: dict[str, Any] = {}
        if more.value.strip():
            try:
                keys = json.loads(more.value)
            except ValueError as error:
                raise ConfigError(
                    "these keys are not JSON.", where="other keys", value=str(error), remedy='{"seen": "allow"}'
                ) from None
            if not isinstance(keys, dict):
                raise ConfigError(
                    "keys of the pipeline are a JSON object.", where="other keys", value=keys, remedy='{"seen": "allow"}'
                )
        if diversity.value:
            keys["diversity"] = {"kind": diversity.value, "level": float(level.value or 0.0)}
        return model.value or None, keys

    return given


def _judge(visit: Visit, versions: list[str]) -> None:
    """Show the form that judges a candidate by the log."""
    about = (
        "What a candidate would have earned, by slates that were drawn by chance and logged with their propensities. "
        "Where the log can't tell, the answer is a refusal with its reason."
    )
    with parts.panel("Judge a candidate by the log", about):
        with parts.box("div", "fields"):
            change = _change(versions)
            days = parts.figure("Days to look back", 0, min=0, step=1).props('hint="0: everything"')

        async def begin() -> None:
            model, keys = change()
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
