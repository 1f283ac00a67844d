"""What every command shares: consoles, JSON, tables, progress bars, and errors turned into exit codes."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
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

#: Panels of the help, in the order of a newcomer's day.
START, DATA, MODELS, PROOF = "Start here", "Data", "Models and their answers", "Measure and prove"
SERVICE = "Put to work"

#: Width of what goes to a file or another program, which has no width of its own.
FILE_WIDTH = 160


@functools.cache
def console(*, err: bool = False) -> Console:
    """Return the console for answers, or the one for everything beside them."""
    from rich.console import Console

    found = Console(stderr=err, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = FILE_WIDTH
    return found


def say(text: str = "", style: str = "") -> None:
    """Print a line of the answer as it stands: brackets in names of files and titles are no markup."""
    console().print(text, style=style or None)


def note(text: str, style: str = "") -> None:
    """Print a line that is not part of the answer."""
    console(err=True).print(text, style=style or None)


def errors_to_exit_codes(command: Callable[P, R]) -> Callable[P, R]:
    """Show what went wrong in plain lines, and leave with 1, or with 2 where the command itself was wrong.

    A fault of Palate itself is shown in the same way; with ``PALATE_DEBUG`` set it is raised with its whole trace.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(FAILED) from None
        except Exception as error:
            if os.environ.get("PALATE_DEBUG"):
                raise
            known = error if isinstance(error, PalateError) else _explained(error)
            show_error(known, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(USAGE if isinstance(known, ConfigError) else FAILED) from None

    return run


#: What the operating system's refusals mean here.
_SYSTEM = {
    FileExistsError: "a file stands where a folder is needed.",
    NotADirectoryError: "a file stands where a folder is needed.",
    IsADirectoryError: "a folder stands where a file is needed.",
    FileNotFoundError: "there is no such file or folder.",
    PermissionError: "this may not be read or written.",
}


def _explained(error: Exception) -> PalateError:
    """Say in our own form what the system, or a fault of ours, has raised."""
    if isinstance(error, OSError):
        what = next((text for kind, text in _SYSTEM.items() if isinstance(error, kind)), None)
        place = error.filename2 or error.filename
        return PalateError(
            what or f"{error.strerror or error}.", where=place, remedy="check the path, its rights and the free space"
        )
    if isinstance(error, MemoryError):
        return PalateError(
            "there is not enough memory.", value=str(error) or None, remedy="try fewer events, or smaller settings"
        )
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = None if trace is None else f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
    what = f"a fault in Palate: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return PalateError(what, where=where, remedy="run it again with PALATE_DEBUG=1 for the whole trace, and report it")


def show_error(error: PalateError, *, as_json: bool) -> None:
    """Print an error: what, where, the value, the next step; as JSON it is the one document on standard output."""
    if as_json:
        kind = "Error" if type(error) is PalateError else type(error).__name__
        print_json({"error": kind, "what": error.what, "where": error.where, "value": error.value, "next": error.remedy})
    first, *rest = str(error).splitlines()
    from rich.text import Text

    console(err=True).print(Text.assemble(("Error:", "bold red"), f" {first}"))
    for line in rest:
        note(line, "dim" if not line.strip().startswith("next") else "")


def print_json(document: Any) -> None:
    """Print a document as JSON; numbers that JSON lacks become null."""
    print(json.dumps(plain(document), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """Turn NumPy values, mappings, data classes and paths into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    title: str = "",
    optional: Sequence[str] = (),
) -> None:
    """Print rows as a table; numbers stand right.

    Where the screen is too narrow for all columns, the ``optional`` ones are left out, first named first; what is still too
    wide is cut into tables one below the other, each with the first column.
    """
    columns = list(columns or (rows[0] if rows else ()))
    narrowest = {column: _longest_word(rows, column) for column in columns}
    for column in optional:
        if column in columns and _width(columns, narrowest) > console().width:
            columns.remove(column)
    for at, part in enumerate(_folded(columns, narrowest)):
        _print_one_table(rows, part, narrowest, title if at == 0 else "")


def _longest_word(rows: Sequence[Mapping[str, Any]], column: str) -> int:
    words = " ".join([column, *(cell(r.get(column)) for r in rows)]).split()
    return min(max((len(word) for word in words), default=0), 40)


def _width(columns: Sequence[str], narrowest: Mapping[str, int]) -> int:
    return sum(narrowest[column] + 3 for column in columns)


def _folded(columns: Sequence[str], narrowest: Mapping[str, int]) -> list[list[str]]:
    """Cut columns into runs that fit the screen; each run starts with the first column."""
    parts = [list(columns[:1])]
    for column in columns[1:]:
        if len(parts[-1]) > 1 and _width([*parts[-1], column], narrowest) > console().width:
            parts.append(list(columns[:1]))
        parts[-1].append(column)
    return parts


def _widths(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], narrowest: Mapping[str, int]) -> dict[str, int]:
    """Give each column its narrowest width, and a share of the room left in proportion to what it lacks."""
    wanted = {c: max([len(c), *(len(cell(r.get(c))) for r in rows)]) for c in columns}
    lack = sum(max(0, wanted[c] - narrowest[c]) for c in columns)
    share = min(1.0, max(0, console().width - _width(columns, narrowest)) / max(1, lack))
    return {c: narrowest[c] + int(max(0, wanted[c] - narrowest[c]) * share) for c in columns}


def _print_one_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], narrowest: Mapping[str, int], title: str
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold") if title else None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column, width in _widths(rows, columns, narrowest).items():
        numeric = bool(rows) and all(_numberlike(r.get(column)) for r in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", width=width)
    for row in rows:
        table.add_row(*(Text(cell(row.get(c))) for c in columns))
    console().print(table, crop=False)


def print_facts(facts: Mapping[str, Any], title: str = "", *, head: str = "field") -> None:
    """Print names and values as a table; what is empty is left out."""
    rows = [{head: name, "value": cell(value)} for name, value in facts.items() if value not in (None, "", [], {})]
    print_table(rows, title=title)


def cell(value: Any) -> str:
    """Return a value as tables show it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {cell(v)}" for k, v in value.items())
    return "; ".join(map(cell, value)) if isinstance(value, (list, tuple)) else str(value)


def _numberlike(value: Any) -> bool:
    return value is None or isinstance(value, (int, float)) or (isinstance(value, str) and value[:1].isdigit())


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
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<28}"), BarColumn(32), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[figures]}"), console=console(err=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(event: ProgressEvent) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(escape(event.stage), total=event.total, figures="")
            bars.update(tasks[event.stage], completed=event.done, total=event.total, figures=_figures(event.metrics))

        yield show


def _plain_lines() -> Progress:
    def show(event: ProgressEvent) -> None:
        if event.total is not None and event.done >= event.total:
            note(f"  {event.stage}: {event.done} of {event.total} done. {_figures(event.metrics)}".rstrip())

    return show


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
