"""What a model says to real people: their history, what it offers them, and why, by title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.contracts.explanation import Explanation
from palate.contracts.recommender import Recommender
from palate.errors import UnsupportedError


def reason_rows(model: Recommender, explanation: Explanation) -> list[dict[str, Any]]:
    """Return the reasons of an explanation with readable names, strongest first."""
    rows = []
    for evidence in explanation.evidence:
        known = evidence.kind == "history" and isinstance(evidence.subject, int)
        reason = model.items_.labels(np.array([evidence.subject]))[0] if known else str(evidence.subject)
        rows.append({"kind": evidence.kind, "reason": reason, "weight": evidence.weight})
    return rows


def person(model: Recommender, user: Any, *, k: int = 5, last: int = 5, reasons: int = 2) -> dict[str, Any]:
    """Return one person's page: history by title, the top ``k`` by title, and why each is there.

    Parameters
    ----------
    user
        Raw id.
    last
        How many of the latest events to show.
    reasons
        How many reasons an item.
    """
    requests = model.requests([user])
    ranking = model.recommend(requests, k)
    numbers = ranking.items[0][ranking.items[0] >= 0]
    history = requests.histories.items[::-1][:last]
    offers = [
        {"item": raw, "title": title, "score": float(score), "why": why(model, requests, int(item), reasons)}
        for item, raw, title, score in zip(
            numbers, model.items_.ids.decode(numbers).to_pylist(), model.items_.labels(numbers), ranking.scores[0], strict=False
        )
    ]
    return {
        "user": str(user),
        "events": len(requests.histories.items),
        "history": model.items_.labels(history) if len(history) else [],
        "offers": offers,
        "cold": bool(ranking.cold[0]),
    }


def why(model: Recommender, requests: Any, item: int, reasons: int = 2) -> str:
    """Return one sentence that says why an item is offered, or that the model can't tell."""
    try:
        explanation = model.explain(requests, item)
    except UnsupportedError:
        return "this model can't say why"
    rows = reason_rows(model, explanation)
    liked = [r for r in rows if r["kind"] == "history" and r["weight"] > 0][:reasons]
    if liked:
        total = sum(max(0.0, r["weight"]) for r in rows) or 1.0
        return "because of " + " and ".join(f"{r['reason']} ({r['weight'] / total:.0%})" for r in liked)
    popular = [r for r in rows if r["kind"] == "popularity"][:1]
    return f"chosen {popular[0]['weight']:,.0f} times by others" if popular else "no single reason stands out"


def pick_people(histories_lengths: np.ndarray, n: int, rng: np.random.Generator, *, at_least: int = 8) -> Sequence[int]:
    """Choose ``n`` rows with enough history to be worth a look."""
    rows = np.flatnonzero(histories_lengths >= at_least)
    if len(rows) < n:
        rows = np.argsort(-histories_lengths, kind="stable")[:n]
    return sorted(int(r) for r in rng.choice(rows, min(n, len(rows)), replace=False))
