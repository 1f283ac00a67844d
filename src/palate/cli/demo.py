"""``palate demo``: the main job on real data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.output import Json, console, errors_to_exit_codes, print_json, progress_bars

if TYPE_CHECKING:
    from palate.study.demo import Demo


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(demo)


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
        console().print(f"[bold]{data.title}[/] · {data.url}\nLicence: {data.licence}\n")
    with progress_bars(quiet=as_json) as progress:
        result = run_demo(out, progress=progress)
    if as_json:
        print_json(
            {"report": result.report.to_dict(), "winner": result.winner, "people": result.people, "seconds": result.seconds}
        )
        return
    _show(result)


def _show(result: Demo) -> None:
    from palate.cli.measure import print_report

    out = console()
    out.print(str(result.split), markup=False)
    out.print(str(result.audit), markup=False)
    print_report(result.report)
    picked = ", ".join(f"{title} {value:.4f}" for title, value in result.validation.items())
    out.print(f"\nValidation NDCG@10 picked the winner: [bold]{result.winner}[/] ({picked})")
    for page in result.people:
        _show_person(page)
    user = result.people[0]["user"]
    out.print(
        f"\nSplit   {result.split_folder}\nModel   {result.bundle}\nReport  {result.html}   ({result.seconds:.0f} s in all)"
    )
    out.print("\n[bold]What to type next[/]")
    for command in (
        f"palate recommend {result.bundle} --user {user} -k 10",
        f"palate explain {result.bundle} --user {user} --item ITEM",
        f"palate compare {result.split_folder} --models ease,ials --trials 10",
        "palate split YOUR.csv --protocol global_time --out my-split",
    ):
        out.print(f"  .venv/bin/{command}", markup=False)


def _show_person(page: dict[str, object]) -> None:
    out = console()
    out.print(f"\n[bold]Person {page['user']}[/] ({page['events']} events; latest first)")
    out.print("  saw:   " + " · ".join(map(str, page["history"])), markup=False)  # type: ignore[call-overload]
    for at, offer in enumerate(page["offers"], 1):  # type: ignore[arg-type, var-annotated]
        out.print(f"  {at}. {offer['title']}  ({offer['score']:.3f})", markup=False)
        out.print(f"     {offer['why']}", style="dim", markup=False)
