"""Several tasks: weights of their losses, fixed and learnt."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.ranker import Rows
from palate.errors import ConfigError
from palate.rank.mmoe import MMoE
from palate.rank.ple import PLE

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 128, "lr": 0.02, "epochs": 6, "hidden": (8,), "tower": (4,)}


def two_tasks(n: int = 800, seed: int = 0) -> Rows:
    """Rows where the first task depends on the item, and the second one is noise for most items."""
    rng = np.random.default_rng(seed)
    item = rng.integers(4, size=n)
    chances = np.array([[0.1, 0.5], [0.9, 0.5], [0.3, 0.5], [0.7, 0.9]])[item]
    labels = (rng.random((n, 2)) < chances).astype(np.float32)
    return Rows(pa.table({"item": [f"i{i}" for i in item]}), {"click": labels[:, 0], "like": labels[:, 1]})


def test_fixed_weights_weigh_the_losses() -> None:
    model = MMoE(**{**QUICK, "epochs": 1}, task_weights={"like": 3.0}).fit(two_tasks(100))
    outputs, labels, weights = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, float("nan")]]), torch.ones(2)
    assert float(model._loss(outputs, labels, weights)) == pytest.approx(4 * np.log(2), rel=1e-6)
    outputs[0, 1] = 2.0
    assert float(model._loss(outputs, labels, weights)) == pytest.approx(np.log(2) + 3 * np.log(1 + np.exp(2)), rel=1e-6)


def test_a_task_without_weight_is_not_learnt() -> None:
    rows = two_tasks()
    settings = {**QUICK, "epochs": 12}
    found = MMoE(**settings, task_weights={"click": 0.0}).fit(rows).predict(rows)
    assert np.ptp(found.task("click")) < 0.4
    assert np.ptp(MMoE(**settings).fit(rows).predict(rows).task("click")) > 0.6


@pytest.mark.parametrize("kind", [MMoE, PLE])
def test_uncertainties_are_learnt(kind: Any) -> None:
    rows = two_tasks()
    model = kind(**{**QUICK, "epochs": 40}, weighting="uncertainty", net_reg=1e-3).fit(rows)
    s = model.net_.log_variance
    assert id(s) in model.net_.vectors(), "the penalty of weights does not hold it"
    batch = [torch.from_numpy(np.stack(list(rows.labels.values()), 1)), torch.ones(len(rows))]
    outputs = model.net_(model.encoder_.encode(rows.features), _off())[0]
    each = model._task_losses(outputs, *batch)
    np.testing.assert_allclose(s.detach().exp(), each.detach(), rtol=0.15)  # where the derivative by s is 0: e^s = L
    by_hand = (each / (2 * s.exp()) + s / 2).sum()
    torch.testing.assert_close(model._loss(outputs, *batch), by_hand)


def test_names_and_weights_are_checked() -> None:
    rows = two_tasks(100)
    with pytest.raises(ConfigError, match="no such task"):
        MMoE(**QUICK, task_weights={"buy": 1.0}).fit(rows)
    with pytest.raises(ConfigError, match="at least 0"):
        MMoE(**QUICK, task_weights={"like": -1.0}).fit(rows)
    with pytest.raises(ConfigError):
        MMoE(weighting="gradnorm")


def _off() -> Any:
    from palate.nn.dropout import OFF

    return OFF
