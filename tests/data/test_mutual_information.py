"""Mutual information: by hand, by its laws, against scikit-learn's definition."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.features import learn_schema
from palate.data.mutual_information import label_information, mutual_information


def information(normalise=False, min_count=1, **columns):
    table = pa.table(columns)
    schema = learn_schema(table, kinds={n: "set" if isinstance(c[0], list) else "category" for n, c in columns.items()},
                          min_count=min_count)  # fmt: skip
    return mutual_information(schema.encode(table, table.num_rows), normalise=normalise)


def test_by_hand():
    found = information(a=["x", "x", "y", "y"], b=["p", "p", "p", "q"])
    h_a, h_b = np.log(2), -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    wanted = 0.5 * np.log(0.5 / (0.5 * 0.75)) + 0.25 * np.log(0.25 / (0.5 * 0.75)) + 0.25 * np.log(0.25 / (0.5 * 0.25))
    np.testing.assert_allclose(found, [[h_a, wanted], [wanted, h_b]])


def test_several_values_count_by_shares():
    """Item 1 has x and y: each of its pairs with p has half a vote."""
    found = information(a=[["x", "y"], ["x"]], b=["p", "q"])
    p = {("x", "p"): 0.25, ("y", "p"): 0.25, ("x", "q"): 0.5}
    wanted = sum(v * np.log(v / ({"x": 0.75, "y": 0.25}[a] * 0.5)) for (a, _), v in p.items())
    np.testing.assert_allclose(found[0, 1], wanted)


def test_laws():
    rng = np.random.default_rng(0)
    n = 4_000
    a, b = rng.integers(0, 4, n), rng.integers(0, 3, n)
    found = information(a=[str(v) for v in a], copy=[f"c{v}" for v in a], b=[str(v) for v in b],
                        noisy=[str(v if rng.random() < 0.5 else 9) for v in a])  # fmt: skip
    np.testing.assert_array_equal(found, found.T)
    assert (found >= 0).all()
    share = np.bincount(a) / n
    np.testing.assert_allclose(found[0, 0], -(share * np.log(share)).sum())
    np.testing.assert_allclose(found[0, 1], found[0, 0])
    assert found[0, 2] < 0.005 < found[0, 3] < found[0, 0]


def test_normalised_lies_between_zero_and_one():
    found = information(a=["x", "x", "y", "y"], same=["1", "1", "2", "2"], id=["1", "2", "3", "4"], normalise=True)
    assert found[0, 1] == pytest.approx(1)
    assert 0 < found[0, 2] < 1
    np.testing.assert_allclose(np.diag(found), 1)


def test_fields_that_never_meet_tell_nothing():
    found = information(a=["x", None, "y", None], b=[None, "p", None, "q"])
    assert found[0, 1] == 0


def test_large_tables_are_sampled_repeatably():
    table = pa.table({"a": [str(v % 7) for v in range(500)], "b": [str(v % 3) for v in range(500)]})
    features = learn_schema(table).encode(table, 500)
    first, second = (mutual_information(features, most=200, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert abs(first[0, 0] - mutual_information(features)[0, 0]) < 0.05


def test_what_columns_tell_of_a_label():
    """Two coins tell nothing each and all together, where the label says whether they are the same."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(2, size=(2, 20_000))
    label = (a == b).astype(float)
    assert label_information([a], label) == pytest.approx(0, abs=1e-3)
    assert label_information([a, b], label) == pytest.approx(np.log(2), abs=1e-3)
    assert label_information([np.array(["x", "y"])[a], b], label) == label_information([a, b], label)
    plain = label_information([a], a) + 1 / (2 * len(a))
    share = a.mean()
    assert plain == pytest.approx(-(share * np.log(share) + (1 - share) * np.log(1 - share)))


def test_what_chance_shows_is_taken_out():
    rng = np.random.default_rng(1)
    found = [label_information([rng.integers(300, size=3_000)], rng.integers(2, size=3_000)) for _ in range(20)]
    assert abs(np.mean(found)) < 0.003, "without the correction it would be 0.05"
