"""Requests: of users, of histories, of held-out questions, in rows and blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.split import Split


@pytest.fixture
def full(tiny_dataset: Dataset) -> Requests:
    asked = Requests.of_users(tiny_dataset, np.arange(5))
    return replace(
        asked,
        candidates=Ragged.from_rows([[n, 5] for n in range(5)]),
        times=np.arange(5) * 10,
        texts=[f"text {n}" for n in range(5)],
        context=pa.table({"hour": list(range(5))}),
        ties=Ragged.from_rows([[n, 4 - n] for n in range(5)]),
    )


def same(first: Requests, second: Requests) -> None:
    assert first.users.tolist() == second.users.tolist()
    assert first.histories.ragged.tolist() == second.histories.ragged.tolist()
    for name in ("exclude", "candidates", "ties"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist()
    assert first.times.tolist() == second.times.tolist() and list(first.texts) == list(second.texts)
    assert first.context.to_pylist() == second.context.to_pylist()


def test_known_and_unknown_users(tiny_dataset: Dataset) -> None:
    asked = Requests.of_users(tiny_dataset, np.array([1, -1]))
    assert asked.histories.ragged.tolist() == [[0, 1, 3], []] and asked.exclude.tolist() == [[0, 1, 3], []]
    assert asked.users.dtype == np.int32 and len(asked) == 2
    assert Requests.of_users(tiny_dataset, np.array([1]), exclude_seen=False).exclude is None


def test_people_by_their_history() -> None:
    asked = Requests.of_histories([[3, 1], []])
    assert asked.users.tolist() == [-1, -1] and asked.exclude.tolist() == [[3, 1], []]


def test_questions_of_a_split(small_split: Split) -> None:
    asked = Requests.of_held_out(small_split.held_out("test"))
    train_and_valid = [[0, 1, 2], [0, 2, 1], [1, 3, 0], [0, 4, 3]]
    raw = small_split.train.items.ids.raw.to_pylist()
    assert [[raw[i] for i in row] for row in asked.histories.ragged.tolist()] == train_and_valid
    assert asked.times.tolist() == [4] * 4 and small_split.looks == 1


@pytest.mark.parametrize("rows", [[2], [4, 0, 0], []])
def test_rows_take_every_column_along(full: Requests, rows: list[int]) -> None:
    taken = full.take(np.array(rows, int))
    assert taken.users.tolist() == rows and list(taken.texts) == [f"text {r}" for r in rows]
    assert taken.ties.tolist() == [[r, 4 - r] for r in rows]
    assert taken.candidates.tolist() == [[r, 5] for r in rows] and taken.context.column("hour").to_pylist() == rows
    assert taken.histories.ragged.tolist() == [full.histories.ragged[r].tolist() for r in rows]
    assert taken.exclude.tolist() == taken.histories.ragged.tolist() and taken.times.tolist() == [10 * r for r in rows]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_blocks_are_the_rows_in_order(full: Requests, size: int) -> None:
    blocks = list(full.blocks(size))
    assert [len(b) for b in blocks] == [min(size, 5 - start) for start in range(0, 5, size)]
    for at, block in enumerate(blocks):
        same(block, full.take(np.arange(at * size, min(5, at * size + size))))


def test_no_requests_no_blocks(full: Requests) -> None:
    assert list(full.take(np.arange(0)).blocks(3)) == []
