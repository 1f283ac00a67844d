"""Another order: hand-computed lists, what each rule must do at its ends, and the reasons given."""

from __future__ import annotations

import time

import numpy as np
import pytest

from palate.data.ragged import Ragged
from palate.errors import ConfigError, DataError
from palate.retrieval.diversify import calibrate, cap, dpp, mix_divergence, mmr


def candidates(m: int = 200, d: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Ragged]:
    rng = np.random.default_rng(seed)
    rows = Ragged.from_rows([rng.choice(12, rng.integers(1, 4), replace=False) for _ in range(m)])
    return np.sort(rng.normal(size=m))[::-1].copy(), rng.normal(size=(m, d)).astype(np.float32), rows


def nearest(vectors: np.ndarray, order: np.ndarray) -> float:
    """Mean cosine of each to the nearest other of a list."""
    rows = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
    return float((rows @ rows.T - 2 * np.eye(len(order))).max(1).mean())


def volume(vectors: np.ndarray, order: np.ndarray) -> float:
    """Logarithm of the determinant, negated: small where a list is diverse."""
    rows = (vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)).astype(np.float64)
    return -float(np.linalg.slogdet(rows @ rows.T)[1])


def test_mmr_by_hand() -> None:
    # Scores 3, 2, 1 are 1, .5, 0. The second is a copy of the first: .5*.5 - .5*1 = -.25 < .5*0 - .5*0.
    vectors = np.array([[2, 0], [1, 0], [0, 5]], np.float32)
    found = mmr(np.array([3.0, 2.0, 1.0]), 2, vectors=vectors, trade=0.5)
    assert found.order.tolist() == [0, 2]
    assert found.before.tolist() == [1, 2, 3] and found.after.tolist() == [1, 0, 2]
    moves = found.moves()
    assert [(m.at, m.before, m.after) for m in moves] == [(0, 1, 1), (2, 3, 2), (1, 2, 0)]
    assert [m.reason for m in moves] == ["the most relevant", "0.00 like number 1 above it", "1.00 like number 1 above it"]


def test_mmr_on_categories_by_hand() -> None:
    rows = Ragged.from_rows([[0, 1], [1, 0, 1], [7]])
    assert mmr(np.array([3.0, 2.0, 1.0]), 3, categories=rows, trade=0.5).order.tolist() == [0, 2, 1]
    assert mmr(np.array([3.0, 2.0, 1.0]), 3, categories=rows, trade=0.9).order.tolist() == [0, 1, 2]


@pytest.mark.parametrize("rule", ["mmr", "sets", "dpp", "calibrate"])
def test_relevance_alone_keeps_the_order(rule: str) -> None:
    scores, vectors, rows = candidates()
    shuffled = np.random.default_rng(1).permutation(200)
    given = scores[shuffled]
    found = {
        "mmr": lambda: mmr(given, 16, vectors=vectors, trade=1),
        "sets": lambda: mmr(given, 16, categories=rows, trade=1),
        "dpp": lambda: dpp(given, 16, vectors=vectors, trade=1),
        "calibrate": lambda: calibrate(given, 16, categories=rows, wanted=np.ones(12), trade=1),
    }[rule]()
    assert found.order.tolist() == np.argsort(-given).tolist()[:16]
    assert found.before[found.order].tolist() == found.after[found.order].tolist() == list(range(1, 17))


def test_less_trade_is_less_alike() -> None:
    scores, vectors, _ = candidates()
    for rule, likeness in ((mmr, nearest), (dpp, volume)):
        measured = [likeness(vectors, rule(scores, 12, vectors=vectors, trade=trade).order) for trade in (1.0, 0.7, 0.3)]
        assert measured[0] > measured[1] > measured[2]


def test_dpp_avoids_copies_and_fills_up() -> None:
    vectors = np.array([[1, 0], [3, 0], [0, 1], [0, 2]], np.float32)
    found = dpp(np.array([4.0, 3.0, 2.0, 1.0]), 4, vectors=vectors)
    assert found.order.tolist() == [0, 2, 1, 3]
    assert [m.reason for m in found.moves()] == [
        f"{share} of it is new beside those above" for share in ("100%", "100%", "0%", "0%")
    ]


def test_calibration_by_hand() -> None:
    # Two of category 0 lead; half of each is wanted: the third candidate brings category 1.
    rows = Ragged.from_rows([[0], [0], [1], []])
    found = calibrate(np.array([4.0, 3.9, 3.0, 2.9]), 2, categories=rows, wanted=np.array([1.0, 1.0]))
    assert found.order.tolist() == [0, 2]
    moves = found.moves()
    assert moves[1].reason.startswith("brings category 1: divergence falls by")
    assert moves[2].at == 1 and moves[2].after == 0 and moves[2].reason == "others serve the mix better"
    assert "has no category" in [
        m.reason for m in calibrate(np.ones(1), 1, categories=Ragged.empty(1), wanted=np.ones(1)).moves()
    ]


def test_calibration_comes_nearer_to_the_mix_wanted() -> None:
    scores, _, rows = candidates()
    wanted = np.r_[0.6, 0.3, 0.1, np.zeros(9)]
    found = [calibrate(scores, 20, categories=rows, wanted=wanted * 7, trade=trade).order for trade in (1.0, 0.5, 0.1)]
    far = [mix_divergence(rows.take(order), wanted) for order in found]
    assert far[0] > far[1] > far[2]
    amounts = calibrate(scores, 20, categories=rows, wanted=wanted, trade=0.1)
    falls = amounts.amount[amounts.order].sum()
    assert -np.log(0.01) - falls == pytest.approx(mix_divergence(rows.take(amounts.order), wanted), abs=1e-4)


def test_caps_by_hand() -> None:
    groups = Ragged.from_rows([[0], [0, 1], [0], [1], [2, 2]])
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    found = cap(scores, 4, groups=groups, most=2)
    assert found.order.tolist() == [0, 1, 3, 4]
    reasons = {m.at: m.reason for m in found.moves()}
    assert reasons[2] == "category 0 has its 2" and reasons[3] == "the best that fits"
    assert cap(scores, 4, groups=groups, most=1).order.tolist() == [0, 3, 4]
    assert cap(scores, 4, groups=groups, most=1, fill=True).order.tolist() == [0, 3, 4, 1]
    assert cap(scores, 5, groups=groups, most=np.array([3, 0, 1])).order.tolist() == [0, 2, 4]


def test_caps_always_hold() -> None:
    scores, _, rows = candidates()
    found = cap(scores, 30, groups=rows, most=4)
    assert np.bincount(rows.take(found.order).values).max() <= 4
    assert (np.diff(found.before[found.order]) > 0).all()


def test_no_candidates_and_few() -> None:
    none, rows = np.empty(0), Ragged.empty(0)
    assert len(mmr(none, 5, vectors=np.empty((0, 3))).order) == 0
    assert len(mmr(none, 5, categories=rows).order) == 0
    assert len(dpp(none, 5, vectors=np.empty((0, 3))).order) == 0
    assert len(calibrate(none, 5, categories=rows, wanted=np.ones(2)).order) == 0
    assert len(cap(none, 5, groups=rows, most=1).order) == 0
    assert sorted(mmr(np.ones(3), 9, vectors=np.eye(3)).order.tolist()) == [0, 1, 2]


def test_what_makes_no_sense_is_refused() -> None:
    scores, vectors, rows = candidates(5, 3)
    with pytest.raises(ConfigError, match="either vectors"):
        mmr(scores, 2)
    with pytest.raises(ConfigError, match="either vectors"):
        mmr(scores, 2, vectors=vectors, categories=rows)
    with pytest.raises(ConfigError, match="trade"):
        dpp(scores, 2, vectors=vectors, trade=1.5)
    with pytest.raises(DataError, match="vector for each"):
        dpp(scores, 2, vectors=vectors[:4])
    with pytest.raises(DataError, match="row for each"):
        mmr(scores, 2, categories=Ragged.empty(4))
    with pytest.raises(DataError, match="finite number"):
        mmr(np.array([1.0, np.nan]), 2, vectors=vectors[:2])
    with pytest.raises(DataError, match="share for each"):
        calibrate(scores, 2, categories=Ragged.from_rows([[3]] * 5), wanted=np.ones(2))
    with pytest.raises(DataError, match="shares from 0"):
        calibrate(scores, 2, categories=rows, wanted=np.zeros(12))
    with pytest.raises(ConfigError, match="smoothing"):
        calibrate(scores, 2, categories=rows, wanted=np.ones(12), smoothing=0)
    with pytest.raises(DataError, match="from 0"):
        cap(scores, 2, groups=Ragged.from_rows([[-1]] * 5), most=1)
    for most in (-1, 1.5, np.array([1])):
        with pytest.raises(ConfigError, match="cap"):
            cap(scores, 2, groups=Ragged.from_rows([[3]] * 5), most=most)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_request_pays_less_than_a_millisecond() -> None:
    scores, vectors, rows = candidates(300, 64)
    wanted = np.ones(12)
    for rule in (
        lambda: mmr(scores, 20, vectors=vectors),
        lambda: mmr(scores, 20, categories=rows),
        lambda: dpp(scores, 20, vectors=vectors),
        lambda: calibrate(scores, 20, categories=rows, wanted=wanted),
        lambda: cap(scores, 20, groups=rows, most=3),
    ):
        rule()
        took = []
        for _ in range(30):
            started = time.perf_counter()
            rule()
            took.append(time.perf_counter() - started)
        assert min(took) < 1e-3
