"""Rows on the command line: how ``split``, ``fit``, ``evaluate`` and ``compare`` treat rankers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import one_of, refuse, stood_there
from palate.cli.output import cell, print_json, print_table, progress_bars, say
from palate.errors import ConfigError

if TYPE_CHECKING:
    from palate.contracts.ranker import Ranker
    from palate.data.row_fields import RowField
    from palate.data.row_split import RowSplit
    from palate.evaluation.reliability import Reliability

Labels = Annotated[list[str] | None, typer.Option("--label", help="Rows for rankers: a column to predict; repeat it.")]
Group = Annotated[str | None, typer.Option("--group", help="Rows for rankers: the column of the request or person.")]
GroupIsField = Annotated[bool, typer.Option("--group-is-field", help="Rankers learn from the column of --group, too.")]
Weight = Annotated[str | None, typer.Option("--weight", help="Rows for rankers: the column of weights.")]
By = Annotated[str, typer.Option("--by", help="Rows for rankers are dealt by random, group or time.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Rows for rankers: the column of times.")]
HoldOut = Annotated[
    float, typer.Option("--hold-out", min=0.0, max=0.9, help="Share of a ranker's rows that says when to stop (files only).")
]


#: How a guess about a column is put right.
EDITED = """To read a column otherwise: --set 'fields=[{"name": "price", "kind": "bucket"}]' at fit, or RowField in Python.
To leave one out, such as what is known only afterwards: --set 'leave_out=["price"]' at fit."""


#: What is said of a split that took the place of another.
REPLACED = " (it replaced the split that stood there)"


def _opened(looks: int, group: str | None) -> str:
    """Say how often the test part was opened, and what the intervals draw."""
    times = "once" if looks == 1 else f"{looks} times"
    drawn = "single rows" if group is None else f"the values of column {group!r}, each with all its rows"
    return f"The test part has been opened {times}. Intervals: 95%, bootstrap over {drawn}."


def split_rows(
    source: str,
    out: Path,
    labels: Sequence[str],
    *,
    group: str | None,
    group_is_field: bool,
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
    replaced = stood_there(out)
    columns: dict[str, Any] = {"labels": labels, "group": group, "group_is_field": group_is_field, "weight": weight}
    made = row_split.split_rows(source, out, **columns, how=how, time=time, seed=seed, **options)
    _tell_split(made, out, f"dealt by {by}", replaced=replaced, as_json=as_json)


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
    replaced = stood_there(out)
    made = split_event_rows(source, out, tasks=tuple(tasks) or TASKS, on_bad_rows=on_bad_rows, **options)
    _tell_split(made, out, "cut at two moments", replaced=replaced, as_json=as_json)


def _tell_split(made: RowSplit, out: Path, how: str, *, replaced: bool, as_json: bool) -> None:
    """Say what stands in a split of rows, and how its columns look."""
    fields = _guessed(made)
    facts = {"folder": made.folder, "fingerprint": made.fingerprint, "labels": list(made.labels), "spec": made.spec}
    if as_json:
        print_json({**facts, "fields": fields, "replaced": replaced})
        return
    rows = made.spec["rows"]
    say(f"{sum(rows.values()):,} rows {how}: " + ", ".join(f"{count:,} {part}" for part, count in rows.items()))
    say(f"Labels: {', '.join(made.labels)}.")
    print_table(fields, title="Fields, as the columns look")
    if made.group is not None:
        also = "a field, too" if made.group_is_field else "no field"
        say(f"Column {made.group!r} says which rows go together, and is {also}.")
    say(EDITED)
    say(f"Written to {out}{REPLACED if replaced else ''}. Next: palate compare {shlex.quote(str(out))} --models lr,fm,deepfm")


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
    from palate.data.row_split import is_row_split, read_row_split

    ready = is_row_split(data)
    if ready:
        refuse({"--label": labels, "--group": group, "--weight": weight}, "the split says this already", where=data)
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
    guessed = "" if ready or labels else " (a guess by the column's name; else say --label COLUMN)"
    say(f"Learnt to predict: {_tasks(fitted)}{guessed}.")
    print_table(fields, title="Fields")
    say(EDITED)
    say(f"{fitted.name} fitted in {fitted.record_.seconds:.1f} s on {fitted.record_.data.get('rows', 0):,} rows")
    if (best := fitted.record_.notes.get("best_value")) is not None:
        say(f"Best validation value {best:.4f}, after epoch {fitted.record_.notes['best_epoch']}")
    further = ["evaluate", str(out), "--split", data] if ready else ["predict", str(out), data, "--out", "predictions.parquet"]
    say(f"Saved to {out}. Next: {shlex.join(['palate', *further])}")


def _tasks(fitted: Any) -> str:
    """Return the tasks of a fitted ranker, and what kind of label each has."""
    return "; ".join(f"{task.name}, {'yes or no' if task.binary else 'a number'}" for task in fitted.kinds_)


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
            import numpy as np
            import pyarrow as pa

            before = 0
            for at, table in enumerate(blocks()):
                out = generator(seed, "held out", at).random(table.num_rows) < hold_out
                kept = out if held else ~out
                own = table.filter(pa.array(kept))
                own = own if group is None else own.drop_columns([group])
                yield Rows.of_table(own, chosen, weight=weight, source_rows=before + np.flatnonzero(kept))
                before += table.num_rows

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
    with split.looking():
        found = answered(model, part_of(split, part), groups_of(split, part))
        values = found.values(metrics or ())
    rows = [{"task": v.task, "metric": v.metric, "value": v.value, "low": v.low, "high": v.high} for v in values]
    document = {
        "system": model.name,
        "part": part,
        "rows": len(found.truth),
        "rows/s": len(found.truth) / max(found.seconds, 1e-9),
        "values": rows,
        "reliability": {task: curve.table().to_pylist() for task, curve in found.reliability().items()},
        "looks": split.looks,
        "drawn by": split.group,
    }
    title = f"{model.name} on {len(found.truth):,} rows of {folder} ({part})"
    curves = found.reliability()
    _show(document, rows, title, out, curves, [_opened(split.looks, split.group)], as_json=as_json)
    for task, curve in () if as_json else curves.items():
        _show_reliability(task, curve)


def _show_reliability(task: str, curve: Reliability) -> None:
    """Print the bins of a task: what was predicted, and what happened, with its interval."""
    headings = {"count": "rows", "mean": "predicted", "rate": "happened", "rate_low": "95% low", "rate_high": "95% high"}
    told = [
        {"bin": f"{row['low']:.3f} to {row['high']:.3f}"} | {headings[n]: row[n] for n in headings}
        for row in curve.table().to_pylist()
    ]
    print_table(told, title=f"Reliability of {task}: rows of like predictions (ece {curve.error:.4f})")


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
    told = [_told(pair) for pair in report.pairs] + [_opened(report.setup["looks"], report.setup["drawn by"])]
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
