"""``palate evaluate``, ``palate compare`` and ``palate off-policy``: numbers one can trust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.options import Accept, Metrics, Seed, load_split, names, one_of, refuse
from palate.cli.output import PROOF, Json, errors_to_exit_codes, print_json, print_table, progress_bars, say
from palate.cli.rows import compare_rankers, evaluate_ranker
from palate.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=PROOF)(evaluate)
    app.command(rich_help_panel=PROOF)(compare)
    app.command("off-policy", rich_help_panel=PROOF)(off_policy)


#: Method of a report that writes each kind of file.
WRITERS = {".html": "to_html", ".json": "to_json", ".parquet": "to_parquet", ".tex": "to_latex", ".md": "to_markdown"}

SplitFolder = Annotated[Path, typer.Option("--split", help="A split made by palate split.")]
ReportFile = Annotated[
    Path | None, typer.Option("--out", help="Report to write: .html, .json, .parquet, .tex or .md by its ending.")
]

Slices = Annotated[
    str | None,
    typer.Option(
        "--slices", help="Print values by groups of people, too: usual, or attributes of people, separated by commas."
    ),
]
#: Why what is about people and leaks is refused with rankers.
OF_ROWS = "this split is of rows"
#: The slices of every report, without attributes.
USUAL = "usual"
Categories = Annotated[str | None, typer.Option("--categories", help="Item attribute for metrics of categories.")]


@errors_to_exit_codes
def evaluate(
    what: Annotated[Path, typer.Argument(help="A bundle, or a TREC run file of any system.")],
    split: SplitFolder,
    metrics: Metrics = None,
    part: Annotated[str, typer.Option("--part", help="test, or valid.")] = "test",
    slices: Slices = None,
    categories: Categories = None,
    out: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Judge a bundle or a run on a split, over the full catalogue."""
    from palate.data.row_split import is_row_split
    from palate.study.score import score_bundle, score_run

    one_of(part, ("test", "valid"), "--part")
    chosen = names(metrics, "--metrics")
    if is_row_split(split):
        refuse({"--slices": slices, "--categories": categories}, OF_ROWS, where=str(split))
        evaluate_ranker(what, split, part=part, metrics=chosen, out=out, as_json=as_json)
        return
    _check_report(out)
    more: dict[str, Any] = {"attributes": _attributes(slices), "categories": categories}
    parts = load_split(split)
    with progress_bars(quiet=as_json) as progress:
        if what.is_dir():
            report = score_bundle(what, parts, part=part, metrics=chosen, progress=progress, **more)  # type: ignore[arg-type]
        else:
            report = score_run(what, parts, part=part, metrics=chosen, **more)  # type: ignore[arg-type]
    _show(report, chosen, out, as_json=as_json, slices=slices is not None)


@errors_to_exit_codes
def compare(
    split: Annotated[Path, typer.Argument(help="A split made by palate split.")],
    models: Annotated[str, typer.Option("--models", help="Names of systems, separated by commas.")] = (
        "popularity,item_knn,ease,ials"
    ),
    metrics: Metrics = None,
    trials: Annotated[int, typer.Option("--trials", min=0, help="Settings tried for each system, on validation.")] = 0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Fits of each system, with different seeds.")] = 1,
    seed: Seed = 0,
    slices: Slices = None,
    categories: Categories = None,
    accept: Accept = None,
    out: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Compare systems on equal terms: the same split, the same tuning budget, one look at the test part."""
    from palate.data.row_split import is_row_split
    from palate.study.compare import compare as study

    wanted, chosen = names(models, "--models") or [], names(metrics, "--metrics")
    if is_row_split(split):
        refuse({"--slices": slices, "--categories": categories, "--accept": accept}, OF_ROWS, where=str(split))
        compare_rankers(split, wanted, metrics=chosen, trials=trials, seeds=seeds, seed=seed, out=out, as_json=as_json)
        return
    _check_report(out)
    with progress_bars(quiet=as_json) as progress:
        more: dict[str, Any] = {"attributes": _attributes(slices), "categories": categories}
        more |= {"accept": tuple(accept or ())} | ({} if chosen is None else {"metrics": chosen})
        report = study(load_split(split), wanted, trials=trials, seeds=seeds, seed=seed, progress=progress, **more)
    _show(report, chosen, out, as_json=as_json, slices=slices is not None)


@errors_to_exit_codes
def off_policy(
    log: Annotated[Path, typer.Argument(help="A Parquet, CSV, TSV, JSONL or Arrow file of choices, one a row.")],
    reward: Annotated[str, typer.Option("--reward", help="Column of what was earned.")] = "reward",
    propensity: Annotated[str, typer.Option("--propensity", help="Column of the chance with which it was chosen.")] = (
        "propensity"
    ),
    target: Annotated[str, typer.Option("--target", help="Column of the candidate's chance of the same choice.")] = "target",
    slate: Annotated[
        str | None, typer.Option("--slate", help="Column that names the slate of a row, where choices were slates.")
    ] = None,
    position: Annotated[str, typer.Option("--position", help="Column of the position in a slate.")] = "position",
    chances: Annotated[
        str, typer.Option("--chances", help="Of positions: conditional on earlier ones, marginal, or both (independent).")
    ] = "conditional",
    unit: Annotated[str | None, typer.Option("--unit", help="Column of the person or session; its rows go together.")] = None,
    q_logged: Annotated[str | None, typer.Option("--q-logged", help="Column: a model's reward of the choice.")] = None,
    q_target: Annotated[
        str | None, typer.Option("--q-target", help="Column: the model's mean over the candidate's choices.")
    ] = None,
    estimators: Annotated[
        str | None, typer.Option("--estimators", help="Names, separated by commas; by default all that the log can feed.")
    ] = None,
    interval: Annotated[str, typer.Option("--interval", help="normal or bootstrap.")] = "normal",
    confidence: Annotated[float, typer.Option("--confidence", help="Level of the intervals.")] = 0.95,
    as_json: Json = False,
) -> None:
    """Estimate what another policy would have earned, from a log of choices or slates and their chances."""
    from palate.evaluation.offpolicy.estimate import estimate
    from palate.evaluation.offpolicy.tables import log_of_table, slates_of_table

    one_of(interval, ("normal", "bootstrap"), "--interval")
    one_of(chances, ("conditional", "marginal", "both"), "--chances")
    columns: dict[str, Any] = {"reward": reward, "propensity": propensity, "target": target, "unit": unit}
    columns |= {"q_logged": q_logged, "q_target": q_target}
    columns |= {} if slate is None else {"slate": slate, "position": position, "chances": chances}
    rows = log_of_table(log, **columns) if slate is None else slates_of_table(log, **columns)
    found = estimate(rows, names(estimators, "--estimators"), interval=interval, confidence=confidence)
    logged, each = float(rows.reward.reshape(len(rows), -1).sum(axis=1).mean()), "row" if slate is None else "slate"
    if as_json:
        print_json({"rows": len(rows), "each": each, "logged": logged, "estimates": [one.plain() for one in found]})
        return
    title = f"What the candidate would have earned; the policy that logged earned {logged:.4g} a {each}"
    _tell_estimates(found, title, each)
    whose = "" if unit else " If several are of one person or session, --unit COLUMN keeps them together."
    say(f"{len(rows):,} {each}s, {found[0].units:,} independent units.{whose}")
    if slate is None and _looks_like_slates(log):
        say("The table has columns slate and position. If its choices were slates, judge them as such: --slate slate.")
    if q_logged is None:
        say("DR and its kin need the columns of a reward model (--q-logged, --q-target).")


def _looks_like_slates(log: Path) -> bool:
    from palate.data.row_tables import row_blocks

    return {"slate", "position"} <= set(next(iter(row_blocks(log)())).column_names)


#: Headings of the evidence for an estimate, and what each number says.
EVIDENCE = {
    "ess": ("effective units", "as many of equal weight say as much (100 at least)"),
    "largest": ("largest share", "of all weight, held by one unit"),
    "mean_weight": ("mean weight", "should be 1"),
    "terms": ("effective rewards", "as many decide the value (10 at least)"),
}


def _tell_estimates(found: list[Any], title: str, each: str) -> None:
    told = []
    for one in found:
        numbers, level = one.plain(), f"{100 * one.confidence:g}%"
        value = {f"value a {each}": numbers["value"], f"{level} low": numbers["low"], f"{level} high": numbers["high"]}
        told.append({"estimator": one.title, **value, **{heading: numbers[name] for name, (heading, _) in EVIDENCE.items()}})
    print_table(told, optional=(EVIDENCE["terms"][0], EVIDENCE["largest"][0]), title=title)
    say("; ".join(f"{heading}: {meaning}" for heading, meaning in EVIDENCE.values()) + ".")
    together: dict[str, list[str]] = {}
    for one in found:
        for remark in _remarks(one):
            together.setdefault(remark, []).append(one.title)
    for remark, titles in together.items():
        say(f"{', '.join(titles)}: {remark}.")


def _remarks(one: Any) -> Iterator[str]:
    """Yield what must be said of an estimate beside its numbers."""
    if one.refused is not None:
        yield f"refused, {one.refused}"
    elif one.leaves_out is not None:
        yield f"the interval is {one.leaves_out}"
    if one.spans is not None:
        yield f"the interval spans that of {one.spans}, as such an estimator can't know its own bias"


def _check_report(out: Path | None) -> None:
    """Refuse before the work what could not be written after it (the test part would have been opened for nothing)."""
    if out is None:
        return
    if out.suffix not in WRITERS:
        raise ConfigError("unknown kind of report.", where="--out", value=out.name, remedy=f"end in {', '.join(WRITERS)}")
    if out.suffix == ".html":
        from palate.extras import require

        for module in ("jinja2", "matplotlib"):
            require(module, "a report in HTML")


def _attributes(slices: str | None) -> tuple[str, ...]:
    """Return the attributes among the slices that are asked for; the usual ones are in every report."""
    return tuple(name for name in names(slices, "--slices") or () if name != USUAL)


def _show(report: Any, metrics: list[str] | None, out: Path | None, *, as_json: bool, slices: bool = False) -> None:
    if out is not None:
        getattr(report, WRITERS[out.suffix])(out)
    if as_json:
        print_json(report.to_dict())
        return
    print_report(report, metrics)
    for title, rows in report.slice_tables(metrics[0] if metrics else None) if slices else ():
        print_table(rows, title=title)
    if out is not None:
        say(f"Report: {out}")


def print_report(report: Any, metrics: list[str] | None = None) -> None:
    """Print the table of a report, the differences that count, and how it was measured."""
    rows = report.table(metrics)
    print_table(rows, title=report.name)
    for line in report.summary_lines():
        say(line)
