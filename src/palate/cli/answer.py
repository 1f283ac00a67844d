"""``palate recommend``, ``similar`` and ``explain``: answers of a saved bundle."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import one_of
from palate.cli.output import MODELS, Json, errors_to_exit_codes, note, print_json, print_table, say
from palate.errors import ConfigError, DataError

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
        app.command(rich_help_panel=MODELS)(command)


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
    one_of(format, FORMATS, "--format")
    if format == "parquet" and out is None and not as_json:
        raise ConfigError("parquet goes to a file.", where="--out", remedy="add --out FILE.parquet")
    model = load(bundle)
    people, requests = _questions(model, user, users, history, split, include_seen=include_seen)
    ranking = model.recommend(requests, k)
    if out is not None or (format != "table" and not as_json):
        _write(model, people, ranking, format, out)
    if as_json:
        print_json(_documents(model, people, ranking))
    elif out is not None:
        note(f"{len(people):,} people answered: {out}")
        if format == "trec" and split is not None:
            note(f"Next: {shlex.join(['palate', 'evaluate', str(out), '--split', str(split)])}")
    elif format == "table":
        _print_people(model, people, ranking)


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
            note(f"Left out, not in the catalogue: {', '.join(unknown)}")
        return ["(history)"], model.requests(histories=[items], include_seen=include_seen)
    if split is not None:
        from palate.cli.options import load_split
        from palate.study.renumber import questions

        return questions(load_split(split), model, exclude_seen=not include_seen)
    named = list(user or ()) if users is None else _lines(users)
    return _typed(model, named), model.requests(named, include_seen=include_seen)


def _typed(model: Recommender, named: list[str]) -> list[Any]:
    """Return ids in the type of the data where all of them have it, so that output joins with the data."""
    typed = [model.users_.ids.coerce(name) for name in named]
    return list(named) if None in typed else typed


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        value = error.strerror if isinstance(error, OSError) else str(error)
        remedy = "give a text file in UTF-8 with one user id a line"
        raise DataError("the file of users can't be read.", where=path, value=value, remedy=remedy) from None
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
        _print_offers(document["items"], f"User {document['user']}")
        if document["cold"]:
            say("Nothing is known of this person: the list is what is popular.")


def _print_offers(offers: list[dict[str, Any]], title: str) -> None:
    rows = [{"rank": at, **offer, "item": str(offer["item"])} for at, offer in enumerate(offers, 1)]
    titled = any(row["label"] != row["item"] for row in rows)
    print_table(rows, ["rank", "item", *(["label"] if titled else []), "score"], title=title)


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
    from palate.data.whole import whole_file

    documents = _documents(model, people, ranking)
    with whole_file(out or Path("/dev/stdout")) as stream:
        if format == "jsonl":
            stream.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
            return
        stream.write("user\trank\titem\tscore\n")
        for document in documents:
            offers = enumerate(document["items"], 1)
            stream.writelines(f"{document['user']}\t{at}\t{o['item']}\t{o['score']}\n" for at, o in offers)


def _write_parquet(model: Recommender, people: list[Any], ranking: Ranking, out: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from palate.evaluation.report_files import write_atomic

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
    write_atomic(out, lambda work: pq.write_table(table, work))


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
        _print_offers(document["items"], f"Like {label}")


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
        some = ", ".join(map(str, model.items_.ids.raw[:3].to_pylist()))
        remedy = f"ids look like {some} (all of them: items.parquet in the bundle)"
        raise DataError("unknown item.", where="the bundle's catalogue", value=raw, remedy=remedy)
    return number
