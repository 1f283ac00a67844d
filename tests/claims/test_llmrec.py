"""The claim on LLMRec: what is told of few people, and how often picks are true."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from palate.recommend.llmrec_augment import Candidates, Picks
from palate.study.claims import Trial, load
from palate.study.kept import Kept

pytest.importorskip("torch")
PROGRAM = Path(__file__).parents[2] / "claims" / "llmrec.py"


@pytest.fixture(scope="module")
def program():
    load(PROGRAM)
    return sys.modules["palate_claim_llmrec"]


def test_agreement_of_picks_by_hand(program):
    """Three people: the liked one true, of two of four; the disliked one true, of one of two; and no pick."""
    offered = Candidates(np.arange(3, dtype=np.int32), np.array([[4, 5, 6, 7], [1, 2, -1, -1], [1, 2, 3, 4]], np.int32))
    picks = Picks(np.array([4, 1, -1], np.int32), np.array([6, 2, -1], np.int32))
    had = {0: [4, 5, 9], 1: [2], 2: [1]}
    found = program.TOLD.agreement(offered, picks, lambda user: np.array(had[user]))
    np.testing.assert_array_equal(found, [[1, 0, np.nan], [0, 1, np.nan], [0.5, 0.5, np.nan]])
    effects = program.TOLD.agreements([found, found], "picks")
    chance, disliked = (effects[f"picks: liked over {other}"] for other in ("chance", "disliked"))
    assert chance.value == disliked.value == 0 and chance.details["people"] == 2
    assert disliked.low == -1 and disliked.high == 1 and chance.high == 0.5


def test_what_was_told_is_told_again_to_the_same_candidates(program, tmp_path):
    trial = Trial((0,), reduced=True, parts=Kept(tmp_path / "kept"))
    split = program.splits(trial)[program.FEW_NAME]
    bench = program.Bench(trial, split, program.FEW_NAME)
    assert set(bench.choosers.users) <= set(range(split.train.n_users)) and bench.choosers.part == "valid"
    said = trial.kept(lambda: program.TOLD.told_by_rule(split.train), told="once")
    again = trial.kept(lambda: 1 / 0, told="once")
    given = program.TOLD.Given(again)
    offered = program.TOLD.propose(split.train, program.TOLD.BASE, program.TOLD.OFFERED, seed=5)
    picks = program.TOLD.picked(given, split.train, offered)  # refuses picks outside the candidates
    np.testing.assert_array_equal(picks.liked, said["liked"])
    assert given.user_profiles(split.train) == said["profiles"] and given.item_attributes(split.train) == said["attributes"]
    facts = program.TOLD.quality(again)
    assert facts["picked"] + facts["refused"] <= facts["asked for a pick"] and facts["profiles"]["model"] == 0
    user = int(offered.users[0])
    held = {*bench.known[user].tolist(), *bench.truth.get(user, [])}
    assert set(bench.had(user)) == held and not held & set(split.train.histories.take(np.array([user])).items.tolist())


def test_without_the_model_its_effects_are_left_out(program, monkeypatch):
    split = program.splits(Trial((0,), reduced=True))[program.FEW_NAME]
    bench = program.Bench(Trial((0,), reduced=True), split, program.FEW_NAME)
    monkeypatch.setattr(program, "lacking", lambda model: f"{model} is not here.")
    bench.trial.reduced = True
    whole = program.told(bench)
    assert set(whole) == {f"{program.FEW_NAME}: {words}" for words in program.TOLD_WORDS}
    assert not any("left out" in effect.details for effect in whole.values())
    monkeypatch.setattr(program, "EPOCHS", 1)
    bench.trial.reduced = False
    monkeypatch.setattr(program, "TRIED", program.TRIED[:1])
    without = program.told(bench)
    gone = {words for words, effect in without.items() if "left out" in effect.details}
    assert gone == {f"{program.FEW_NAME}: {words}" for words in program.TOLD_WORDS if "language model" in words}
