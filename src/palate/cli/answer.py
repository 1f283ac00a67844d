"""``palate recommend``, ``similar`` and ``explain``: answers of a saved bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.output import Json, console, errors_to_exit_codes, print_json, print_table
from palate.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from palate.contracts.ranking import Ranking
    from palate.contracts.recommender import Recommender
    from palate.contracts.requests import Requests

Bundle = Annotated[Path, typer.Argument(help="A bundle made by palate fit.")]
K = Annotated[int, typer.Option("-k", min=1, help="How many items.")]
FORMATS = ("table", "jsonl", "parquet", "trec")


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (recommend, similar, explain):
        app.command()(command)


@errors_to_exit_codes
def recommend(
    bundle: Bundle,
    user: Annotated[list[str] | None, typer.Option("--user", help="A user id; repeat it.")] = None,
    users: Annotated[Path | None, typer.Option("--users", help="A file with one user id a line.")] = None,
    history: Annotated[
        str | None, typer.Option("--history", help="Item ids with commas, oldest first, of somebody new.")
    ] = None,
    split: Annotated[Path | None, typer.Option("--split", help="Answer for every test user of a split.")] = None,
    k: K = 10,
    format: Annotated[str, typer.Option("--format", help=" | ".join(FORMATS))] = "table",
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file (needed for parquet).")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Offer items already seen, too.")] = False,
    as_json: Json = False,
) -> None:
    """Recommend items to known users, to everybody in a file or a split, or to somebody known by a history alone."""
    from palate.catalog.registry import load

    if sum(given is not None for given in (user, users, history, split)) != 1:
        raise ConfigError("name whom to answer in one way.", remedy="--user ID, --users FILE, --history IDS or --split DIR")
    if format not in FORMATS:
        raise ConfigError("unknown format.", where="--format", value=format, remedy=nearest(format, FORMATS))
    if format == "parquet" and out is None:
        raise ConfigError("parquet goes to a file.", where="--out", remedy="add --out FILE.parquet")
    model = load(bundle)
    people, requests = _questions(model, user, users, history, split, include_seen=include_seen)
    ranking = model.recommend(requests, k)
    if as_json:
        print_json(_documents(model, people, ranking))
    elif format == "table" and out is None:
        _print_people(model, people, ranking)
    else:
        _write(model, people, ranking, format, out)


def _questions(
    model: Recommender,
    user: list[str] | None,
    users: Path | None,
    history: str | None,
    split: Path | None,
    *,
    include_seen: bool,
) -> tuple[list[Any], Requests]:
    if history is not None:
        items = [i.strip() for i in history.split(",") if i.strip()]
        unknown = [i for i in items if model.items_.ids.number(i) < 0]
        if unknown:
            console(err=True).print(f"Left out, not in the catalogue: {', '.join(unknown)}", markup=False)
        return ["(history)"], model.requests(histories=[items], include_seen=include_seen)
    if split is not None:
        from palate.cli.options import load_split
        from palate.study.renumber import questions

        return questions(load_split(split), model, exclude_seen=not include_seen)
    named: list[Any] = list(user or ()) if users is None else _lines(users)
    return named, model.requests(named, include_seen=include_seen)


def _lines(path: Path) -> list[Any]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the file of users can't be read.", where=path, value=str(error)) from None
    if not found:
        raise DataError("the file of users is empty.", where=path, remedy="give one user id a line")
    return found


def _documents(model: Recommender, people: list[Any], ranking: Ranking) -> list[dict[str, Any]]:
    documents = []
    for row, person in enumerate(people):
        kept = ranking.items[row] >= 0
        numbers = ranking.items[row][kept]
        ids, labels = model.items_.ids.decode(numbers).to_pylist(), model.items_.labels(numbers)
        scores = ranking.scores[row][kept].tolist()
        offers = [{"item": i, "label": t, "score": s} for i, t, s in zip(ids, labels, scores, strict=True)]
        documents.append({"user": person, "cold": bool(ranking.cold[row]), "items": offers})
    return documents


def _print_people(model: Recommender, people: list[Any], ranking: Ranking) -> None:
    for document in _documents(model, people, ranking):
        rows = [{"rank": at, **offer} for at, offer in enumerate(document["items"], 1)]
        print_table(rows, ["rank", "item", "label", "score"], title=f"User {document['user']}")
        if document["cold"]:
            console().print("Nothing is known of this person: the list is what is popular.")


def _write(model: Recommender, people: list[Any], ranking: Ranking, format: str, out: Path | None) -> None:
    if format == "parquet" and out is not None:
        _write_parquet(model, people, ranking, out)
        return
    if format == "trec":
        from palate.data.writers import write_run

        rows = [model.items_.ids.decode(r[r >= 0]).to_pylist() for r in ranking.items]
        scores = [s[r >= 0].tolist() for r, s in zip(ranking.items, ranking.scores, strict=True)]
        write_run(out or "/dev/stdout", people, rows, scores, model.name)
        return
    lines = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in _documents(model, people, ranking))
    if format == "table":
        lines = (
            "\n".join(
                f"{d['user']}\t{at}\t{o['item']}\t{o['score']}"
                for d in _documents(model, people, ranking)
                for at, o in enumerate(d["items"], 1)
            )
            + "\n"
        )
    if out is None:
        print(lines, end="")
        return
    temporary = out.with_name(f".{out.name}.part")
    temporary.write_text(lines, encoding="utf-8")
    temporary.replace(out)


def _write_parquet(model: Recommender, people: list[Any], ranking: Ranking, out: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = ranking.items >= 0
    counts = kept.sum(axis=1)
    column = pa.array(people)
    table = pa.table(
        {
            "user": column.take(pa.array(np.repeat(np.arange(len(people)), counts))),
            "item": model.items_.ids.decode(ranking.items[kept]),
            "rank": pa.array(np.tile(np.arange(1, ranking.items.shape[1] + 1, dtype=np.int32), (len(people), 1))[kept]),
            "score": pa.array(ranking.scores[kept]),
        }
    )
    temporary = out.with_name(f".{out.name}.part")
    pq.write_table(table, temporary)
    temporary.replace(out)


@errors_to_exit_codes
def similar(
    bundle: Bundle,
    item: Annotated[str, typer.Argument(help="An item id.")],
    k: K = 10,
    as_json: Json = False,
) -> None:
    """List the items most like one item."""
    import numpy as np

    from palate.catalog.registry import load

    model = load(bundle)
    ranking = model.similar(np.array([_item(model, item)], np.int32), k)
    document = _documents(model, [item], ranking)[0]
    if as_json:
        print_json({"item": item, "similar": document["items"]})
    else:
        label = model.items_.labels(np.array([_item(model, item)]))[0]
        rows = [{"rank": at, **offer} for at, offer in enumerate(document["items"], 1)]
        print_table(rows, ["rank", "item", "label", "score"], title=f"Like {label}")


@errors_to_exit_codes
def explain(
    bundle: Bundle,
    item: Annotated[str, typer.Option("--item", help="The item to explain.")],
    user: Annotated[str | None, typer.Option("--user", help="A user id.")] = None,
    history: Annotated[str | None, typer.Option("--history", help="Item ids with commas, oldest first.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many reasons to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Say why an item has its score for a person."""
    from palate.catalog.registry import load
    from palate.study.people import reason_rows

    if (user is None) == (history is None):
        raise ConfigError("name the person in one way.", remedy="--user ID or --history IDS")
    model = load(bundle)
    rows = None if history is None else [[i.strip() for i in history.split(",") if i.strip()]]
    requests = model.requests([user]) if rows is None else model.requests(histories=rows)
    why = model.explain(requests, _item(model, item))
    reasons = reason_rows(model, why)[:top]
    if as_json:
        print_json(
            {"item": item, "score": why.score, "exact": why.exact, "method": why.method, "rest": why.rest, "reasons": reasons}
        )
        return
    kind = "adds up exactly" if why.exact else "each reason is the fall of the score without it"
    print_table(reasons, ["kind", "reason", "weight"], title=f"Score {why.score:.4f} ({why.method}; {kind})")


def _item(model: Recommender, raw: str) -> int:
    number = model.items_.ids.number(raw)
    if number < 0:
        raise DataError("unknown item.", where="the bundle's catalogue", value=raw, remedy="see items.parquet in the bundle")
    return number
