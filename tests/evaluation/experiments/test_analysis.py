"""The whole analysis: numbers as from its parts, conclusions that hold, words that say what may not be concluded."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments import Allocation, Assignment, Guardrail, Moments, analyse
from palate.evaluation.experiments.fixed import compare_fixed
from palate.evaluation.experiments.guardrails import guard
from palate.evaluation.experiments.sequential import compare_sequential
from palate.evaluation.significance import holm


def experiment(n: int = 6000, effect: float = 0.0, variants: int = 2, seed: int = 0) -> dict[str, Any]:
    """Make an experiment with a metric that moves, one that doesn't, a ratio and a covariate."""
    rng = np.random.default_rng(seed)
    units = np.array([f"u{at}" for at in range(n)])
    variant = Assignment(f"e{seed}", "s", Allocation.of([1] * variants)).of(units.tolist())
    before = rng.normal(size=n)
    views = 1 + rng.poisson(4, n)
    spend = 5 + before + rng.normal(size=n) + effect * (variant == 1)
    return {
        "units": units,
        "variant": variant,
        "metrics": {"spend": spend, "late": rng.exponential(size=n), "ctr": rng.binomial(views, 0.2)},
        "denominators": {"ctr": views},
        "before": before,
    }


def run(made: dict[str, Any], **options: Any) -> Any:
    options = {"planned": len(made["units"]), "denominators": made["denominators"]} | options
    return analyse(made["units"], made["variant"], made["metrics"], **options)


def test_numbers_are_those_of_the_parts() -> None:
    made = experiment(variants=3, effect=0.1)
    rule = Guardrail(0.05, better="lower")
    found = run(made, planned=9000, guardrails={"late": rule}, weights=[1, 1, 1])
    rows = {(one.metric, one.variant): one for one in found.comparisons}
    p_fixed, p_sequential = [], []
    for name in ("spend", "ctr"):
        totals = Moments.by_variant(made["metrics"][name], made["variant"], 3, made["denominators"].get(name))
        for at in (1, 2):
            one = rows[name, f"variant {at}"]
            fixed = compare_fixed(totals[0], totals[at])
            followed = compare_sequential(totals[0], totals[at], target=6000)
            assert one.difference == pytest.approx(float(fixed.difference)) and one.lift == pytest.approx(float(fixed.lift))
            assert one.fixed.lift_low == pytest.approx(float(fixed.lift_low))
            assert one.sequential.low == pytest.approx(float(followed.low))
            assert one.sequential.p == pytest.approx(float(followed.p)) and one.variance_reduction is None
            p_fixed.append(one.fixed.p)
            p_sequential.append(one.sequential.p)
        assert [arm.value for arm in found.metrics[name]] == pytest.approx(totals.value.tolist())
        assert [arm.n for arm in found.metrics[name]] == np.bincount(made["variant"]).tolist()
    corrected = [rows[name, f"variant {at}"] for name in ("spend", "ctr") for at in (1, 2)]
    np.testing.assert_allclose([one.fixed.p_adjusted for one in corrected], holm(np.array(p_fixed)))
    np.testing.assert_allclose([one.sequential.p_adjusted for one in corrected], holm(np.array(p_sequential)))
    assert np.isnan(rows["late", "variant 1"].fixed.p_adjusted)
    late = Moments.by_variant(made["metrics"]["late"], made["variant"], 3)
    state = next(one for one in found.guardrails if one.variant == "variant 2")
    assert state.low == pytest.approx(float(guard(late[0], late[2], rule, target=6000).low))


def test_result_is_plain_json() -> None:
    made = experiment(150)  # below the start: ends are infinite
    plain = run(made, covariates={"before": made["before"]}, guardrails={"late": Guardrail(0.1)}).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain and again["schema"] == 1
    assert again["comparisons"][0]["sequential"]["low"] is None and again["comparisons"][0]["fixed"]["low"] is not None


def test_before_the_planned_size_only_sequential_results_conclude() -> None:
    clear = run(experiment(effect=0.5), planned=12_000, guardrails={"late": Guardrail(0.5, better="lower")})
    row = next(one for one in clear.comparisons if one.metric == "spend")
    assert row.conclusion == "higher" and "you may stop now" in row.says
    assert "6,000 of 12,000 planned units are in (50%): fixed-size results must not be read yet" in str(clear)
    slight = run(experiment(effect=0.135), planned=12_000)
    row = slight.comparisons[0]
    assert row.fixed.p_adjusted < 0.05 < row.sequential.p_adjusted and row.conclusion == "not yet known"


def test_at_the_planned_size_the_fixed_result_may_be_read_once() -> None:
    found = run(experiment(effect=0.135))
    assert found.comparisons[0].conclusion == "higher at the planned size"
    assert "if the experiment was not read before" in found.comparisons[0].says
    assert "may be read once, now" in str(found)
    assert run(experiment(effect=-0.09)).comparisons[0].conclusion == "lower at the planned size"
    nothing = next(one for one in found.comparisons if one.metric == "ctr")
    assert nothing.conclusion == "no difference shown" and "leaves open" in nothing.says
    assert "one look too many" in str(run(experiment(effect=0.1), planned=4000))


def test_a_wrong_ratio_silences_everything() -> None:
    made = experiment(effect=0.5)
    lost = (made["variant"] == 1) & (np.arange(6000) % 5 == 0)
    for key in ("units", "variant"):
        made[key] = made[key][~lost]
    made["metrics"] = {name: column[~lost] for name, column in made["metrics"].items()}
    made["denominators"] = {"ctr": made["denominators"]["ctr"][~lost]}
    found = run(made, planned=6000, guardrails={"late": Guardrail(0.1)})
    assert found.ratio.verdict == "mismatch" and found.words == (found.ratio.says,)
    assert {one.conclusion for one in found.comparisons} == {"not to be read"}
    assert {one.verdict for one in found.guardrails} == {"not to be read"}


def test_guardrails_come_first_where_harm_was_done() -> None:
    made = experiment(20_000, effect=0.5)
    made["metrics"]["late"] = made["metrics"]["late"] * (1 + 0.3 * (made["variant"] == 1))
    rules = {"ctr": Guardrail(0.3), "late": Guardrail(0.05, better="lower")}
    found = run(made, guardrails=rules)
    assert [one.verdict for one in found.guardrails] == ["safe", "harmed"]
    assert "harmed, it is worse by more than 5 %" in found.words[1]
    assert "safe, it is not worse by more than 30 %" in found.words[2]
    assert all(one.change > -0.3 for one in found.guardrails[:1]) and found.guardrails[1].high < -0.05


def test_covariates_narrow_the_intervals() -> None:
    made = experiment(effect=0.2)
    holes = np.where(np.arange(6000) % 10 == 0, np.nan, made["before"])
    plain, better = run(made), run(made, covariates={"before": holes})
    one, two = plain.comparisons[0], better.comparisons[0]
    assert two.variance_reduction == pytest.approx(0.45, abs=0.05)
    assert two.fixed.high - two.fixed.low < 0.8 * (one.fixed.high - one.fixed.low)
    assert two.sequential.high - two.sequential.low < 0.8 * (one.sequential.high - one.sequential.low)
    assert two.unadjusted_difference == one.difference != two.difference
    assert better.missing == {"before": 600} and set(better.covariates[0].theta) == {"before", "before is missing"}
    assert better.metrics == plain.metrics
    assert any(line.startswith("Covariates took variance away: 4") for line in better.words)


def test_covariates_wait_until_arms_have_units_and_something_to_divide_by() -> None:
    made = experiment(150)
    few = run(made, covariates={"before": made["before"]})
    assert few.covariates == () and few.comparisons[0].variance_reduction is None
    assert few.comparisons == run(made).comparisons and "Covariates are not used yet for spend, late, ctr" in str(few)
    made = experiment(600)
    made["denominators"] = {"ctr": made["denominators"]["ctr"] * (made["variant"] == 0)}
    unseen = run(made, covariates={"before": made["before"]})
    assert [one.metric for one in unseen.covariates] == ["spend", "late"] and "not used yet for ctr" in str(unseen)
    assert unseen.comparisons[2].conclusion == "not yet known" and np.isnan(unseen.comparisons[2].lift)


def test_units_outside_are_left_out_and_counted() -> None:
    made = experiment()
    inside = run(made)
    wider = made | {
        "units": np.r_[made["units"], ["x", "y"]],
        "variant": np.r_[made["variant"], [-1, -1]],
        "metrics": {name: np.r_[column, [1e9, 1e9]] for name, column in made["metrics"].items()},
        "denominators": {"ctr": np.r_[made["denominators"]["ctr"], [1, 1]]},
    }
    found = run(wider, planned=6000)
    assert found.outside == 2 and found.comparisons == inside.comparisons


def test_nobody_has_come_yet() -> None:
    found = analyse([], np.empty(0, int), {"spend": []}, planned=100, covariates={"before": []})
    assert found.units == 0 and found.comparisons[0].conclusion == "not yet known"
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.words


@pytest.mark.slow
def test_any_false_discovery_among_variants_and_metrics(at_most) -> None:
    once, looked = [], []
    for seed in range(600):
        made = experiment(1200, variants=3, seed=seed)
        found = run(made, covariates={"before": made["before"]})
        once.append(min(one.fixed.p_adjusted for one in found.comparisons) < 0.05)
        looked.append(any(one.conclusion in ("higher", "lower") for one in found.comparisons))
    at_most(np.array(once), 0.05)
    at_most(np.array(looked), 0.05)
    assert np.mean(once) > 0.015  # Holm is careful, not asleep


def test_wrong_input_is_refused() -> None:
    made = experiment(300)
    holed = made["metrics"]["spend"].copy()
    holed[3] = np.nan
    cases: list[tuple[type[Exception], str, dict[str, Any], dict[str, Any]]] = [
        (DataError, "repeat a unit", {"units": np.zeros(300, int)}, {}),
        (DataError, "one whole number a unit", {"variant": made["variant"][:-1]}, {}),
        (DataError, "one whole number a unit", {"variant": made["variant"] * 1.0}, {}),
        (DataError, "from 0, or -1", {"variant": made["variant"] - 2}, {}),
        (DataError, "total is a finite number", {"metrics": {"ctr": holed}}, {}),
        (DataError, "300 values", {"metrics": {"ctr": holed[:-1]}}, {}),
        (DataError, "not below 0", {"denominators": {"ctr": -made["denominators"]["ctr"]}}, {}),
        (DataError, "300 values", {}, {"covariates": {"before": [1.0]}}),
        (ConfigError, "no such metric", {}, {"guardrails": {"spent": Guardrail(0.1)}}),
        (ConfigError, "no such metric", {"denominators": {"ctrs": holed}}, {}),
        (ConfigError, "more variants", {}, {"variants": ["only"]}),
        (ConfigError, "one name", {}, {"variants": ["a", "a"]}),
        (ConfigError, "weights above 0", {}, {"weights": [1, 0]}),
        (ConfigError, "weights above 0", {}, {"variants": ["a", "b"], "weights": [1, 1, 1]}),
        (ConfigError, "planned size", {}, {"planned": 0}),
        (ConfigError, "confidence", {}, {"confidence": 95}),
    ]
    for error, match, changed, options in cases:
        with pytest.raises(error, match=match):
            run(made | changed, **options)
