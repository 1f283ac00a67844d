"""Rows on the command line: how ``split``, ``fit``, ``evaluate`` and ``compare`` treat rankers; and ``palate predict``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import Out, one_of
from palate.cli.output import MODELS, Json, cell, errors_to_exit_codes, print_json, print_table, progress_bars, say
from palate.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from palate.contracts.ranker import Ranker, Rows
    from palate.data.row_fields import RowField
    from palate.data.row_split import RowSplit
    from palate.evaluation.reliability import Reliability

Labels = Annotated[list[str] | None, typer.Option("--label", help="Rows for rankers: a column to predict; repeat it.")]
Group = Annotated[str | None, typer.Option("--group", help="Rows for rankers: the column of the request or person.")]
Weight = Annotated[str | None, typer.Option("--weight", help="Rows for rankers: the column of weights.")]
By = Annotated[str, typer.Option("--by", help="Rows for rankers are dealt by random, group or time.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Rows for rankers: the column of times.")]
HoldOut = Annotated[
    float, typer.Option("--hold-out", min=0.0, max=0.9, help="Share of a ranker's rows that says when to stop (files only).")
]


#: How a guess about a column is put right.
EDITED = """To read a column otherwise: --set 'fields=[{"name": "price", "kind": "bucket"}]' at fit, or RowField in Python."""
#: What stands under every table.
OPENED = "The test part was opened {} times. Intervals: 95%, bootstrap over test rows."


def is_row_split(folder: Path) -> bool:
    """Say whether a folder holds a split of rows."""
    return (folder / "rows.json").is_file()


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=MODELS)(predict)


def split_rows(
    source: str,
    out: Path,
    labels: Sequence[str],
    *,
    group: str | None,
    weight: str | None,
    by: str,
    time: str | None,
    options: dict[str, Any],
    seed: int,
    as_json: bool,
) -> None:
    """Deal rows into parts, and write them."""
    from palate.data import row_split

    one_of(by, ("random", "group", "time"), "--by")
    for name in options:
        one_of(name, ("valid", "test"), "--set")
    how: Any = by
    made = row_split.split_rows(
        source, out, labels=labels, group=group, weight=weight, how=how, time=time, seed=seed, **options
    )
    _tell_split(made, out, f"dealt by {by}", as_json=as_json)


def split_events(
    source: str,
    out: Path,
    tasks: Sequence[str],
    filters: Sequence[str],
    options: dict[str, Any],
    *,
    on_bad_rows: Any,
    as_json: bool,
) -> None:
    """Make rows of a marketplace's events, cut them at two moments, and write them."""
    import inspect

    from palate.data.protocols.event_row_files import TASKS, split_event_rows

    if filters:
        raise ConfigError(
            "event_rows reads all events.", where="--protocol event_rows", value=list(filters), remedy="leave it out"
        )
    known = [n for n in inspect.signature(split_event_rows).parameters if n not in ("source", "out", "tasks", "on_bad_rows")]
    for name in options:
        one_of(name, known, "--set")
    made = split_event_rows(source, out, tasks=tuple(tasks) or TASKS, on_bad_rows=on_bad_rows, **options)
    _tell_split(made, out, "cut at two moments", as_json=as_json)


def _tell_split(made: RowSplit, out: Path, how: str, *, as_json: bool) -> None:
    """Say what stands in a split of rows, and how its columns look."""
    fields = _guessed(made)
    facts = {"folder": made.folder, "fingerprint": made.fingerprint, "labels": list(made.labels), "spec": made.spec}
    if as_json:
        print_json({**facts, "fields": fields})
        return
    rows = made.spec["rows"]
    say(f"{sum(rows.values()):,} rows {how}: " + ", ".join(f"{count:,} {part}" for part, count in rows.items()))
    print_table(fields, title="Fields, as the columns look")
    say(EDITED)
    say(f"Written to {out}. Next: palate compare {shlex.quote(str(out))} --models lr,fm,deepfm")


def _guessed(split: RowSplit) -> list[dict[str, Any]]:
    """Return how a ranker would read each column of the training part, from its first block."""
    from palate.data.row_fields import infer_fields
    from palate.study.row_parts import part_of

    table = next(iter(part_of(split, "train")())).features
    return [_field_row(field) for field in infer_fields(table)]


def _field_row(field: RowField) -> dict[str, Any]:
    """Return a field's name, kind, and those of its settings that matter to the kind."""
    kept = {
        "text": ("hash_buckets", "max_length"),
        "list": ("max_length",),
        "sequence": ("max_length",),
        "number": ("scale",),
        "bucket": ("buckets",),
        "cross": ("of",),
    }
    told = {name: getattr(field, name) for name in kept.get(field.kind, ())}
    return {"field": field.name, "kind": field.kind, "settings": ", ".join(f"{name} {value}" for name, value in told.items())}


def fit_ranker(
    unfitted: Ranker,
    data: str,
    out: Path,
    *,
    labels: Sequence[str],
    group: str | None,
    weight: str | None,
    hold_out: float,
    how: dict[str, Any],
    as_json: bool,
) -> None:
    """Fit a ranker on a split of rows, or on a file of which a part says when to stop; save it."""
    from palate.data.row_split import read_row_split

    if is_row_split(Path(data)):
        from palate.study.row_parts import part_of

        split = read_row_split(data)
        train, valid = (part_of(split, part, groups=unfitted.wants_groups) for part in ("train", "valid"))
        fitted = unfitted.fit(train, valid, **how)
    else:
        if unfitted.wants_groups:
            raise ConfigError(
                "this ranker learns from requests: give it a split of rows with groups.",
                where="--data",
                value=data,
                remedy="palate split FILE --label COLUMN --group COLUMN --by group --out DIR",
            )
        train, valid = _dealt(data, labels, group, weight, hold_out, how["seed"])
        fitted = unfitted.fit(train, valid, **how)
    fitted.save(out)
    fields = _learnt(fitted)
    facts = {
        "model": fitted.name,
        "bundle": out,
        "seconds": fitted.record_.seconds,
        "settings": fitted.config.model_dump(mode="json"),
        "data": dict(fitted.record_.data),
        "fields": fields,
    }
    if as_json:
        print_json({**facts, "notes": fitted.record_.notes})
        return
    print_table(fields, title="Fields")
    say(f"{fitted.name} fitted in {fitted.record_.seconds:.1f} s on {fitted.record_.data.get('rows', 0):,} rows")
    if (best := fitted.record_.notes.get("best_value")) is not None:
        say(f"Best validation value {best:.4f} after {fitted.record_.notes['best_epoch']} epochs")
    further = (
        ["evaluate", str(out), "--split", data]
        if is_row_split(Path(data))
        else ["predict", str(out), data, "--out", "predictions.parquet"]
    )
    say(f"Saved to {out}. Next: {shlex.join(['palate', *further])}")


def _learnt(fitted: Any) -> list[dict[str, Any]]:
    """Return the fields of a fitted ranker, with how many codes each has (those of unknown and missing values included)."""
    encoder = fitted.encoder_
    return [{**_field_row(field), "codes": encoder.layout.sizes.get(field.name)} for field in encoder.fields]


def _dealt(
    data: str, labels: Sequence[str], group: str | None, weight: str | None, hold_out: float, seed: int
) -> tuple[Any, Any]:
    """Return training rows and rows that say when to stop (or ``None``) of a file, drawn at random, the same each pass."""
    from palate.contracts.ranker import Rows
    from palate.data.row_split import label_columns
    from palate.data.row_tables import row_blocks
    from palate.runtime import generator

    blocks = row_blocks(data)
    chosen = label_columns(next(iter(blocks())).column_names, labels)

    def part(held: bool) -> Any:
        def rows() -> Any:
            import pyarrow as pa

            for at, table in enumerate(blocks()):
                out = generator(seed, "held out", at).random(table.num_rows) < hold_out
                own = table.filter(pa.array(out if held else ~out))
                yield Rows.of_table(own if group is None else own.drop_columns([group]), chosen, weight=weight)

        return rows

    return part(False), part(True) if hold_out > 0 else None


def evaluate_ranker(
    bundle: Path, folder: Path, *, part: str, metrics: Sequence[str] | None, out: Path | None, as_json: bool
) -> None:
    """Judge a ranker on a part of a split of rows."""
    from palate.catalog.registry import load
    from palate.data.row_split import read_row_split
    from palate.study.row_parts import groups_of, part_of
    from palate.study.rows import answered

    _check_out(out)
    split, model = read_row_split(folder), load(bundle, "rank")
    found = answered(model, part_of(split, part), groups_of(split, part))
    rows = [
        {"task": v.task, "metric": v.metric, "value": v.value, "low": v.low, "high": v.high}
        for v in found.values(metrics or ())
    ]
    document = {
        "system": model.name,
        "part": part,
        "rows": len(found.truth),
        "rows/s": len(found.truth) / max(found.seconds, 1e-9),
        "values": rows,
        "reliability": {task: curve.table().to_pylist() for task, curve in found.reliability().items()},
        "looks": split.looks,
    }
    title = f"{model.name} on {len(found.truth):,} rows of {folder} ({part})"
    _show(document, rows, title, out, found.reliability(), [OPENED.format(split.looks)], as_json=as_json)


def compare_rankers(
    folder: Path,
    models: Sequence[str],
    *,
    metrics: Sequence[str] | None,
    trials: int,
    seeds: int,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare rankers on a split of rows."""
    from palate.data.row_split import read_row_split
    from palate.study import rows as study

    _check_out(out)
    with progress_bars(quiet=as_json) as progress:
        report = study.compare_rankers(
            read_row_split(folder), models, metrics=metrics or (), trials=trials, seeds=seeds, seed=seed, progress=progress
        )
    table = [
        {name: _with_interval(value) if isinstance(value, dict) and "low" in value else value for name, value in row.items()}
        for row in report.rows
    ]
    shown = [{name: value for name, value in row.items() if name not in ("settings", "trials")} for row in table]
    told = [_told(pair) for pair in report.pairs] + [OPENED.format(report.setup["looks"])]
    _show(report.to_dict(), shown, f"Rankers on {folder}", out, report.curves, told, as_json=as_json)


def _told(pair: dict[str, Any]) -> str:
    words = "is better than" if pair["counts"] else "can't be told from"
    size = f"{pair['metric']} by {pair['by']:.4f} [{pair['low']:.4f}, {pair['high']:.4f}]"
    return f"{pair['better']} {words} {pair['worse']}: {size}"


def _check_out(out: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    if out is None:
        return
    if out.suffix not in (".json", ".html"):
        raise ConfigError("unknown kind of report.", where="--out", value=out.name, remedy="end in .json or .html")
    if out.suffix == ".html":
        from palate.extras import require

        for module in ("jinja2", "matplotlib"):
            require(module, "a report in HTML")


def _with_interval(value: dict[str, Any]) -> str:
    return f"{value['value']:.4f} ±{(value['high'] - value['low']) / 2:.4f}"


def _show(
    document: dict[str, Any],
    rows: list[dict[str, Any]],
    title: str,
    out: Path | None,
    curves: Mapping[str, Reliability],
    notes: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Write the report that is wanted, and print what it says."""
    if out is not None and out.suffix == ".html":
        from palate.evaluation.rows_html import write_rows_html

        write_rows_html(out, title, [{name: cell(value) for name, value in row.items()} for row in rows], curves, notes)
    elif out is not None:
        import json

        from palate.evaluation.report_files import write_text

        write_text(out, json.dumps(document, indent=2, default=str) + "\n")
    if as_json:
        print_json(document)
        return
    print_table(rows, title=title)
    for note in notes:
        say(note)
    if out is not None:
        say(f"Report: {out}")


@errors_to_exit_codes
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle of a ranker.")],
    rows: Annotated[str, typer.Argument(help="Rows: a Parquet, Arrow, CSV, TSV or JSONL file, or a folder of such.")],
    out: Out,
    reasons: Annotated[int, typer.Option("--reasons", min=0, help="Give as many of the strongest reasons for each row.")] = 0,
    task: Annotated[str | None, typer.Option("--task", help="What the reasons are of: the first task by default.")] = None,
    as_json: Json = False,
) -> None:
    """Predict rows with a ranker; writes the rows with a column for each task, in Parquet.

    With --reasons a column of reasons too, each with its part of the score (of the log-odds, where the task is yes or no).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from palate.catalog.registry import load
    from palate.contracts.ranker import Rows
    from palate.data.row_tables import row_blocks
    from palate.evaluation.report_files import write_atomic

    model = load(bundle, "rank")
    if task is not None and not reasons:
        raise ConfigError("--task says what reasons are of.", where="--task", value=task, remedy="add --reasons 3")
    count = 0

    def write(work: Path) -> None:
        nonlocal count
        writer = None
        for table in row_blocks(rows)():
            found = model.predict(Rows(table))
            why = _reasons(model, Rows(table), reasons, task) if reasons else None
            for at, name in enumerate(found.tasks):
                table = table.append_column(f"predicted_{name}", pa.array(found.values[:, at]))
            if why is not None:
                table = table.append_column(f"reasons_{task or found.tasks[0]}", why)
            writer = writer or pq.ParquetWriter(work, table.schema)
            writer.write_table(table)
            count += table.num_rows
        if writer is None:
            raise ConfigError("there are no rows.", where=rows)
        writer.close()

    write_atomic(out, write)
    if as_json:
        print_json({"bundle": bundle, "rows": count, "out": out, "tasks": list(model.tasks)})
        return
    columns = [f"predicted_{name}" for name in model.tasks] + ([f"reasons_{task or model.tasks[0]}"] if reasons else [])
    say(f"{count:,} rows predicted: {out} (columns {', '.join(columns)})")


def _reasons(model: Ranker, rows: Rows, most: int, task: str | None) -> pa.Array:
    """Return for each row the strongest reasons of its prediction, each with its part of the score."""
    import pyarrow as pa

    kind = pa.list_(pa.struct([("reason", pa.string()), ("part", pa.float64())]))
    found = (model.explain_row(rows.slice(at, at + 1), task) for at in range(len(rows)))
    return pa.array([[{"reason": str(one.subject), "part": one.weight} for one in why.evidence[:most]] for why in found], kind)
