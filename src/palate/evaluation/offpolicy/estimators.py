"""Off-policy estimators of single actions: each is a rule for the weight, with or without a reward model.

For row ``i`` with reward ``r``, weight ``w = target / propensity``, reward model ``q`` at the logged action and ``q̄`` its mean
under the candidate policy, every estimator here is::

    value = mean(d) + mean(ω e)            or, self-normalised,   mean(d) + mean(ω e) / mean(ω)

    without a model   d = 0,  e = r          with one   d = q̄,  e = r - q

    ======== ============================  =============================================================================
    ω = 0    dm                            biased as the model is, least variance
    w        ips, snips, dr, sndr, mrdr    unbiased where the log has support (self-normalised: bias of order 1/n)
    min(w,λ) clipped_ips, clipped_dr       λ = ∞: none
    w≤τ only switch_dr                     τ = ∞: dr, τ = 0: dm
    λw/(w²+λ)        dros                  λ = ∞: dr, λ = 0: dm
    w/(1-λ+λw)       sg_ips, sg_dr         λ = 0: ips and dr, λ = 1: every weight is 1
    ======== ============================  =============================================================================

Sources: Horvitz and Thompson 1952 (IPS); Swaminathan and Joachims 2015 (SNIPS); Dudík, Langford and Li 2011 (DR); Wang, Agarwal
and Dudík 2017 (SWITCH; here with DR's correction, dropped where the logged weight is above τ); Su, Dimakopoulou, Krishnamurthy
and Dudík 2020 (DRos and clipped DR); Metelli, Russo and Restelli 2021 (sub-Gaussian); Farajtabar, Chow and Ghavamzadeh 2018
(``mrdr``: ``dr`` with a model that was fitted for its least variance, see :mod:`palate.evaluation.offpolicy.crossfit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from palate.errors import ConfigError, UnsupportedError, nearest
from palate.evaluation.offpolicy.log import Fitted, Log

INFINITE = float("inf")


@dataclass(frozen=True, eq=False)
class Rows:
    """What an estimator makes of a log; ``value = Σ_k mean(direct_k) + mean(weight_k rest_k) [/ mean(weight_k)]``.

    Attributes
    ----------
    direct
        ``float64[n, K]``: the part that needs no weight.
    weight
        ``float64[n, K]``: the weight that the estimator uses, after clipping or shrinking.
    rest
        ``float64[n, K]``: what is weighted.
    importance
        ``float64[n, K]``: the weight before clipping or shrinking; its mean is 1 if all is well.
    normalised
        Whether it is self-normalised.

    Single actions have ``K = 1``.
    """

    direct: np.ndarray
    weight: np.ndarray
    rest: np.ndarray
    importance: np.ndarray
    normalised: bool = False

    def terms(self) -> np.ndarray:
        """Return ``float64[n]`` with mean ``value``; its spread gives the standard error.

        Self-normalised estimators are linearised: ``d + ρ + ω (e - ρ) / mean(ω)`` with ``ρ = mean(ω e) / mean(ω)``.

        Raises
        ------
        UnsupportedError
            If an estimator is self-normalised and all weights of a position are zero.
        """
        weighted = self.weight * self.rest
        if not self.normalised:
            return (self.direct + weighted).sum(axis=1)
        mean = self.weight.mean(axis=0)
        if (mean == 0).any():
            raise UnsupportedError("all weights are zero: the candidate never does what was logged.")
        ratio = weighted.mean(axis=0) / mean
        return (self.direct + ratio + self.weight * (self.rest - ratio) / mean).sum(axis=1)


Transform = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Knob:
    """The setting of an estimator that trades bias for variance.

    Attributes
    ----------
    name
        ``"lambda"`` or ``"tau"``.
    transform
        ``(weights, value) -> weights used``.
    exact
        The value that changes no weight.
    most
        The largest value, from 0.
    grid
        ``weights -> float64[m]``, values to try, the least biased first. It never looks at rewards.
    ceiling
        ``(bound on weights, value) -> bound on the weights used``.
    """

    name: str
    transform: Transform
    exact: float
    most: float
    grid: Callable[[np.ndarray], np.ndarray]
    ceiling: Callable[[float, float], float]

    def check(self, value: float) -> None:
        """Refuse a value out of range."""
        if not 0 <= value <= self.most:
            raise ConfigError(f"{self.name} lies between 0 and {self.most:g}.", where=self.name, value=value)


@dataclass(frozen=True)
class Estimator:
    """A line of the table.

    Attributes
    ----------
    name, title
        Short name, and the name for people.
    model
        Whether it needs ``q_logged`` and ``q_target``.
    weighted
        Whether it uses weights at all.
    normalised
        Whether it is self-normalised.
    knob
        Its setting, if it has one.
    text
        What it is good for, in a few words.
    fitted
        What its reward model must have been fitted for; ``None`` takes any.
    """

    name: str
    title: str
    model: bool
    weighted: bool = True
    normalised: bool = False
    knob: Knob | None = None
    text: str = ""
    fitted: Fitted | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the columns of a log that it reads."""
        read = ("reward", "propensity", "target") if self.weighted else ()
        return read + (("q_logged", "q_target") if self.model and self.weighted else ("q_target",) if self.model else ())

    @property
    def unbiased(self) -> Estimator:
        """The form of it that is unbiased where the log has support: DR with a model, IPS without."""
        return ESTIMATORS["dr" if self.model else "ips"]

    def rows(self, log: Log, knob: float | None = None) -> Rows:
        """Return what the estimator makes of each row.

        Parameters
        ----------
        log
            With a reward model where ``model`` is set.
        knob
            Value of the setting; ``None`` is the value that changes no weight.

        Raises
        ------
        UnsupportedError
            If the log has no reward model and the estimator needs one, or it was fitted for something else.
        ConfigError
            If the setting is out of range, or there is none.
        """
        if self.knob is None and knob is not None:
            raise ConfigError(f"{self.name} has no setting.", where="knob", value=knob)
        if self.model and (log.q_logged is None or log.q_target is None):
            raise UnsupportedError(f"{self.name} needs a reward model.", where="q_logged, q_target", remedy="see crossfit")
        if self.fitted not in (None, log.fitted):
            raise UnsupportedError(
                f"{self.name} needs a reward model that was fitted for it.",
                where="Log.fitted",
                value=log.fitted,
                remedy=f"crossfit.modelled(log, …, fitted={self.fitted!r})",
            )
        weight = log.weight if self.weighted else np.zeros(len(log))
        if self.knob is not None:
            value = self.knob.exact if knob is None else knob
            self.knob.check(value)
            weight = self.knob.transform(weight, value)
        direct, rest = np.zeros(len(log)), log.reward
        if log.q_logged is not None and log.q_target is not None and self.model:
            direct, rest = log.q_target, log.reward - log.q_logged
        columns = [column[:, None] for column in (direct, weight, rest, log.weight)]
        return Rows(columns[0], columns[1], columns[2], columns[3], self.normalised)

    def ceilings(self, bound: float, width: int, knob: float | None = None) -> np.ndarray:
        """Return ``float64[width]``: the largest weights used when no weight is above ``bound``."""
        most = bound if self.weighted else 0.0
        if self.knob is not None:
            most = self.knob.ceiling(bound, self.knob.exact if knob is None else knob)
        return np.full(width, most)


def clip(weight: np.ndarray, most: float) -> np.ndarray:
    """Return ``min(w, λ)``."""
    return np.minimum(weight, most)


def switch(weight: np.ndarray, most: float) -> np.ndarray:
    """Return ``w`` where ``w ≤ τ``, else 0."""
    return np.where(weight <= most, weight, 0.0)


def shrink(weight: np.ndarray, strength: float) -> np.ndarray:
    """Return ``λ w / (w² + λ)``, the optimistic shrinkage of DRos; ``w`` itself for infinite λ."""
    if strength == INFINITE:
        return weight
    below = weight**2 + strength
    return np.divide(strength * weight, below, out=np.zeros_like(weight), where=below > 0)


def soften(weight: np.ndarray, share: float) -> np.ndarray:
    """Return ``w / (1 - λ + λ w)``, the harmonic correction that makes tails sub-Gaussian."""
    below = 1 - share + share * weight
    return np.divide(weight, below, out=np.zeros_like(weight), where=below > 0)


def _quantiles(weight: np.ndarray) -> np.ndarray:
    """Return infinity and quantiles of the positive weights, descending."""
    positive = weight[weight > 0]
    if not len(positive):
        return np.array([INFINITE])
    levels = np.quantile(positive, [0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999], method="higher")
    return np.concatenate([[INFINITE], np.unique(levels)[::-1]])


def _halved(weight: np.ndarray) -> np.ndarray:
    """Return infinity, and the λ at which quantiles of the weights are halved (``λ = w²``), wider and closer ones too."""
    levels = _quantiles(weight)
    finite = levels[1:]
    more = [finite[:1] * 10, finite[:1] * 3, finite, finite[-1:] / 3, finite[-1:] / 10]
    return np.concatenate([[INFINITE], np.concatenate(more) ** 2])


def _shares(weight: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 13)])


def _half_root(bound: float, strength: float) -> float:
    """Return the largest ``λ w / (w² + λ)`` for weights up to a bound: at ``w = √λ`` it is ``√λ / 2``."""
    if strength == INFINITE or bound < strength**0.5:
        return float(shrink(np.array([bound]), strength)[0])
    return strength**0.5 / 2


def _softened(bound: float, share: float) -> float:
    if bound == INFINITE:
        return INFINITE if share == 0 else 1 / share
    return float(soften(np.array([bound]), share)[0])


CLIP = Knob("lambda", clip, INFINITE, INFINITE, _quantiles, min)
SWITCH = Knob("tau", switch, INFINITE, INFINITE, _quantiles, min)
SHRINK = Knob("lambda", shrink, INFINITE, INFINITE, _halved, _half_root)
SOFTEN = Knob("lambda", soften, 0.0, 1.0, _shares, _softened)

_TABLE = (
    Estimator("dm", "Direct method", True, weighted=False, text="the reward model alone: as biased as the model"),
    Estimator("ips", "Inverse propensity scoring", False, text="unbiased; wide where weights are large"),
    Estimator("clipped_ips", "Clipped IPS", False, knob=CLIP, text="weights cut at lambda; too low for rewards from 0"),
    Estimator("snips", "Self-normalised IPS", False, normalised=True, text="IPS over the mean weight; stays in range"),
    Estimator("sg_ips", "Sub-Gaussian IPS", False, knob=SOFTEN, text="weights bent to at most 1/lambda"),
    Estimator("dr", "Doubly robust", True, text="unbiased if chances or model are right; narrower than IPS"),
    Estimator("sndr", "Self-normalised DR", True, normalised=True, text="DR over the mean weight"),
    Estimator("mrdr", "More robust DR", True, text="DR whose model was fitted for least variance", fitted="mrdr"),
    Estimator("clipped_dr", "Clipped DR", True, knob=CLIP, text="DR with weights cut at lambda"),
    Estimator("switch_dr", "SWITCH-DR", True, knob=SWITCH, text="the model alone where the weight is above tau"),
    Estimator("dros", "DR with optimistic shrinkage", True, knob=SHRINK, text="between the direct method and DR"),
    Estimator("sg_dr", "Sub-Gaussian DR", True, knob=SOFTEN, text="DR with weights bent to at most 1/lambda"),
)
#: Every estimator of single actions, by name.
ESTIMATORS: Mapping[str, Estimator] = {estimator.name: estimator for estimator in _TABLE}


def find(name: str) -> Estimator:
    """Return an estimator by name.

    Raises
    ------
    ConfigError
        If there is none; the nearest name is given.
    """
    if name not in ESTIMATORS:
        raise ConfigError("there is no such estimator.", where="names", value=name, remedy=nearest(name, ESTIMATORS))
    return ESTIMATORS[name]
