"""MMoE: one expert is a shared bottom; gates differ by task; tasks that disagree."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.evaluation.metrics.predictive import auc
from palate.nn.dropout import OFF
from palate.rank.mmoe import MMoE

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 128, "lr": 0.02, "epochs": 1, "hidden": (8, 6), "tower": (4,)}


def with_two_tasks(n: int = 200) -> Rows:
    rows = click_rows(n)
    other = np.random.default_rng(0).integers(2, size=n).astype(np.float32)
    return Rows(rows.features, {**rows.labels, "other": other})


def test_one_expert_is_a_shared_bottom() -> None:
    rows = with_two_tasks()
    model = MMoE(**QUICK, experts=1).fit(rows)
    net, encoded = model.net_, model.encoder_.encode(rows.features, str.split)
    with torch.no_grad():
        bottom = net.experts.stacks[0](net.table(encoded).flat, OFF)
        plain = torch.cat([tower(bottom, OFF) for tower in net.towers], 1)
        torch.testing.assert_close(net(encoded, OFF)[0], plain, rtol=1e-6, atol=1e-6)


def test_each_task_has_a_mixture_of_its_own() -> None:
    rows = with_two_tasks()
    model = MMoE(**{**QUICK, "epochs": 4}, experts=3).fit(rows)
    net, encoded = model.net_, model.encoder_.encode(rows.features, str.split)
    with torch.no_grad():
        x = net.table(encoded).flat
        weights = [gate.weights(x) for gate in net.gates]
        experts = torch.stack([stack(x, OFF) for stack in net.experts.stacks], 1)
        plain = [t((w[:, :, None] * experts).sum(1), OFF) for t, w in zip(net.towers, weights, strict=True)]
        torch.testing.assert_close(net(encoded, OFF)[0], torch.cat(plain, 1), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(*weights, atol=1e-3)


def test_tasks_that_disagree_are_both_learnt() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(6, size=(2, 1_500))
    first = rng.random(1_500) < np.where((a + b) % 2, 0.9, 0.1)
    second = rng.random(1_500) < np.where(a < 3, 0.9, 0.1)
    labels = {"first": first.astype(np.float32), "second": second.astype(np.float32)}
    rows = Rows(pa.table({"a": [f"a{x}" for x in a], "b": [f"b{x}" for x in b]}), labels)
    found = MMoE(**{**QUICK, "epochs": 12}).fit(rows).predict(rows)
    for name in labels:
        assert auc(labels[name], found.task(name)) > 0.85
