"""``palate claims`` and ``palate bench``: experiments that anyone can run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.output import FAILED, PROOF, Json, errors_to_exit_codes, note, print_json, print_table, progress_bars, say
from palate.errors import ConfigError, PalateError, nearest

group = typer.Typer(no_args_is_help=True, help="What the papers claim, tested.")
Folder = Annotated[Path, typer.Option("--folder", help="Folder of the programs.")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(group, name="claims", rich_help_panel=PROOF)
    app.command(rich_help_panel=PROOF)(bench)


@group.command(name="list")
@errors_to_exit_codes
def list_(folder: Folder = Path("claims"), as_json: Json = False) -> None:
    """List the claims, with the verdict of the last run."""
    from palate.study.claims import last_result, load, told

    rows: list[dict[str, Any]] = []
    faults = []
    for name, path in _found(folder).items():
        try:
            claim, result = load(path), last_result(name, folder)
        except PalateError as error:
            faults.append(str(error))
            rows.append({"name": name, "title": "can't be read", "paper": None, "verdict": "not known"})
            continue
        rows.append({"name": name, "title": claim.title, "paper": claim.paper, "verdict": told(claim, result)})
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ["name", "title", "paper", "verdict"])
    for fault in faults:
        note(fault)
    if faults:
        raise typer.Exit(FAILED)


def _found(folder: Path) -> dict[str, Path]:
    from palate.study.claims import programs

    found = programs(folder)
    if not found:
        raise ConfigError("no claims here.", where=folder.resolve(), remedy="run it in a checkout of Palate, or give --folder")
    return found


@group.command()
@errors_to_exit_codes
def run(
    name: Annotated[list[str] | None, typer.Argument(help="Names of claims.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run every claim (long).")] = False,
    reduced: Annotated[bool, typer.Option("--reduced", help="A small and quick form that writes no result.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Don't take up what an interrupted run has fitted.")] = False,
    folder: Folder = Path("claims"),
    as_json: Json = False,
) -> None:
    """Run claims, and write their results to results/ in their folder, as JSON; an interrupted run is taken up."""
    from palate.study.claims import load, run_claim

    known = _found(folder)
    wanted = list(known) if all_ else list(name or ())
    if not wanted:
        raise ConfigError("which claim?", remedy="palate claims run NAME, or --all")
    unknown = [n for n in wanted if n not in known]
    if unknown:
        raise ConfigError("unknown claim.", value=unknown[0], remedy=nearest(unknown[0], known))
    claims, results = {one: load(known[one]) for one in wanted}, []
    for one, claim in claims.items():
        with progress_bars(quiet=as_json) as progress:
            results.append(run_claim(claim, folder, progress=progress, reduced=reduced, fresh=fresh))
        if not as_json:
            say(f"{one}: {results[-1]['verdict']}. {results[-1]['summary']}")
            if reduced:
                say("A reduced run shows that the experiment works; it is no evidence, and nothing was written.")
    if as_json:
        print_json(results)


@errors_to_exit_codes
def bench(
    name: Annotated[list[str] | None, typer.Argument(help="Names of benchmarks.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run every benchmark (long).")] = False,
    folder: Folder = Path("benchmarks"),
    as_json: Json = False,
) -> None:
    """List the benchmarks, or run some; results go to benchmarks/results as JSON."""
    import subprocess
    import sys

    programs = {p.stem: p for p in sorted(folder.glob("*.py")) if not p.name.startswith("_")}
    if not programs:
        raise ConfigError(
            "no benchmarks here.", where=folder.resolve(), remedy="run it in a checkout of Palate, or give --folder"
        )
    wanted = list(programs) if all_ else list(name or ())
    if not wanted:
        rows = [{"name": n, "what": _first_line(p)} for n, p in programs.items()]
        print_json(rows) if as_json else print_table(rows, ["name", "what"])
        return
    unknown = [n for n in wanted if n not in programs]
    if unknown:
        raise ConfigError("unknown benchmark.", value=unknown[0], remedy=nearest(unknown[0], programs))
    aside: dict[str, Any] = {"stdout": 2} if as_json else {}  # the one document on standard output is ours
    codes = {one: subprocess.run([sys.executable, str(programs[one])], check=False, **aside).returncode for one in wanted}
    if as_json:
        print_json(codes)
    if any(codes.values()):
        raise typer.Exit(FAILED)


def _first_line(path: Path) -> str:
    import ast

    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
