"""The claim on OptInter: what stands beside the model fitted anew, who is tuned, and the worlds that methods are chosen in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import create
from palate.study.claims import Effect, Trial, load
from palate.study.kept import Kept

pytest.importorskip("torch")
PROGRAM = Path(__file__).parents[2] / "claims" / "optinter.py"
SMALL: dict[str, Any] = {"batch_size": 64, "patience": 1, "dim": 2, "pair_dim": 2, "hidden": (4,)}


@pytest.fixture(scope="module")
def program():
    load(PROGRAM)
    return sys.modules["palate_claim_optinter"]


@pytest.fixture(scope="module")
def parts(program):
    return program.cut(program.planted(400)[0])


def test_the_network_that_is_not_fitted_anew_trains_as_long_as_the_model_may_and_stops_likewise(program, parts, tmp_path):
    base = {**SMALL, "epochs": 5}
    trial = Trial((0,), reduced=True, parts=Kept(tmp_path / "kept"))
    arms = program.arms_of(trial, "small", parts, base)
    long, short = arms["not retrained"], arms[program.AS_CHOSEN]
    assert (long.settings["search_epochs"], short.settings["search_epochs"]) == (5, 2)
    assert {arm.settings["patience"] for arm in (long, short)} == {1}
    assert {key: long.settings[key] for key in program.SPACE} == {key: arms["search"].settings[key] for key in program.SPACE}
    epochs, best = (long.facts[0][key] for key in ("epochs", "best_epoch"))
    assert epochs == min(best + 1, 5)  # one look without improvement ends it
    assert not np.array_equal(long.answers, short.answers)
    again = program.searched_alone(trial, "small", parts, {**base, **long.settings}, "not retrained")
    assert again.facts == long.facts and np.array_equal(again.answers, long.answers)
    assert arms["random"].valid is not None and set(arms["random"].settings) == set(program.SPACE)
    truth = parts["test"].labels["label"]
    figures = program.told(arms, truth)
    assert figures["not retrained"]["epochs"] == [epochs] and figures["random"]["parameters"]
    gained = program.anew(arms, truth, 20)
    other = gained.details[f"over the {program.AS_CHOSEN}"]
    each = {name: figures[name]["AUC"] for name in ("search", "not retrained", program.AS_CHOSEN)}
    assert gained.value == pytest.approx(each["search"] - each["not retrained"])
    assert other["value"] == pytest.approx(each["search"] - each[program.AS_CHOSEN])


def test_methods_of_another_world_are_those_that_a_whole_fit_would_choose(program, monkeypatch):
    small = program.planted(600, seed=1)[0]
    assert not small.features.equals(program.planted(600)[0].features)
    monkeypatch.setattr(program, "planted", lambda n, seed: (small, None))
    settings = {**SMALL, "epochs": 2, "margin": 0.0, "lr": 0.01, "embedding_reg": 0.0, "pair_reg": 1.0, "pair_min_count": 2}
    settings |= {"dropout": 0.0, "method": "search"}
    trial, cut = Trial((0,)), program.cut(small)
    found = program.chosen_elsewhere(trial, 1, settings)
    whole = create("optinter", **settings).fit(cut["train"], cut["valid"], seed=1)
    assert found == {" & ".join(pair): method for pair, method in whole.methods.items()}
    assert len(set(found.values())) > 1
    assert list(trial.fingerprints) == ["planted pairs, world 1"]


def test_the_choice_is_judged_over_five_worlds(program, monkeypatch):
    truth, asked = program.truth_of_pairs(), []

    def elsewhere(trial: Trial, world: int, settings: dict[str, Any]) -> dict[str, str]:
        asked.append(world)
        return truth if world % 2 else dict.fromkeys(truth, "naive")

    monkeypatch.setattr(program, "chosen_elsewhere", elsewhere)
    found: Effect = program.choice(Trial((0,)), {}, truth)
    assert asked == [1, 2, 3, 4]
    values = [1, 1, 1 / 3, 1, 1 / 3]
    assert found.value == pytest.approx(np.mean(values))
    assert [np.mean(list(one.values())) for one in found.details["recalls by world"]] == pytest.approx(values)
    assert found.low < program.CLAIM.bars[program.CHOICE].value < found.value
