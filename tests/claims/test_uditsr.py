"""The claim on UDITSR: whose values gains are of, which people each seed asks, and what tells kept fits apart."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Entities
from palate.simulate.demands import Demands
from palate.study.claims import Trial, load

pytest.importorskip("torch")
CLAIMS = Path(__file__).parents[2] / "claims"


@pytest.fixture(scope="module")
def program() -> Any:
    load(CLAIMS / "uditsr.py")
    return sys.modules["palate_claim_uditsr"]


def test_gains_are_of_those_with_questions_as_many_of_each_seed_as_of_the_smallest(program):
    seeds = [np.array([0.2, np.nan, 0.4, 0.6]), np.array([np.nan, 0.1, 0.3, np.nan, 9.0])]
    base = [{"ndcg@5": own, "auc": own + 1} for own in seeds]
    treated = [{"ndcg@5": 2 * own, "auc": own + 2} for own in seeds]
    found = program.gain(treated, base, "words")
    assert found.details["people"] == 3 and found.value == pytest.approx(1) and found.low == pytest.approx(1)
    assert found.details["base"] == pytest.approx(np.mean([0.2, 0.4, 0.6, 0.1, 0.3, 9.0]))
    assert found.details["other metrics"]["gauc"][0] == pytest.approx(
        1 / found.details["base"] / (1 + 1 / found.details["base"]), abs=1e-3
    )


def test_each_seed_asks_other_people_of_beauty(program, monkeypatch):
    made = Demands(users=90, items=12, events=8, topics=3).dataset()
    table = pa.table(
        {"title": [f"thing {i}" for i in range(12)], "attribute_ids": [["b", "top", str(i % 3)] for i in range(12)]}
    )
    whole = replace(made, items=Entities(made.items.ids, table), searches=None)
    trial = Trial((0, 1, 2))
    monkeypatch.setattr(trial, "dataset", lambda name: whole)
    monkeypatch.setattr(program, "BUYERS", 30)
    monkeypatch.setattr(program, "category_names", lambda: {"0": "soap", "1": "comb"})
    parts = [program.beauty(trial, seed) for seed in trial.seeds]
    asked = [set(part.users.ids.raw.to_pylist()) for part in parts]
    assert all(asked) and sum(map(len, asked)) == len(set.union(*asked)) <= 90
    assert {text.split()[-1] for part in parts for text in part.searches.column("query").to_pylist()} == {
        "soap",
        "comb",
        "category2",
    }
    assert len(trial.fingerprints) == 3


def test_fits_on_other_data_are_kept_apart(program, monkeypatch):
    trial, keys = Trial((0,)), []
    monkeypatch.setattr(trial, "kept", lambda make, **key: keys.append(str(key)))
    for seed in (0, 1):
        bench = program.Bench(trial, "app", Demands(users=20, items=15, events=10, topics=3, seed=seed).dataset())
        for arm in program.ARMS:
            bench.fitted(arm, (0.01, 0.0), 0, "valid")
            bench.fitted(arm, (0.01, 0.0), 0, "test")
    assert len(set(keys)) == len(keys) == 2 * 2 * len(program.ARMS)
