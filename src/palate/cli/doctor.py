"""``palate doctor``: is everything here, and does it work?"""

from __future__ import annotations

import typer

from palate.cli.output import FAILED, Json, console, errors_to_exit_codes, print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(doctor)


@errors_to_exit_codes
def doctor(as_json: Json = False) -> None:
    """Check the installation: versions, threads, optional parts, and a fit from end to end."""
    from palate.study.health import check_health

    health = check_health()
    if as_json:
        print_json(health.to_dict())
    else:
        print_table([{"what": k, "value": str(v)} for k, v in health.machine.items()], title="Machine")
        print_table([{"package": k, "version": v} for k, v in health.versions.items()], title="Versions")
        print_table(health.checks, ["check", "result", "next"], title="Checks")
        console().print("All is well." if health.well else "[bold red]Something is wrong[/]: see the table above.")
    if not health.well:
        raise typer.Exit(FAILED)
