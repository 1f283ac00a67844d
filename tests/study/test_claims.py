"""Claims: the verdict follows from bars stated beforehand."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.cli.main import app
from palate.errors import ConfigError, DataError
from palate.study.claims import Bar, Claim, Effect, beside, discover, last_result, run_claim, summary, told
from palate.study.effects import gain_beyond, gain_difference, paired_gain, seed_shares

PROGRAM = '''
"""A claim for the test."""
from palate.study.claims import Bar, Claim, Effect

def run(trial):
    value = 0.1 if trial.reduced else 0.3
    return {{"gain": Effect(value, value - 0.05, value + 0.05)}}

CLAIM = Claim(name="{name}", title="A gain", statement="There is a gain.", bars={{"gain": Bar(0.2)}}, run=run, seeds=(1, 2))
'''


def _claim(bars, effects):
    return Claim("x", "x", "x", bars, lambda trial: effects)


@pytest.mark.parametrize(("lows", "verdict"), [
    ((0.3, 0.3), "holds"), ((0.3, 0.1), "holds in part"), ((0.1, 0.0), "does not hold"), ((0.2, 0.2), "does not hold"),
])  # fmt: skip
def test_verdict(lows, verdict):
    effects = {name: Effect(1.0, low, 2.0) for name, low in zip("ab", lows, strict=True)}
    claim = _claim({"a": Bar(0.2), "b": Bar(0.2)}, effects)
    assert claim.decide(effects) == verdict


def test_an_inclusive_bar_may_be_touched():
    assert Bar(1.0, inclusive=True).met(Effect.exact(1.0))
    assert not Bar(1.0).met(Effect.exact(1.0))
    assert not Bar(1.0).met(Effect.exact(float("nan")))


def test_about_equal_is_between_two_ends():
    bar = Bar(-0.1, below=0.1)
    assert bar.met(Effect(0.0, -0.05, 0.05))
    assert not bar.met(Effect(0.0, -0.2, 0.05))
    assert not bar.met(Effect(0.0, -0.05, 0.1))
    assert not bar.met(Effect.exact(float("nan")))
    assert str(bar) == "above -0.1 and below 0.1" and str(Bar(0.2)) == "above 0.2"


def test_what_is_left_out_meets_no_bar_and_says_why():
    effects = {"a": Effect.exact(1.0), "b": Effect.left_out("there is no model here")}
    claim = _claim({"a": Bar(), "b": Bar(-1.0)}, effects)
    assert claim.decide(effects) == "holds in part"
    assert summary(claim, effects) == "a 1 (met: above 0); b left out: there is no model here"


@pytest.mark.parametrize("effects", [{}, {"a": Effect.exact(1), "b": Effect.exact(1)}])
def test_effects_must_be_those_announced(effects):
    with pytest.raises(ConfigError, match="exactly the effects"):
        _claim({"a": Bar()}, effects).decide(effects)


def test_discover_run_and_read(tmp_path):
    (tmp_path / "one.py").write_text(PROGRAM.format(name="one"))
    (tmp_path / "_helper.py").write_text("raise RuntimeError")
    claims = discover(tmp_path)
    assert [c.name for c in claims] == ["one"]
    assert last_result("one", tmp_path) is None
    result = run_claim(claims[0], tmp_path)
    assert result["verdict"] == "holds"
    assert last_result("one", tmp_path) == json.loads(json.dumps(result))
    assert result["seeds"] == [1, 2]
    gain = result["effects"]["gain"]
    assert gain == {"value": 0.3, "low": 0.25, "high": 0.35, "details": {}, "bar": "above 0.2", "met": True}
    assert {"cpu", "cores"} <= set(result["machine"])
    assert "numpy" in result["versions"]
    assert result["command"] == "palate claims run one"
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["one.json"]


def test_a_result_of_an_earlier_form_is_told(tmp_path):
    effect = Effect(0.3, 0.25, 0.35)
    claim = _claim({"gain": Bar(0.2)}, {"gain": effect})
    result = {"verdict": "holds", "statement": claim.statement, "effects": {"gain": {"bar": str(Bar(0.2))}}}
    assert told(claim, None) == "not run" and told(claim, result) == "holds"
    assert told(claim, {**result, "statement": "It was said otherwise."}) == "holds (an earlier form)"
    assert told(_claim({"gain": Bar(0.1)}, {}), result) == "holds (an earlier form)"
    assert told(_claim({"gain": Bar(0.2), "more": Bar(0.0)}, {}), result) == "holds (an earlier form)"


def test_a_reduced_run_leaves_no_evidence(tmp_path):
    (tmp_path / "one.py").write_text(PROGRAM.format(name="one"))
    result = run_claim(discover(tmp_path)[0], tmp_path, reduced=True)
    assert result["verdict"] == "does not hold"
    assert result["reduced"]
    assert result["seeds"] == [1]
    assert last_result("one", tmp_path) is None


def test_a_claim_may_keep_a_module_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "_arms.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Arm:\n    name: str = 'one'\n"
    )
    assert beside(tmp_path / "one.py", "_arms").Arm().name == "one"
    assert discover(tmp_path) == []


def test_faulty_folders(tmp_path):
    with pytest.raises(ConfigError, match="no claims here"):
        discover(tmp_path / "absent")
    (tmp_path / "two.py").write_text(PROGRAM.format(name="one"))
    with pytest.raises(ConfigError, match="named after its file"):
        discover(tmp_path)
    (tmp_path / "two.py").write_text("CLAIM = 3")
    with pytest.raises(ConfigError, match="defines no CLAIM"):
        discover(tmp_path)
    (tmp_path / "two.py").write_text("import a_library_that_is_not_there")
    with pytest.raises(ConfigError, match="can't be imported") as told:
        discover(tmp_path)
    assert "two.py" in str(told.value) and "a_library_that_is_not_there" in str(told.value)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "two.json").write_text("{")
    with pytest.raises(DataError, match="broken"):
        last_result("two", tmp_path)


def test_a_claim_that_cannot_be_read_stops_no_other(tmp_path):
    (tmp_path / "one.py").write_text(PROGRAM.format(name="one"))
    (tmp_path / "two.py").write_text("import a_library_that_is_not_there")
    run = CliRunner().invoke
    listed = run(app, ["claims", "list", "--folder", str(tmp_path), "--json"])
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert listed.exit_code == 1 and rows["one"]["verdict"] == "not run" and rows["two"]["title"] == "can't be read"
    assert "a_library_that_is_not_there" in listed.stderr
    assert run(app, ["claims", "run", "one", "--folder", str(tmp_path)]).exit_code == 0
    assert run(app, ["claims", "run", "two", "--folder", str(tmp_path)]).exit_code != 0


def test_paired_gain_by_hand_and_in_the_limit():
    rng = np.random.default_rng(0)
    base = rng.random(4_000)
    gain = paired_gain(base * 1.2, base, rng=rng)
    assert gain.value == pytest.approx(0.2)
    assert gain.high - gain.low < 1e-9
    noisy = paired_gain(base + rng.normal(0, 0.5, 4_000), base, rng=rng, relative=False)
    spread = 2 * 1.96 * 0.5 / np.sqrt(4_000)
    assert noisy.high - noisy.low == pytest.approx(spread, rel=0.1)
    assert noisy.low < noisy.value < noisy.high


def test_intervals_hold_the_spread_over_seeds():
    shares = seed_shares(3, 20_000, np.random.default_rng(1))
    assert shares.sum(1) == pytest.approx(1)
    of_seeds = np.array([1.0, 2.0, 6.0])
    assert (shares @ of_seeds).std() == pytest.approx(of_seeds.std(ddof=1) / np.sqrt(3), rel=0.03)
    rng, n, held = np.random.default_rng(2), 400, {"alone": 0, "beyond": 0, "difference": 0}
    some = np.arange(n) < n // 2
    for _ in range(200):
        people = rng.normal(0, 0.1, n)
        one, two = (people + rng.normal(0, 0.05, (5, 1)) + rng.normal(0, 0.01, (5, n)) for _ in range(2))
        lift = np.where(some, rng.normal(0, 0.05, (5, 1)), 0.0)  # by seed, of some people only
        plain = {"rng": rng, "resamples": 200}
        found = {
            "alone": paired_gain(list(one), list(two), relative=False, **plain),
            "beyond": gain_beyond(list(one + lift), list(one), some, **plain),
            "difference": gain_difference((list(one), list(two)), (list(two), list(two)), relative=False, **plain),
        }
        for name, effect in found.items():
            held[name] += effect.low <= 0 <= effect.high
    assert min(held.values()) > 165  # five seeds: short of 95%; people alone would hold it in some 2%
    assert len(found["alone"].details["by seed"]) == 5
    assert np.mean(found["alone"].details["by seed"]) == pytest.approx(found["alone"].value)
    assert "by seed" not in paired_gain(list(one), one[0], relative=False, rng=rng).details


def test_paired_gain_leaves_undefined_people_out():
    gain = paired_gain(np.array([1.0, np.nan, 3.0]), np.array([1.0, 5.0, 1.0]), rng=np.random.default_rng(0))
    assert gain.value == pytest.approx(1.0)
    assert gain.details["people"] == 2


def test_difference_of_gains_by_hand():
    base = np.linspace(1, 2, 60)
    made = gain_difference((1.5 * base, base), (1.2 * base, base), rng=np.random.default_rng(0))
    assert made.value == pytest.approx(0.3) and made.high - made.low < 1e-9
    some = np.where(np.arange(60) < 20, base + 0.4, np.nan)
    points = gain_difference((some, base), ([base, base + 0.2], base), rng=np.random.default_rng(0), relative=False)
    assert points.value == pytest.approx(0.3) and points.details["people"] == 20
    with pytest.raises(DataError, match="people"):
        gain_difference((some, base), (base, 0 * base), rng=np.random.default_rng(0))


def test_the_claims_of_the_project_are_well_formed():
    folder = Path(__file__).parents[2] / "claims"
    claims = discover(folder)
    assert {c.name for c in claims} >= {
        "baselines_beat_popularity", "softmax_beats_bce", "logq_correction", "popularity_by_hand",
    }  # fmt: skip
    for claim in claims:
        assert claim.bars
        assert claim.statement.endswith(".")
