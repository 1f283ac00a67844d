"""One experiment at one look: sizes, metrics, lifts, guardrails, and what may be concluded.

Rows are randomised units with their totals. Each metric is compared between every variant and the control (number 0) in two
ways: at the fixed size that was planned, and sequentially, for any number of looks. P-values are corrected by Holm over all
variants and all metrics that are not guardrails, within each way; intervals are not corrected. A sequential p-value holds at
whatever look one stops, so that Holm's rule holds there too. Conclusions are drawn from corrected p-values; those of the
fixed size only from the planned size on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import ConfigError, DataError, nearest
from palate.evaluation.experiments import words
from palate.evaluation.experiments.assignment import OUTSIDE
from palate.evaluation.experiments.contrast import contrast
from palate.evaluation.experiments.cuped import Adjusted, Missing, adjust
from palate.evaluation.experiments.fixed import Compared, adjust_p, check_share, compare_fixed, interval
from palate.evaluation.experiments.guardrails import VERDICTS, Guardrail, guard
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.experiments.ratio import THRESHOLD, check_ratio
from palate.evaluation.experiments.results import Analysis, Arm, Comparison, CovariateUse, GuardrailState, Reading
from palate.evaluation.experiments.sequential import START, Followed, compare_sequential


@dataclass(frozen=True)
class _Plan:
    """What was settled before the start."""

    names: tuple[str, ...]
    weights: np.ndarray
    planned: int
    confidence: float
    start: int

    def target(self, variant: int) -> float:
        """Return the planned units of control and variant together."""
        return self.planned * float(self.weights[0] + self.weights[variant])


@dataclass(frozen=True, eq=False)
class _Measured:
    """A metric's totals by variant, without and with regression."""

    plain: Moments
    adjusted: Adjusted | None

    @property
    def best(self) -> Moments:
        return self.plain if self.adjusted is None else self.adjusted.moments

    @property
    def common(self) -> float:
        return 0.0 if self.adjusted is None else self.adjusted.common


def analyse(
    units: Sequence[object] | np.ndarray,
    variant: ArrayLike,
    metrics: Mapping[str, ArrayLike],
    *,
    planned: int,
    variants: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    denominators: Mapping[str, ArrayLike] | None = None,
    covariates: Mapping[str, ArrayLike] | None = None,
    guardrails: Mapping[str, Guardrail] | None = None,
    missing: Missing = "indicator",
    confidence: float = 0.95,
    ratio_threshold: float = THRESHOLD,
    start: int = START,
) -> Analysis:
    """Analyse an experiment.

    Parameters
    ----------
    units
        Ids ``[n]``, each once: the units that were randomised.
    variant
        ``int[n]``: 0 is the control; units of ``OUTSIDE`` (-1) are left out.
    metrics
        Name to ``float[n]``, a unit's total. A unit that did nothing has 0, not NaN.
    planned
        Units in all variants together at which the experiment was to be read, settled before it began. Fixed-size results
        hold there only; sequential intervals are narrowest there.
    variants
        Names; by default ``control``, ``variant 1``, ...
    weights
        Shares of the variants in assignment; by default equal.
    denominators
        For metrics that are ratios (clicks a view): name of the metric to ``float[n]``, a unit's total, not below 0.
    covariates
        Name to ``float[n]`` known before the experiment; NaN where missing. They are used for every metric, as soon as each
        arm has ``start`` units.
    guardrails
        Metric to its margin. A guardrail metric is judged by that alone.
    missing
        What is done about missing covariates: ``"indicator"`` or ``"mean"``.
    confidence
        Of intervals, and one minus the level of tests.
    ratio_threshold
        Probability of a false alarm about the sizes of arms.
    start
        Units an arm before sequential intervals and adjustment begin.

    Raises
    ------
    DataError
        If a unit stands in several rows, a value is missing or infinite, or columns differ in length.
    """
    check_share(confidence, "confidence")
    arm, kept = _arms(units, np.asarray(variant))
    plan = _plan(arm, variants, weights, planned, confidence, start)
    bases, rules = denominators or {}, guardrails or {}
    for given, what in ((bases, "denominators"), (rules, "guardrails")):
        for name in given:
            if name not in metrics:
                raise ConfigError("there is no such metric.", where=what, value=name, remedy=nearest(name, metrics))
    before = {name: _column(name, column, len(kept), holes=True)[kept] for name, column in (covariates or {}).items()}
    measured = {
        name: _measure(
            _column(name, column, len(kept))[kept],
            _column(name, bases[name], len(kept), least=0.0)[kept] if name in bases else None,
            arm,
            before,
            missing,
            plan,
        )
        for name, column in metrics.items()
    }
    sizes = np.bincount(arm, minlength=len(plan.names))
    ratio = check_ratio(sizes, plan.weights, target=planned, threshold=ratio_threshold)
    readable = ratio.verdict != "mismatch"
    comparisons = _comparisons(measured, plan, set(rules), len(arm), readable)
    states = tuple(
        _guardrail(name, rule, at, measured[name], plan, readable)
        for name, rule in rules.items()
        for at in range(1, len(plan.names))
    )
    uses = tuple(
        CovariateUse(name, one.adjusted.theta, one.adjusted.reduction) for name, one in measured.items() if one.adjusted
    )
    waiting = [name for name, one in measured.items() if before and one.adjusted is None]
    return Analysis(
        len(arm),
        planned,
        int((~kept).sum()),
        confidence,
        plan.names,
        ratio,
        {name: _values(one.plain, plan) for name, one in measured.items()},
        comparisons,
        states,
        uses,
        {name: int(np.isnan(column).sum()) for name, column in before.items()},
        words.summary(len(arm), planned, ratio, comparisons, states, uses, waiting),
    )


def _measure(
    values: np.ndarray,
    base: np.ndarray | None,
    arm: np.ndarray,
    before: Mapping[str, np.ndarray],
    missing: Missing,
    plan: _Plan,
) -> _Measured:
    """Total a metric by variant; adjust it as soon as each arm has units and something to divide by."""
    plain = Moments.by_variant(values, arm, len(plan.names), base)
    used = before and plain.n.min() >= plan.start and (plain.base != 0).all()
    return _Measured(plain, adjust(values, arm, before, base=base, missing=missing) if used else None)


def _arms(units: Sequence[object] | np.ndarray, variant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variants of units that take part, and which rows those are."""
    if variant.ndim != 1 or variant.dtype.kind not in "iu" or len(units) != len(variant):
        raise DataError("one whole number a unit is needed.", where="variant", value=[str(variant.dtype), list(variant.shape)])
    if len(variant) and variant.min() < OUTSIDE:
        raise DataError("a variant is a number from 0, or -1 for outside.", where="variant", value=int(variant.min()))
    ids = units.tolist() if isinstance(units, np.ndarray) else list(units)
    if len(set(ids)) < len(ids):
        seen: set[object] = set()
        twice = next(unit for unit in ids if unit in seen or seen.add(unit))  # type: ignore[func-returns-value]
        remedy = "sum each unit's rows first, and leave units out that saw two variants"
        raise DataError(f"{len(ids) - len(set(ids))} rows repeat a unit.", where="units", value=twice, remedy=remedy)
    kept = variant != OUTSIDE
    return variant[kept].astype(np.int64), kept


def _plan(
    arm: np.ndarray,
    variants: Sequence[str] | None,
    weights: Sequence[float] | None,
    planned: int,
    confidence: float,
    start: int,
) -> _Plan:
    known = len(variants) if variants is not None else len(weights) if weights is not None else 0
    size = known or max(2, int(arm.max(initial=0)) + 1)
    if size < 2 or (len(arm) and arm.max() >= size):
        raise ConfigError("there are more variants in the data than were named, or only one.", where="variants", value=size)
    names = tuple(variants) if variants is not None else ("control", *(f"variant {at}" for at in range(1, size)))
    if len(set(names)) < size:
        raise ConfigError("two variants have one name.", where="variants", value=names)
    shares = np.ones(size) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (size,) or not (np.isfinite(shares) & (shares > 0)).all():
        raise ConfigError(f"{size} weights above 0 are needed.", where="weights", value=shares.tolist())
    if planned < 2:
        remedy = "settle the size before the start, for example with sample_size"
        raise ConfigError("the planned size is a number of units.", where="planned", value=planned, remedy=remedy)
    return _Plan(names, shares / shares.sum(), planned, confidence, start)


def _column(name: str, column: ArrayLike, n: int, *, holes: bool = False, least: float = -np.inf) -> np.ndarray:
    values = np.asarray(column, np.float64)
    if values.shape != (n,):
        raise DataError(f"{n} values are needed, one a unit.", where=name, value=list(values.shape))
    if np.isinf(values).any() or (np.isnan(values).any() and not holes) or (values < least).any():
        remedy = "a unit that did nothing has 0; for an average over events give totals and a denominator"
        raise DataError("a unit's total is a finite number (a denominator's not below 0).", where=name, remedy=remedy)
    return values


def _values(totals: Moments, plan: _Plan) -> tuple[Arm, ...]:
    low, high = interval(totals, confidence=plan.confidence)
    columns = zip(plan.names, totals.n, totals.value, low, high, strict=True)
    return tuple(Arm(name, int(n), float(value), float(lo), float(hi)) for name, n, value, lo, hi in columns)


def _comparisons(
    measured: Mapping[str, _Measured], plan: _Plan, guarded: set[str], units: int, readable: bool
) -> tuple[Comparison, ...]:
    """Compare every variant on every metric, correct the p-values together, then conclude."""
    cells = [(name, at) for name in measured for at in range(1, len(plan.names))]
    fixed, followed = [], []
    for name, at in cells:
        totals, common = measured[name].best, measured[name].common
        fixed.append(compare_fixed(totals[0], totals[at], confidence=plan.confidence, common=common))
        followed.append(
            compare_sequential(
                totals[0], totals[at], target=plan.target(at), confidence=plan.confidence, start=plan.start, common=common
            )
        )
    counted = np.array([np.nan if name in guarded else 1.0 for name, _ in cells])
    once = adjust_p(counted * np.array([float(one.p) for one in fixed]))
    always = adjust_p(counted * np.array([float(one.p) for one in followed]))
    out = []
    for row, (name, at) in enumerate(cells):
        difference = float(fixed[row].difference)
        readings = _reading(fixed[row], once[row]), _reading(followed[row], always[row])
        conclusion = words.conclude(difference, *readings, 1 - plan.confidence, units >= plan.planned, readable)
        plain, error = contrast(measured[name].plain[0], measured[name].plain[at])
        reduced = None if measured[name].adjusted is None else _reduction(float(error), float(fixed[row].error))
        says = words.comparison(name, plan.names[at], conclusion, *readings, name in guarded)
        lift = float(fixed[row].lift)
        out.append(Comparison(name, plan.names[at], difference, lift, *readings, float(plain), reduced, conclusion, says))
    return tuple(out)


def _reading(found: Compared | Followed, corrected: float) -> Reading:
    low, high, lift_low, lift_high, p = (
        float(part) for part in (found.low, found.high, found.lift_low, found.lift_high, found.p)
    )
    return Reading(low, high, lift_low, lift_high, p, float(corrected))


def _reduction(plain: float, adjusted: float) -> float:
    return 1 - (adjusted / plain) ** 2 if plain > 0 else float("nan")


def _guardrail(name: str, rule: Guardrail, at: int, one: _Measured, plan: _Plan, readable: bool) -> GuardrailState:
    found = guard(
        one.best[0],
        one.best[at],
        rule,
        target=plan.target(at),
        confidence=plan.confidence,
        start=plan.start,
        common=one.common,
    )
    verdict = VERDICTS[int(found.verdict)] if readable else "not to be read"
    change, low, high = float(found.change), float(found.low), float(found.high)
    return GuardrailState(
        name,
        plan.names[at],
        rule.margin,
        rule.relative,
        rule.better,
        change,
        low,
        high,
        verdict,
        words.guardrail(name, plan.names[at], rule, low, high, verdict),
    )
