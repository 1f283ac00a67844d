"""``palate store``: put events in, take everything out, and see what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.options import BadRows, Columns, Format, Reading, Source, load_dataset
from palate.cli.output import SERVICE, Json, errors_to_exit_codes, print_json, print_table, progress_bars, say

group = typer.Typer(no_args_is_help=True, help="The store of the service: load, export, import, info.")
StoreUrl = Annotated[str | None, typer.Option("--store", help="A file, or the URL of a store (default: the demo's store).")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(group, name="store", rich_help_panel=SERVICE)


def url_of(store: str | None) -> str:
    """Return the place of a store: as given, else the URL of the service which starts with nothing else."""
    from palate.serve.run import home

    return store or f"sqlite:///{home() / 'palate.db'}"


@group.command()
@errors_to_exit_codes
def load(
    source: Source,
    store: StoreUrl = None,
    format: Format = None,
    column: Columns = None,
    reading: Reading = None,
    on_bad_rows: BadRows = "error",
    as_json: Json = False,
) -> None:
    """Put events, users, their ties and items (those without events, too) into an empty store; later ones come over HTTP."""
    from palate.serve.store import Store
    from palate.serve.store.exchange import load_dataset as put

    with progress_bars(quiet=as_json) as progress:
        # A store is a catalogue: what is new has no events yet. (Public data sets come as they are counted.)
        read = ["keep_unseen=true", *(reading or ())] if Path(source).exists() else reading
        data = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows, reading=read)
        with Store.open(url_of(store)) as opened:
            number, place = put(opened, data, progress=progress), opened.url
            sizes = opened.sizes()
    beside = {name: sizes[name] for name in ("searches", "ties")}
    facts = {"store": place, "events": number, "users": data.n_users, "items": data.n_items, **beside}
    if as_json:
        print_json(facts)
        return
    more = "".join(f", and {count:,} {name}" for name, count in beside.items() if count)
    say(f"{number:,} events of {data.n_users:,} users and {data.n_items:,} items{more} are in {place}")
    say(f"Next: palate retrain ease{'' if store is None else f' --store {store}'}")


@group.command()
@errors_to_exit_codes
def info(store: StoreUrl = None, as_json: Json = False) -> None:
    """Say how much is there, and which model is active."""
    from palate.serve.store import Store

    with Store.open(url_of(store)) as opened:
        sizes, active, place = opened.sizes(), opened.active_model(), opened.url
    if as_json:
        print_json({"store": place, "rows": sizes, "active": None if active is None else active.version})
        return
    print_table([{"table": name, "rows": rows} for name, rows in sizes.items()], title=place)
    say(f"Active model: {'none' if active is None else active.version}")


@group.command()
@errors_to_exit_codes
def rows(
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    store: StoreUrl = None,
    since: Annotated[float, typer.Option("--since", help="Slates from this time on (seconds since 1970).")] = 0.0,
    until: Annotated[float | None, typer.Option("--until", help="Slates before this time.")] = None,
    as_json: Json = False,
) -> None:
    """Write what was shown and clicked as rows for rankers."""
    from palate.serve.rows.clicks import write_click_rows
    from palate.serve.store import Store

    with Store.open(url_of(store)) as opened, progress_bars(quiet=as_json) as progress:
        count, place = write_click_rows(opened, out, since=since, until=until, progress=progress), opened.url
    if as_json:
        print_json({"store": place, "rows": count, "out": out})
        return
    say(f"{count:,} rows of {place}: {out}")
    say(f"Next: palate split {out} --label click --group slate --by time --time time --out rows")


@group.command()
@errors_to_exit_codes
def export(
    folder: Annotated[Path, typer.Argument(help="Folder for the Parquet files.")], store: StoreUrl = None, as_json: Json = False
) -> None:
    """Write every table as Parquet, as of one moment."""
    from palate.serve.store import Store
    from palate.serve.store.archive import export_store

    with Store.open(url_of(store)) as opened, progress_bars(quiet=as_json) as progress:
        written, place = export_store(opened, folder, progress=progress), opened.url
    if as_json:
        print_json({"store": place, "folder": written})
        return
    say(f"{place} exported to {written}")


@group.command(name="import")
@errors_to_exit_codes
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder made by palate store export.")],
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Put an export into an empty store (also from SQLite to PostgreSQL, or back)."""
    from palate.serve.store import Store
    from palate.serve.store.archive import import_store

    with Store.open(url_of(store)) as opened, progress_bars(quiet=as_json) as progress:
        rows, place = import_store(opened, folder, progress=progress), opened.url
    if as_json:
        print_json({"store": place, "rows": rows})
        return
    print_table([{"table": name, "rows": number} for name, number in rows.items()], title=f"Imported into {place}")
