"""PLE: without experts of a task's own it is MMoE; what its gates see; levels."""

from typing import Any

import numpy as np
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.nn.dropout import OFF
from palate.rank.mmoe import MMoE
from palate.rank.ple import PLE

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 128, "lr": 0.02, "epochs": 1, "hidden": (8, 6), "tower": (4,)}


def with_two_tasks(n: int = 150) -> Rows:
    rows = click_rows(n)
    other = np.random.default_rng(0).integers(2, size=n).astype(np.float32)
    return Rows(rows.features, {**rows.labels, "other": other})


def test_without_experts_of_their_own_it_is_mmoe() -> None:
    rows = with_two_tasks()
    ple = PLE(**QUICK, specific=0, shared=3).fit(rows)
    mmoe = MMoE(**QUICK, experts=3).fit(rows)
    names = {"levels.0.shared.": "experts.", "levels.0.gates.": "gates."}
    state = {}
    for name, value in ple.net_.state_dict().items():
        before = next((old for old in names if name.startswith(old)), None)
        state[name if before is None else name.replace(before, names[before])] = value
    mmoe.net_.load_state_dict(state)  # every weight has its place: there are no others
    np.testing.assert_array_equal(mmoe.predict(rows).values, ple.predict(rows).values)


@pytest.mark.parametrize("levels", [1, 2])
def test_levels_by_the_plain_definition(levels: int) -> None:
    rows = with_two_tasks()
    model = PLE(**QUICK, specific=1, shared=2, levels=levels).fit(rows)
    net, encoded = model.net_, model.encoder_.encode(rows.features, str.split)
    with torch.no_grad():
        x = [net.table(encoded).flat] * 3
        for at, level in enumerate(net.levels):
            own = [experts.stacks[0](v, OFF) for experts, v in zip(level.own, x, strict=False)]
            shared = [stack(x[2], OFF) for stack in level.shared.stacks]
            mixed = []
            for gate, v, mine in zip(level.gates, x, own, strict=False):
                w = torch.softmax(v @ gate.scores.weight.T, 1)
                mixed.append(sum(w[:, k, None] * e for k, e in enumerate([mine, *shared])))
            if at < levels - 1:  # the shared gate sees the experts of all tasks
                w = torch.softmax(x[2] @ level.shared_gate.scores.weight.T, 1)
                mixed.append(sum(w[:, k, None] * e for k, e in enumerate([*own, *shared])))
            x = mixed
        plain = torch.cat([tower(v, OFF) for tower, v in zip(net.towers, x, strict=True)], 1)
        torch.testing.assert_close(net(encoded, OFF)[0], plain, rtol=1e-5, atol=1e-6)
    assert net.levels[-1].shared_gate is None and len(net.levels) == levels


def test_every_weight_is_learnt() -> None:
    rows = with_two_tasks()
    model = PLE(**QUICK, levels=2).fit(rows)
    net, encoded = model.net_, model.encoder_.encode(rows.features, str.split)
    net(encoded, OFF)[0].sum().backward()
    assert all(p.grad is not None for p in net.parameters())
