"""The claim on AW-MoE: what the contrast is measured against, people of several worlds, and groups of gates."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Entities
from palate.simulate.demands import Demands
from palate.study.claims import Trial, load

CLAIMS = Path(__file__).parents[2] / "claims"
GROUPS = SimpleNamespace(**run_path(str(CLAIMS / "_gate_groups.py")))


@pytest.fixture(scope="module")
def program():
    load(CLAIMS / "aw_moe.py")
    return sys.modules["palate_claim_aw_moe"]


def test_the_contrast_is_measured_with_all_other_settings_and_seeds_the_same(program, monkeypatch):
    chosen = {
        "AW-MoE": {"lr": 0.004, "pool": "softmax", "contrast": 0.3, "drop_events": 0.2},
        program.APART: {"lr": 0.001, "pool": "sum"},
        "DIN": {"lr": 0.002},
    }
    fitted: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = []

    def answers(trial, name, data, arm, settings, seeds):
        fitted.append((name, arm, dict(settings), seeds))
        people = data.people[-1] + 1
        return np.full((len(seeds), people), settings["lr"]), np.full((len(seeds), people, 4), float(name[-1]))

    tuned_in = []
    monkeypatch.setattr(program, "tuned", lambda trial, name, data, arm: tuned_in.append(name) or chosen[arm])
    monkeypatch.setattr(program, "answers", answers)
    worlds = {f"types {at}": SimpleNamespace(people=np.repeat(np.arange(3 + at), 2)) for at in range(3)}
    found = program.compared(Trial((0, 1, 2, 3, 4)), worlds, chosen)
    assert set(tuned_in) == {"types 0"}
    without = {**chosen["AW-MoE"], "contrast": 0.0}
    for world in worlds:
        every = (0, 1, 2, 3, 4)
        assert (world, "AW-MoE", without, every) in fitted and (world, "AW-MoE", chosen["AW-MoE"], every) in fitted
        assert (world, program.APART, chosen[program.APART], (0, 1, 2)) in fitted
    assert found.auc[program.WITHOUT].shape == (5, 12) and found.auc["DIN"].shape == (3, 12)
    assert found.world.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert found.gates["AW-MoE"].shape == (5, 3, 4) and not found.gates["AW-MoE"].any()  # of the first world alone


def test_effects_of_the_contrast_are_over_that_control_and_the_arm_tuned_apart_stands_beside(program):
    few = np.arange(40) % 2 == 0
    base, rng = np.random.default_rng(0).normal(0.7, 0.05, (5, 40)), np.random.default_rng(1)
    arms = {"AW-MoE": base + 0.1 * few, program.WITHOUT: base, program.APART: base[:3] + 0.2 + 0.01 * rng.random((3, 40))}
    found = program.Found(np.repeat([0, 1], 20), arms)
    gained = program._contrast(found, rows=few)
    assert gained.value == pytest.approx(0.1) and gained.low == pytest.approx(0.1)
    assert gained.details["by world"] == pytest.approx([0.1, 0.1])
    assert gained.details[f"over {program.APART}"]["value"] < 0
    beyond = program._contrast(found, some=few)
    assert beyond.value == pytest.approx(0.1)
    assert set(beyond.details[f"over {program.APART}"]) == {"value", "low", "high"}


def test_worlds_of_types_differ_and_share_what_types_like(program):
    people = {"train": 20, "valid": 5, "test": 10}
    one, other, again = (program.made(people, alike=False, seed=seed) for seed in (0, 1, 0))
    assert one.parts["test"].features.equals(again.parts["test"].features)
    assert not one.parts["test"].features.equals(other.parts["test"].features)
    assert len(set(program.TYPES_IN)) == 3


def test_a_purchase_on_beauty_stands_beside_one_item_never_bought_and_beside_nine_in_the_test_part(program, monkeypatch):
    made = Demands(users=30, items=120, events=6, topics=3).dataset()
    table = pa.table({"attribute_ids": [["brand", "top", f"{item % 3}"] for item in range(120)]})
    whole, trial = replace(made, items=Entities(made.items.ids, table)), Trial((0,))
    monkeypatch.setattr(trial, "dataset", lambda name: whole)
    data, bought = program.beauty(trial), [set(own) for own in np.split(whole.histories.items, whole.histories.offsets[1:-1])]
    for part, purchases, others in (("train", 2, 1), ("valid", 1, 1), ("test", 1, program.OTHERS)):
        rows = data.parts[part]
        people, items = (np.array(rows.features.column(name).to_pylist(), int) for name in ("person", "item"))
        had = rows.labels["click"] > 0.5
        assert np.bincount(people[had]).tolist() == [purchases] * 30
        assert np.bincount(people[~had]).tolist() == [purchases * others] * 30
        assert all((item in bought[person]) == yes for person, item, yes in zip(people, items, had, strict=True))
    shown = np.array(data.parts["test"].features.column("item").to_pylist()).reshape(30, -1)
    assert all(len(set(own)) == 1 + program.OTHERS for own in shown)
    assert data.people.tolist() == np.repeat(np.arange(30), 1 + program.OTHERS).tolist()


def test_the_adjusted_rand_index_is_1_for_the_same_grouping_and_about_0_by_chance():
    first = np.array([0, 0, 1, 1, 2, 2])
    assert GROUPS.rand_index(first, (first + 1) % 3) == pytest.approx(1)
    assert GROUPS.rand_index(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == pytest.approx(4 / 7)
    rng = np.random.default_rng(0)
    assert abs(GROUPS.rand_index(rng.integers(4, size=5_000), rng.integers(4, size=5_000))) < 0.01


def test_groups_of_gates_are_types_where_gates_tell_them():
    rng, kinds = np.random.default_rng(0), np.repeat(np.arange(4), 50)
    told = np.eye(4)[kinds] + 0.05 * rng.normal(size=(2, 200, 4))
    none, everybody = rng.normal(size=(2, 200, 4)), np.ones(200, bool)
    clear, chance = (GROUPS.gates_against_types(gates, kinds, everybody, 20) for gates in (told, none))
    assert clear.low > 0.6 and len(clear.details["by seed"]) == 2
    assert chance.high < 0.2
    half = GROUPS.gates_against_types(told, kinds, kinds < 2, 5)
    assert half.details["people"] == 100
    apart = GROUPS.gates_against_types(np.stack([told[0], none[0]]), kinds, everybody, 50)
    assert apart.high - apart.low > 0.5, "the interval holds seeds"
