"""Judge the answers of several steps: the item itself, its category and its brand, each among the first k of the list.

A list of items is read as a list of their categories (or brands), each once, in order; of the first k items, not of the first
k categories. So recall@5 of the category says how often one of the five items offered has the category of the item that
followed. An item without the attribute offers none, and a question whose item lacks it is left out.

Source: the multi-step tasks of the MerRec paper (arXiv 2402.14230). Differences: doubles of an item in a list are impossible
here; every held-out sequence counts (the published evaluation drops the last batch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.protocols.event_sequences import StepQuestions
from palate.data.ragged import Ragged
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.evaluation.facts import Facts
from palate.evaluation.judge import judge


def finest(items: Entities, columns: Sequence[str]) -> np.ndarray:
    """Return ``int32[n]`` numbers of the first of several columns that an item has (-1 where it has none).

    Raises
    ------
    DataError
        If there is none of these columns.
    """
    found = [column for name in columns if (column := items.column(name)) is not None]
    if not found:
        raise DataError("the items have none of these attributes.", where="finest", value=list(columns))
    level = np.full(len(items), -1, np.int64)
    code = np.full(len(items), -1, np.int64)
    for number, column in enumerate(found):
        own = Vocabulary.of(column.cast(pa.string()).fill_null(""))[1].astype(np.int64)
        lacking = np.asarray(column.is_null()) | (code >= 0)
        code[~lacking], level[~lacking] = own[~lacking], number
    both, numbers = np.unique(np.stack([level, code]), axis=1, return_inverse=True)
    out = numbers.ravel().astype(np.int32)
    return out - np.int32(1) if both.size and both[1, 0] < 0 else out


def judge_steps(
    model: Recommender,
    questions: StepQuestions,
    train: Dataset,
    *,
    ks: Sequence[int] = (5, 20),
    attributes: Mapping[str, np.ndarray] | None = None,
    candidates: np.ndarray | None = None,
    exclude_seen: bool = False,
) -> list[dict[str, np.ndarray]]:
    """Return, for each step, per-sequence values by name (``recall@5``, ``ndcg@5``, ``recall@5 of category`` …; NaN: left out).

    Parameters
    ----------
    model
        Fitted; one with ``at_step`` answers each step apart, another gives its one list at every step.
    questions
        Held-out sequences.
    train
        Training data.
    ks
        Lengths of lists.
    attributes
        ``int32[n_items]`` number of each item's category, brand …, -1 where it has none.
    candidates
        The only items to rank (``questions.candidates`` is the published way); ``None``: all.
    exclude_seen
        Leave out the items of the history.
    """
    facts, longest = Facts.of(train), max(ks)
    out: list[dict[str, np.ndarray]] = []
    for step in range(questions.targets.shape[1]):
        asked = questions.step(step)
        requests = Requests.of_held_out(asked, exclude_seen=exclude_seen)
        if candidates is not None:
            offsets = np.arange(len(asked) + 1, dtype=np.int64) * len(candidates)
            given = Ragged(offsets, np.tile(candidates.astype(np.int32), len(asked)))
            requests = Requests(requests.users, requests.histories, requests.exclude, given, requests.times)
        answering: Any = model.at_step(step) if hasattr(model, "at_step") else model
        items = answering.recommend(requests, longest).items
        label = None if candidates is None else "items asked for in the part"
        names = [f"{metric}@{k}" for k in ks for metric in ("recall", "ndcg")]
        values = dict(judge(items, asked, names, facts, sampled=label).per_user)
        for name, codes in (attributes or {}).items():
            values |= {f"recall@{k} of {name}": _hits(items[:, :k], questions.targets[:, step], codes) for k in ks}
        out.append(values)
    return out


def _hits(items: np.ndarray, targets: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return ``float64[n]``: 1 where one of the items has the target's attribute, NaN where the target has none."""
    own = codes[targets]
    offered = np.where(items >= 0, codes[np.maximum(items, 0)], -1)
    return np.where(own >= 0, (offered == own[:, None]).any(axis=1).astype(np.float64), np.nan)
