"""Sample-ratio mismatch: do the arms have the sizes that the weights promise?

If not, units were lost or added unequally (a crash, a slow page, a filter, a bot), and no comparison can be trusted.

    fixed       X² = Σ (n_i - n w_i)² / (n w_i), chi-square with k - 1 degrees of freedom: for one reading
    sequential  B = Γ(K) / Γ(n + K) Π Γ(n_i + K w_i) / Γ(K w_i) w_i^(-n_i),   p = min(1, 1/B): for any number of readings

``B`` is the Bayes factor of a Dirichlet mixture with parameters ``K w`` against the promised shares. Unit by unit it is a
martingale if the shares are right, so it ever reaches ``1/α`` with probability at most ``α``, at any size, without
approximation. ``K`` is set so that it is sharpest near the planned size: ``K = N / g``, the analogue of the mixture of
:mod:`palate.evaluation.experiments.sequential`. Both suppose that the weights did not change; after a change, count anew.

Source: M. Lindon and A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022. A. Fabijan et al.,
"Diagnosing sample ratio mismatch", KDD 2019, for the causes and for thresholds far below 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments.fixed import check_share
from palate.evaluation.experiments.sequential import best_clock

#: p-values below this raise the alarm.
THRESHOLD = 0.001

RatioVerdict = Literal["as planned", "suspicious", "mismatch"]


@dataclass(frozen=True)
class RatioCheck:
    """Whether arms have the sizes that they should.

    Attributes
    ----------
    counts, expected
        Units of each arm, as seen and as promised.
    p_fixed
        Chi-square p-value: for a single reading.
    p
        Sequential p-value: may be read at any time.
    threshold
        Below which a p-value alarms.
    verdict
        ``"mismatch"`` by the sequential test; ``"suspicious"`` where a single reading would alarm, but there may have been
        many; ``"as planned"`` else.
    says
        The verdict in words, with the next step.
    """

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    p_fixed: float
    p: float
    threshold: float
    verdict: RatioVerdict
    says: str


def check_ratio(counts: ArrayLike, weights: ArrayLike, *, target: float, threshold: float = THRESHOLD) -> RatioCheck:
    """Check the sizes ``int[k]`` of the arms against weights ``float[k]``.

    Parameters
    ----------
    target
        The planned number of units in all arms together.
    threshold
        Probability of a false alarm that is borne, over all readings.
    """
    check_share(threshold, "threshold")
    seen = np.asarray(counts)
    p, p_fixed = (
        float(sequential_ratio_p(seen, weights, target=target, threshold=threshold)),
        float(fixed_ratio_p(seen, weights)),
    )
    expected = seen.sum() * _shares(weights, seen.shape[-1])
    verdict: RatioVerdict = "mismatch" if p < threshold else "suspicious" if p_fixed < threshold else "as planned"
    sizes = " : ".join(f"{int(n):,}" for n in seen)
    promised = " : ".join(f"{n:,.0f}" for n in expected)
    if verdict == "mismatch":
        says = f"Sample-ratio mismatch: the arms hold {sizes} units where {promised} were due "
        says += f"(p = {p:.2g} at any number of looks). "
        says += "Conclude nothing from this experiment; find where units are lost or added first."
    elif verdict == "suspicious":
        says = (
            f"The arms hold {sizes} units where {promised} were due. A single look would raise the alarm (p = {p_fixed:.2g}), "
        )
        says += "many looks don't yet. Look for a cause now, and check again with more units."
    else:
        says = f"The arms hold {sizes} units where {promised} were due: no sign of a mismatch (p = {p_fixed:.2g})."
    return RatioCheck(tuple(int(n) for n in seen), tuple(float(n) for n in expected), p_fixed, p, threshold, verdict, says)


def fixed_ratio_p(counts: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Return chi-square p-values of counts ``int[..., k]``; 1 where there are no units."""
    seen = _counts(counts)
    due = seen.sum(-1, keepdims=True) * _shares(weights, seen.shape[-1])
    statistic = np.divide((seen - due) ** 2, due, out=np.zeros(seen.shape), where=due > 0).sum(-1)
    return special.chdtrc(seen.shape[-1] - 1, statistic)


def sequential_ratio_p(counts: ArrayLike, weights: ArrayLike, *, target: float, threshold: float = THRESHOLD) -> np.ndarray:
    """Return p-values of counts ``int[..., k]`` that hold at any look (sharpest near ``target`` units for ``threshold``)."""
    if not target > 0:
        raise ConfigError("the planned number of units is above 0.", where="target", value=target)
    strength = max(1.0, target / best_clock(1 - threshold))
    return np.exp(np.minimum(0.0, -log_factor(counts, weights, strength=strength)))


def log_factor(counts: ArrayLike, weights: ArrayLike, *, strength: float) -> np.ndarray:
    """Return ``log B`` of counts ``int[..., k]`` for ``K = strength``."""
    seen = _counts(counts)
    shares = np.maximum(_shares(weights, seen.shape[-1]), np.finfo(np.float64).tiny)  # 0 has no logarithm
    prior = strength * shares
    parts = special.gammaln(seen + prior) - special.gammaln(prior) - seen * np.log(shares)
    return special.gammaln(strength) - special.gammaln(seen.sum(-1) + strength) + parts.sum(-1)


def _counts(counts: ArrayLike) -> np.ndarray:
    seen = np.asarray(counts, np.float64)
    if seen.ndim < 1 or seen.shape[-1] < 2 or not (np.isfinite(seen) & (seen >= 0)).all():
        raise DataError("two arms or more are needed, with counts from 0.", where="counts", value=seen.tolist())
    return seen


def _shares(weights: ArrayLike, arms: int) -> np.ndarray:
    given = np.asarray(weights, np.float64)
    if given.shape != (arms,) or not (np.isfinite(given) & (given > 0)).all():
        remedy = "leave arms that get no units out"
        raise ConfigError(f"{arms} weights above 0 are needed.", where="weights", value=given.tolist(), remedy=remedy)
    return given / given.sum()
