"""``palate recommend``, ``similar``, ``explain`` and ``suspicious``: answers of a saved bundle."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import Address, EngineName, on_ray, one_of
from palate.cli.output import MODELS, Json, errors_to_exit_codes, note, print_json, print_table, say
from palate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from palate.contracts.policy import Policy
    from palate.contracts.recommender import Recommender
    from palate.data.vocabulary import Vocabulary
    from palate.study.answers import Engine, Question, Tally

Bundle = Annotated[Path, typer.Argument(help="A bundle made by palate fit.")]
Text = Annotated[
    str | None,
    typer.Option(
        "--text", help="What is looked for, in words: for systems that read words (palate models NAME). Alone: of anybody."
    ),
]
Ties = Annotated[
    str | None,
    typer.Option("--ties", help="Ids of people with commas, whom somebody new is tied to: for systems that read ties."),
]
K = Annotated[int, typer.Option("-k", min=1, help="How many items.")]
FORMATS = ("table", "jsonl", "parquet", "parts", "trec")
#: Formats that show names of items, not ids alone.
NAMED = ("table", "jsonl")


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (recommend, similar, explain, suspicious):
        app.command(rich_help_panel=MODELS)(command)


@errors_to_exit_codes
def recommend(
    bundle: Bundle,
    user: Annotated[list[str] | None, typer.Option("--user", help="A user id; repeat it.")] = None,
    users: Annotated[Path | None, typer.Option("--users", help="A file with one user id a line.")] = None,
    history: Annotated[
        str | None, typer.Option("--history", help="Item ids with commas, oldest first, of somebody new.")
    ] = None,
    histories: Annotated[
        Path | None,
        typer.Option("--histories", help="Parquet (a file or folder): user and a list items, oldest first; or events."),
    ] = None,
    split: Annotated[Path | None, typer.Option("--split", help="Answer for every test user of a split.")] = None,
    text: Text = None,
    ties: Ties = None,
    k: K = 10,
    format: Annotated[str, typer.Option("--format", help=" | ".join(FORMATS))] = "table",
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file (for parts, a folder).")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Offer items already seen, too.")] = False,
    engine: EngineName = "local",
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Recommend items to known users, to everybody in a file or a split, or to somebody known by a history alone."""
    from palate.study.answers import Question, write_parts

    ways = sum(given is not None for given in (user, users, history, histories, split))
    if ways > 1 or (ways == 0 and text is None and ties is None):
        remedy = "--user ID, --users FILE, --history IDS, --histories FILE or --split DIR (or --text or --ties alone)"
        raise ConfigError("name whom to answer in one way.", remedy=remedy)
    if ties is not None and ways and history is None:
        remedy = "give them with --history, or as a list column ties of --histories"
        raise ConfigError("ties are of one person who is new.", where="--ties", value=ties, remedy=remedy)
    _check_output(format, out, as_json=as_json)
    with _answering(engine, bundle, address) as (model, place):
        if text is not None:
            model.check_words()
        pieces = _questions(model, user, users, history if ways else "", histories, split, ties)
        question = Question(k, include_seen, labels=as_json or format in NAMED, text=text or "")
        if format == "parts" and out is not None:
            tally = write_parts(lambda folder: place.parts(pieces, question, folder), out, model.name)
            if as_json:
                print_json({"out": out, "people": tally.people, "cold": tally.cold})
        else:
            tally = _give(place, pieces, question, model.name, format, out, as_json=as_json)
    if out is not None and not as_json:
        strangers = f" ({tally.cold:,} of whom nothing is known: popular items)" if tally.cold else ""
        note(f"{tally.people:,} people answered{strangers}: {out}")
        if format == "trec" and split is not None:
            note(f"Next: {shlex.join(['palate', 'evaluate', str(out), '--split', str(split)])}")


def _check_output(format: str, out: Path | None, *, as_json: bool) -> None:
    one_of(format, FORMATS, "--format")
    if format == "parts" and out is None:
        raise ConfigError("parts go to a folder.", where="--out", remedy="add --out FOLDER")
    if format == "parquet" and out is None and not as_json:
        raise ConfigError("parquet goes to a file.", where="--out", remedy="add --out FILE.parquet")
    if format != "parts" and out is not None and out.is_dir():
        raise DataError("a folder stands where a file is needed.", where=out, remedy="name a file, or --format parts")


@contextmanager
def _answering(engine: str, bundle: Path, address: str | None) -> Iterator[tuple[Recommender, Engine]]:
    """Give the model, and where it answers."""
    if on_ray(engine, address=address):
        from palate.catalog.registry import restored
        from palate.contracts.bundle import read_bundle
        from palate.distributed.cluster import connected
        from palate.distributed.recommend import PURPOSE, OnRay

        parts = read_bundle(bundle)
        with connected(PURPOSE, address) as ray:
            yield restored(parts), OnRay(ray, parts)
        return
    from palate.catalog.registry import load
    from palate.study.answers import Here

    model = load(bundle, "recommend")
    yield model, Here(model)


def _questions(
    model: Recommender,
    user: list[str] | None,
    users: Path | None,
    history: str | None,
    histories: Path | None,
    split: Path | None,
    ties: str | None,
) -> Iterator[pa.Table]:
    from palate.study import questions

    if history is not None:
        return questions.of_history(named_items(model, history), ties=None if ties is None else _named_people(model, ties))
    if histories is not None:
        return questions.of_parquet(histories)
    if split is not None:
        from palate.cli.options import load_split

        return questions.of_split(model, load_split(split))
    return questions.of_users(model, _lines(users) if users is not None else user or ())


def named_items(model: Recommender | Policy, history: str) -> list[str]:
    """Return the items of ``--history``; those that the model doesn't know are named, as they will be left out."""
    return _named(history, model.items_.ids, "not in the catalogue")


def _named_people(model: Recommender, ties: str) -> list[str]:
    """Return the people of ``--ties``; those that the model doesn't know are named, as they will be left out."""
    model.ties_of(())  # refuses where the system doesn't read them
    return _named(ties, model.users_.ids, "not among the model's people")


def _named(text: str, known: Vocabulary, lack: str) -> list[str]:
    ids = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [one for one in ids if known.number(one) < 0]
    if unknown:
        note(f"Left out, {lack}: {', '.join(unknown)}")
    return ids


def _lines(path: Path) -> Iterator[str]:
    found = False
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                if name := line.strip():
                    found = True
                    yield name
    except (OSError, UnicodeDecodeError) as error:
        value = error.strerror if isinstance(error, OSError) else str(error)
        remedy = "give a text file in UTF-8 with one user id a line"
        raise DataError("the file of users can't be read.", where=path, value=value, remedy=remedy) from None
    if not found:
        raise DataError("the file of users is empty.", where=path, remedy="give one user id a line")


def _give(
    place: Engine, pieces: Iterator[pa.Table], question: Question, system: str, format: str, out: Path | None, *, as_json: bool
) -> Tally:
    """Write or print answers as they come; only one JSON document has to hold them all."""
    from palate.study.answers import Tally, documents, write_answers

    tally = Tally()
    kept: list[dict[str, Any]] = []

    def blocks() -> Iterator[pa.Table]:
        for block in tally.of(place.answers(pieces, question)):
            if as_json:
                kept.extend(documents(block))
            yield block

    if out is not None or (format != "table" and not as_json):
        write_answers(blocks(), format, out, system)
    else:
        for block in blocks():
            if not as_json:
                _print_people(documents(block))
    if as_json:
        print_json(kept)
    return tally


def _print_people(found: Iterator[dict[str, Any]]) -> None:
    for document in found:
        _print_offers(document["items"], f"User {document['user']}")
        if document["cold"]:
            say("Nothing is known of this person: the list is what is popular.")


def _print_offers(offers: list[dict[str, Any]], title: str) -> None:
    rows = [{"rank": at, **offer, "item": str(offer["item"])} for at, offer in enumerate(offers, 1)]
    titled = any(row["label"] != row["item"] for row in rows)
    print_table(rows, ["rank", "item", *(["label"] if titled else []), "score"], title=title)


@errors_to_exit_codes
def similar(
    bundle: Bundle,
    item: Annotated[str, typer.Argument(help="An item id.")],
    k: K = 10,
    as_json: Json = False,
) -> None:
    """List the items most like one item."""
    import numpy as np
    import pyarrow as pa

    from palate.catalog.registry import load
    from palate.study.answers import documents, rows

    model = load(bundle, "recommend")
    ranking = model.similar(np.array([_item(model, item)], np.int32), k)
    found = next(documents(rows(model, pa.array([item]), ranking, labels=True)))["items"]
    if as_json:
        print_json({"item": item, "similar": found})
    else:
        label = model.items_.labels(np.array([_item(model, item)]))[0]
        _print_offers(found, f"Like {label}")


@errors_to_exit_codes
def explain(
    bundle: Bundle,
    item: Annotated[str, typer.Option("--item", help="The item to explain.")],
    user: Annotated[str | None, typer.Option("--user", help="A user id.")] = None,
    history: Annotated[str | None, typer.Option("--history", help="Item ids with commas, oldest first.")] = None,
    text: Text = None,
    ties: Ties = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many reasons to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Say why an item has its score for a person."""
    from palate.catalog.registry import load
    from palate.study.people import reason_rows

    alone = text is not None or ties is not None
    if (user is not None and history is not None) or (user is None and history is None and not alone):
        raise ConfigError("name the person in one way.", remedy="--user ID or --history IDS (or --text or --ties alone)")
    model = load(bundle, "recommend")
    rows = [[i.strip() for i in (history or "").split(",") if i.strip()]] if user is None else None
    texts, tied = None if text is None else [text], None if ties is None else [_named_people(model, ties)]
    requests = model.requests(None if user is None else [user], histories=rows, texts=texts, ties=tied)
    why = model.explain(requests, _item(model, item))
    reasons = reason_rows(model, why)[:top]
    if as_json:
        print_json(
            {"item": item, "score": why.score, "exact": why.exact, "method": why.method, "rest": why.rest, "reasons": reasons}
        )
        return
    kind = _adds_up(why.score, reasons) if why.exact else "each reason is the fall of the score without it"
    print_table(reasons, ["kind", "reason", "weight"], title=f"Score {why.score:.4f} ({why.method}; {kind})")


@errors_to_exit_codes
def suspicious(
    bundle: Bundle,
    user: Annotated[list[str] | None, typer.Option("--user", help="Look at this person's events alone; repeat it.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many events at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the training events that fit their person least, such as misclicks and gifts (of a model fitted by pld)."""
    import numpy as np

    from palate.catalog.registry import load
    from palate.errors import UnsupportedError

    model = load(bundle, "recommend")
    find = getattr(model, "suspicious", None)
    if find is None:
        remedy = "palate fit pld --data SPLIT --out DIR"
        raise UnsupportedError(f"{model.name} can't say which events are suspicious.", where=bundle, remedy=remedy)
    found = find(n, None if user is None else user)
    labels = model.items_.labels(np.array([model.items_.ids.number(one.item) for one in found], np.int32))
    rows = [
        {"user": one.user, "item": one.item, "label": label, "weight": one.weight}
        for one, label in zip(found, labels, strict=True)
    ]
    if as_json:
        print_json(rows)
        return
    print_table(rows, title="Training events, the most doubtful first (weight 1: as likely as the person's others; 0: never)")


def _adds_up(score: float, reasons: Sequence[Mapping[str, Any]]) -> str:
    """Say how the listed reasons sum to the score: what they leave is of no reason, or of reasons below the cut."""
    left = score - sum(reason["weight"] for reason in reasons)
    return "adds up exactly" if abs(left) < 5e-5 else f"adds up exactly with {left:+.4f} of what is not listed"


def _item(model: Recommender, raw: str) -> int:
    number = model.items_.ids.number(raw)
    if number < 0:
        some = ", ".join(map(str, model.items_.ids.raw[:3].to_pylist()))
        remedy = f"ids look like {some} (all of them: items.parquet in the bundle)"
        raise DataError("unknown item.", where="the bundle's catalogue", value=raw, remedy=remedy)
    return number
