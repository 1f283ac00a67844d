"""Every off-policy estimator beside Open Bandit Pipeline's, on the same arrays: 10,000 rounds of 80 actions, 2,000 slates of 3.

All values must agree to 1e-6. Sides alternate and the best of three rounds counts; Palate's time holds the checks of the log,
the intervals and the diagnostics too, the peer's the values alone. Settings are given, so nothing is tuned.

MRDR is DR with a model that was fitted with other weights. Its value is held against the peer's with one model, the peer's. For
a candidate that is certain of its action, both sides' weights of the fit (to 1e-9 of the largest) and the fitted linear models
must agree, too. For one with chances they can't: Palate weighs by the candidate's chance squared, as DR's variance has it, the
peer by the chance itself; it is checked that this is all that differs.

    python benchmarks/offpolicy_vs_obp.py            all
    python benchmarks/offpolicy_vs_obp.py --quick    does it run? (one round; nothing is recorded)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _peers import Worker
from _record import record

from palate.evaluation.offpolicy.crossfit import fit, mrdr_weights
from palate.evaluation.offpolicy.estimate import Floors, estimate
from palate.evaluation.offpolicy.estimators import ESTIMATORS
from palate.evaluation.offpolicy.log import Log, SlateLog
from palate.evaluation.offpolicy.slates import SLATE_ESTIMATORS
from palate.runtime import generator

ROWS, ACTIONS, SLATES, WIDTH, ROUNDS, SEED = 10_000, 80, 2_000, 3, 3, 0
KNOBS = {"clipped_ips": 3.0, "sg_ips": 0.1, "clipped_dr": 3.0, "switch_dr": 4.0, "dros": 20.0, "sg_dr": 0.1}
#: All but MRDR, whose model is another one.
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
        "context": rng.normal(0, 1, (ROWS, 5)),
        "of_action": rng.normal(0, 1, (ACTIONS, 3)),
        "certain": np.eye(ACTIONS)[policy.argmax(axis=1)],
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
    found = list(estimate(log, SAME, knobs=KNOBS, floors=ALL))
    log = log.with_model(pick(a["mrdr"], a["action"]), (a["policy"] * a["mrdr"]).sum(axis=1), "mrdr")
    found += estimate(log, ["mrdr"], floors=ALL)
    return time.perf_counter() - started, {e.name: e.checked().value for e in found}


def ours_slates(a: dict[str, np.ndarray]) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    q = a["q_slate"]
    model = (pick(q, a["slate_action"]), (a["slate_policy"] * q).sum(axis=-1))
    log = SlateLog(a["slate_reward"], a["slate_propensity"], a["slate_target"], *model, chances="both")
    found = estimate(log, list(SLATE_ESTIMATORS), floors=ALL)
    return time.perf_counter() - started, {e.name: e.checked().value for e in found}


def of_fits(a: dict[str, np.ndarray], peer: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the rows of MRDR's fit, from what the peer fitted with both candidates.

    Raises
    ------
    SystemExit
        If the sides differ otherwise than they must.
    """
    features = np.hstack([a["context"], a["of_action"][a["action"]]])
    gaps: dict[str, float] = {}
    for candidate, power in (("certain", 0), ("policy", 1)):
        chance = pick(a[candidate], a["action"])
        own, theirs = mrdr_weights(Log(a["reward"], a["propensity"], chance)), peer[f"weights_{candidate}"] * chance**power
        gaps[candidate] = float(np.abs(own - theirs).max() / own.max())
        if gaps[candidate] > 1e-9:
            raise SystemExit(f"weights of MRDR's fit differ for {candidate}: {gaps[candidate]}")
    model = fit(
        features, a["reward"], mrdr_weights(Log(a["reward"], a["propensity"], pick(a["certain"], a["action"]))), reg=0.0
    )
    gap = float(np.abs(model.predict(features) - pick(peer["model_certain"], a["action"])).max())
    if gap > 1e-6:
        raise SystemExit(f"models that MRDR fits differ by {gap}")
    weight = "largest difference of a weight, over the largest"
    return [
        {"log": "fit of mrdr, candidate certain", "largest difference of a value": gap, weight: gaps["certain"]},
        {"log": "fit of mrdr, candidate with chances: obp's weights times the chance", weight: gaps["policy"]},
    ]


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round; nothing is recorded")
    quick = parser.parse_args().quick
    arrays = made_up()
    peer = Worker("obp", "obp_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs.npz"
        given_to_peer: dict[str, Any] = dict(arrays)
        np.savez(path, **given_to_peer)
        peer("load", path=str(path))
        fitted = Path(folder) / "fitted.npz"
        peer("fit_mrdr", path=str(fitted))
        theirs_fitted = dict(np.load(fitted))
    arrays["mrdr"] = theirs_fitted["model_policy"]
    fits = of_fits(arrays, theirs_fitted)
    print(*fits, sep="\n")
    rows, found = list[dict[str, Any]](), {}
    for what, ours, call, given in (("single", ours_single, "single", {"knobs": KNOBS}), ("slates", ours_slates, "slates", {})):
        mine, theirs = [], []
        for _ in range(1 if quick else ROUNDS):
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
    if quick:
        return
    goals = {"goal": "all values equal to 1e-6", "settings": KNOBS, "values": found}
    record(
        "offpolicy_vs_obp", [*rows, *fits], what=__doc__.split("\n\n    ")[0], peers={"obp": "0.5.7"}, seeds=[SEED], notes=goals
    )


if __name__ == "__main__":
    main()
