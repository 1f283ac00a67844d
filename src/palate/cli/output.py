"""What every command shares: consoles, JSON, tables, progress bars, and errors turned into exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from palate.errors import ConfigError, PalateError

if TYPE_CHECKING:
    from rich.console import Console

    from palate.progress import Progress, ProgressEvent

P = ParamSpec("P")
R = TypeVar("R")

#: ``--json``, the same on every command.
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

#: Exit codes.
OK, FAILED, USAGE = 0, 1, 2


@functools.cache
def console(*, err: bool = False) -> Console:
    """Return the console for answers, or the one for everything beside them."""
    from rich.console import Console

    found = Console(stderr=err, soft_wrap=True, highlight=False)
    if not found.is_terminal:
        found.width = 160
    return found


def errors_to_exit_codes(command: Callable[P, R]) -> Callable[P, R]:
    """Show a :class:`PalateError` plainly and leave with 1, or with 2 where the command itself was wrong."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PalateError as error:
            _show_error(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(USAGE if isinstance(error, ConfigError) else FAILED) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(FAILED) from None

    return run


def _show_error(error: PalateError, *, as_json: bool) -> None:
    if as_json:
        parts = {"error": type(error).__name__, "what": error.what, "where": error.where, "next": error.remedy}
        value = None if error.value is None else repr(error.value)
        print(json.dumps({**parts, "value": value}))
    first, *rest = str(error).splitlines()
    from rich.markup import escape

    console(err=True).print(f"[bold red]Error:[/] {escape(first)}")
    for line in rest:
        console(err=True).print(escape(line), style="dim" if not line.strip().startswith("next") else "")


def print_json(document: Any) -> None:
    """Print a document as JSON; numbers that JSON lacks become null."""
    print(json.dumps(plain(document), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """Turn NumPy values, dataclasses' mappings and paths into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, title: str = "") -> None:
    """Print rows as a table; numbers stand right."""
    from rich import box
    from rich.table import Table

    columns = list(columns or (rows[0] if rows else ()))
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = bool(rows) and all(isinstance(r.get(column), (int, float)) or _numberlike(r.get(column)) for r in rows)
        words = " ".join([column, *(_cell(r.get(column)) for r in rows)]).split()
        longest = max((len(word) for word in words), default=0)
        table.add_column(column, justify="right" if numeric else "left", min_width=min(longest, 40))
    for row in rows:
        table.add_row(*(_cell(row.get(c)) for c in columns))
    console().print(table, crop=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numberlike(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value[:1].isdigit())


def note(text: str) -> None:
    """Print a line that is not part of the answer."""
    console(err=True).print(text)


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Progress]:
    """Show a bar a stage while work goes on; without a terminal, one line when a stage ends."""
    from palate.progress import silent

    if quiet:
        yield silent
    elif console(err=True).is_terminal:
        with _live_bars() as show:
            yield show
    else:
        yield _plain_lines()


@contextmanager
def _live_bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<28}"), BarColumn(32), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[figures]}"), console=console(err=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(event: ProgressEvent) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(event.stage, total=event.total, figures="")
            bars.update(tasks[event.stage], completed=event.done, total=event.total, figures=_figures(event.metrics))

        yield show


def _plain_lines() -> Progress:
    def show(event: ProgressEvent) -> None:
        if event.total is not None and event.done >= event.total:
            note(f"  {event.stage}: {event.done} of {event.total} done. {_figures(event.metrics)}".rstrip())

    return show


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
