"""Off-policy estimators of single actions: by hand, and against exact enumeration of everything that could be logged."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.errors import ConfigError, DataError, UnsupportedError
from palate.evaluation.offpolicy.estimators import ESTIMATORS, find, shrink, soften
from palate.evaluation.offpolicy.log import Log
from palate.evaluation.offpolicy.tuning import tune

INFINITE = float("inf")
# Two contexts, three actions: chances of the contexts, both policies, mean rewards, and a wrong reward model.
CONTEXT = np.array([0.3, 0.7])
LOGGING = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
TARGET = np.array([[0.1, 0.1, 0.8], [0.5, 0.0, 0.5]])
MEAN = np.array([[0.2, 0.9, 0.4], [0.7, 0.1, 0.5]])
MODEL = np.array([[0.5, 0.1, 0.0], [0.2, 0.2, 0.9]])
TRUTH = float((CONTEXT[:, None] * TARGET * MEAN).sum())


def value(name: str, log: Log, knob: float | None = None) -> float:
    return float(find(name).rows(log, knob).terms().mean())


def log_of(contexts, actions, rewards, *, logging=LOGGING, model=MODEL) -> Log:
    x, a = np.asarray(contexts), np.asarray(actions)
    return Log(rewards, logging[x, a], TARGET[x, a], model[x, a], (TARGET * model).sum(1)[x])


def outcomes():
    """Yield every context, action and reward with its chance."""
    for x, a, r in product(range(2), range(3), (0.0, 1.0)):
        yield CONTEXT[x] * LOGGING[x, a] * (MEAN[x, a] if r else 1 - MEAN[x, a]), x, a, r


def expectation(name: str, knob: float | None = None, n: int = 1, **wrong: np.ndarray) -> float:
    """Return the exact mean of an estimator over all logs of ``n`` rows."""
    total = 0.0
    for rows in product(list(outcomes()), repeat=n):
        chance, x, a, r = (np.array(column) for column in zip(*rows, strict=True))
        total += float(chance.prod()) * value(name, log_of(x, a, r, **wrong), knob)
    return total


def random_log(n: int = 200, seed: int = 0) -> Log:
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 1, n)
    return Log(rng.random(n), p, np.minimum(1, p * rng.lognormal(-0.3, 0.9, n)), rng.random(n), rng.random(n))


# -- by hand ----------------------------------------------------------------------------------------

HAND = Log([1.0, 0.0, 2.0], [0.5, 0.25, 0.5], [0.25, 0.5, 1.0], q_logged=[0.5, 0.5, 1.0], q_target=[0.2, 0.4, 0.6])


@pytest.mark.parametrize(
    ("name", "knob", "wanted"),
    [  # weights ½, 2, 2; rewards less the model ½, -½, 1; mean of the direct part 0.4
        ("dm", None, 0.4),
        ("ips", None, 4.5 / 3),
        ("clipped_ips", 1.0, 2.5 / 3),
        ("snips", None, 4.5 / 4.5),
        ("sg_ips", 0.5, (0.5 / 0.75 + 2 * 2 / 1.5) / 3),
        ("dr", None, 0.4 + (0.25 - 1 + 2) / 3),
        ("sndr", None, 0.4 + 1.25 / 4.5),
        ("clipped_dr", 1.0, 0.4 + (0.25 - 0.5 + 1) / 3),
        ("switch_dr", 1.0, 0.4 + 0.25 / 3),
        ("dros", 1.0, 0.4 + (0.5 / 1.25 * 0.5 + 2 / 5 * 0.5) / 3),
        ("sg_dr", 0.5, 0.4 + (0.5 / 0.75 * 0.5 + 2 / 1.5 * 0.5) / 3),
    ],
)
def test_every_estimator_by_hand(name: str, knob: float | None, wanted: float) -> None:
    assert value(name, HAND, knob) == pytest.approx(wanted, abs=1e-12)


def test_the_hand_cases_cover_the_table() -> None:
    marked = test_every_estimator_by_hand.pytestmark[0].args[1]
    assert {case[0] for case in marked} == set(ESTIMATORS) - {"mrdr"}
    assert value("mrdr", replace(HAND, fitted="mrdr")) == value("dr", HAND)


# -- enumeration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", ["ips", "dr", "clipped_ips", "clipped_dr", "switch_dr", "dros", "sg_ips", "sg_dr"])
def test_unbiased_over_all_logs(name: str, n: int) -> None:
    assert expectation(name, n=n) == pytest.approx(TRUTH, abs=1e-12)


def test_dm_has_exactly_the_models_bias() -> None:
    assert expectation("dm") == pytest.approx((CONTEXT[:, None] * TARGET * MODEL).sum(), abs=1e-12)
    assert expectation("dm", model=MEAN) == pytest.approx(TRUTH, abs=1e-12)


def test_dr_is_right_if_either_part_is() -> None:
    wrong = np.array([[0.2, 0.4, 0.4], [0.4, 0.4, 0.2]])
    assert expectation("dr", model=MEAN, logging=LOGGING) == pytest.approx(TRUTH, abs=1e-12)
    both_wrong = sum(c * value("dr", log_of([x], [a], [r], logging=wrong)) for c, x, a, r in outcomes())
    model_right = sum(c * value("dr", log_of([x], [a], [r], logging=wrong, model=MEAN)) for c, x, a, r in outcomes())
    ips_wrong = sum(c * value("ips", log_of([x], [a], [r], logging=wrong)) for c, x, a, r in outcomes())
    assert model_right == pytest.approx(TRUTH, abs=1e-12)
    assert abs(both_wrong - TRUTH) > 0.01
    assert abs(ips_wrong - TRUTH) > 0.01


@pytest.mark.parametrize(("name", "knob"), [("clipped_ips", 1.0), ("sg_ips", 0.5), ("switch_dr", 1.0), ("dros", 1.0)])
def test_bias_of_clipping_and_shrinking_is_what_is_left_out(name: str, knob: float) -> None:
    estimator = find(name)
    weight = TARGET / LOGGING
    assert estimator.knob is not None
    used = estimator.knob.transform(weight.ravel(), knob).reshape(weight.shape)
    rest = MEAN - MODEL if estimator.model else MEAN
    lost = (CONTEXT[:, None] * LOGGING * (weight - used) * rest).sum()
    assert abs(lost) > 0.01
    assert expectation(name, knob) == pytest.approx(TRUTH - lost, abs=1e-12)


def test_self_normalised_estimators_are_biased_on_short_logs_only() -> None:
    rng = np.random.default_rng(3)
    shift = np.abs(expectation_of_ratio(2) - TRUTH)
    assert shift > 1e-3
    x = rng.choice(2, 200_000, p=CONTEXT)
    a = np.array([rng.choice(3, size=200_000, p=row) for row in LOGGING])[x, np.arange(200_000)]
    log = log_of(x, a, (rng.random(200_000) < MEAN[x, a]).astype(float))
    assert value("snips", log) == pytest.approx(TRUTH, abs=0.01)
    assert value("sndr", log) == pytest.approx(TRUTH, abs=0.01)


def expectation_of_ratio(n: int) -> float:
    """Return the exact mean of SNIPS over logs of ``n`` rows in which some weight is not zero."""
    total = reached = 0.0
    for rows in product(list(outcomes()), repeat=n):
        chance, x, a, r = (np.array(column) for column in zip(*rows, strict=True))
        log = log_of(x, a, r)
        if log.weight.any():
            total += chance.prod() * value("snips", log)
            reached += chance.prod()
    return total / reached


# -- identities -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "knob", "same"),
    [
        ("dros", INFINITE, "dr"), ("dros", 1e12, "dr"), ("dros", 0.0, "dm"), ("dros", 1e-14, "dm"),
        ("switch_dr", INFINITE, "dr"), ("switch_dr", 0.0, "dm"), ("clipped_dr", INFINITE, "dr"), ("clipped_dr", 0.0, "dm"),
        ("clipped_ips", INFINITE, "ips"), ("sg_ips", 0.0, "ips"), ("sg_dr", 0.0, "dr"),
    ],
)  # fmt: skip
def test_limits(name: str, knob: float, same: str) -> None:
    log = random_log()
    assert value(name, log, knob) == pytest.approx(value(same, log), abs=1e-6)


def test_dr_with_an_empty_model_is_ips_and_without_weights_is_dm() -> None:
    log = random_log()
    nothing = np.zeros(len(log))
    assert value("dr", log.with_model(nothing, nothing)) == pytest.approx(value("ips", log), abs=1e-12)
    assert value("sndr", log.with_model(nothing, nothing)) == pytest.approx(value("snips", log), abs=1e-12)
    assert value("dr", replace(log, target=nothing)) == pytest.approx(value("dm", log), abs=1e-12)


def test_the_same_policy_gives_the_mean_reward() -> None:
    log = random_log()
    log = replace(log, target=log.propensity)
    for name in ("ips", "snips", "sg_ips", "clipped_ips"):
        assert value(name, log) == pytest.approx(log.reward.mean(), abs=1e-12)
    assert value("sg_ips", random_log(), 1.0) == pytest.approx(random_log().reward.mean(), abs=1e-12)


@given(st.floats(-5, 5), st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_snips_moves_with_the_rewards_and_ignores_the_scale_of_chances(shift: float, scale: float) -> None:
    log = random_log(50)
    assert value("snips", replace(log, reward=log.reward + shift)) == pytest.approx(value("snips", log) + shift, abs=1e-9)
    assert value("snips", replace(log, target=log.target * scale)) == pytest.approx(value("snips", log), abs=1e-9)


def test_transforms_never_raise_a_weight_above_one() -> None:
    weight = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 200)])
    for strength in (0.0, 1e-3, 1.0, 100.0, INFINITE):
        assert (shrink(weight, strength) <= weight).all()
    for share in (0.1, 0.5, 1.0):
        assert (soften(weight, share) <= np.maximum(weight, 1)).all()
        assert soften(weight, share).max() <= 1 / share


@given(st.sampled_from([e for e in ESTIMATORS.values() if e.knob]), st.just(0.0) | st.floats(1e-6, 1), st.floats(0.01, 50))
@settings(max_examples=80, deadline=None)
def test_ceilings_bound_the_weights_used(estimator, knob: float, bound: float) -> None:
    weight = np.append(np.linspace(0, bound, 1000), min(bound, knob**0.5))
    used = estimator.knob.transform(weight, knob)
    most = estimator.ceilings(bound, 1, knob)[0]
    assert used.max() <= most * (1 + 1e-12) + 1e-12
    assert used.max() >= 0.99 * most or estimator.name == "switch_dr"
    assert estimator.ceilings(INFINITE, 1, knob)[0] >= most - 1e-12


# -- tuning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["mse", "slope"])
@pytest.mark.parametrize("name", ["clipped_ips", "sg_ips", "clipped_dr", "switch_dr", "dros", "sg_dr"])
def test_tuning_is_the_same_when_all_signs_turn(name: str, rule) -> None:
    log = random_log(500)
    turned = replace(log, reward=-log.reward, q_logged=-log.q_logged, q_target=-log.q_target)
    found, mirrored = tune(find(name), log, rule), tune(find(name), turned, rule)
    assert found.value == mirrored.value
    assert found.value in found.tried
    assert found.biases[0] == 0.0  # the first value tried changes no weight
    assert found.estimates[0] == pytest.approx(value("dr" if find(name).model else "ips", log))


def test_mse_takes_the_least_bound() -> None:
    found = tune(find("dros"), random_log(500))
    scores = np.array(found.errors) ** 2 + np.array(found.biases) ** 2
    assert found.value == found.tried[int(np.argmin(scores))]


def test_mse_shrinks_a_wild_log_and_leaves_a_tame_one() -> None:
    rng = np.random.default_rng(1)
    n = 2_000
    p = np.full(n, 0.5)
    p[:4] = 1e-5  # four rows of weight 100,000 whose rewards the model knows nearly
    q = np.full(n, 0.3)
    wild = Log(0.3 + rng.normal(0, 0.1, n), p, np.ones(n), q, q)
    assert tune(find("switch_dr"), wild).value < 1e5
    tame = replace(wild, propensity=rng.uniform(0.9, 1.0, n), reward=rng.random(n))
    assert tune(find("switch_dr"), tame).value == INFINITE


def test_slope_by_hand() -> None:
    from palate.evaluation.offpolicy.tuning import _slope

    # z for m = 3 is 2.394: widths 2.394, 1.197, 0.239; 0.9 agrees with 0, 5 does not
    assert _slope(np.array([0.0, 0.9, 5.0]), np.array([1.0, 0.5, 0.1])) == 1
    assert _slope(np.array([0.0, 0.9, 1.0]), np.array([1.0, 0.5, 0.1])) == 2
    assert _slope(np.array([0.0, 9.0, 0.0]), np.array([1.0, 0.5, 0.1])) == 0


def test_wrong_tuning_is_refused() -> None:
    with pytest.raises(ConfigError, match="no setting to tune"):
        tune(find("ips"), random_log())
    with pytest.raises(ConfigError, match="no such rule"):
        tune(find("dros"), random_log(), "best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing to try"):
        tune(find("dros"), random_log(), grid=[])


# -- the log ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "wrong", "words"),
    [
        ("propensity", 0.0, "is zero"), ("propensity", 1.5, "above 1"), ("propensity", -0.1, "negative"),
        ("propensity", np.nan, "missing"), ("propensity", None, "missing"), ("propensity", np.inf, "infinite"),
        ("target", -0.1, "from 0 to 1"), ("target", 1.1, "from 0 to 1"), ("target", np.nan, "missing"),
        ("reward", np.inf, "infinite"), ("reward", np.nan, "missing"), ("q_logged", np.nan, "missing"),
    ],
)  # fmt: skip
def test_impossible_rows_are_refused_by_number(column: str, wrong, words: str) -> None:
    given_ = {name: [0.5] * 5 for name in ("reward", "propensity", "target", "q_logged", "q_target")}
    given_[column][3] = wrong
    with pytest.raises(DataError, match=words) as caught:
        Log(**given_)
    assert caught.value.where == f"{column}, row 3"


def test_masked_chances_are_missing() -> None:
    masked = np.ma.array([0.5, 0.5], mask=[False, True])
    with pytest.raises(DataError, match="missing") as caught:
        Log([1.0, 1.0], masked, [0.5, 0.5])
    assert caught.value.where == "propensity, row 1"


def test_faulty_logs_are_refused() -> None:
    with pytest.raises(DataError, match="length"):
        Log([1.0, 0.0], [0.5], [0.5, 0.5])
    with pytest.raises(DataError, match="no rows"):
        Log([], [], [])
    with pytest.raises(DataError, match="one column"):
        Log([[1.0]], [[0.5]], [[0.5]])
    with pytest.raises(DataError, match="both"):
        Log([1.0], [0.5], [0.5], q_logged=[0.1])
    with pytest.raises(DataError, match="one whole number a row"):
        Log([1.0], [0.5], [0.5], unit=[1, 2])
    with pytest.raises(DataError, match="whole numbers"):
        Log([1.0], [0.5], [0.5], unit=[0.5])
    with pytest.raises(DataError, match="numbers"):
        Log(["a"], [0.5], [0.5])


def test_a_log_is_a_copy_that_cannot_be_changed() -> None:
    reward = np.array([1.0, 0.0])
    log = Log(reward, [0.5, 0.5], [1.0, 0.0], unit=[4, 4])
    reward[0] = 9.0
    assert log.reward.tolist() == [1.0, 0.0]
    assert log.weight.tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        log.propensity[0] = 1.0


def test_estimators_refuse_what_they_lack() -> None:
    bare = Log([1.0], [0.5], [0.5])
    with pytest.raises(UnsupportedError, match="dr needs a reward model"):
        find("dr").rows(bare)
    with pytest.raises(UnsupportedError, match="all weights are zero"):
        find("snips").rows(Log([1.0], [0.5], [0.0])).terms()
    with pytest.raises(ConfigError, match="no setting"):
        find("ips").rows(bare, 1.0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        find("sg_ips").rows(bare, 1.5)
    with pytest.raises(ConfigError, match="snips"):
        find("snip")
    assert find("dr").needs == ("reward", "propensity", "target", "q_logged", "q_target")
    assert find("dm").needs == ("q_target",)
