"""What the analysis of an experiment is made of: plain values, that become JSON as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from palate.evaluation.experiments.ratio import RatioCheck

#: Version of the plain form.
SCHEMA = 1

#: What may be concluded about one variant and one metric.
Conclusion = Literal[
    "higher",
    "lower",
    "higher at the planned size",
    "lower at the planned size",
    "not yet known",
    "no difference shown",
    "not to be read",
]


@dataclass(frozen=True)
class Arm:
    """A metric in one variant, as measured: value, and its interval at a fixed size."""

    variant: str
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Reading:
    """A difference from the control with intervals and p-values; those of lifts are shares of the control's value.

    ``p_adjusted`` is after Holm's correction over all variants and all metrics that are not guardrails (NaN for those).
    """

    low: float
    high: float
    lift_low: float
    lift_high: float
    p: float
    p_adjusted: float


@dataclass(frozen=True)
class Comparison:
    """A variant against the control on one metric.

    Attributes
    ----------
    metric, variant
        What is compared.
    difference, lift
        Variant minus control, and as a share of the control's value; after regression adjustment where there are covariates.
    fixed
        Reading for the planned size only.
    sequential
        Reading that holds at any time.
    unadjusted_difference
        The difference without covariates.
    variance_reduction
        Share of the variance of the difference that covariates took away (``None`` without any; below 0 where they added).
    conclusion
        What may be concluded now.
    says
        The conclusion in words.
    """

    metric: str
    variant: str
    difference: float
    lift: float
    fixed: Reading
    sequential: Reading
    unadjusted_difference: float
    variance_reduction: float | None
    conclusion: Conclusion
    says: str


@dataclass(frozen=True)
class GuardrailState:
    """A guardrail of one variant: change for the better (above 0) with ends that each hold at any time, and the verdict."""

    metric: str
    variant: str
    margin: float
    relative: bool
    better: str
    change: float
    low: float
    high: float
    verdict: str
    says: str


@dataclass(frozen=True)
class CovariateUse:
    """What regression on covariates did to one metric: coefficients, and the share of variance within arms that is gone."""

    metric: str
    theta: Mapping[str, float]
    reduction: float


@dataclass(frozen=True)
class Analysis:
    """One experiment at one look.

    Attributes
    ----------
    units, planned, outside
        Units in the experiment now and as planned, and rows left out because their unit doesn't take part.
    confidence
        Of all intervals.
    variants
        Names; the first is the control.
    ratio
        Whether arms have the sizes that they should.
    metrics
        Metric to its value in each variant, without adjustment.
    comparisons, guardrails, covariates
        See their classes.
    missing
        Units without a value, by covariate.
    words
        What may be concluded now, and what not, sentence by sentence.
    """

    units: int
    planned: int
    outside: int
    confidence: float
    variants: tuple[str, ...]
    ratio: RatioCheck
    metrics: Mapping[str, tuple[Arm, ...]]
    comparisons: tuple[Comparison, ...]
    guardrails: tuple[GuardrailState, ...]
    covariates: tuple[CovariateUse, ...]
    missing: Mapping[str, int]
    words: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``None`` stands for what is unknown or has no end."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    def __str__(self) -> str:
        return "\n".join(self.words)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
