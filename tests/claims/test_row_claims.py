"""Claims about rows and about cascades: what their arms leave out, and how their slopes are taken."""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.catalog.registry import create
from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.study.claims import Effect, Trial, load

CLAIMS = Path(__file__).parents[2] / "claims"


def test_arms_without_the_time_do_not_read_it():
    pytest.importorskip("torch")
    autoint = SimpleNamespace(**run_path(str(CLAIMS / "autoint.py")))
    fields = (RowField("x", "category"), RowField("time", "number", scale="minmax"))
    arms = {arm: own for arm, own in autoint.further(fields).items() if "without time" in arm}
    assert [system for system, _ in arms.values()] == ["lr", "fm", "autoint"]
    x = np.arange(40)
    features = pa.table({"x": [f"v{k % 4}" for k in x], "time": x.astype(float)})
    known = Rows(features, {"label": (x % 2).astype(np.float32)})
    later = Rows(features.set_column(1, "time", pa.array(x[::-1] * 7.0)), known.labels)
    for system, own in arms.values():
        model = create(system, epochs=1, **own).fit(known, known, seed=0)
        np.testing.assert_array_equal(model.predict(known).values, model.predict(later).values)


def test_what_a_model_holds_of_the_triple_does_not_hang_on_what_it_holds_of_the_pair():
    pytest.importorskip("torch")
    autoint = SimpleNamespace(**run_path(str(CLAIMS / "autoint.py")))
    _, shares = autoint.planted(0, 20_000)
    pair, triple = shares.T
    assert abs(np.corrcoef(pair, triple)[0, 1]) < 0.05
    for weight in (0.0, 0.5, 1.0, 3.0):
        assert autoint.beyond_pair(1 + weight * pair + 0.1 * triple, shares) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=len(pair))
    assert autoint.beyond_pair(pair + noise, shares) == pytest.approx(0, abs=0.03)


def test_slopes_of_regret_tell_a_plateau_at_linear_regret_from_the_square_root():
    cascades = SimpleNamespace(**run_path(str(CLAIMS / "cascading_rl.py")))
    visits = np.unique(np.geomspace(1, 50_000, 60).round())

    def slopes(regret: np.ndarray) -> Effect:
        return cascades.interval([cascades.slope({"visits": visits, "regret": c * regret}) for c in (1.0, 2.0, 3.0)])

    linear, root, none = (slopes(regret) for regret in (visits, np.sqrt(visits), np.minimum(visits, 5_000)))
    assert [x.value for x in (linear, root, none)] == pytest.approx([1, 0.5, 0], abs=1e-9)
    bandit, theory = (cascades.CLAIM.bars[f"log-log slope of regret {of}"] for of in ("of a bandit in each state", "at c = 1"))
    assert [bandit.met(x) for x in (linear, root, none)] == [True, False, False]
    assert [theory.met(x) for x in (linear, root, none)] == [False, True, False]


def test_rivals_of_cascades_with_chance_may_be_level_but_not_far_better():
    claim = SimpleNamespace(**run_path(str(CLAIMS / "cascading_rl.py"))).CLAIM
    for arm in ("Thompson", "epsilon-greedy"):
        bar = claim.bars[f"regret of {arm} over ours, less 1"]
        assert bar.met(Effect(0.0, -0.15, 0.15)) and not bar.met(Effect(-0.1, -0.25, 0.05))


def test_networks_of_several_tasks_try_the_same_settings_and_the_mean_over_marketplaces_counts(monkeypatch):
    pytest.importorskip("torch")
    load(CLAIMS / "multi_task.py")
    program, trial = sys.modules["palate_claim_multi_task"], Trial((5, 6))
    tries = program.tried_settings(trial)
    assert tries == program.tried_settings(trial) and len(tries) == program.TRIALS
    assert tries[0] == {}, "the system's own come first"
    for own in tries[1:]:
        assert set(own) == {"lr", "embedding_reg", "dropout"} and 1e-3 <= own["lr"] <= 1e-2 and 0 <= own["dropout"] <= 0.3
    valid = {1: (0.7, 0.7, 0.7), 2: (0.9, 0.5, 0.5)}  # the third is best in the first marketplace only

    def fitted(trial: Trial, arm: str, settings: Any, parts: Any, seed: int) -> dict[str, dict[str, float]]:
        assert set(parts) == {"train", "valid"}, "the test rows are not looked at"
        found = valid.get(tries.index(settings), (0.6, 0.6, 0.6))[parts["train"]]
        return {task: {"valid": found} for task in program.ARMS[arm][2]}

    monkeypatch.setattr(program, "fitted", fitted)
    markets = [dict.fromkeys(("train", "valid", "test"), at) for at in range(program.TRIED_IN)]
    assert {arm: program.chosen(trial, arm, markets) for arm in program.ARMS} == dict.fromkeys(program.ARMS, tries[1])


def test_what_click_models_reach_on_sparse_rows_is_told_and_no_bar_rests_on_it():
    pytest.importorskip("torch")
    order = SimpleNamespace(**run_path(str(CLAIMS / "ctr_order.py")))
    trial = Trial((0,), reduced=True)
    found = order.sparse(trial)
    few = order.Crossed.of(trial, "made", order.made(400)[0])
    arms = dict.fromkeys(("fm", "lr"), order.Arm(np.zeros((1, len(few.truth)), np.float32), {}))
    assert order.gap(trial, few, arms, ("fm", "lr"), rows=3, arms=4).details["rows"] == 3, "facts may have any name"
    assert list(found["systems"]) == ["LR", "FM", "MLP"]
    assert all(low <= value <= high for value, low, high in found["gaps of AUC"].values())
    auc = {title: own["AUC"] for title, own in found["systems"].items()}
    assert found["gaps of AUC"]["MLP over FM"][0] == pytest.approx(auc["MLP"] - auc["FM"])
    assert not [effect for effect in order.CLAIM.bars if "1M" in effect]
