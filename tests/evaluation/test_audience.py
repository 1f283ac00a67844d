"""Forecasts of audiences, against counts by hand."""

import numpy as np
import pytest
from scipy import sparse

from palate.errors import DataError
from palate.evaluation.audience import audience_report, co_audience, lift


def test_lift_is_the_rate_of_the_best_share_over_that_of_all():
    came = np.zeros((20, 2), bool)
    came[[0, 1, 2, 3], 0] = True
    p = np.linspace(1, 0, 20)[:, None].repeat(2, 1)
    assert lift(came, p)[0] == pytest.approx(1 / 0.2)
    assert np.isnan(lift(came, p)[1])
    assert lift(came, 1 - p)[0] == 0.0
    assert lift(came, p, share=1.0)[0] == 1.0
    with pytest.raises(DataError, match="share"):
        lift(came, p, share=0.0)


def test_co_audience_compares_what_both_audiences_had():
    had = sparse.csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], float))
    came = np.array([[True, False], [True, False], [False, False]])
    right, wrong = np.array([[0.9, 0.5], [0.9, 0.5], [0.0, 0.5]]), np.array([[0.0, 0.5], [0.0, 0.5], [0.9, 0.5]])
    assert co_audience(came, right, had, k=2)[0] == 1.0
    assert co_audience(came, wrong, had, k=2)[0] == 0.0
    assert np.isnan(co_audience(came, right, had, k=2)[1])


def test_a_report_of_true_chances_is_calibrated():
    rng = np.random.default_rng(0)
    p = rng.random((2000, 1)) * rng.random(30) * 0.5
    came = rng.random(p.shape) < p
    found = audience_report(came, p, sparse.csr_matrix(rng.random((2000, 50)) < 0.1))
    assert found["expected / came"] == pytest.approx(1, abs=0.03)
    assert found["ECE"] < 0.01
    assert found["error of an audience"] < 0.15
    assert found["Spearman of audience sizes"] > 0.95
    assert found["decile lift"] > 1.5
    assert len(found["reliability"]) == 10
    assert 0 <= found["co-audience@20"] <= 1
    assert "co-audience@20" not in audience_report(came, p)
    assert np.isnan(audience_report(came, np.full(p.shape, 0.1))["Spearman of audience sizes"])
    with pytest.raises(DataError, match="shape"):
        audience_report(came, p[:10])
