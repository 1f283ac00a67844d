"""``palate act``: slates of a saved policy, with the chances that a log needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.answer import named_items
from palate.cli.options import refuse, values
from palate.cli.output import MODELS, Json, errors_to_exit_codes, note, print_json, print_table
from palate.errors import ConfigError


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
    context: Annotated[
        list[str] | None,
        typer.Option("--context", help="NAME=VALUE that the policy reads, beside --history; repeat it (files: columns)."),
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
    from palate.study.answers import write_tables
    from palate.study.choices import choices

    if (history is None) == (histories is None):
        raise ConfigError("name whom to choose for in one way.", remedy="--history IDS or --histories FILE")
    told = values(context, "--context")
    if histories is not None:
        refuse({"--context": told}, "context of many stands in columns of their file", where="--histories")
    policy = load(bundle, "explore")
    if histories is not None:
        pieces = questions.of_parquet(histories)
    else:
        pieces = questions.of_history(named_items(policy, history or ""), context=told)
    rng = generator(seed, "act")
    blocks = choices(policy, pieces, k, rng, include_seen=include_seen, labels=out is None)
    if out is None:
        _show([row for block in blocks for row in block.to_pylist()], as_json=as_json)
        return
    rows = 0

    def write(work: Path) -> None:
        nonlocal rows
        rows = write_tables(blocks, work)

    write_atomic(out, write)
    if as_json:
        print_json({"out": out, "rows": rows})
    else:
        note(f"{rows:,} positions: {out}. Beside what came of each: palate off-policy judges other policies by them.")


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        titled = any(row["label"] != str(row["item"]) for row in rows)
        shown = [{**row, "item": str(row["item"])} for row in rows]  # an id is no quantity
        print_table(shown, ["user", "position", "item", *(["label"] if titled else []), "propensity"])
        if all(row["propensity"] == 1.0 for row in rows):
            note("No choice was left to chance, so a log of such slates can't judge another policy.")
