"""``palate evaluate`` and ``palate compare``: numbers one can trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.options import Metrics, Seed, load_split, names
from palate.cli.output import Json, console, errors_to_exit_codes, print_json, print_table, progress_bars
from palate.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(evaluate)
    app.command()(compare)


SplitFolder = Annotated[Path, typer.Option("--split", help="A split made by palate split.")]
ReportFile = Annotated[
    Path | None, typer.Option("--out", help="Report to write: .html, .json, .parquet, .tex or .md by its ending.")
]


@errors_to_exit_codes
def evaluate(
    what: Annotated[Path, typer.Argument(help="A bundle, or a TREC run file of any system.")],
    split: SplitFolder,
    metrics: Metrics = None,
    part: Annotated[str, typer.Option("--part", help="test, or valid.")] = "test",
    out: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Judge a bundle or a run on a split, over the full catalogue."""
    from palate.study.score import score_bundle, score_run

    if part not in ("test", "valid"):
        raise ConfigError("unknown part.", where="--part", value=part, remedy="test or valid")
    parts = load_split(split)
    chosen = names(metrics)
    with progress_bars(quiet=as_json) as progress:
        if what.is_dir():
            report = score_bundle(what, parts, part=part, metrics=chosen, progress=progress)  # type: ignore[arg-type]
        else:
            report = score_run(what, parts, part=part, metrics=chosen)  # type: ignore[arg-type]
    _show(report, chosen, out, as_json=as_json)


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
    out: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Compare systems on equal terms: the same split, the same tuning budget, one look at the test part."""
    from palate.study.compare import compare as study

    wanted = names(models) or []
    with progress_bars(quiet=as_json) as progress:
        more: dict[str, Any] = {} if metrics is None else {"metrics": names(metrics)}
        report = study(load_split(split), wanted, trials=trials, seeds=seeds, seed=seed, progress=progress, **more)
    _show(report, names(metrics), out, as_json=as_json)


def _show(report: Any, metrics: list[str] | None, out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        writers = {".html": report.to_html, ".json": report.to_json, ".parquet": report.to_parquet}
        writers |= {".tex": report.to_latex, ".md": report.to_markdown}
        if out.suffix not in writers:
            raise ConfigError("unknown kind of report.", where="--out", value=out.name, remedy=f"end in {', '.join(writers)}")
        writers[out.suffix](out)
    if as_json:
        print_json(report.to_dict())
        return
    print_report(report, metrics)
    if out is not None:
        console().print(f"Report: {out}")


def print_report(report: Any, metrics: list[str] | None = None) -> None:
    """Print the table of a report, the differences that count, and how it was measured."""
    rows = report.table(metrics)
    print_table(rows, title=report.name)
    for line in report.summary_lines():
        console().print(line, markup=False)
