"""Answers by the block: from a model's ranking to rows, and into files that appear whole or not at all.

A block of answers is an Arrow table, one row a person: ``row`` (number of the question), ``user``, ``cold`` (nothing is known:
popularity answered), ``items`` (raw ids, best first), ``scores``, and ``labels`` where asked for. Files hold no more than a
block in memory while they are written:

``table``
    ``user``, ``rank``, ``item``, ``score`` with tabs
``jsonl``
    one document a person
``parquet``
    one file of ``user``, ``item``, ``rank``, ``score``
``parts``
    a folder of such files, one a piece of the questions, and ``_answers.json`` (people, parts, system)
``trec``
    a run
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palate.contracts.ranking import Ranking
from palate.contracts.recommender import Recommender
from palate.data.ragged import offsets_of
from palate.data.trec import write_run
from palate.data.whole import whole_file, whole_folder
from palate.evaluation.report_files import write_atomic
from palate.study.questions import asked, first_of

#: File that tells a folder of parts.
SIGN = "_answers.json"
STDOUT = Path("/dev/stdout")


@dataclass(frozen=True)
class Question:
    """What is asked about every person.

    Attributes
    ----------
    k
        How many items.
    include_seen
        Whether items of the history may be offered.
    labels
        Whether answers carry the items' names.
    text
        Words that everybody says: a query, or a stated preference.
    """

    k: int = 10
    include_seen: bool = False
    labels: bool = False
    text: str = ""


@dataclass
class Tally:
    """How many people were answered, and of how many nothing was known."""

    people: int = 0
    cold: int = 0

    def of(self, blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass blocks of answers on, and count them."""
        for block in blocks:
            self.add(block.num_rows, pc.sum(block["cold"]).as_py() or 0)
            yield block

    def add(self, people: int, cold: int) -> None:
        """Count some more."""
        self.people += people
        self.cold += cold


class Engine(Protocol):
    """Where questions are answered: in this process (:class:`Here`), or on a cluster."""

    def answers(self, pieces: Iterable[pa.Table], question: Question) -> Iterator[pa.Table]:
        """Return blocks of answers, in the order of the questions."""

    def parts(self, pieces: Iterable[pa.Table], question: Question, folder: Path) -> Iterator[Tally]:
        """Write the answers of each piece as a file of a folder (:func:`write_part`)."""


@dataclass(frozen=True)
class Here:
    """Answers in this process."""

    model: Recommender

    def answers(self, pieces: Iterable[pa.Table], question: Question) -> Iterator[pa.Table]:
        """Return blocks of answers, in the order of the questions."""
        for piece in pieces:
            yield from answered(self.model, piece, question)

    def parts(self, pieces: Iterable[pa.Table], question: Question, folder: Path) -> Iterator[Tally]:
        """Write the answers of each piece as a file of a folder."""
        for piece in pieces:
            yield write_part(answered(self.model, piece, question), folder, first_of(piece))


def answered(model: Recommender, piece: pa.Table, question: Question) -> Iterator[pa.Table]:
    """Answer a piece of questions (:mod:`palate.study.questions`) in blocks."""
    for block in asked(piece, model, include_seen=question.include_seen):
        requests = replace(block.requests, texts=[question.text] * len(block.requests)) if question.text else block.requests
        ranking = model.recommend(requests, question.k)
        yield rows(model, block.people, ranking, labels=question.labels, start=block.start)


def rows(model: Recommender, people: pa.Array, ranking: Ranking, *, labels: bool = False, start: int = 0) -> pa.Table:
    """Return a ranking as a block of answers; ``start`` is the number of its first question."""
    kept = ranking.items >= 0
    offsets, numbers = pa.array(offsets_of(kept.sum(axis=1)), pa.int32()), ranking.items[kept]
    flat = {"items": model.items_.ids.decode(numbers), "scores": pa.array(ranking.scores[kept])}
    if labels:
        flat["labels"] = pa.array(model.items_.labels(numbers), pa.string())
    return pa.table(
        {
            "row": pa.array(np.arange(start, start + len(people))),
            "user": people,
            "cold": pa.array(ranking.cold),
            **{name: pa.ListArray.from_arrays(offsets, column) for name, column in flat.items()},
        }
    )


def documents(block: pa.Table) -> Iterator[dict[str, Any]]:
    """Return the answers of a block (with labels) as plain values."""
    for row in block.to_pylist():
        parts = zip(row["items"], row["labels"], row["scores"], strict=True)
        found = [{"item": item, "label": label, "score": score} for item, label, score in parts]
        yield {"user": row["user"], "cold": row["cold"], "items": found}


def offers(block: pa.Table) -> pa.Table:
    """Return a row an offer: ``user``, ``item``, ``rank`` (from 1) and ``score``."""
    counts = pc.list_value_length(block["items"]).to_numpy()
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return pa.table(
        {
            "user": block["user"].take(pa.array(np.repeat(np.arange(len(counts)), counts))),
            "item": pc.list_flatten(block["items"]),
            "rank": pa.array((np.arange(len(starts)) - starts + 1).astype(np.int32)),
            "score": pc.list_flatten(block["scores"]),
        }
    )


def write_answers(blocks: Iterable[pa.Table], format: str, out: Path | None, system: str) -> None:
    """Write blocks of answers, in their order, into one file (or to standard output).

    Parameters
    ----------
    blocks
        From an engine; with labels for ``jsonl``.
    format
        ``table``, ``jsonl``, ``parquet`` or ``trec``.
    out
        The file; ``None`` is standard output (not for ``parquet``).
    system
        Name of the system, for a run.
    """
    if format == "parquet" and out is not None:
        write_atomic(out, lambda work: write_offers(blocks, work))
    elif format == "trec":
        users, items, scores = tee(_rows(blocks), 3)
        write_run(out or STDOUT, (r[0] for r in users), (r[1] for r in items), (r[2] for r in scores), system)
    else:
        with whole_file(out or STDOUT) as stream:
            if format == "table":
                stream.write("user\trank\titem\tscore\n")
            for block in blocks:
                stream.writelines(_lines_json(block) if format == "jsonl" else _lines_table(block))


def write_offers(blocks: Iterable[pa.Table], path: Path) -> None:
    """Write blocks as one Parquet file of offers, a row group a block."""
    write_tables(map(offers, blocks), path)


def write_tables(tables: Iterable[pa.Table], path: Path) -> int:
    """Write tables of one schema as one Parquet file, a row group each; return how many rows there are."""
    writer, rows = None, 0
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def write_part(blocks: Iterable[pa.Table], folder: Path, first: int) -> Tally:
    """Write the answers of one piece into a folder; return how many people they answer.

    The number of the piece's first question names the file, so a part that is written again replaces itself.
    """
    tally = Tally()
    write_atomic(folder / f"part-{first:012d}.parquet", lambda work: write_offers(tally.of(blocks), work))
    return tally


def write_parts(parts: Callable[[Path], Iterable[Tally]], folder: Path, system: str) -> Tally:
    """Write a folder of parts, whole or not at all.

    Parameters
    ----------
    parts
        Writes the parts into the folder it is given (an engine's ``parts``).
    folder
        Final name.
    system
        Name of the system.

    Raises
    ------
    DataError
        If something else stands there.
    """
    tally, count = Tally(), 0
    with whole_folder(folder, SIGN) as work:
        for part in parts(work):
            tally.add(part.people, part.cold)
            count += 1
        facts = {"people": tally.people, "cold": tally.cold, "parts": count, "system": system}
        (work / SIGN).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return tally


def _rows(blocks: Iterable[pa.Table]) -> Iterator[tuple[Any, list[Any], list[float]]]:
    for block in blocks:
        columns = (block[name].to_pylist() for name in ("user", "items", "scores"))
        yield from zip(*columns, strict=True)


def _lines_json(block: pa.Table) -> Iterator[str]:
    return (json.dumps(document, ensure_ascii=False) + "\n" for document in documents(block))


def _lines_table(block: pa.Table) -> Iterator[str]:
    for user, items, scores in _rows([block]):
        pairs = zip(items, scores, strict=True)
        yield from (f"{user}\t{rank}\t{item}\t{score}\n" for rank, (item, score) in enumerate(pairs, 1))
