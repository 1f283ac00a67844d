"""Claims about rows and about cascades: what their arms leave out, and how their slopes are taken."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from palate.catalog.registry import create
from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.study.claims import Effect

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
