"""Foreign runs: rankings that another system wrote as a TREC run file, judged like our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.ragged import Ragged, offsets_of
from palate.data.split import HeldOut, PartName, Split
from palate.data.vocabulary import Vocabulary
from palate.data.writers import read_run
from palate.errors import DataError
from palate.evaluation.judge import Facts, Judgement, judge
from palate.evaluation.metrics import parse
from palate.kernels.topk import tie_key, topk_rows
from palate.study.evaluate import DEFAULT_METRICS, blocks, check_asked, depth


@dataclass(frozen=True)
class ForeignRun:
    """A judged run, and what did not fit the split.

    Attributes
    ----------
    judgement
        Over every question of the part; a question that the run does not answer counts as an empty ranking.
    rows
        Lines of the run.
    unknown_users, unknown_items
        Lines whose user, or item, the split does not have; they are left out.
    not_asked
        Lines about users that have no question in this part; they are left out.
    duplicates
        Lines that name an item a second time for a user; the best score counts.
    seen_items
        Lines that offer what the person has had already; they are judged as they stand, unless ``exclude_seen``.
    unanswered
        Questions without any usable line.
    held_out
        The questions, opened once.
    """

    judgement: Judgement
    rows: int
    unknown_users: int
    unknown_items: int
    not_asked: int
    duplicates: int
    seen_items: int
    unanswered: int
    held_out: HeldOut

    @property
    def counts(self) -> dict[str, int]:
        """Everything counted, by name."""
        names = ("rows", "unknown_users", "unknown_items", "not_asked", "duplicates", "seen_items", "unanswered")
        return {name: int(getattr(self, name)) for name in names}


def evaluate_run(
    path: str | Path,
    split: Split,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    part: PartName = "test",
    exclude_seen: bool = False,
    facts: Facts | None = None,
    block_bytes: int = 2**28,
) -> ForeignRun:
    """Judge a TREC run file against a part of a split (opening the test part is counted).

    Lines rank by score alone, as in ``trec_eval``; equal scores rank by Palate's tie rule, so the order of lines can't matter.

    Parameters
    ----------
    path
        File with lines ``user Q0 item rank score tag``.
    exclude_seen
        Drop lines that offer items of the question's own history.
    facts
        What the judge knows of the catalogue; made from the training part when not given.
    block_bytes
        Bytes that a block of questions may take, beyond the run itself.

    Raises
    ------
    DataError
        If no line fits the split (probably another data set).
    """
    users, items, scores = _columns(path)
    user = _numbers(split.train.users.ids, users)
    item = _numbers(split.train.items.ids, items)
    known = facts if facts is not None else Facts.of(split.train)
    check_asked(metrics, known, split.train.users)
    held_out = split.held_out(part)
    row_of = np.full(split.train.n_users, -1, np.int64)
    row_of[held_out.users] = np.arange(len(held_out))
    row = np.where(user >= 0, row_of[np.maximum(user, 0)], -1)
    usable = (row >= 0) & (item >= 0)
    if not usable.any():
        raise DataError(
            "no line of the run fits the split.",
            where=path,
            value=users[0].as_py() if len(users) else "empty file",
            remedy="use the raw user and item ids of the split",
        )
    (asked, offered), kept = _best_first(row[usable], item[usable], scores[usable])
    table = Ragged(offsets_of(np.bincount(asked, minlength=len(held_out))), offered)
    width = min(depth(metrics, known.n_items), max([parse(m).k or 0 for m in metrics] + [int(table.lengths.max())]))
    parts = [
        _judge(table.take(rows), held_out.take(rows), width, metrics, known, exclude_seen)
        for rows in blocks(held_out, width, block_bytes, table)
    ]
    return ForeignRun(
        Judgement.merge([judgement for judgement, _ in parts]),
        rows=len(user),
        unknown_users=int((user < 0).sum()),
        unknown_items=int((item < 0).sum()),
        not_asked=int(((user >= 0) & (row < 0)).sum()),
        duplicates=int(usable.sum()) - kept,
        seen_items=_seen(held_out, table),
        unanswered=sum(empty for _, empty in parts),
        held_out=held_out,
    )


def _columns(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    users, items, scores = read_run(path)
    return pa.array(users), pa.array(items), np.asarray(scores, np.float64)


def _numbers(ids: Vocabulary, column: pa.Array) -> np.ndarray:
    """Encode ids read from text; a word among whole-number ids is unknown, not an error."""
    if not ids.is_text and not pa.types.is_integer(column.type):
        text = column.cast(pa.string())
        whole = pc.match_substring_regex(text, r"^-?[0-9]{1,18}$")
        column = pc.if_else(whole, text, pa.scalar(None, pa.string())).cast(pa.int64())
    return ids.encode(column)


def _best_first(row: np.ndarray, item: np.ndarray, scores: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Keep the best score of each (question, item); return questions and items, best first, and how many are left."""
    order = np.lexsort((-scores, item, row))
    row, item, scores = row[order], item[order], scores[order]
    keep = np.ones(len(row), bool)
    keep[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
    row, item, scores = row[keep], item[keep], scores[keep]
    order = np.lexsort((tie_key(item), -scores, row))
    return (row[order], item[order].astype(np.int32)), int(keep.sum())


def _seen(held_out: HeldOut, table: Ragged) -> int:
    known = held_out.histories.ragged
    had = known.row_numbers.astype(np.int64) << 32 | known.values
    offered = table.row_numbers.astype(np.int64) << 32 | table.values
    return int(np.isin(offered, had).sum())


def _judge(
    table: Ragged, held_out: HeldOut, k: int, metrics: Sequence[str], facts: Facts, exclude_seen: bool
) -> tuple[Judgement, int]:
    """Judge a block of questions; return also how many have no list."""
    width = max(1, int(table.lengths.max(initial=0)))
    filled = np.arange(width) < table.lengths[:, None]
    items = np.full(filled.shape, -1, np.int32)
    items[filled] = table.values
    places = np.broadcast_to(-np.arange(width, dtype=np.float32), items.shape)
    exclude = held_out.histories.ragged if exclude_seen else Ragged.empty(len(held_out))
    ranked, scores = topk_rows(items, places, k, exclude.offsets, exclude.values)
    return judge(ranked, held_out, metrics, facts, scores=scores), int((ranked[:, 0] < 0).sum())
