"""Foreign runs: rankings that another system wrote as a TREC run file, judged like our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.ragged import Ragged
from palate.data.split import HeldOut, PartName, Split
from palate.data.vocabulary import Vocabulary
from palate.data.writers import read_run
from palate.errors import DataError
from palate.evaluation.judge import Facts, Judgement, judge
from palate.evaluation.metrics import parse
from palate.kernels.topk import topk_rows
from palate.study.evaluate import DEFAULT_METRICS, depth


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
    """

    judgement: Judgement
    rows: int
    unknown_users: int
    unknown_items: int
    not_asked: int
    duplicates: int
    seen_items: int
    unanswered: int

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
) -> ForeignRun:
    """Judge a TREC run file against a part of a split (opening the test part is counted).

    Lines rank by score alone, as in ``trec_eval``; equal scores rank by Palate's tie rule, so the order of lines can't matter.

    Parameters
    ----------
    path
        File with lines ``user Q0 item rank score tag``.
    exclude_seen
        Drop lines that offer items of the question's own history.

    Raises
    ------
    DataError
        If no line fits the split (probably another data set).
    """
    users, items, scores = _columns(path)
    user = _numbers(split.train.users.ids, users)
    item = _numbers(split.train.items.ids, items)
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
    at, first = _best_first(row[usable], item[usable], scores[usable])
    table = Ragged.group(at[0], at[1], len(held_out))
    weights = Ragged.group(at[0], at[2], len(held_out))
    seen = _seen(held_out, table)
    k = min(depth(metrics, split.train.n_items), max([parse(m).k or 0 for m in metrics] + [int(table.lengths.max())]))
    ranked, ranked_scores = _rank(table, weights, held_out, k, exclude_seen)
    judgement = judge(ranked, held_out, metrics, Facts.of(split.train), scores=ranked_scores)
    return ForeignRun(
        judgement,
        rows=len(user),
        unknown_users=int((user < 0).sum()),
        unknown_items=int((item < 0).sum()),
        not_asked=int(((user >= 0) & (row < 0)).sum()),
        duplicates=int(usable.sum()) - first,
        seen_items=int(seen),
        unanswered=int((ranked[:, 0] < 0).sum()),
    )


def _columns(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    users, items, scores = read_run(path)
    return pa.array(users), pa.array(items), np.asarray(scores, np.float32)


def _numbers(ids: Vocabulary, column: pa.Array) -> np.ndarray:
    """Encode ids read from text; a word among whole-number ids is unknown, not an error."""
    if not ids.is_text and not pa.types.is_integer(column.type):
        text = column.cast(pa.string())
        whole = pc.match_substring_regex(text, r"^-?[0-9]{1,18}$")
        column = pc.if_else(whole, text, pa.scalar(None, pa.string())).cast(pa.int64())
    return ids.encode(column)


def _best_first(row: np.ndarray, item: np.ndarray, scores: np.ndarray) -> tuple[tuple[np.ndarray, ...], int]:
    """Keep the best score of each (question, item); return the columns and how many are left."""
    order = np.lexsort((-scores, item, row))
    row, item, scores = row[order], item[order], scores[order]
    keep = np.ones(len(row), bool)
    keep[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
    return (row[keep], item[keep], scores[keep]), int(keep.sum())


def _seen(held_out: HeldOut, table: Ragged) -> int:
    known = held_out.histories.ragged
    had = known.row_numbers.astype(np.int64) << 32 | known.values
    offered = table.row_numbers.astype(np.int64) << 32 | table.values
    return int(np.isin(offered, had).sum())


def _rank(table: Ragged, weights: Ragged, held_out: HeldOut, k: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
    width = max(1, int(table.lengths.max(initial=0)))
    filled = np.arange(width) < table.lengths[:, None]
    items = np.full(filled.shape, -1, np.int32)
    scores = np.full(filled.shape, -np.inf, np.float32)
    items[filled], scores[filled] = table.values, weights.values
    exclude = held_out.histories.ragged if exclude_seen else Ragged.empty(len(held_out))
    return topk_rows(items, scores, k, exclude.offsets, exclude.values)
