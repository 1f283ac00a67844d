"""``palate``: the command's groups put together."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from palate.cli import act, answer, claims, data, demo, doctor, fit, lm, measure, models, predict, serve, store
from palate.cli.output import USAGE, errors_to_exit_codes, show_error
from palate.errors import ConfigError

app = typer.Typer(
    name="palate",
    help="Personalization from your own events: recommend, measure, explain, save.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from palate import __version__

        print(f"palate {__version__}")
        raise typer.Exit


@app.callback()
@errors_to_exit_codes
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use (default: all cores).")] = None,
) -> None:
    if threads is not None:
        from palate.runtime import set_threads

        set_threads(threads)


for group in (demo, doctor, data, models, fit, answer, act, predict, lm, serve, store, measure, claims):
    group.add_to(app)


def main() -> None:
    """Run the command line."""
    if "--json" not in sys.argv[1:]:
        app()
        return
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        told = getattr(error, "format_message", None)  # what the command line's own parser raises: a wrong or missing option
        if told is None:
            raise
        show_error(
            ConfigError(told(), where=" ".join(["palate", *sys.argv[1:]]), remedy="see: palate COMMAND --help"), as_json=True
        )
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
