"""``palate doctor``: is everything here, and does it work?"""

from __future__ import annotations

import typer

from palate.cli.output import FAILED, START, Json, errors_to_exit_codes, print_facts, print_json, print_table, say


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=START)(doctor)


@errors_to_exit_codes
def doctor(as_json: Json = False) -> None:
    """Check the installation: versions, threads, optional parts, and a fit from end to end."""
    from palate.study.health import check_health

    health = check_health()
    if as_json:
        print_json(health.to_dict())
    else:
        print_facts(health.machine, "Machine", head="what")
        print_facts(health.versions, "Versions", head="package")
        print_table(health.checks, ["check", "result", "next"], title="Checks")
        say("All is well." if health.well else "Something is wrong: see the table above.", "" if health.well else "bold red")
    if not health.well:
        raise typer.Exit(FAILED)
