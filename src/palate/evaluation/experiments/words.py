"""What may be concluded from an experiment now, and what not, in words for a tired reader."""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate.evaluation.experiments.guardrails import Guardrail
from palate.evaluation.experiments.ratio import RatioCheck
from palate.evaluation.experiments.results import Comparison, Conclusion, CovariateUse, GuardrailState, Reading


def conclude(difference: float, fixed: Reading, sequential: Reading, level: float, reached: bool, readable: bool) -> Conclusion:
    """Return what may be concluded of one comparison.

    ``reached`` says that the planned size is there, ``readable`` that the arms have the sizes that they should.
    """
    if not readable:
        return "not to be read"
    ends = fixed.p if math.isnan(fixed.p_adjusted) else fixed.p_adjusted
    always = sequential.p if math.isnan(sequential.p_adjusted) else sequential.p_adjusted
    if always < level:
        return "higher" if difference > 0 else "lower"
    if not reached or math.isnan(ends):
        return "not yet known"
    if ends < level:
        return "higher at the planned size" if difference > 0 else "lower at the planned size"
    return "no difference shown"


def comparison(metric: str, variant: str, conclusion: Conclusion, fixed: Reading, sequential: Reading, guarded: bool) -> str:
    """Return the conclusion of one comparison as sentences."""
    at_any_time = f"{_range(sequential)} at any number of looks"
    if conclusion == "not to be read":
        return f"{metric}, {variant}: not to be read, because the sizes of the arms are wrong."
    note = " Not corrected for other metrics: this one is a guardrail." if guarded else ""
    if conclusion in ("higher", "lower"):
        return f"{metric}, {variant}: {conclusion} than the control, {at_any_time}; you may stop now.{note}"
    if conclusion == "not yet known":
        return f"{metric}, {variant}: not yet known; {at_any_time}.{note}"
    if conclusion == "no difference shown":
        tail = f"What the one reading at the planned size leaves open is {_range(fixed)}.{note}"
        return f"{metric}, {variant}: no difference shown. {tail}"
    which = conclusion.split()[0]
    tail = "That holds if the experiment was not read before and would not have been read on."
    return f"{metric}, {variant}: {which} than the control, {_range(fixed)}, by one reading at the planned size. {tail}{note}"


def guardrail(metric: str, variant: str, rule: Guardrail, low: float, high: float, verdict: str) -> str:
    """Return the verdict of one guardrail as a sentence."""
    margin = f"{rule.margin:.3g}" if not rule.relative else f"{100 * rule.margin:.3g} %"
    name = f"Guardrail {metric}, {variant}"
    if verdict == "not to be read":
        return f"{name}: not to be read, because the sizes of the arms are wrong."
    if verdict == "safe":
        return (
            f"{name}: safe, it is not worse by more than {margin} (worse by {_amount(-low, rule)} at most)."
            if low < 0
            else (f"{name}: safe, it is not worse (better by {_amount(low, rule)} at least).")
        )
    if verdict == "harmed":
        return f"{name}: harmed, it is worse by more than {margin} (by {_amount(-high, rule)} at least). Stop, or find out why."
    if high < 0:
        return f"{name}: it is worse, by {_amount(-high, rule)} at least; whether by more than {margin} is not yet known."
    return f"{name}: not yet known whether it is worse by more than {margin}."


def summary(
    units: int,
    planned: int,
    ratio: RatioCheck,
    comparisons: Sequence[Comparison],
    guardrails: Sequence[GuardrailState],
    covariates: Sequence[CovariateUse],
    waiting: Sequence[str],
) -> tuple[str, ...]:
    """Return all that is to be said, the most urgent first (``waiting``: metrics that covariates don't adjust yet)."""
    lines = [ratio.says]
    if ratio.verdict == "mismatch":
        return tuple(lines)
    lines += [state.says for state in sorted(guardrails, key=lambda one: one.verdict != "harmed")]
    own = {state.metric for state in guardrails}
    lines += [one.says for one in comparisons if one.metric not in own]
    lines += _reading_rules(units, planned)
    if len({(one.metric, one.variant) for one in comparisons if one.metric not in own}) > 1:
        lines.append("P-values are corrected for the number of comparisons (Holm); intervals are not, each stands alone.")
    if covariates:
        gone = ", ".join(f"{100 * one.reduction:.0f} % of {one.metric}" for one in covariates)
        lines.append(f"Covariates took variance away: {gone}. They must be from before the experiment.")
    if waiting:
        lines.append(
            f"Covariates are not used yet for {', '.join(waiting)}: an arm has too few units, or nothing to divide by."
        )
    return tuple(lines)


def _reading_rules(units: int, planned: int) -> list[str]:
    share = f"{units:,} of {planned:,} planned units are in"
    always = (
        "Sequential intervals, p-values and guardrails hold at every look, as long as units' totals are final and weights stay."
    )
    if units < planned:
        return [f"{share} ({units / planned:.0%}): fixed-size results must not be read yet.", always]
    if units <= 1.1 * planned:
        return [f"{share}: fixed-size results may be read once, now, if nothing was decided on an earlier look.", always]
    late = "fixed-size results held when the plan was reached, and only as read then; what they say now is one look too many."
    return [f"{share}: {late}", always]


def _range(reading: Reading) -> str:
    """Return the lift's interval, or the difference's where the control is too near zero."""
    if math.isfinite(reading.lift_low) and math.isfinite(reading.lift_high):
        return f"a lift between {100 * reading.lift_low:+.2f} % and {100 * reading.lift_high:+.2f} %"
    if math.isfinite(reading.low) and math.isfinite(reading.high):
        return f"a difference between {reading.low:+.4g} and {reading.high:+.4g}"
    return "an interval without ends (too few units, or all alike)"


def _amount(value: float, rule: Guardrail) -> str:
    return f"{100 * value:.2f} %" if rule.relative else f"{value:.4g}"
