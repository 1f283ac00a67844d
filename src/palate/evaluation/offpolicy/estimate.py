"""What a candidate policy would have earned, with the evidence for and against believing it.

``estimate`` answers with every estimator that is asked for, its interval, and the health of its weights. Where the log can't
carry an answer, the answer is a refusal with its reason, and no number::

    effective sample size    (Σ ω)² / Σ ω², of units        at least 100; then no unit holds more than a tenth of the weight
    effective terms          (Σ |ω e|)² / Σ (ω e)²          at least 10; else a few rewards decide
    mean weight              mean(w)                        within 4 standard errors of 1, or within 0.02
    support                  see :func:`check_support`      nothing missing, where distributions are given

A small mean weight says that the candidate mostly does what was never logged; a large one, that chances are wrong.

The spread of ``dm``, or of weights that were cut, speaks of chance in the log and not of the model's error or of what was lost.
Their intervals therefore span that of the unbiased form as well (``dr``, or ``ips`` without a model; ``spans``): such an
estimator may have the smaller error, but it can't know so. Where the log can't carry the unbiased form, the interval is their
own and says what it leaves out (``leaves_out``). Rewards that come late count as none: take rows that are old enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np

from palate.errors import ConfigError, DataError, UnsupportedError
from palate.evaluation.offpolicy.estimators import ESTIMATORS, Estimator, Rows, find
from palate.evaluation.offpolicy.log import Log, SlateLog, check_bounds
from palate.evaluation.offpolicy.slates import SLATE_ESTIMATORS, SlateEstimator, find_slate
from palate.evaluation.offpolicy.spread import GUARANTEED, How, Units, effective_size, interval, standard_error
from palate.evaluation.offpolicy.support import Support, check_support
from palate.evaluation.offpolicy.tuning import Rule, tune

__all__ = ["Estimate", "Floors", "Options", "check_support", "estimate"]

NAN = float("nan")


@dataclass(frozen=True)
class Floors:
    """What a log must show before a number is given.

    Attributes
    ----------
    ess
        Least effective sample size.
    terms
        Least effective number of weighted rewards.
    missing
        Most chance that the candidate may put on what was never logged.
    weight_errors, weight_gap
        The mean weight is refused when it is further from 1 than both: so many standard errors, and so much.
    """

    ess: float = 100.0
    terms: float = 10.0
    missing: float = 1e-6
    weight_errors: float = 4.0
    weight_gap: float = 0.02


@dataclass(frozen=True)
class Options:
    """How estimates are made.

    Attributes
    ----------
    interval
        ``"normal"``, ``"bootstrap"`` (of the linearised terms), or one that holds for every length of log: ``"bernstein"``,
        ``"hoeffding"``. Those two need ``reward_range`` and, without clipping, ``weight_bound``; they are for estimators
        without a model and without self-normalisation, and speak of what the estimator expects (for clipped IPS with rewards
        from 0, the lower end is also one for the policy).
    confidence
        Between 0 and 1.
    tuning
        How settings not in ``knobs`` are chosen: ``"mse"`` or ``"slope"``.
    knobs
        Settings by estimator's name, chosen before the log was seen.
    reward_range
        Least and largest possible reward of a row (of a slate: of a position).
    weight_bound
        Largest possible weight (of a slate: ratio of a position). A ``support`` knows it too.
    floors
        See :class:`Floors`.
    resamples, seed
        Of the bootstrap.
    span
        Whether intervals of biased estimators span that of the unbiased form as well.
    """

    interval: How = "normal"
    confidence: float = 0.95
    tuning: Rule = "mse"
    knobs: Mapping[str, float] | None = None
    reward_range: tuple[float, float] | None = None
    weight_bound: float | None = None
    floors: Floors = Floors()
    resamples: int = 2000
    seed: int = 0
    span: bool = True


@dataclass(frozen=True)
class Estimate:
    """An estimate, or a refusal.

    Attributes
    ----------
    name, title
        The estimator.
    value, low, high
        Estimate and interval; NaN where refused.
    error
        Standard error; NaN where refused.
    confidence, interval
        Level and kind of the interval.
    rows, units
        Rows of the log, and independent units among them.
    ess
        Effective number of units under the weights used; NaN without weights. Of slates, at the position with the least; so are
        ``largest``, ``terms`` and ``unused``.
    largest
        Share of the largest unit's weight in all weight.
    mean_weight, mean_weight_error
        Mean of the importance weights (before clipping), which should be 1, and its standard error. Of slates, at the position
        furthest from 1.
    terms
        Effective number of weighted rewards.
    unused
        Share of rows that the candidate would never have produced (weight 0).
    outside
        Share of rows outside support; NaN where distributions weren't given.
    knob, tuning
        Value of λ or τ, and how it came about.
    refused
        Why there is no number; ``None`` if there is one.
    spans
        The unbiased estimator whose interval this one spans as well; ``None`` where its own is enough.
    leaves_out
        What the interval does not speak of (a model's error, what cut weights leave out), so that it may cover the truth far
        less often than it says; ``None`` where it speaks of everything.
    """

    name: str
    title: str
    value: float
    low: float
    high: float
    error: float
    confidence: float
    interval: str
    rows: int
    units: int
    ess: float = NAN
    largest: float = NAN
    mean_weight: float = NAN
    mean_weight_error: float = NAN
    terms: float = NAN
    unused: float = NAN
    outside: float = NAN
    knob: float | None = None
    tuning: str | None = None
    refused: str | None = None
    spans: str | None = None
    leaves_out: str | None = None

    def checked(self) -> Estimate:
        """Return the estimate itself, or raise an :class:`~palate.errors.UnsupportedError` with the reason of the refusal."""
        if self.refused is not None:
            raise UnsupportedError(
                f"{self.name}: {self.refused}.", where="off-policy estimate", remedy="log more, or another way"
            )
        return self

    def plain(self) -> dict[str, Any]:
        """Return all fields for JSON; what is not a finite number becomes ``None``."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        if self.refused is not None:
            return f"{self.title}: refused: {self.refused}"
        told = f"{self.title}: {self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"
        return told if self.leaves_out is None else f"{told}, {self.leaves_out}"


def estimate(
    log: Log | SlateLog,
    names: Sequence[str] | None = None,
    *,
    support: Support | None = None,
    options: Options | None = None,
    **settings: Any,
) -> list[Estimate]:
    """Estimate a candidate policy's mean reward from a log.

    Parameters
    ----------
    log
        Single actions, or slates.
    names
        Estimators; by default all that the log can feed (see ``ESTIMATORS`` and ``SLATE_ESTIMATORS``).
    support
        From :func:`check_support`, where whole distributions are known.
    options
        See :class:`Options`; or give them by name.

    Returns
    -------
    list[Estimate]
        In the order of the names. An estimator that lacks something is refused, with the reason, and so are all whose floors
        aren't reached; the others stand.

    Raises
    ------
    ConfigError
        If a name, an option or a setting is unknown or out of range.
    DataError
        If the support is that of another log, or a row contradicts ``reward_range`` or ``weight_bound``; the row is named.
    """
    chosen = _options(options, settings)
    find_one = find if isinstance(log, Log) else find_slate
    estimators: list[Estimator | SlateEstimator] = [find_one(n) for n in (_able(log) if names is None else names)]
    stray = set(chosen.knobs or {}) - {e.name for e in estimators if e.knob is not None}
    if stray:
        raise ConfigError("a setting belongs to no estimator that was asked for.", where="knobs", value=sorted(stray))
    if support is not None and len(support.missing) not in (1, len(log)):
        raise DataError("the support is that of another log.", where="support", value=[len(support.missing), len(log)])
    units = Units.of(log.unit, len(log))
    made: dict[str, Estimate] = {}

    def one(estimator: Estimator | SlateEstimator) -> Estimate:
        if estimator.name not in made:
            made[estimator.name] = _one(estimator, log, units, support, chosen)
        return made[estimator.name]

    found: list[tuple[Any, Estimate]] = [(e, one(e)) for e in estimators]
    return [_spanning(alone, one(e.unbiased)) if _spans(alone, chosen) else alone for e, alone in found]


def _options(options: Options | None, settings: Mapping[str, Any]) -> Options:
    unknown = set(settings) - set(Options.__dataclass_fields__)
    if unknown:
        raise ConfigError(
            "there is no such option.", where="estimate", value=sorted(unknown), remedy=", ".join(Options.__dataclass_fields__)
        )
    chosen = replace(options or Options(), **settings)
    if not 0 < chosen.confidence < 1:
        raise ConfigError(
            "confidence lies between 0 and 1.", where="confidence", value=chosen.confidence, remedy="such as 0.95"
        )
    if chosen.interval not in get_args(How):
        raise ConfigError(
            "there is no such interval.", where="interval", value=chosen.interval, remedy=", ".join(get_args(How))
        )
    if chosen.tuning not in get_args(Rule):
        raise ConfigError("there is no such rule.", where="tuning", value=chosen.tuning, remedy=", ".join(get_args(Rule)))
    if chosen.interval in GUARANTEED and chosen.reward_range is None:
        raise ConfigError(
            "this interval needs the least and largest possible reward.", where="reward_range", remedy="for clicks: (0, 1)"
        )
    return chosen


def _able(log: Log | SlateLog) -> list[str]:
    """Return the names of the estimators that a log can feed."""
    if isinstance(log, Log):
        fed = [e for e in ESTIMATORS.values() if log.q_target is not None or not e.model]
        return [e.name for e in fed if e.fitted in (None, log.fitted)]
    slates = SLATE_ESTIMATORS.values()
    return [e.name for e in slates if log.chances in (e.chances, "both") and (log.q_target is not None or not e.model)]


def _one(estimator: Any, log: Log | SlateLog, units: Units, support: Support | None, options: Options) -> Estimate:
    blank = Estimate(
        estimator.name, estimator.title, NAN, NAN, NAN, NAN, options.confidence, options.interval, len(log), len(units)
    )
    if support is not None:
        blank = replace(blank, outside=support.outside)
    try:
        if estimator.knob is not None:
            blank = replace(blank, **_setting(estimator, log, options))
        rows: Rows = estimator.rows(log, blank.knob)
        if estimator.weighted:
            blank = replace(blank, **_health(rows, units))
        _check_floors(blank, support, options, estimator.weighted)
        blank = replace(blank, leaves_out=_leaves_out(estimator, blank.knob))
        terms = rows.terms()
        limits = _limits(estimator, rows, log, support, blank, options)
    except UnsupportedError as reason:
        return replace(blank, refused=reason.what.removesuffix("."))
    error = standard_error(terms, units)
    if limits is None and not error > 1e-12 * max(1.0, float(np.abs(terms).max())):
        return replace(blank, refused="every unit gives the same value, so there is nothing to tell its uncertainty from")
    drawn: dict[str, Any] = {"resamples": options.resamples, "seed": options.seed}
    low, high = interval(terms, units, options.interval, confidence=options.confidence, limits=limits, **drawn)
    return replace(blank, value=float(terms.mean()), low=low, high=high, error=error)


def _spans(alone: Estimate, options: Options) -> bool:
    """Say whether an estimate's interval is to span that of its unbiased form, too."""
    return options.span and alone.leaves_out is not None and alone.refused is None and options.interval not in GUARANTEED


def _spanning(alone: Estimate, whole: Estimate) -> Estimate:
    """Return an estimate whose interval spans that of the unbiased form as well, if the log can carry that."""
    if whole.refused is not None:
        return replace(alone, leaves_out=f"{alone.leaves_out} (of which this log can't tell: {whole.refused})")
    return replace(alone, low=min(alone.low, whole.low), high=max(alone.high, whole.high), spans=whole.name, leaves_out=None)


def _setting(estimator: Estimator, log: Any, options: Options) -> dict[str, Any]:
    """Return λ or τ and where it is from."""
    if estimator.name in (options.knobs or {}):
        assert options.knobs is not None
        return {"knob": float(options.knobs[estimator.name]), "tuning": "given"}
    if options.interval in GUARANTEED:
        raise UnsupportedError("a tuned setting depends on the rewards; for this interval give one in knobs.")
    return {"knob": tune(estimator, log, options.tuning).value, "tuning": options.tuning}


def _leaves_out(estimator: Any, knob: float | None) -> str | None:
    """Return what an interval does not speak of, or ``None``."""
    if estimator.knob is None:
        return None if estimator.weighted else "without the error of the reward model"
    if knob == estimator.knob.exact:
        return None
    return f"without {'the error of the reward model' if estimator.model else 'what is lost'} where weights were cut"


def _health(rows: Rows, units: Units) -> dict[str, Any]:
    """Return the diagnostics of the weights: sizes at the position with the least, the mean weight furthest from 1."""
    sizes = [effective_size(column, units) for column in rows.weight.T]
    at = int(np.argmin(sizes))
    weight, rest = rows.weight[:, at], rows.rest[:, at]
    means = rows.importance.mean(axis=0)
    far = int(np.argmax(np.abs(means - 1)))
    totals = units.totals(weight)
    return {
        "ess": sizes[at],
        "largest": float(totals.max() / totals.sum()) if totals.any() else NAN,
        "mean_weight": float(means[far]),
        "mean_weight_error": standard_error(rows.importance[:, far], units),
        "terms": effective_size(np.abs(weight * rest), units),
        "unused": float((rows.importance[:, at] == 0).mean()),
    }


def _check_floors(found: Estimate, support: Support | None, options: Options, weighted: bool) -> None:
    """Raise an UnsupportedError if the log can't carry the estimate."""
    if found.units < 2:
        raise UnsupportedError("there is one unit only, so there is nothing to tell its uncertainty from.")
    if not weighted:
        return
    floors = options.floors
    if support is not None and support.mass > floors.missing:
        raise UnsupportedError(
            f"the log lacks support: a mean chance of {support.mass:.3g} goes to what was never logged "
            f"({support.outside:.1%} of rows, worst row {support.worst})."
        )
    gap = abs(found.mean_weight - 1)
    if gap > max(floors.weight_errors * found.mean_weight_error, floors.weight_gap):
        cause = (
            "the candidate does what was never logged, or chances are wrong" if found.mean_weight < 1 else "chances are wrong"
        )
        weight = f"{found.mean_weight:.3g} ± {found.mean_weight_error:.2g}"
        raise UnsupportedError(f"the mean weight is {weight} where 1 is due: {cause}.")
    if options.interval in GUARANTEED:
        return
    if found.ess < floors.ess:
        raise UnsupportedError(f"the effective sample size is {found.ess:.1f}, below {floors.ess:g}.")
    if found.terms < floors.terms:
        raise UnsupportedError(f"the effective number of weighted rewards is {found.terms:.1f}, below {floors.terms:g}.")


def _limits(
    estimator: Any, rows: Rows, log: Log | SlateLog, support: Support | None, found: Estimate, options: Options
) -> tuple[float, float] | None:
    """Return the least and largest term that can be, for intervals that need them."""
    if options.interval not in GUARANTEED:
        return None
    assert options.reward_range is not None
    if estimator.model or rows.normalised:
        raise UnsupportedError(
            f"{estimator.name} has no interval of the kind {options.interval}: its rows depend on each other."
        )
    least, most = options.reward_range
    check_bounds("reward", log.reward, (log.reward < least) | (log.reward > most), f"lies outside {least:g} to {most:g}")
    bound = support.largest_weight if support is not None and options.weight_bound is None else options.weight_bound
    ratio = log.weight if isinstance(log, Log) else log.ratio
    if bound is not None:
        check_bounds("weight", ratio, ratio > bound * (1 + 1e-6), f"is above the bound {bound:g}")
    ceiling = estimator.ceilings(math.inf if bound is None else bound, rows.weight.shape[1], found.knob)
    if not np.isfinite(ceiling).all():
        raise UnsupportedError(
            f"{options.interval} intervals of {estimator.name} need weight_bound, the largest possible weight."
        )
    return float(np.minimum(0, ceiling * least).sum()), float(np.maximum(0, ceiling * most).sum())
