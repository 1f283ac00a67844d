"""``palate data`` and ``palate split``: public data sets, audits, conversions, splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.options import BadRows, Columns, Format, Out, Seed, Settings, Source, is_split, load_dataset, load_split, pairs
from palate.cli.output import FAILED, Json, console, errors_to_exit_codes, print_json, print_table, progress_bars

group = typer.Typer(no_args_is_help=True, help="Public data sets, audits and conversions.")


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(group, name="data")
    app.command(name="split")(split)


@group.command(name="list")
@errors_to_exit_codes
def list_(as_json: Json = False) -> None:
    """List the public data sets that Palate knows."""
    from palate.data import public

    rows = [_facts(data) for data in public.catalogue()]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ["name", "title", "users", "items", "interactions", "licence"])


def _facts(data: Any) -> dict[str, Any]:
    expected = data.counts
    counts = {name: expected.get(name) for name in ("users", "items", "interactions")}
    files = [{"url": file.url, "checksum": file.checksum} for file in data.downloads]
    return {"name": data.name, "title": data.title, **counts, "licence": data.licence, "url": data.url, "files": files}


@group.command()
@errors_to_exit_codes
def info(source: Source, format: Format = None, column: Columns = None, as_json: Json = False) -> None:
    """Describe a public data set, or a source of your own."""
    from palate.data import public

    known = {data.name: data for data in public.catalogue()}
    if source in known and not Path(source).exists():
        facts = {k: v for k, v in _facts(known[source]).items() if v is not None}
    else:
        with progress_bars(quiet=as_json) as progress:
            facts = describe(load_dataset(source, progress, format=format, columns=column))
    if as_json:
        print_json(facts)
    else:
        print_table([{"field": k, "value": str(v)} for k, v in facts.items()])


def describe(dataset: Any) -> dict[str, Any]:
    """Return the facts of a data set that a reader asks for first."""
    events = dataset.interactions
    facts = {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": len(dataset),
        "density": len(dataset) / max(1, dataset.n_users * dataset.n_items),
        "columns": sorted(set(events.columns) - {"row"}),
        "item attributes": [] if dataset.items.attributes is None else dataset.items.attributes.column_names,
        "user attributes": [] if dataset.users.attributes is None else dataset.users.attributes.column_names,
        "graphs": sorted(dataset.graphs),
        "fingerprint": dataset.fingerprint,
        "steps": [dict(step) for step in dataset.spec],
    }
    if events.time is not None and len(events):
        import numpy as np

        first, last = (np.datetime64(int(t), "s") for t in (events.time.min(), events.time.max()))
        facts["from"], facts["to"] = str(first), str(last)
    return facts


@group.command()
@errors_to_exit_codes
def get(name: Annotated[str, typer.Argument(help="Name from palate data list.")], as_json: Json = False) -> None:
    """Fetch a public data set (checksum verified, licence shown)."""
    from palate.data import public

    with progress_bars(quiet=as_json) as progress:
        folder = public.get(name, progress=progress)
    facts = public.info(name)
    if as_json:
        print_json({"name": name, "folder": folder, "licence": facts.licence, "url": facts.url})
        return
    console().print(f"{facts.title}: {folder}")
    console().print(f"Licence: {facts.licence}")
    console().print(f"Next: palate data audit {name}")


@group.command()
@errors_to_exit_codes
def audit(
    source: Source,
    accept: Annotated[list[str] | None, typer.Option("--accept", help="Code of a leak that you accept; repeat it.")] = None,
    format: Format = None,
    column: Columns = None,
    on_bad_rows: BadRows = "error",
    as_json: Json = False,
) -> None:
    """Look for leaks and oddities in a split, or in a source cut by global time."""
    from palate.data.audit import audit as look

    with progress_bars(quiet=as_json) as progress:
        if is_split(source):
            report = look(load_split(source), accept=tuple(accept or ()))
        else:
            from palate.data.protocols import split as cut

            dataset = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows)
            timed = dataset.interactions.time is not None
            report = look(cut(dataset, "global_time" if timed else "leave_one_out"), accept=tuple(accept or ()))
    if as_json:
        print_json(report.to_dict())
    else:
        console().print(str(report), markup=False)
    if any(f.severity == "hard" and f.code not in (accept or ()) for f in report.findings):
        raise typer.Exit(FAILED)


@group.command()
@errors_to_exit_codes
def convert(
    source: Source,
    out: Out,
    to: Annotated[str, typer.Option("--to", help="parquet, or recbole (atomic files).")] = "parquet",
    format: Format = None,
    column: Columns = None,
    on_bad_rows: BadRows = "error",
    as_json: Json = False,
) -> None:
    """Rewrite a source in another format."""
    from palate.data import writers
    from palate.errors import ConfigError, nearest

    known = {"parquet": writers.write_parquet, "recbole": writers.write_recbole}
    if to not in known:
        raise ConfigError("unknown format.", where="--to", value=to, remedy=nearest(to, known))
    with progress_bars(quiet=as_json) as progress:
        dataset = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows)
    known[to](dataset, out)
    if as_json:
        print_json({"folder": out, **describe(dataset)})
    else:
        console().print(f"{dataset} written to {out}", markup=False)


@errors_to_exit_codes
def split(
    source: Source,
    out: Out,
    protocol: Annotated[
        str, typer.Option("--protocol", help="leave_one_out, global_time, user_ratio, held_out_users, sessions or given.")
    ] = "global_time",
    set_: Settings = None,
    seed: Seed = 0,
    min_value: Annotated[float | None, typer.Option("--min-value", help="Keep events of at least this value.")] = None,
    k_core: Annotated[int | None, typer.Option("--k-core", min=1, help="Keep users and items with this many events.")] = None,
    dedup: Annotated[str | None, typer.Option("--dedup", help="Merge repeats: first, last, sum or max.")] = None,
    accept: Annotated[list[str] | None, typer.Option("--accept", help="Code of a leak that you accept; repeat it.")] = None,
    format: Format = None,
    column: Columns = None,
    on_bad_rows: BadRows = "error",
    as_json: Json = False,
) -> None:
    """Cut events into train, validation and test, check them for leaks, and write them."""
    from palate.data import filters
    from palate.data.audit import audit as look
    from palate.data.protocols import split as cut
    from palate.data.split_files import write_split

    with progress_bars(quiet=as_json) as progress:
        dataset = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows)
    if min_value is not None:
        dataset = filters.min_value(dataset, min_value)
    if dedup is not None:
        dataset = filters.dedup(dataset, keep=dedup)  # type: ignore[arg-type]
    if k_core is not None:
        dataset = filters.k_core(dataset, user=k_core, item=k_core)
    parts = cut(dataset, protocol, seed=seed, **_numbers(pairs(set_, "--set")))
    report = look(parts, accept=tuple(accept or ()))
    report.check()
    write_split(parts, out)
    if as_json:
        print_json({"folder": out, "fingerprint": parts.fingerprint, "spec": parts.spec, "audit": report.to_dict()})
        return
    console().print(str(parts), markup=False)
    console().print(str(report), markup=False)
    console().print(f"Written to {out}. Next: palate compare {out}")


def _numbers(options: dict[str, str]) -> dict[str, Any]:
    import json

    def read(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {key: read(value) for key, value in options.items()}
