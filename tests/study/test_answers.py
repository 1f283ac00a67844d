"""Answers by the block: the same as in one call, in every form, whole or not at all, and no more than a block in memory."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.protocols import split
from palate.data.split import Split
from palate.data.trec import read_run
from palate.errors import DataError
from palate.recommend.ials import IALS
from palate.simulate.world import World
from palate.study import questions
from palate.study.answers import SIGN, Here, Question, Tally, offers, rows, write_answers, write_parts
from palate.study.questions import of_split, of_users


@pytest.fixture(scope="module")
def parts() -> Split:
    world = World(users=120, items=50, events=2_000, topics=4, min_events=5, seed=3)
    return split(world.dataset(text=False, impressions=False), "leave_one_out")


@pytest.fixture(scope="module")
def model(parts: Split) -> IALS:
    return IALS(dim=8, epochs=2).fit(parts.train)


@pytest.fixture(scope="module")
def whole(parts: Split, model: IALS) -> pa.Table:
    """All answers from one call of the model."""
    users, histories = parts.people("test")
    requests = questions.Requests(users, histories, exclude=histories.ragged)
    return rows(model, parts.train.users.ids.decode(users), model.recommend(requests, 4), labels=True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "BLOCK", 10)
    monkeypatch.setattr(questions, "PIECE", 30)


def answers(parts: Split, model: IALS) -> Iterator[pa.Table]:
    return Here(model).answers(of_split(model, parts), Question(4, labels=True))


def test_blocks_give_what_one_call_gives(parts: Split, model: IALS, whole: pa.Table) -> None:
    blocks = list(answers(parts, model))
    assert [b.num_rows for b in blocks] == [10] * 12
    assert pa.concat_tables(blocks).equals(whole)


def test_offers_are_a_row_each(whole: pa.Table) -> None:
    table = offers(whole)
    wanted = [
        (user, item, rank, score)
        for user, items, scores in zip(*(whole[n].to_pylist() for n in ("user", "items", "scores")), strict=True)
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1)
    ]
    assert list(zip(*(table[n].to_pylist() for n in ("user", "item", "rank", "score")), strict=True)) == wanted
    assert table["rank"].type == pa.int32() and table["score"].type == pa.float32()


@pytest.mark.parametrize("format", ["table", "jsonl", "parquet", "trec"])
def test_files_hold_all_answers_in_order(parts: Split, model: IALS, whole: pa.Table, format: str, tmp_path: Path) -> None:
    out, wanted = tmp_path / "answers", offers(whole)
    write_answers(answers(parts, model), format, out, "ials")
    if format == "parquet":
        assert pq.read_table(out).equals(wanted)
    elif format == "jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["user"] for line in lines] == whole["user"].to_pylist()
        found = [(offer["item"], np.float32(offer["score"])) for line in lines for offer in line["items"]]
        assert found == list(zip(wanted["item"].to_pylist(), wanted["score"].to_numpy(), strict=True))
        assert lines[0]["items"][0]["label"] == whole["labels"][0][0].as_py() and lines[0]["cold"] is False
    else:
        users, items, scores = (
            c.to_pylist() if isinstance(c, pa.Array) else c for c in (read_run if format == "trec" else read_table)(out)
        )
        assert list(users) == list(map(str, wanted["user"].to_pylist()))
        assert list(items) == list(map(str, wanted["item"].to_pylist()))
        assert np.array_equal(np.asarray(scores, np.float32), wanted["score"].to_numpy())


def read_table(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    head, *lines = (line.split("\t") for line in path.read_text().splitlines())
    assert head == ["user", "rank", "item", "score"]
    return [line[0] for line in lines], [line[2] for line in lines], np.array([line[3] for line in lines], np.float32)


def test_parts_are_a_file_a_piece(parts: Split, model: IALS, whole: pa.Table, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    here = Here(model)
    for _ in range(2):  # the second time replaces the first
        tally = write_parts(lambda folder: here.parts(of_split(model, parts), Question(4), folder), out, "ials")
    assert tally == Tally(120, 0)
    names = sorted(path.name for path in out.iterdir())
    assert names == [SIGN, *(f"part-{first:012d}.parquet" for first in (0, 30, 60, 90))]
    assert pq.read_table(out).equals(offers(whole)), "a reader of the folder sees the parts in order, and nothing else"
    assert json.loads((out / SIGN).read_text()) == {"people": 120, "cold": 0, "parts": 4, "system": "ials"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="something else of that name"):
        write_parts(lambda folder: here.parts(of_split(model, parts), Question(4), folder), tmp_path / "mine", "ials")


def test_people_of_whom_nothing_is_known_are_counted(model: IALS) -> None:
    tally = Tally()
    blocks = list(tally.of(Here(model).answers(of_users(model, ["0", "-1", "-2"]), Question(3))))
    assert tally == Tally(3, 2) and blocks[0]["cold"].to_pylist() == [False, True, True]


def failing(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield next(blocks)
    raise RuntimeError("half way")


@pytest.mark.parametrize("format", ["table", "jsonl", "parquet", "trec"])
def test_a_run_that_fails_leaves_the_old_file(parts: Split, model: IALS, format: str, tmp_path: Path) -> None:
    out = tmp_path / "answers"
    out.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        write_answers(failing(answers(parts, model)), format, out, "ials")
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("format", ["table", "jsonl", "parquet", "trec"])
def test_memory_holds_blocks_and_not_all_answers(parts: Split, model: IALS, format: str, tmp_path: Path) -> None:
    """When a block is made, at most the one before it may still be there."""
    alive: list[weakref.ref[Any]] = []
    most = 0

    class Watched(Here):
        def answers(self, pieces: Any, question: Question) -> Iterator[pa.Table]:
            nonlocal most
            for block in super().answers(pieces, question):
                most = max(most, sum(ref() is not None for ref in alive))
                alive.append(weakref.ref(block))
                yield block
                del block

    write_answers(Watched(model).answers(of_split(model, parts), Question(4, labels=True)), format, tmp_path / "a", "ials")
    assert len(alive) == 12 and most <= 1
