"""Reasons: a prediction as a sum of parts of its fields, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.ranker import Ranker, Rows
from palate.data.row_encoder import RowEncoder
from palate.errors import ConfigError, DataError, nearest
from palate.retrieval.tokens import tokens

#: Longest text of a value.
LONGEST = 60


def one_row(row: Rows) -> Rows:
    """Return the row to explain.

    Raises
    ------
    DataError
        If it is not one row.
    """
    if len(row) != 1:
        raise DataError("one row is explained at a time.", where="rows", value=len(row), remedy="rows.slice(at, at + 1)")
    return row


def task_number(ranker: Ranker, task: str | None) -> int:
    """Return the number of a task, the first by default.

    Raises
    ------
    ConfigError
        If the ranker does not predict it.
    """
    if task is None:
        return 0
    if task not in ranker.tasks:
        raise ConfigError("this task is not predicted.", where="explain_row", value=task, remedy=nearest(task, ranker.tasks))
    return ranker.tasks.index(task)


def spoken(encoder: RowEncoder, row: Rows, name: str) -> str:
    """Return a field and its value in this row, such as ``"price=9.5"``."""
    if name in row.features.column_names:
        value = row.features.column(name)[0].as_py()
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        text = "missing" if value is None or value == "" else str(value)
    else:  # a cross
        at = encoder.layout.single.index(name)
        text = encoder.value_of(name, int(encoder.encode(row.features, tokens).codes[0, at]))
    return f"{name}={text[:LONGEST]}"


def additive(
    encoder: RowEncoder, row: Rows, parts: Iterable[tuple[Sequence[str], float]], rest: float, method: str
) -> Explanation:
    """Return an exact explanation, its item the row's place (0).

    Parameters
    ----------
    parts
        Names of the fields that a part belongs to, and the part; strongest first in the answer, equals in the order given.
    rest
        What belongs to no field. The score is the sum of all.
    """
    given = [(tuple(names), float(part)) for names, part in parts]
    words = {name: spoken(encoder, row, name) for names, _ in given for name in names}
    evidence = [
        Evidence("feature", " & ".join(words[name] for name in names), part, {"fields": list(names)}) for names, part in given
    ]
    score = rest + sum(part for _, part in given)
    ordered = tuple(sorted(evidence, key=lambda reason: -abs(reason.weight)))
    return Explanation(0, score, ordered, True, method, rest)
