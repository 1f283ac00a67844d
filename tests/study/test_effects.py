"""Effects: differences of gains and of falls, against values that are known."""

import numpy as np
import pytest

from palate.errors import DataError
from palate.study.effects import gain_beyond, smaller_fall


def test_gain_beyond_is_the_difference_of_two_gains():
    rng = np.random.default_rng(0)
    some, base = np.arange(400) < 100, rng.random(400)
    treated = base + np.where(some, 0.3, 0.1) + rng.normal(0, 0.01, 400)
    treated[5] = np.nan
    effect = gain_beyond([treated, treated], [base, base], some, rng=np.random.default_rng(1), note="x")
    assert effect.value == pytest.approx(0.2, abs=0.005)
    assert 0.19 < effect.low < effect.value < effect.high < 0.21
    assert effect.details["people"] == 99 and effect.details["other people"] == 300 and effect.details["note"] == "x"
    with pytest.raises(DataError, match="both groups"):
        gain_beyond(treated, base, np.zeros(400, bool), rng=rng)


def test_smaller_fall_is_of_what_each_had_before():
    rng = np.random.default_rng(0)
    before = 0.5 + 0.1 * rng.random(300)
    ours, theirs = (before, before * 0.9), (2 * before, 2 * before * 0.7)
    effect = smaller_fall(ours, theirs, rng=np.random.default_rng(1))
    assert effect.value == pytest.approx(0.2)
    assert effect.low == pytest.approx(0.2) and effect.high == pytest.approx(0.2)
    assert effect.details["gain"] == pytest.approx(-0.1) and effect.details["other gain"] == pytest.approx(-0.3)
    with pytest.raises(DataError, match="bases above zero"):
        smaller_fall((np.zeros(3), np.ones(3)), (np.ones(3), np.ones(3)), rng=rng)
