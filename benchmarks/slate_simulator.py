"""Clicks of simulated people on slates of 10, a step at a time for each person: the compiled kernel beside the plain form.

A user-step is one slate shown: distances to its items, a softmax with the option of no click, a choice, and the movement of
the person's state. Slates and uniform numbers are made beforehand; those of the logging policy are timed apart.
One thread; the best of three counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _record import record

from palate.kernels.slate_clicks import click_slates, click_slates_reference
from palate.runtime import generator
from palate.simulate.slates import SlateMarket

USERS, STEPS, ROUNDS, SEED = 100_000, 10, 3, 0
#: People of the plain form, which is slow.
FEW = 2_000
DIMS = (10, 25)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one(dim: int) -> dict[str, Any]:
    """Time one length of vectors."""
    market = SlateMarket(users=USERS, items=300, groups=15, dim=dim, slate=10, seed=SEED)
    c, rng = market.config, generator(SEED, "slate simulator")
    users = np.tile(np.arange(USERS, dtype=np.int32), STEPS)
    making = timed(lambda: market.logged_slates(10_000, rng)) / 10_000
    slates = np.tile(market.logged_slates(20_000, rng)[0], (len(users) // 20_000, 1))
    chance = rng.random(len(users))
    facts = (market.vectors, chance, c.scale, c.no_click, c.gamma)
    click_slates(market.states.copy(), users[:10], slates[:10], facts[0], chance[:10], *facts[2:])
    clicks = click_slates(market.states.copy(), users, slates, *facts)
    fast = min(timed(lambda: click_slates(market.states.copy(), users, slates, *facts)) for _ in range(ROUNDS))
    few = users < FEW
    small = (users[few], slates[few], facts[0], chance[few], *facts[2:])
    same = (click_slates_reference(market.states.copy(), *small) == click_slates(market.states.copy(), *small)).mean()
    plain = timed(lambda: click_slates_reference(market.states.copy(), *small)) / few.sum()
    return {
        "dim": dim,
        "user-steps": len(users),
        "user-steps a second": round(len(users) / fast),
        "plain form, user-steps a second": round(1 / plain),
        "plain / fast": round(float(plain * len(users) / fast), 1),
        "same clicks as the plain form": float(same),
        "no-clicks": round(float((clicks == 0).mean()), 3),
        "slates of the logging policy a second": round(1 / making),
    }


def main() -> None:
    """Run and record."""
    rows = [one(dim) for dim in DIMS]
    for row in rows:
        print(row)
    if min(row["same clicks as the plain form"] for row in rows) < 0.999:
        raise SystemExit("the two forms differ")
    record("slate_simulator", rows, what=__doc__, seeds=[SEED], notes={"goal": "1 million user-steps a second"})


if __name__ == "__main__":
    main()
