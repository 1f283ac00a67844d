"""Open Bandit Pipeline 0.5.7: every estimator on arrays that are given, and the fit of MRDR's reward model."""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve
from obp import ope
from sklearn.linear_model import LinearRegression

STATE = {}


def load(path):
    """Read the arrays of both logs."""
    STATE.update(np.load(path))
    return sorted(STATE)


class Noting(LinearRegression):
    """Least squares that note the weights which they are fitted with."""

    def fit(self, x, y, sample_weight=None):
        """Fit, and note."""
        self.seen_ = sample_weight.copy()
        return super().fit(x, y, sample_weight=sample_weight)


def fit_mrdr(path):
    """Fit MRDR's model for both candidates; write its weights ``[n]`` and its values ``[n, actions]``."""
    found = {}
    for candidate in ("certain", "policy"):
        model = ope.RegressionModel(
            n_actions=len(STATE["of_action"]), action_context=STATE["of_action"], base_model=Noting(), fitting_method="mrdr"
        )
        found[f"model_{candidate}"] = model.fit_predict(
            context=STATE["context"],
            action=STATE["action"],
            reward=STATE["reward"],
            pscore=STATE["propensity"],
            action_dist=STATE[candidate][:, :, None],
        )[:, :, 0]
        found[f"weights_{candidate}"] = model.base_model_list[0].seen_
    STATE["mrdr"] = found["model_policy"]
    np.savez(path, **found)


def makers(knobs):
    """Return estimators of single actions by our names."""
    return {
        "dm": ope.DirectMethod(),
        "ips": ope.InverseProbabilityWeighting(),
        "clipped_ips": ope.InverseProbabilityWeighting(lambda_=knobs["clipped_ips"]),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "sg_ips": ope.SubGaussianInverseProbabilityWeighting(lambda_=knobs["sg_ips"]),
        "dr": ope.DoublyRobust(),
        "sndr": ope.SelfNormalizedDoublyRobust(),
        "clipped_dr": ope.DoublyRobust(lambda_=knobs["clipped_dr"]),
        "switch_dr": ope.SwitchDoublyRobust(lambda_=knobs["switch_dr"]),
        "dros": ope.DoublyRobustWithShrinkage(lambda_=knobs["dros"]),
        "sg_dr": ope.SubGaussianDoublyRobust(lambda_=knobs["sg_dr"]),
    }


def single(knobs):
    """Return the seconds of all estimates of single actions, and the values."""
    given = {
        "reward": STATE["reward"],
        "action": STATE["action"],
        "pscore": STATE["propensity"],
        "action_dist": STATE["policy"][:, :, None],
        "estimated_rewards_by_reg_model": STATE["model"][:, :, None],
        "position": np.zeros(len(STATE["action"]), int),
    }
    started = time.perf_counter()
    values = {name: float(one.estimate_policy_value(**given)) for name, one in makers(knobs).items()}
    given["estimated_rewards_by_reg_model"] = STATE["mrdr"][:, :, None]
    values["mrdr"] = float(ope.DoublyRobust(estimator_name="mrdr").estimate_policy_value(**given))
    return {"seconds": time.perf_counter() - started, "values": values}


def slates():
    """Return the seconds of all estimates of slates, and the values."""
    n, width, actions = STATE["q_slate"].shape
    rows = {
        "slate_id": np.repeat(np.arange(n), width),
        "position": np.tile(np.arange(width), n),
        "reward": STATE["slate_reward"].ravel(),
        "action": STATE["slate_action"].ravel(),
    }
    logged, target = STATE["slate_propensity"], STATE["slate_target"]

    def columns(shape, tail):
        return {f"pscore{tail}": shape(logged).ravel(), f"evaluation_policy_pscore{tail}": shape(target).ravel()}

    def whole(chances):
        return np.repeat(chances.prod(axis=1, keepdims=True), width, axis=1)

    def so_far(chances):
        return np.cumprod(chances, axis=1)

    kinds = {"sips": columns(whole, ""), "iips": columns(lambda c: c, "_item_position"), "rips": columns(so_far, "_cascade")}
    plain = {"sips": ope.SlateStandardIPS, "iips": ope.SlateIndependentIPS, "rips": ope.SlateRewardInteractionIPS}
    normalised = {
        "snsips": ope.SelfNormalizedSlateStandardIPS,
        "sniips": ope.SelfNormalizedSlateIndependentIPS,
        "snrips": ope.SelfNormalizedSlateRewardInteractionIPS,
    }
    started = time.perf_counter()
    values = {}
    for name, kind in kinds.items():
        values[name] = float(plain[name](len_list=width).estimate_policy_value(**rows, **kind))
        values[f"sn{name}"] = float(normalised[f"sn{name}"](len_list=width).estimate_policy_value(**rows, **kind))
    robust = ope.SlateCascadeDoublyRobust(len_list=width, n_unique_action=actions)
    given = {"q_hat": STATE["q_slate"].ravel(), "evaluation_policy_action_dist": STATE["slate_policy"].ravel()}
    values["cascade_dr"] = float(robust.estimate_policy_value(**rows, **kinds["rips"], **given))
    return {"seconds": time.perf_counter() - started, "values": values}


if __name__ == "__main__":
    serve({"load": load, "fit_mrdr": fit_mrdr, "single": single, "slates": slates})
