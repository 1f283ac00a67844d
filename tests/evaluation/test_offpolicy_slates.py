"""Off-policy estimators of slates: exact enumeration of all slates, under each assumption and where it fails."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from palate.errors import ConfigError, DataError, UnsupportedError
from palate.evaluation.offpolicy.log import SlateLog
from palate.evaluation.offpolicy.slates import SLATE_ESTIMATORS, find_slate

ACTIONS, WIDTH = 3, 2
SLATES = list(product(range(ACTIONS), repeat=WIDTH))
#: Chances of the first action, and of the second after each first one.
LOGGING = (np.array([0.5, 0.3, 0.2]), np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.3, 0.3, 0.4]]))
TARGET = (np.array([0.1, 0.2, 0.7]), np.array([[0.0, 0.9, 0.1], [0.2, 0.5, 0.3], [0.8, 0.1, 0.1]]))
RNG = np.random.default_rng(0)
#: Mean rewards of both positions, which depend on ever more: own action, earlier ones, the whole slate.
OWN = [{s: float(t[s[k]]) for s in SLATES} for k, t in enumerate(RNG.random((WIDTH, ACTIONS)))]
_first, _both = RNG.random(ACTIONS), RNG.random((1, ACTIONS, ACTIONS))
CASCADE = [{s: float(_first[s[0]]) for s in SLATES}, {s: float(_both[0][s]) for s in SLATES}]
ANY = [{s: 0.9 if s[1] == 1 else 0.1 for s in SLATES}, {s: float(_both[0][s]) for s in SLATES}]
#: A reward model that is wrong: any function of the actions so far.
Q1, Q2 = RNG.normal(size=ACTIONS), RNG.normal(size=(ACTIONS, ACTIONS))


def steps(policy, slate) -> list[float]:
    """Chances of both positions, the second given the first."""
    return [float(policy[0][slate[0]]), float(policy[1][slate[0], slate[1]])]


def marginals(policy, slate) -> list[float]:
    return [float(policy[0][slate[0]]), float(policy[0] @ policy[1][:, slate[1]])]


def chance(policy, slate) -> float:
    return float(np.prod(steps(policy, slate)))


def truth(reward) -> float:
    return sum(chance(TARGET, s) * (reward[0][s] + reward[1][s]) for s in SLATES)


def log_of(slate, reward, kind) -> SlateLog:
    of = steps if kind == "conditional" else marginals
    first, second = slate
    return SlateLog(
        [[reward[0][slate], reward[1][slate]]],
        [of(LOGGING, slate)],
        [of(TARGET, slate)],
        q_logged=[[Q1[first], Q2[first, second]]],
        q_target=[[TARGET[0] @ Q1, TARGET[1][first] @ Q2[first]]],
        chances=kind,
    )


def expectation(name: str, reward) -> float:
    estimator = find_slate(name)
    return sum(chance(LOGGING, s) * float(estimator.rows(log_of(s, reward, estimator.chances)).terms()[0]) for s in SLATES)


@pytest.mark.parametrize("reward", [OWN, CASCADE, ANY])
@pytest.mark.parametrize("name", ["sips", "rips", "iips", "cascade_dr"])
def test_unbiased_exactly_when_its_assumption_holds(name: str, reward) -> None:
    allowed = {"sips": (OWN, CASCADE, ANY), "rips": (OWN, CASCADE), "cascade_dr": (OWN, CASCADE), "iips": (OWN,)}[name]
    gap = abs(expectation(name, reward) - truth(reward))
    if any(reward is one for one in allowed):
        assert gap < 1e-12
    else:
        assert gap > 0.01


def test_conditional_chances_would_bias_iips() -> None:
    as_if = sum(
        chance(LOGGING, s) * float((log_of(s, OWN, "conditional").ratio * log_of(s, OWN, "conditional").reward).sum())
        for s in SLATES
    )
    assert abs(as_if - truth(OWN)) > 0.1
    with pytest.raises(UnsupportedError, match="marginal"):
        find_slate("iips").rows(log_of((0, 1), OWN, "conditional"))
    with pytest.raises(UnsupportedError, match="conditional"):
        find_slate("rips").rows(log_of((0, 1), OWN, "marginal"))


# -- by hand ----------------------------------------------------------------------------------------

# ratios (2, ½), (0.5, 3); their products so far (2, 1), (0.5, 1.5)
HAND = SlateLog(
    [[1.0, 2.0], [0.0, 1.0]],
    [[0.25, 0.5], [0.5, 0.2]],
    [[0.5, 0.25], [0.25, 0.6]],
    q_logged=[[0.5, 1.0], [0.5, 0.5]],
    q_target=[[0.1, 0.2], [0.3, 0.4]],
    chances="both",
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sips", (1 * 3 + 1.5 * 1) / 2),
        ("rips", (2 * 1 + 1 * 2 + 0 + 1.5 * 1) / 2),
        ("iips", (2 * 1 + 0.5 * 2 + 0 + 3 * 1) / 2),
        ("cascade_dr", (0.1 + 2 * 0.5 + 2 * 0.2 + 1 * 1.0 + 0.3 + 0.5 * -0.5 + 0.5 * 0.4 + 1.5 * 0.5) / 2),
        ("snsips", (1 * 3 + 1.5 * 1) / 2.5),
        ("snrips", 2 / 2.5 + (2 + 1.5) / 2.5),
        ("sniips", 2 / 2.5 + (1 + 3) / 3.5),
    ],
)
def test_by_hand(name: str, wanted: float) -> None:
    assert find_slate(name).rows(HAND).terms().mean() == pytest.approx(wanted, abs=1e-12)


def test_the_hand_cases_cover_the_table() -> None:
    assert {case[0] for case in test_by_hand.pytestmark[0].args[1]} == set(SLATE_ESTIMATORS)


def test_same_policy_gives_the_mean_reward_of_slates() -> None:
    rng = np.random.default_rng(1)
    chances = rng.uniform(0.1, 1, (50, 4))
    log = SlateLog(rng.random((50, 4)), chances, chances, chances="both")
    for name in set(SLATE_ESTIMATORS) - {"cascade_dr"}:
        assert find_slate(name).rows(log).terms().mean() == pytest.approx(log.reward.sum(axis=1).mean(), abs=1e-12)


def test_width_one_is_the_estimators_of_single_actions() -> None:
    from palate.evaluation.offpolicy.estimators import find
    from palate.evaluation.offpolicy.log import Log

    rng = np.random.default_rng(2)
    columns = [rng.random(40), rng.uniform(0.2, 1, 40), rng.random(40), rng.random(40), rng.random(40)]
    single, slate = Log(*columns), SlateLog(*(c[:, None] for c in columns), chances="both")
    for theirs, ours in [("sips", "ips"), ("rips", "ips"), ("iips", "ips"), ("cascade_dr", "dr"), ("sniips", "snips")]:
        np.testing.assert_allclose(find_slate(theirs).rows(slate).terms(), find(ours).rows(single).terms(), atol=1e-12)


def test_ceilings() -> None:
    assert find_slate("sips").ceilings(2.0, 3).tolist() == [8.0, 8.0, 8.0]
    assert find_slate("rips").ceilings(2.0, 3).tolist() == [2.0, 4.0, 8.0]
    assert find_slate("iips").ceilings(2.0, 3).tolist() == [2.0, 2.0, 2.0]


def test_faulty_slates_are_refused_by_row_and_position() -> None:
    good = [[0.5, 0.5], [0.5, 0.5]]
    with pytest.raises(DataError, match="is zero") as caught:
        SlateLog(good, [[0.5, 0.5], [0.5, 0.0]], good)
    assert caught.value.where == "propensity, row 1, position 1"
    with pytest.raises(DataError, match="shape"):
        SlateLog(good, [[0.5, 0.5]], good)
    with pytest.raises(DataError, match="table"):
        SlateLog([0.5], [0.5], [0.5])
    with pytest.raises(DataError, match="no rows"):
        SlateLog(np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2)))
    with pytest.raises(DataError, match="another kind"):
        SlateLog(good, good, good, chances="joint")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="reward model"):
        find_slate("cascade_dr").rows(SlateLog(good, good, good))
    with pytest.raises(ConfigError, match="no setting"):
        find_slate("sips").rows(HAND, 1.0)
    with pytest.raises(ConfigError, match="rips"):
        find_slate("ripps")
