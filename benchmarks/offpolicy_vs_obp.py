"""Every off-policy estimator beside Open Bandit Pipeline's, on the same arrays: 10,000 rounds of 80 actions, 2,000 slates of 3.

All values must agree to 1e-6. Sides alternate and the best of three rounds counts; Palate's time holds the checks of the log,
the intervals and the diagnostics too, the peer's the values alone. Settings are given, so nothing is tuned.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from _peers import Worker
from _record import record

from palate.evaluation.offpolicy.estimate import Floors, estimate
from palate.evaluation.offpolicy.estimators import ESTIMATORS
from palate.evaluation.offpolicy.log import Log, SlateLog
from palate.evaluation.offpolicy.slates import SLATE_ESTIMATORS
from palate.runtime import generator

ROWS, ACTIONS, SLATES, WIDTH, ROUNDS, SEED = 10_000, 80, 2_000, 3, 3, 0
KNOBS = {"clipped_ips": 3.0, "sg_ips": 0.1, "clipped_dr": 3.0, "switch_dr": 4.0, "dros": 20.0, "sg_dr": 0.1}
#: MRDR is DR with a model that was fitted otherwise; here models are given.
SAME = [name for name in ESTIMATORS if name != "mrdr"]
ALL = Floors(ess=0, terms=0, weight_errors=1e9, weight_gap=1e9)


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def draw(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    below = rng.random((*chances.shape[:-1], 1)) > np.cumsum(chances, axis=-1)
    return np.minimum(below.sum(axis=-1), chances.shape[-1] - 1)


def pick(table: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return np.take_along_axis(table, actions[..., None], axis=-1)[..., 0]


def made_up() -> dict[str, np.ndarray]:
    """Make both logs; a slate's positions are filled independently."""
    rng = generator(SEED, "off-policy against obp")
    mean = rng.beta(1, 4, (ROWS, ACTIONS))
    logging, policy = softmax(rng.normal(0, 1, mean.shape)), softmax(4 * mean + rng.normal(0, 1, mean.shape))
    action = draw(logging, rng)
    slate_logging, slate_policy = (softmax(rng.normal(0, 0.7, (SLATES, WIDTH, 10))) for _ in range(2))
    slate_action = draw(slate_logging, rng)
    return {
        "reward": (rng.random(ROWS) < pick(mean, action)).astype(float),
        "action": action,
        "propensity": pick(logging, action),
        "policy": policy,
        "model": np.clip(mean + rng.normal(0, 0.2, mean.shape), 0, 1),
        "slate_reward": (rng.random((SLATES, WIDTH)) < 0.3).astype(float),
        "slate_action": slate_action,
        "slate_propensity": pick(slate_logging, slate_action),
        "slate_target": pick(slate_policy, slate_action),
        "slate_policy": slate_policy,
        "q_slate": rng.random((SLATES, WIDTH, 10)),
    }


def ours_single(a: dict[str, np.ndarray]) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    q_target = (a["policy"] * a["model"]).sum(axis=1)
    log = Log(a["reward"], a["propensity"], pick(a["policy"], a["action"]), pick(a["model"], a["action"]), q_target)
    found = estimate(log, SAME, knobs=KNOBS, floors=ALL)
    return time.perf_counter() - started, {e.name: e.checked().value for e in found}


def ours_slates(a: dict[str, np.ndarray]) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    q = a["q_slate"]
    model = (pick(q, a["slate_action"]), (a["slate_policy"] * q).sum(axis=-1))
    log = SlateLog(a["slate_reward"], a["slate_propensity"], a["slate_target"], *model, chances="both")
    found = estimate(log, list(SLATE_ESTIMATORS), floors=ALL)
    return time.perf_counter() - started, {e.name: e.checked().value for e in found}


def main() -> None:
    """Run and record."""
    arrays = made_up()
    peer = Worker("obp", "obp_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs.npz"
        np.savez(path, **arrays)
        peer("load", path=str(path))
    rows, found = [], {}
    for what, ours, call, given in (("single", ours_single, "single", {"knobs": KNOBS}), ("slates", ours_slates, "slates", {})):
        mine, theirs = [], []
        for _ in range(ROUNDS):
            seconds, values = ours(arrays)
            mine.append(seconds)
            answer = peer(call, **given)
            theirs.append(answer["seconds"])
        if set(values) != set(answer["values"]):
            raise SystemExit(f"estimators differ: {set(values) ^ set(answer['values'])}")
        gaps = {name: abs(value - answer["values"][name]) for name, value in values.items()}
        rows.append(
            {
                "log": what,
                "estimators": len(values),
                "largest difference of a value": max(gaps.values()),
                "palate ms (checks, intervals, diagnostics)": round(1e3 * min(mine), 2),
                "obp ms (values)": round(1e3 * min(theirs), 2),
            }
        )
        found[what] = values
        print(rows[-1])
        if max(gaps.values()) > 1e-6:
            raise SystemExit(f"values differ: {gaps}")
    peer.close()
    goals = {"goal": "all values equal to 1e-6", "settings": KNOBS, "values": found}
    record("offpolicy_vs_obp", rows, what=__doc__, peers={"obp": "0.5.7"}, seeds=[SEED], notes=goals)


if __name__ == "__main__":
    main()
