"""Trade-offs: what no other system beats on two scales at once."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.console.charts import Estimate
from palate.console.weighing import Scale, pairs, unbeaten


def _scale(name: str, better: int, **values: float) -> Scale:
    return Scale(name, better, {title: Estimate(title, value, value, value) for title, value in values.items()})


def test_who_is_beaten_on_both_is_left_out() -> None:
    accuracy = _scale("accuracy", 1, fast=0.2, good=0.4, bad=0.3, alone=0.9)
    time = _scale("time", -1, fast=1.0, good=5.0, bad=6.0)
    assert unbeaten(time, accuracy) == ["fast", "good"]


def test_equals_stand_beside_each_other_and_a_tie_on_one_scale_is_decided_by_the_other() -> None:
    x = _scale("x", 1, a=1.0, b=1.0, c=1.0)
    assert unbeaten(x, _scale("y", 1, a=2.0, b=2.0, c=1.0)) == ["a", "b"]


def test_without_a_better_end_nothing_is_said() -> None:
    assert unbeaten(_scale("x", 0, a=1.0), _scale("y", 1, a=1.0)) == []


def test_scales_without_a_system_in_common_are_not_drawn() -> None:
    accuracy, variety, time = _scale("a", 1, m=1.0), _scale("v", 1), _scale("t", -1, m=1.0)
    assert [(x.name, y.name) for x, y in pairs([accuracy, variety, time])] == [("t", "a")]


@pytest.mark.parametrize(("low", "high", "wide"), [(1.0, 19.0, False), (1.0, 20.0, True), (0.0, 500.0, False)])
def test_a_scale_over_many_magnitudes_is_logarithmic(low: float, high: float, wide: bool) -> None:
    assert _scale("t", -1, a=low, b=high).wide is wide
