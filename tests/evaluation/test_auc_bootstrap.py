"""AUC of resampled rows: each resample equals the metric on its rows; scorings share them."""

import numpy as np
import pytest

from palate.errors import DataError
from palate.evaluation.auc_bootstrap import _auc, resampled_auc
from palate.evaluation.metrics.predictive import auc
from palate.runtime import generator


def rows(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    return y, np.stack([np.round(y + rng.normal(0, 1, n), 1), rng.normal(size=n), np.zeros(n)])


def test_each_resample_equals_the_metric_on_its_rows() -> None:
    y, scores = rows()
    found = resampled_auc(y, scores, resamples=20, seed=3)
    rng = generator(3, "resampled auc")
    for at in range(20):
        drawn = rng.integers(200, size=200)
        np.testing.assert_allclose(found[at], [auc(y[drawn], s[drawn]) for s in scores])
    assert (found[:, 2] == 0.5).all()


def test_counts_of_one_give_the_plain_auc() -> None:
    y, scores = rows()
    order = np.argsort(scores[1])
    assert _auc(np.ones(200, int), y[order].astype(bool), np.arange(200)) == pytest.approx(auc(y, scores[1]))


def test_intervals_cover() -> None:
    rng, held = np.random.default_rng(0), 0
    for seed in range(100):  # normal scores one apart: the AUC is Φ(1/√2)
        y = (rng.random(300) < 0.5).astype(float)
        drawn = resampled_auc(y, (y + rng.normal(size=300))[None], resamples=200, seed=seed)
        low, high = np.percentile(drawn, [2.5, 97.5])
        held += low <= 0.7602 <= high
    assert 88 <= held <= 100


def test_bad_input_is_refused() -> None:
    y, scores = rows()
    with pytest.raises(DataError, match="one row a scoring"):
        resampled_auc(y, scores[0])
    with pytest.raises(DataError):
        resampled_auc(y + 1, scores)
    assert np.isnan(resampled_auc(np.array([0.0, 1.0]), np.array([[0.1, 0.9]]), resamples=50)).any()
