"""Heads of the claim on CML for releases: what the chance of a visit gains by distance, by frequency and recency, by weeks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from palate.catalog.registry import create
from palate.evaluation.audience import audience_report
from palate.evaluation.metrics.predictive import log_loss
from palate.runtime import generator
from palate.study.claims import Effect, Trial
from palate.study.effects import paired_gain, seed_shares

#: Weeks from which negatives come, bins of chance, and draws of films.
WEEKS, BINS, RESAMPLES = 8.0, 10, 2000


def tiers(asked: Any) -> dict[str, np.ndarray]:
    """Return the rows of people by how much they had before: thirds."""
    order = np.argsort(asked.asked.histories.lengths, kind="stable")
    return dict(zip(("casual", "regular", "frequent"), np.array_split(order, 3), strict=True))


def heads(trial: Trial, name: str, test: Any, own: dict[str, Any]) -> dict[str, Effect]:
    """Return the log loss that a film saves by the whole head, over distance alone and over frequency and recency alone."""
    kinds: dict[str, dict[str, Any]] = {
        "all": {},
        "the distance alone": {"head_facts": ("distance",)},
        "frequency and recency": {"head_facts": ("frequency", "recency")},
    }
    if test.oracle is not None:
        kinds["the same weeks"] = {"weeks": WEEKS}
    found = {
        kind: [trial.kept(partial(headed, test, {**own, **more}, s), on=name, own=own, head=kind, seed=s) for s in trial.seeds]
        for kind, more in kinds.items()
    }
    rng = generator(0, "bootstrap", name, "head")
    facts = {kind: [row["report"] for row in rows] for kind, rows in found.items()}

    def saved(over: str, tier: str) -> list[np.ndarray]:
        return [other[tier] - own[tier] for other, own in zip(found[over], found["all"], strict=True)]

    gain = partial(paired_gain, rng=rng, relative=False)
    effects = {
        f"log loss saved over {kind}": gain(saved(kind, "everybody"), np.zeros(len(test.new)), reports=facts)
        for kind in ("the distance alone", "frequency and recency")
    }
    by_tier = {tier: saved("frequency and recency", tier) for tier in ("casual", "regular", "frequent")}
    effects |= {f"log loss saved by distance, regular over {tier}": gain(by_tier["regular"], by_tier[tier])
                for tier in ("casual", "frequent")}  # fmt: skip
    if test.oracle is not None:
        effects["ECE saved by negatives of the same weeks"] = calibrated(found["all"], found["the same weeks"], rng)
    return effects


def headed(test: Any, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Fit with a head; return each film's log loss (all people, and tiers), its gaps in bins of chance, and a report."""
    model: Any = create("cml_theatrical", **{**settings, "head_films": 0.15}).fit(test.train, seed=seed)
    p = model.probability(test.asked, np.tile(test.new, (len(test.asked), 1)))
    films, went = range(len(test.new)), test.table
    parts = {"everybody": np.arange(len(p)), **tiers(test)}
    found: dict[str, Any] = {tier: np.array([log_loss(went[r, f], p[r, f]) for f in films]) for tier, r in parts.items()}
    code = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    gaps = [np.bincount(code[:, f], went[:, f] - p[:, f], minlength=BINS) for f in films]
    report = audience_report(went, p, test.train.matrix()[test.asked.users])
    return {**found, "gaps": np.array(gaps) / p.size, "report": report}


def calibrated(even: list[dict[str, Any]], matched: list[dict[str, Any]], rng: np.random.Generator) -> Effect:
    """Return how much lower the expected calibration error is of the second kind; films and seeds are resampled."""
    n, k = len(even[0]["gaps"]), len(even)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)])
    shares = np.vstack([np.full(k, 1 / k), seed_shares(k, RESAMPLES, rng)])
    errors = [
        np.sum([share * np.abs(weights @ row["gaps"]).sum(1) for share, row in zip(shares.T, rows, strict=True)], axis=0)
        for rows in (even, matched)
    ]
    differences = errors[0] - errors[1]
    low, high = np.percentile(differences[1:], [2.5, 97.5])
    return Effect(float(differences[0]), float(low), float(high), {"even": errors[0][0], "the same weeks": errors[1][0]})
