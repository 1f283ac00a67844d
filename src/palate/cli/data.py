"""``palate data`` and ``palate split``: public data sets, audits, conversions, splits."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.options import (
    Accept,
    BadRows,
    Columns,
    Format,
    Out,
    Positive,
    Reading,
    Seed,
    Source,
    is_split,
    load_dataset,
    load_split,
    one_of,
    pairs,
    refuse,
    report_dropped,
    stood_there,
    values,
)
from palate.cli.output import (
    DATA,
    FAILED,
    Json,
    errors_to_exit_codes,
    note,
    print_facts,
    print_json,
    print_table,
    progress_bars,
    say,
)
from palate.cli.rows import REPLACED, By, Group, GroupIsField, Labels, TimeColumn, Weight, split_events, split_rows

group = typer.Typer(no_args_is_help=True, help="Public data sets, audits and conversions.")


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(group, name="data", rich_help_panel=DATA)
    app.command(name="split", rich_help_panel=DATA)(split)


@group.command(name="list")
@errors_to_exit_codes
def list_(as_json: Json = False) -> None:
    """List the public data sets that Palate knows."""
    from palate.data import public

    rows = [_facts(data) for data in public.catalogue()]
    if as_json:
        print_json(rows)
    else:
        columns = ["name", "title", "users", "items", "interactions", "licence"]
        print_table(rows, columns, optional=("licence", "title"))
        say("Licence and source of one: palate data info NAME")


def _facts(data: Any) -> dict[str, Any]:
    expected = data.counts
    counts = {name: expected.get(name) for name in ("users", "items", "interactions")}
    files = [{"url": file.url, "checksum": file.checksum} for file in data.downloads]
    return {"name": data.name, "title": data.title, **counts, "licence": data.licence, "url": data.url, "files": files}


@group.command()
@errors_to_exit_codes
def info(
    source: Source,
    format: Format = None,
    column: Columns = None,
    reading: Reading = None,
    on_bad_rows: BadRows = "error",
    as_json: Json = False,
) -> None:
    """Describe a public data set, or a source of your own."""
    from palate.data import public

    known = {data.name: data for data in public.catalogue()}
    if source in known and not Path(source).exists():
        facts = {k: v for k, v in _facts(known[source]).items() if v is not None}
    else:
        with progress_bars(quiet=as_json) as progress:
            facts = describe(
                load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows, reading=reading)
            )
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


def describe(dataset: Any) -> dict[str, Any]:
    """Return the facts of a data set that a reader asks for first."""
    from palate.data.readers import rows_dropped

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
        "graphs": _graphs(dataset),
        "logs": {
            name: log.num_rows
            for name in ("searches", "impressions", "dialogues")
            if (log := getattr(dataset, name)) is not None
        },
        "rows dropped": rows_dropped(dataset),
        "fingerprint": dataset.fingerprint,
        "steps": [dict(step) for step in dataset.spec],
    }
    if events.time is not None and len(events):
        import numpy as np

        first, last = (np.datetime64(int(t), "s") for t in (events.time.min(), events.time.max()))
        facts["from"], facts["to"] = str(first), str(last)
    return facts


def _graphs(dataset: Any) -> dict[str, dict[str, int]]:
    """Return how much stands in each graph, and how many links were left out because the events lack whom they join."""
    lost = {name: counts[1] for step in dataset.spec for name, counts in step.get("links", {}).items()}
    found = {}
    for name, graph in sorted(dataset.graphs.items()):
        found[name] = {"links": len(graph), "left out": lost.get(name, 0), "relations": len(graph.relations)}
        if graph.entities is not None:
            found[name]["entities"] = len(graph.entities)
        if graph.item_entity is not None:
            found[name]["items with an entity"] = int((graph.item_entity >= 0).sum())
    return found


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
    say(f"{facts.title}: {folder}")
    say(f"Licence: {facts.licence}")
    say(f"Next: palate data audit {name}")


@group.command()
@errors_to_exit_codes
def audit(
    source: Source,
    accept: Accept = None,
    format: Format = None,
    column: Columns = None,
    reading: Reading = None,
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

            dataset = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows, reading=reading)
            timed = dataset.interactions.time is not None
            report = look(cut(dataset, "global_time" if timed else "leave_one_out"), accept=tuple(accept or ()))
    if as_json:
        print_json(report.to_dict())
    else:
        say(str(report))
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
    reading: Reading = None,
    on_bad_rows: BadRows = "error",
    as_json: Json = False,
) -> None:
    """Rewrite a source in another format."""
    from palate.data import writers

    known = {"parquet": writers.write_parquet, "recbole": writers.write_recbole}
    one_of(to, known, "--to")
    with progress_bars(quiet=as_json) as progress:
        dataset = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows, reading=reading)
    known[to](dataset, out)
    if as_json:
        print_json({"folder": out, **describe(dataset)})
    else:
        say(f"{dataset} written to {out}")


@errors_to_exit_codes
def split(
    source: Source,
    out: Out,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="leave_one_out, global_time, user_ratio, held_out_users, "
            "held_out_items, sessions, next_product, next_event, rolling, given (published), "
            "or event_rows (rows for rankers of MerRec's events; --label names event types).",
        ),
    ] = "global_time",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the protocol, such as test=0.2; repeat it.")
    ] = None,
    seed: Seed = 0,
    positive: Positive = None,
    min_value: Annotated[float | None, typer.Option("--min-value", help="Keep events of at least this value.")] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="Keep events from this time on (unix seconds or ISO 8601).")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", help="Keep events before this time.")] = None,
    dedup: Annotated[str | None, typer.Option("--dedup", help="Merge repeats: first, last, sum or max.")] = None,
    k_core: Annotated[int | None, typer.Option("--k-core", min=1, help="Keep users and items with this many events.")] = None,
    once: Annotated[bool, typer.Option("--k-core-once", help="Apply the k-core's bounds once, not until they hold.")] = False,
    accept: Accept = None,
    format: Format = None,
    column: Columns = None,
    reading: Reading = None,
    on_bad_rows: BadRows = "error",
    label: Labels = None,
    group: Group = None,
    group_is_field: GroupIsField = False,
    weight: Weight = None,
    by: By = "random",
    time: TimeColumn = None,
    as_json: Json = False,
) -> None:
    """Cut events into train, validation and test, check them for leaks, and write them; with --label, rows for rankers."""
    filters = {"--positive": positive or None, "--min-value": min_value, "--start": start, "--end": end}
    filters |= {"--dedup": dedup, "--k-core": k_core}
    chosen: dict[str, Any] = {option: value for option, value in filters.items() if value is not None}
    if protocol == "event_rows":
        split_events(source, out, label or (), list(chosen), values(set_, "--set"), on_bad_rows=on_bad_rows, as_json=as_json)
        return
    if label:
        of_events = {**dict.fromkeys(chosen, True), "--format": format, "--column": column, "--read": reading}
        refuse(of_events, "with --label a source is rows, not events", where="split")
        options = values(set_, "--set")
        how: dict[str, Any] = {"group": group, "group_is_field": group_is_field, "weight": weight}
        how |= {"by": by, "time": time, "options": options}
        split_rows(source, out, label, seed=seed, as_json=as_json, **how)
        return
    of_rows = {"--group": group, "--group-is-field": group_is_field, "--weight": weight, "--time": time}
    refuse(of_rows, "without --label a source is events, not rows", where="split")
    from palate.data.readers import rows_dropped
    from palate.data.split_files import write_rolling, write_split
    from palate.errors import ConfigError

    options = values(set_, "--set")
    with progress_bars(quiet=as_json) as progress:
        if protocol == "given":
            counts = chosen.pop("--positive", ())
            if chosen:
                remedy = "leave them out, say by --positive which events count as choices, or choose another protocol"
                what = "filters would change the published parts."
                raise ConfigError(what, where="--protocol given", value=chosen, remedy=remedy)
            reader = {"format": format, "columns": pairs(column, "--column") or None, "on_bad_rows": on_bad_rows}
            splits = [_published(source, seed, options, counts, {**reader, **values(reading, "--read")})]
            report_dropped(splits[0].train)
        else:
            dataset = load_dataset(source, progress, format=format, columns=column, on_bad_rows=on_bad_rows, reading=reading)
            splits = _cut(_filtered(dataset, chosen, once=once), protocol, seed, options)
    reports = [made.audit(accept=tuple(accept or ())) for made in splits]
    replaced = stood_there(out)
    folders = write_rolling(splits, out) if protocol == "rolling" else [write_split(splits[0], out)]
    if as_json:
        answers = [
            {
                "folder": folder,
                "fingerprint": made.fingerprint,
                "spec": made.spec,
                "rows_dropped": rows_dropped(made.train),
                "audit": report.to_dict(),
                "replaced": replaced,
            }
            for folder, made, report in zip(folders, splits, reports, strict=True)
        ]
        print_json(answers if protocol == "rolling" else answers[0])
        return
    _note_of_values(splits[0].train, positive or min_value is not None)
    for folder, made, report in zip(folders, splits, reports, strict=True):
        say(str(made))
        say(str(report))
        say(f"Written to {folder}{REPLACED if replaced else ''}. Next: palate compare {shlex.quote(str(folder))}")


def _note_of_values(train: Any, chosen: Any) -> None:
    """Tell whoever has ratings, and didn't say which are choices, that a low one counts as much as a high one."""
    value = train.interactions.value
    if chosen or value is None or value.min() == value.max():
        return
    known = f"of any value ({value.min():g} to {value.max():g})"
    note(f"Every event counts as a choice, {known}. Where low ones are no choices: --positive :LEAST, such as --positive :4.")


def _filtered(dataset: Any, chosen: dict[str, Any], *, once: bool) -> Any:
    from palate.data import filters

    if "--positive" in chosen:
        dataset = filters.positive(dataset, chosen["--positive"])
    if "--min-value" in chosen:
        dataset = filters.min_value(dataset, chosen["--min-value"])
    if "--start" in chosen or "--end" in chosen:
        dataset = filters.time_window(dataset, chosen.get("--start"), chosen.get("--end"))
    if "--dedup" in chosen:
        dataset = filters.dedup(dataset, keep=chosen["--dedup"])
    if "--k-core" in chosen:
        dataset = filters.k_core(dataset, user=chosen["--k-core"], item=chosen["--k-core"], iterate=not once)
    return dataset


def _cut(dataset: Any, protocol: str, seed: int, options: dict[str, Any]) -> list[Any]:
    from palate.data import protocols

    if protocol != "rolling":
        return [protocols.split(dataset, protocol, seed=seed, **options)]
    for name in options:
        one_of(name, ("windows", "days", "valid_days"), "--set")
    return protocols.rolling(dataset, seed=seed, **options)


def _published(source: str, seed: int, options: dict[str, Any], counts: Sequence[str], reader: dict[str, Any]) -> Any:
    from palate.data import public
    from palate.data.protocols import from_parts
    from palate.data.readers import read_parts

    for name in options:
        one_of(name, ("valid", "order"), "--set")
    if not Path(source).exists() and source in {data.name for data in public.catalogue()}:
        return public.load_split(source, positive=counts, seed=seed, **options)
    return from_parts(read_parts(source, **reader), positive=counts, seed=seed, **options)
