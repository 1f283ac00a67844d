"""Estimates: intervals that cover, diagnostics by hand, and refusals."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from palate.errors import ConfigError, DataError, UnsupportedError
from palate.evaluation.offpolicy.estimate import Estimate, Floors, check_support, estimate
from palate.evaluation.offpolicy.estimators import ESTIMATORS
from palate.evaluation.offpolicy.log import Log, SlateLog
from palate.evaluation.offpolicy.slates import SLATE_ESTIMATORS
from palate.evaluation.offpolicy.spread import Units, effective_size, interval, standard_error

CONTEXT = np.array([0.3, 0.7])
LOGGING = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
TARGET = np.array([[0.1, 0.1, 0.8], [0.5, 0.0, 0.5]])
MEAN = np.array([[0.2, 0.9, 0.4], [0.7, 0.1, 0.5]])
MODEL = np.array([[0.3, 0.7, 0.4], [0.6, 0.2, 0.6]])
TRUTH = float((CONTEXT[:, None] * TARGET * MEAN).sum())
LOOSE = Floors(ess=1, terms=1)


def draw(n: int, rng: np.random.Generator) -> Log:
    x = (rng.random(n) > CONTEXT[0]).astype(int)
    a = (rng.random(n)[:, None] > LOGGING.cumsum(1)[x]).sum(1)
    reward = (rng.random(n) < MEAN[x, a]).astype(float)
    return Log(reward, LOGGING[x, a], TARGET[x, a], MODEL[x, a], (TARGET * MODEL).sum(1)[x])


LOG = draw(2_000, np.random.default_rng(0))


def one(log: Log | SlateLog, name: str, **settings) -> Estimate:
    return estimate(log, [name], **settings)[0]


# -- coverage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repeated() -> dict[str, np.ndarray]:
    """Ends of 95% intervals over 1,000 logs of 400 rows."""
    rng = np.random.default_rng(5)
    names = ["ips", "snips", "dr", "sndr", "sg_ips"]
    found: dict[str, list] = {name: [] for name in names}
    for _ in range(1_000):
        for e in estimate(draw(400, rng), names, knobs={"sg_ips": 1e-3}):
            found[e.name].append((e.low, e.high))
    return {name: np.array(ends) for name, ends in found.items()}


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr", "sg_ips"])
def test_intervals_cover_as_often_as_they_say(repeated, name: str) -> None:
    # 1,000 logs: the standard error of a coverage of 0.95 is 0.007; allowed are three of them
    low, high = repeated[name].T
    assert 0.93 < ((low <= TRUTH) & (high >= TRUTH)).mean() < 0.97


def test_dr_is_narrower_than_ips(repeated) -> None:
    width = {name: (ends[:, 1] - ends[:, 0]).mean() for name, ends in repeated.items()}
    assert width["dr"] < 0.8 * width["ips"]


def test_bootstrap_and_guaranteed_intervals_cover() -> None:
    rng = np.random.default_rng(6)
    hits = {"bootstrap": 0, "bernstein": 0, "hoeffding": 0}
    for _ in range(300):
        log = draw(400, rng)
        for how in hits:
            e = one(log, "ips", interval=how, reward_range=(0, 1), weight_bound=4.0, resamples=300)
            hits[how] += e.low <= TRUTH <= e.high
    assert 0.91 < hits["bootstrap"] / 300 < 0.985  # standard error 0.0126
    assert hits["bernstein"] == hits["hoeffding"] == 300


def test_clustered_intervals_cover_where_rows_hang_together() -> None:
    rng = np.random.default_rng(7)
    hits = np.zeros(2)
    for _ in range(400):
        taste = rng.normal(0, 1, 80)
        unit = np.repeat(np.arange(80), rng.integers(1, 10, 80))
        reward = 1 + taste[unit] + rng.normal(0, 0.3, len(unit))
        log = Log(reward, np.full(len(unit), 0.5), np.where(rng.random(len(unit)) < 0.5, 1.0, 0.0), unit=unit)
        for at, given in enumerate((log, replace(log, unit=None))):
            e = one(given, "ips", floors=Floors(ess=20, weight_errors=9))
            hits[at] += e.low <= 1 <= e.high
    assert 0.91 < hits[0] / 400 < 0.98  # standard error 0.011
    assert hits[1] / 400 < 0.85


# -- spread by hand ---------------------------------------------------------------------------------


def test_standard_error_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    assert standard_error(values, Units.of(None, 4)) == pytest.approx(values.std(ddof=1) / 2)
    # units {1, 2}, {3}, {6}: totals 3 3 6, mean 3, gaps -3 0 3
    units = Units.of(np.array([7, 7, 1, 4]), 4)
    assert standard_error(values, units) == pytest.approx(np.sqrt(3 / 2 * 18) / 4)
    assert math.isnan(standard_error(values, Units.of(np.zeros(4, int), 4)))


def test_doubling_every_row_inside_its_unit_changes_nothing() -> None:
    twice = Log(*(np.repeat(c, 2) for c in (LOG.reward, LOG.propensity, LOG.target)), unit=np.repeat(np.arange(len(LOG)), 2))
    for name in ("ips", "snips"):
        a, b = one(LOG, name), one(twice, name)
        assert (b.value, b.low, b.high, b.ess) == pytest.approx((a.value, a.low, a.high, a.ess))


def test_effective_size_by_hand() -> None:
    assert effective_size(np.array([1.0, 1.0, 2.0]), Units.of(None, 3)) == pytest.approx(16 / 6)
    assert effective_size(np.array([1.0, 1.0, 2.0]), Units.of(np.array([0, 0, 1]), 3)) == pytest.approx(2.0)
    assert effective_size(np.zeros(3), Units.of(None, 3)) == 0.0
    assert effective_size(np.full(9, 0.3), Units.of(None, 9)) == pytest.approx(9.0)


def test_guaranteed_intervals_by_hand() -> None:
    terms, units = np.array([0.0, 1.0, 0.0, 1.0] * 50), Units.of(None, 200)
    low, high = interval(terms, units, "hoeffding", limits=(0, 1))
    assert (low, high) == pytest.approx((0.5 - np.sqrt(np.log(40) / 400), 0.5 + np.sqrt(np.log(40) / 400)))
    depth = np.log(80)
    half = np.sqrt(2 * terms.var(ddof=1) * depth / 200) + 7 * depth / (3 * 199)
    assert interval(terms, units, "bernstein", limits=(0, 1)) == pytest.approx((0.5 - half, 0.5 + half))
    grouped = interval(terms, Units.of(np.arange(200) // 2, 200), "hoeffding", limits=(0, 1))
    assert grouped.high == pytest.approx(0.5 + np.sqrt(np.log(40) / 200))


def test_normal_interval_is_students() -> None:
    e = one(LOG, "ips")
    assert e.high - e.value == pytest.approx(1.9611 * e.error, rel=1e-4)
    assert e.value == pytest.approx((LOG.reward * LOG.weight).mean())


# -- diagnostics ------------------------------------------------------------------------------------


def test_diagnostics_by_hand() -> None:
    log = Log([1.0, 1.0, 0.0, 1.0], [0.5] * 4, [0.25, 0.5, 1.0, 0.0])  # weights ½ 1 2 0
    e = one(log, "ips", floors=LOOSE)
    assert (e.rows, e.units) == (4, 4)
    assert e.ess == pytest.approx(3.5**2 / 5.25)
    assert e.largest == pytest.approx(2 / 3.5)
    assert e.mean_weight == pytest.approx(3.5 / 4)
    assert e.mean_weight_error == pytest.approx(np.std([0.5, 1, 2, 0], ddof=1) / 2)
    assert e.terms == pytest.approx(1.5**2 / 1.25)
    assert e.unused == 0.25
    assert math.isnan(e.outside)
    clipped = one(log, "clipped_ips", floors=LOOSE, knobs={"clipped_ips": 1.0})
    assert clipped.ess == pytest.approx(2.5**2 / 2.25)
    assert clipped.mean_weight == e.mean_weight
    assert (clipped.knob, clipped.tuning) == (1.0, "given")


def test_slates_are_judged_at_their_worst_position() -> None:
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.3, 1, (2_000, 3))
    ratio = rng.choice([0.5, 1.5], (2_000, 3))
    log = SlateLog(rng.random((2_000, 3)), chances, np.minimum(1, chances * ratio / 1.5), chances="both")
    found = {e.name: e for e in estimate(log, floors=Floors(ess=1, weight_errors=1e9))}
    assert set(found) == set(SLATE_ESTIMATORS) - {"cascade_dr"}
    assert found["rips"].ess == pytest.approx(found["sips"].ess)
    weight = log.ratio.prod(axis=1)
    assert found["sips"].ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert found["iips"].ess == pytest.approx(min(w.sum() ** 2 / (w**2).sum() for w in log.ratio.T))
    assert found["sips"].mean_weight == pytest.approx(weight.mean())


# -- what is asked ----------------------------------------------------------------------------------


def test_by_default_all_that_the_log_can_feed() -> None:
    assert [e.name for e in estimate(replace(LOG, fitted="mrdr"))] == list(ESTIMATORS)
    assert [e.name for e in estimate(LOG)] == [n for n in ESTIMATORS if n != "mrdr"]
    bare = Log(LOG.reward, LOG.propensity, LOG.target)
    assert [e.name for e in estimate(bare)] == [n for n, e in ESTIMATORS.items() if not e.model]
    for e in estimate(LOG):
        assert e.refused is None
        assert e.low < e.value < e.high
        assert e.checked() is e
        assert str(e).startswith(e.title)
        assert (e.tuning == "mse") == (ESTIMATORS[e.name].knob is not None)
        assert abs(e.value - TRUTH) < 0.1


def test_an_estimator_that_lacks_something_is_refused_and_the_others_stand() -> None:
    first, second = estimate(Log(LOG.reward, LOG.propensity, LOG.target), ["dr", "ips"])
    assert "needs a reward model" in (first.refused or "")
    assert math.isnan(first.value)
    assert second.refused is None
    slates = SlateLog(LOG.reward[:, None], LOG.propensity[:, None], LOG.target[:, None])
    assert "marginal" in (one(slates, "iips").refused or "")


def test_plain_is_json() -> None:
    for e in (one(LOG, "dm"), one(Log([1.0], [0.5], [0.5]), "ips")):
        read = json.loads(json.dumps(e.plain(), allow_nan=False))
        assert read["name"] == e.name
        assert read["ess"] is None or read["refused"]


def test_wrong_requests_are_errors() -> None:
    with pytest.raises(ConfigError, match="snips"):
        estimate(LOG, ["snipss"])
    with pytest.raises(ConfigError, match="no such option"):
        estimate(LOG, confidense=0.9)
    with pytest.raises(ConfigError, match="confidence"):
        estimate(LOG, confidence=95)
    with pytest.raises(ConfigError, match="belongs to no estimator"):
        estimate(LOG, ["ips"], knobs={"dros": 1.0})
    with pytest.raises(ConfigError, match="largest possible reward"):
        estimate(LOG, ["ips"], interval="bernstein")
    with pytest.raises(ConfigError, match="no such interval"):
        estimate(LOG, ["ips"], interval="exact")
    with pytest.raises(ConfigError, match="no such rule"):
        estimate(LOG, ["ips"], tuning="best")
    with pytest.raises(DataError, match=r"outside 0 to 0\.5") as caught:
        estimate(LOG, ["ips"], interval="hoeffding", reward_range=(0, 0.5), weight_bound=4.0)
    assert caught.value.where == f"reward, row {int(np.argmax(LOG.reward > 0.5))}"
    with pytest.raises(DataError, match="above the bound"):
        estimate(LOG, ["ips"], interval="hoeffding", reward_range=(0, 1), weight_bound=2.0)


# -- refusals ---------------------------------------------------------------------------------------


def test_small_effective_sample_size_is_refused() -> None:
    rng = np.random.default_rng(0)
    p = np.where(rng.random(5_000) < 1e-3, 1e-3, 0.999)
    log = Log(rng.random(5_000), p, np.where(p < 0.5, 0.9, 0.1))
    e = one(log, "ips", floors=Floors(weight_errors=9))
    assert (e.refused or "").startswith("the effective sample size is")
    assert e.ess < 100
    assert math.isnan(e.value) and math.isnan(e.low)
    with pytest.raises(UnsupportedError, match="ips: the effective sample size"):
        e.checked()
    assert "refused: the effective sample size" in str(e)
    assert one(log, "ips", floors=Floors(ess=1, terms=1, weight_errors=9)).refused is None


def test_few_rewards_are_refused() -> None:
    reward = np.zeros(10_000)
    assert "every unit" in (one(Log(reward, reward + 0.5, reward + 0.5), "ips", floors=Floors(terms=0)).refused or "")
    reward[:3] = 1
    e = one(Log(reward, reward * 0 + 0.5, reward * 0 + 0.5), "ips")
    assert e.refused == "the effective number of weighted rewards is 3.0, below 10"


def test_a_mean_weight_far_from_one_is_refused() -> None:
    low = one(replace(LOG, target=LOG.target * 0.7), "ips")
    assert "never logged" in (low.refused or "")
    high = one(replace(LOG, propensity=LOG.propensity * 0.7), "snips")
    assert "chances are wrong" in (high.refused or "")
    assert "never logged" not in (high.refused or "")
    assert one(replace(LOG, target=LOG.target * 0.7), "dm").refused is None


def test_one_unit_is_refused() -> None:
    assert "one unit" in (one(replace(LOG, unit=np.zeros(len(LOG), int)), "ips").refused or "")


def test_missing_support_is_refused_for_all_but_the_model() -> None:
    support = check_support([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]], [[0.2, 0.5, 0.3], [0.0, 0.5, 0.5]])
    assert support.missing.tolist() == [0.3, 0.0]
    assert (support.outside, support.mass, support.worst) == (0.5, 0.15, 0)
    assert support.largest_weight == pytest.approx(1.25)
    log = draw(2, np.random.default_rng(0))
    for e in estimate(log, ["ips", "dr"], support=support, floors=LOOSE):
        assert e.refused == (
            "the log lacks support: a mean chance of 0.15 goes to what was never logged (50.0% of rows, worst row 0)"
        )
        assert e.outside == 0.5
    assert "lacks support" not in (one(log, "dm", support=support).refused or "")
    with pytest.raises(DataError, match="another log"):
        estimate(LOG, ["ips"], support=support)


def test_support_of_slates_and_shared_distributions() -> None:
    even = np.full((4, 2, 2), 0.5)
    target = even.copy()
    logged = even.copy()
    logged[3, 1] = [1.0, 0.0]
    support = check_support(logged, target)
    assert support.missing.tolist() == [0, 0, 0, 0.5]
    assert check_support([0.5, 0.5], [[0.1, 0.9], [0.4, 0.6]]).largest_weight == pytest.approx(1.8)
    assert one(LOG, "ips", support=check_support([0.5, 0.5], [0.1, 0.9])).outside == 0.0


@pytest.mark.parametrize(
    ("wrong", "words"), [([0.5, 0.4], "not 1"), ([1.5, -0.5], "negative"), ([np.nan, 1.0], "not a number")]
)
def test_no_distributions_are_refused_by_row(wrong, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        check_support([[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], wrong])
    assert "row 1" in str(caught.value.where)
    with pytest.raises(DataError, match="shape"):
        check_support([[0.5, 0.5]] * 3, [[0.5, 0.5]] * 2)


# -- guaranteed intervals ---------------------------------------------------------------------------


def test_guaranteed_intervals_need_what_they_rest_on() -> None:
    settings = {"interval": "bernstein", "reward_range": (0, 1)}
    assert "weight_bound" in (one(LOG, "ips", **settings).refused or "")
    assert "depends on the rewards" in (one(LOG, "clipped_ips", **settings).refused or "")
    for name in ("dr", "snips"):
        assert "depend on each other" in (one(LOG, name, weight_bound=4.0, **settings).refused or "")
    clipped = one(LOG, "clipped_ips", knobs={"clipped_ips": 2.0}, **settings)
    assert clipped.refused is None
    bounded = one(LOG, "ips", weight_bound=4.0, **settings)
    support = check_support(LOGGING, TARGET)
    assert support.largest_weight == pytest.approx(4.0)
    shared = check_support(np.tile(LOGGING, (1_000, 1)), np.tile(TARGET, (1_000, 1)))
    assert one(LOG, "ips", support=shared, **settings).low == pytest.approx(bounded.low)
    assert clipped.high - clipped.low < bounded.high - bounded.low
    assert 0 <= bounded.low < bounded.value < bounded.high <= 4


def test_guaranteed_intervals_stand_on_short_logs() -> None:
    e = one(draw(20, np.random.default_rng(1)), "ips", interval="hoeffding", reward_range=(0, 1), weight_bound=4.0)
    assert e.refused is None
    assert e.low <= TRUTH <= e.high


def test_an_interval_says_what_it_leaves_out():
    exact, cut = {"clipped_ips": math.inf, "switch_dr": math.inf}, {"clipped_ips": 1.0, "switch_dr": 1.0}
    assert "error of the reward model" in one(LOG, "dm", span=False).leaves_out
    assert "reward model" in str(one(LOG, "dm", span=False))
    assert one(LOG, "ips").leaves_out is None and one(LOG, "dr").leaves_out is None
    for name in exact:
        assert one(LOG, name, knobs={name: exact[name]}).leaves_out is None
        assert one(LOG, name, knobs={name: exact[name]}).spans is None
    clipped, switched = (one(LOG, name, knobs={name: cut[name]}, span=False).leaves_out for name in cut)
    assert "cut" in clipped and "model" not in clipped and "error of the reward model" in switched
    assert one(LOG, "dm", span=False).plain()["leaves_out"] == one(LOG, "dm", span=False).leaves_out


@pytest.mark.parametrize("how", ["normal", "bootstrap"])
@pytest.mark.parametrize(("name", "unbiased"), [("dm", "dr"), ("clipped_ips", "ips"), ("switch_dr", "dr"), ("dros", "dr")])
def test_the_interval_of_a_biased_estimator_spans_that_of_its_unbiased_form(name: str, unbiased: str, how: str) -> None:
    off = LOG.with_model(LOG.q_logged + 0.3, LOG.q_target + 0.3)
    knobs = {} if name == "dm" else {name: 0.5}
    given, alone = (one(off, name, knobs=knobs, interval=how, span=span) for span in (True, False))
    whole = one(off, unbiased, interval=how)
    assert given.value == alone.value and given.error == alone.error
    assert given.low == min(alone.low, whole.low) and given.high == max(alone.high, whole.high)
    assert given.spans == unbiased and given.leaves_out is None
    assert given.low <= TRUTH <= given.high and not alone.low <= TRUTH <= alone.high


def test_where_the_unbiased_form_is_refused_an_interval_says_that_it_is_alone() -> None:
    e = one(LOG, "dm", floors=Floors(ess=1e9))
    assert e.refused is None and e.spans is None
    assert "error of the reward model" in e.leaves_out and "effective sample size" in e.leaves_out
    assert (e.low, e.high) == (one(LOG, "dm", span=False).low, one(LOG, "dm", span=False).high)
