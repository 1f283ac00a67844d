"""``palate demo``: the main job on real data."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.output import START, Json, errors_to_exit_codes, print_json, progress_bars, say

if TYPE_CHECKING:
    from palate.study.demo import Demo


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=START)(demo)


@errors_to_exit_codes
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the split, the model and the report.")] = Path("demo-output"),
    as_json: Json = False,
) -> None:
    """Compare seven models on MovieLens 100K, explain the winner's answers, save it, and write a report."""
    from palate.data import public
    from palate.study.demo import run_demo

    if not as_json:
        data = public.info("ml-100k")
        say(f"{data.title} · {data.url}", "bold")
        say(f"Licence: {data.licence}\n")
    with progress_bars(quiet=as_json) as progress:
        result = run_demo(out, progress=progress)
    if as_json:
        print_json(
            {
                "report": result.report.to_dict(),
                "winner": result.winner,
                "shown": result.shown,
                "validation": result.validation,
                "people": result.people,
                "split": result.split_folder,
                "bundle": result.bundle,
                "html": result.html,
                "seconds": result.seconds,
                "next": next_commands(result),
            }
        )
        return
    _show(result)


def _show(result: Demo) -> None:
    from palate.cli.measure import print_report

    say(str(result.split))
    say(str(result.audit))
    print_report(result.report)
    picked = ", ".join(f"{title} {value:.4f}" for title, value in result.validation.items())
    say(f"\nValidation NDCG@10 picked the winner: {result.winner}", "bold")
    say(f"  {picked}")
    if result.shown != result.winner:
        say(f"It gives everybody much the same list. The best that looks at the person is {result.shown}; its answers:")
    for page in result.people:
        _show_person(page)
    say(f"\nSplit   {result.split_folder}\nModel   {result.bundle}\nReport  {result.html}   ({result.seconds:.0f} s in all)")
    say("\nWhat to type next", "bold")
    for command in next_commands(result):
        say(f"  {command}")
    say("Your own events go the same way: put a table with columns such as user, item and time in the place of ml-100k.")


def next_commands(result: Demo) -> list[str]:
    """Return commands that go on from here, each to be typed as it stands."""
    page = result.people[0]
    user, item = str(page["user"]), str(page["offers"][0]["item"])
    split, bundle = str(result.split_folder), str(result.bundle)
    own = str(result.split_folder.with_name("my-split"))
    commands = (
        ("recommend", bundle, "--user", user, "-k", "10"),
        ("explain", bundle, "--user", user, "--item", item),
        ("compare", split, "--models", "ease,ials", "--trials", "5"),
        ("split", "ml-100k", "--protocol", "leave_one_out", "--out", own),
        ("serve",),
    )
    return [shlex.join([program(), *command]) for command in commands]


def program() -> str:
    """Return how this program is called from here: by its name where the shell finds it, else by its path."""
    here = Path(sys.argv[0])
    found = shutil.which("palate")
    if here.stem != "palate" or (found is not None and Path(found).resolve() == here.resolve()):
        return "palate"
    return os.path.relpath(here)


def _show_person(page: dict[str, Any]) -> None:
    say(f"\nPerson {page['user']}", "bold")
    say(f"  saw {page['events']} things, latest first: " + " · ".join(page["history"]))
    for at, offer in enumerate(page["offers"], 1):
        say(f"  {at}. {offer['title']}  ({offer['score']:.3f})")
        say(f"     {offer['why']}", "dim")
