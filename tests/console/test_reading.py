"""What the page says of an experiment, from analyses as the service makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.console.pages import reading
from palate.evaluation.experiments.analysis import analyse
from palate.evaluation.experiments.guardrails import Guardrail
from palate.serve.experiments import preferences
from palate.serve.experiments.live import ExperimentSpec
from palate.serve.store import Exposure, Feedback, Shown, Slate, Store

NOW = 1_700_000_000.0


def split(people: int = 900) -> dict[str, Any]:
    """Three arms, of which the last does more and slows down."""
    rng = np.random.default_rng(0)
    arm = np.arange(people) % 3
    metrics = {"clicks": rng.poisson(3 + 3.0 * (arm == 2)), "speed": rng.normal(10 - 5.0 * (arm == 2), 1)}
    found = analyse(
        [f"u{n}" for n in range(people)],
        arm,
        metrics,
        planned=900,
        variants=["control", "same", "more"],
        guardrails={"speed": Guardrail(0.1)},
    )
    return {"experiment": "e", "kind": "split", **json.loads(json.dumps(found.to_dict()))}


def interleaved(folder: Path, people: int, planned: int) -> dict[str, Any]:
    """Everybody was shown an item of each team; two in three chose that of the second."""
    store = Store.open(f"sqlite:///{folder / 'palate.db'}", clock=lambda: NOW)
    spec = ExperimentSpec.parse(
        {
            "kind": "interleaving",
            "variants": [{"name": "old"}, {"name": "new"}],
            "metrics": [{"name": "clicks", "kind": "feedback", "type": "click"}, {"name": "likes", "kind": "feedback"}],
            "planned": planned,
        }
    )
    store.add_experiment("e", spec.allotted().model_dump(mode="json"))
    units = range(people)
    store.add_exposures([Exposure("e", f"u{n}", "interleaved") for n in units])
    shown = (Shown("i0", 1, team="old"), Shown("i1", 2, team="new"))
    store.add_slates([Slate(f"s{n}", shown, user=f"u{n}", stochastic=False, experiment="e") for n in units])
    store.add_feedback([Feedback(f"s{n}", "i1" if n % 3 else "i0") for n in units])
    found = preferences.reading(store, "e", spec)
    store.close()
    return {"experiment": "e", **found}


def test_each_variant_stands_beside_the_control_on_what_decides() -> None:
    found = split()
    pairs = reading.goals(found)
    rows = reading.difference_rows(pairs)
    assert [row[:2] for row in rows] == [["clicks", "same"], ["clicks", "more"]]
    assert rows[1][5] == "higher" and str(rows[1][2]).startswith("3.") and " to " in str(rows[1][2])
    corrected = [one["sequential"]["p_adjusted"] for one in pairs]
    assert corrected[1] == pytest.approx(2 * pairs[1]["sequential"]["p"])  # Holm over two variants
    assert [one.name for one in reading.estimates(pairs, "variant")] == ["same", "more"]
    assert [row[:3] for row in reading.arm_rows(found)][:2] == [["clicks", "control", "300"], ["clicks", "same", "300"]]


def test_guardrails_have_rows_of_their_own() -> None:
    rows = reading.guardrail_rows(split())
    assert [row[:2] for row in rows] == [["speed", "same"], ["speed", "more"]]
    assert str(rows[1][2]).startswith("-49.5% (") and rows[1][3] == "10.0%"
    assert [row[4].args for row in rows] == [("safe",), ("harmed",)]  # type: ignore[union-attr]


def test_too_few_people_have_no_interval_and_no_drawing() -> None:
    found = split(60)
    assert reading.estimates(reading.goals(found), "variant") == []
    assert all(str(row[2]).endswith("(no interval yet)") for row in reading.difference_rows(reading.goals(found)))
    assert "no end yet" not in str(reading.guardrail_rows(found)[0][2])


def test_a_preference_with_its_votes_and_intervals(tmp_path: Path) -> None:
    clicks, likes = reading.preference_rows(interleaved(tmp_path, 150, 150))
    assert clicks[:4] == ["clicks", "100", "50", "0"]
    assert len(clicks) == 8 and str(clicks[4]).startswith("0.167 (0.0") and str(clicks[5]).startswith("0.167 (0.0")
    assert str(clicks[-1]).startswith("new is preferred")
    assert likes[0] == "likes"


def test_before_the_planned_size_only_what_holds_at_any_time_is_shown(tmp_path: Path) -> None:
    [clicks, _] = reading.preference_rows(interleaved(tmp_path, 30, 3_000))
    assert clicks[1:4] == ["20", "10", "0"] and len(clicks) == 7
    assert clicks[4] == "0.167 (no interval yet)" and clicks[-1] == "not yet known"
