"""Assignment: the same everywhere, in the promised shares, independent between experiments, with the fewest moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments.assignment import OUTSIDE, SPACE, Allocation, Assignment, points

UNITS = range(100_000)
WEIGHTS = st.lists(st.integers(0, 20), min_size=2, max_size=6).filter(any)


def moved(before: Allocation, after: Allocation) -> int:
    """Count the points that change their owner, from the segments themselves."""
    edges = sorted({0, *before.stops, *after.stops})
    owners = zip(before.at(np.array(edges[:-1])), after.at(np.array(edges[:-1])), edges, edges[1:], strict=False)
    return sum(stop - start for old, new, start, stop in owners if old != new)


# -- the hash ---------------------------------------------------------------------------------------


def test_points_never_change() -> None:
    # the first 48 bits of blake2b over length-prefixed parts, worked out apart from this code
    # another value here would reassign the units of every running experiment
    assert points(["alice", 42, "42", "ж"], "salt", "homepage").tolist() == [
        35157571517916,
        218201115100985,
        218201115100985,
        129774499682368,
    ]


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = "from palate.evaluation.experiments import Allocation, Assignment\n"
    code += "print(Assignment('e', 's', Allocation.of([1, 2])).of(range(200)).tolist())"
    here = Assignment("e", "s", Allocation.of([1, 2])).of(range(200)).tolist()
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": seed}, check=True
        )
        assert json.loads(found.stdout) == here


def test_parts_of_the_key_don_t_run_into_each_other() -> None:
    keys = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    assert len({int(points(["u"], *key)[0]) for key in keys}) == 4
    assert points(["u"], "s", "e", "variant") != points(["u"], "s", "e", "traffic")


def test_points_are_uniform() -> None:
    cells = np.bincount(points(UNITS, "salt", "uniform") * 256 // SPACE, minlength=256)
    assert stats.chisquare(cells).pvalue > 1e-4


def test_two_experiments_are_independent() -> None:
    one, two = (Assignment(name, "salt", Allocation.of([1, 1, 2])).of(UNITS) for name in ("one", "two"))
    table = np.bincount(one * 3 + two, minlength=9).reshape(3, 3)
    assert stats.chi2_contingency(table).pvalue > 1e-4
    # and the test can fail: the same experiment is not independent of itself
    assert stats.chi2_contingency(np.bincount(one * 3 + one, minlength=9).reshape(3, 3) + 1).pvalue < 1e-12


def test_another_salt_is_another_assignment() -> None:
    one, two = (Assignment("e", salt, Allocation.of([1, 1])).of(range(2000)) for salt in ("a", "b"))
    assert 0.4 < (one == two).mean() < 0.6


def test_kinds_of_ids() -> None:
    assignment = Assignment("e", "s", Allocation.of([1, 1]))
    assert assignment.of(np.arange(50)).tolist() == assignment.of([str(n) for n in range(50)]).tolist()
    assert assignment.of(np.array(["x", "y"])).tolist() == [assignment.one("x"), assignment.one("y")]
    assert assignment.of([]).tolist() == []
    for wrong in (1.5, True, None, b"x"):
        with pytest.raises(DataError, match="text or by a whole number"):
            assignment.one(wrong)


# -- weights and traffic ----------------------------------------------------------------------------


def test_shares_are_as_promised() -> None:
    found = Assignment("e", "s", Allocation.of([0.5, 0.3, 0.2])).of(UNITS)
    assert stats.chisquare(np.bincount(found), len(found) * np.array([0.5, 0.3, 0.2])).pvalue > 1e-4


def test_traffic_is_apart_from_variants_and_only_grows() -> None:
    small, large = (Assignment("e", "s", Allocation.of([1, 1]), traffic).of(UNITS) for traffic in (0.2, 0.6))
    whole = Assignment("e", "s", Allocation.of([1, 1])).of(UNITS)
    assert ((small == OUTSIDE) | (small == large)).all() and ((large == OUTSIDE) | (large == whole)).all()
    assert stats.binomtest(int((small != OUTSIDE).sum()), len(small), 0.2).pvalue > 1e-4
    assert stats.chisquare(np.bincount(small[small != OUTSIDE])).pvalue > 1e-4
    assert (Assignment("e", "s", Allocation.of([1, 1]), 0.0).of(range(100)) == OUTSIDE).all()


def test_cut_by_hand() -> None:
    cut = Allocation.of([1, 1, 2])
    assert cut.stops == (SPACE // 4, SPACE // 2, SPACE) and cut.owners == (0, 1, 2)
    assert cut.at(np.array([0, SPACE // 4 - 1, SPACE // 4, SPACE - 1])).tolist() == [0, 0, 1, 2]
    more = cut.changed([2, 1, 1])
    # variant 2 gives its upper half to variant 0; cumulative weights cut anew would have moved half of all units
    assert more.stops == (SPACE // 4, SPACE // 2, SPACE * 3 // 4, SPACE) and more.owners == (0, 1, 2, 0)
    assert more.weights == (0.5, 0.25, 0.25)
    assert moved(cut, more) == SPACE // 4 and moved(cut, Allocation.of([2, 1, 1])) == SPACE // 2


@given(WEIGHTS, st.lists(WEIGHTS, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_change_moves_the_least_and_lands_where_it_should(first: list[int], then: list[list[int]]) -> None:
    now, size = Allocation.of(first), len(first)
    for weights in then:
        weights = weights + [0] * (size - len(weights))
        size = len(weights)
        after, anew = now.changed(weights), Allocation.of(weights)
        assert after.weights == anew.weights
        padded = [*now.weights, *[0.0] * (size - now.size)]
        least = sum(abs(a - b) for a, b in zip(padded, anew.weights, strict=True)) / 2
        assert moved(now, after) == round(least * SPACE)
        assert Allocation.from_dict(json.loads(json.dumps(after.to_dict()))) == after
        now = after
    assert now.changed(now.weights) == now


def test_units_move_only_out_of_what_shrinks() -> None:
    cut = Allocation.of([0.4, 0.4, 0.2])
    before = Assignment("e", "s", cut).of(UNITS)
    after = Assignment("e", "s", cut.changed([0.4, 0.3, 0.2, 0.1])).of(UNITS)
    gone = before != after
    assert set(before[gone]) == {1} and set(after[gone]) == {3}
    assert abs(gone.mean() - 0.1) < 0.005


@pytest.mark.parametrize("wrong", [[], [0, 0], [1, -1], [1, float("nan")], [float("inf"), 1]])
def test_wrong_weights_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ConfigError, match="weights"):
        Allocation.of(wrong)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="taken away"):
        Allocation.of([1, 1, 1]).changed([1, 1])
    with pytest.raises(ConfigError, match="traffic"):
        Assignment("e", "s", Allocation.of([1, 1]), 1.5)
    with pytest.raises(ConfigError, match="name"):
        Assignment("", "s", Allocation.of([1, 1]))
    with pytest.raises(ConfigError, match="segments"):
        Allocation((5, 3), (0, 1), 2)
    with pytest.raises(ConfigError, match="owner"):
        Allocation((SPACE,), (2,), 2)
    assert "pepper" not in repr(Assignment("e", "pepper", Allocation.of([1])))
