"""``palate act``: slates of a saved policy, with the chances that a log needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.output import MODELS, Json, errors_to_exit_codes, note, print_json, print_table
from palate.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=MODELS)(act)


@errors_to_exit_codes
def act(
    bundle: Annotated[Path, typer.Argument(help="A bundle of a policy, made by palate fit.")],
    history: Annotated[str | None, typer.Option("--history", help="Item ids with commas, oldest first; may be empty.")] = None,
    histories: Annotated[
        Path | None,
        typer.Option("--histories", help="Parquet (a file or folder): user and a list items, oldest first; or events."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Positions of a slate.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write rows to this Parquet file.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Show items already seen, too.")] = False,
    as_json: Json = False,
) -> None:
    """Let a policy choose slates, with how likely each choice was: log that beside what came of it."""
    from palate.catalog.registry import load
    from palate.evaluation.report_files import write_atomic
    from palate.runtime import generator
    from palate.study import questions
    from palate.study.choices import choices

    if (history is None) == (histories is None):
        raise ConfigError("name whom to choose for in one way.", remedy="--history IDS or --histories FILE")
    policy = load(bundle, "explore")
    if histories is not None:
        pieces = questions.of_parquet(histories)
    else:
        items = [i.strip() for i in (history or "").split(",") if i.strip()]
        unknown = [i for i in items if policy.items_.ids.number(i) < 0]
        if unknown:
            note(f"Left out, not in the catalogue: {', '.join(unknown)}")
        pieces = questions.of_history(items)
    rng = generator(seed, "act")
    blocks = choices(policy, pieces, k, rng, include_seen=include_seen, labels=out is None)
    if out is None:
        _show([row for block in blocks for row in block.to_pylist()], as_json=as_json)
        return
    rows = write_atomic(out, lambda work: _write(blocks, work)) and _count(out)
    if as_json:
        print_json({"out": out, "rows": rows})
    else:
        note(f"{rows:,} positions: {out}. Beside what came of each: palate off-policy judges other policies by them.")


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        titled = any(row["label"] != str(row["item"]) for row in rows)
        print_table(rows, ["user", "position", "item", *(["label"] if titled else []), "propensity"])


def _write(blocks: Iterator[pa.Table], path: Path) -> None:
    import pyarrow.parquet as pq

    writer = None
    try:
        for block in blocks:
            writer = writer or pq.ParquetWriter(path, block.schema)
            writer.write_table(block)
    finally:
        if writer is not None:
            writer.close()


def _count(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
