"""Answers of several steps, judged by hand: items, categories, brands, candidates."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.ranking import Ranking
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.protocols.event_sequences import StepQuestions
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.study.next_items import finest, judge_steps


class Fixed:
    """Offers the same list, turned by one place a step; only of the candidates where there are some."""

    def __init__(self, items: list[int], step: int = 0) -> None:
        self.items, self.step = items, step

    def at_step(self, step: int) -> Fixed:
        return Fixed(self.items, step)

    def recommend(self, requests, k):  # type: ignore[no-untyped-def]
        own = np.roll(self.items, -self.step)
        if requests.candidates is not None:
            own = own[np.isin(own, requests.candidates.values)]
        rows = np.tile(np.append(own, [-1] * k)[:k], (len(requests), 1)).astype(np.int32)
        return Ranking(rows, np.zeros(rows.shape, np.float32), np.zeros(len(rows), bool))


DATA = Dataset.from_columns([0, 0, 1], [0, 1, 2])
DATA = DATA.derive({}, items=Entities(Vocabulary.range(6)))
ASKED = StepQuestions(
    np.array([0, 1], np.int32), Histories.from_rows([[0], [1]]), np.array([[2, 3], [4, 5]], np.int32), None, "test"
)
CODES = np.array([0, 0, 1, 1, 2, -1], np.int32)


def test_items_and_categories_at_each_step() -> None:
    found = judge_steps(Fixed([0, 3, 4]), ASKED, DATA, ks=(1, 2), attributes={"category": CODES})  # type: ignore[arg-type]
    assert len(found) == 2
    assert found[0]["recall@2"].tolist() == [0, 0] and found[0]["recall@2 of category"].tolist() == [1, 0]
    assert found[0]["recall@1 of category"].tolist() == [0, 0]
    assert found[1]["recall@1"].tolist() == [1, 0] and found[1]["ndcg@1"].tolist() == [1, 0]
    assert found[1]["recall@2 of category"][0] == 1 and np.isnan(found[1]["recall@2 of category"][1])


def test_only_candidates_are_ranked() -> None:
    assert ASKED.candidates.tolist() == [2, 3, 4, 5]
    found = judge_steps(Fixed([0, 1, 4, 2]), ASKED, DATA, ks=(1,), candidates=ASKED.candidates)  # type: ignore[arg-type]
    assert found[0]["recall@1"].tolist() == [0, 1]


def test_the_finest_category() -> None:
    table = pa.table({"c2": ["x", None, None, "y"], "c0": ["a", "a", None, "a"]})
    codes = finest(Entities(Vocabulary.range(4), table), ("c2", "c1", "c0"))
    assert codes[2] == -1 and len(set(codes.tolist())) == 4 and codes.min() == -1 and codes.max() == 2
    full = finest(
        Entities(Vocabulary.range(4), table.drop_columns(["c2"]).set_column(0, "c0", pa.array(list("aabb")))), ("c0",)
    )
    assert full.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="none of these"):
        finest(Entities(Vocabulary.range(4), table), ("brand",))
