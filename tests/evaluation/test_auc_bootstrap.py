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


def test_groups_are_drawn_with_all_their_rows() -> None:
    y, scores = rows()
    groups = np.repeat([f"g{k}" for k in range(40)], 5)
    found = resampled_auc(y, scores, resamples=20, seed=3, groups=groups)
    rng = generator(3, "resampled auc")
    for at in range(20):
        drawn = np.concatenate([np.flatnonzero(groups == np.unique(groups)[g]) for g in rng.integers(40, size=40)])
        np.testing.assert_allclose(found[at], [auc(y[drawn], s[drawn]) for s in scores])
    alone = resampled_auc(y, scores, resamples=20, seed=3, groups=np.arange(200))
    np.testing.assert_array_equal(alone, resampled_auc(y, scores, resamples=20, seed=3))
    copies = [np.repeat(x, 9, -1) for x in (y, scores[0])]
    spread = [np.std(resampled_auc(copies[0], copies[1][None], resamples=200, groups=g)) for g in (None, np.arange(1800) // 9)]
    assert 2 < spread[1] / spread[0] < 4, "nine copies of a row tell no more than one"


def test_bad_input_is_refused() -> None:
    y, scores = rows()
    with pytest.raises(DataError, match="one row a scoring"):
        resampled_auc(y, scores[0])
    with pytest.raises(DataError):
        resampled_auc(y + 1, scores)
    with pytest.raises(DataError, match="belongs to one group"):
        resampled_auc(y, scores, groups=np.arange(3))
    assert np.isnan(resampled_auc(np.array([0.0, 1.0]), np.array([[0.1, 0.9]]), resamples=50)).any()
