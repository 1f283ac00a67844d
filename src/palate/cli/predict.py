"""``palate predict``: a ranker's answers beside the rows, and their reasons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.options import Out
from palate.cli.output import MODELS, Json, errors_to_exit_codes, print_json, progress_bars, say
from palate.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from palate.contracts.ranker import Ranker, Rows
    from palate.progress import Progress


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=MODELS)(predict)


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
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from palate.catalog.registry import load
    from palate.contracts.ranker import Rows
    from palate.data.row_tables import row_blocks
    from palate.evaluation.report_files import write_atomic

    model = load(bundle, "rank")
    if task is not None and not reasons:
        raise ConfigError("--task says what reasons are of.", where="--task", value=task, remedy="add --reasons 3")
    blocks, count = row_blocks(rows), 0

    def write(work: Path, progress: Progress) -> None:
        nonlocal count
        writer, total = None, sum(table.num_rows for table in blocks()) if reasons else 0
        for table in blocks():
            asked = Rows(table, source_rows=np.arange(count, count + table.num_rows))
            found = model.predict(asked)
            why = _reasons(model, asked, reasons, task, progress, total) if reasons else None
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

    with progress_bars(quiet=as_json) as progress:
        write_atomic(out, lambda work: write(work, progress))
    if as_json:
        print_json({"bundle": bundle, "rows": count, "out": out, "tasks": list(model.tasks)})
        return
    columns = [f"predicted_{name}" for name in model.tasks] + ([f"reasons_{task or model.tasks[0]}"] if reasons else [])
    say(f"{count:,} rows predicted: {out} (columns {', '.join(columns)})")


def _reasons(model: Ranker, rows: Rows, most: int, task: str | None, progress: Progress, total: int) -> pa.Array:
    """Return for each row of a block the strongest reasons of its prediction, each with its part of the score."""
    import pyarrow as pa

    from palate.progress import ProgressEvent

    kind = pa.list_(pa.struct([("reason", pa.string()), ("part", pa.float64())]))
    before = 0 if rows.source_rows is None else int(rows.source_rows[0])
    found = []
    for at in range(len(rows)):
        why = model.explain_row(rows.slice(at, at + 1), task)
        found.append([{"reason": str(one.subject), "part": one.weight} for one in why.evidence[:most]])
        progress(ProgressEvent("reasons", before + at + 1, total))
    return pa.array(found, kind)
