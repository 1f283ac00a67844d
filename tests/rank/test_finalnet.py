"""FINAL: degree of its layers, field gates that are open at the start, and what two blocks teach each other."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.errors import ConfigError
from palate.nn.dropout import OFF
from palate.rank.finalnet import Block, FieldGate, FinalNet
from palate.retrieval.tokens import tokens

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 64, "dim": 3, "hidden": (8, 6), "hidden_2": (4,)}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return click_rows(150)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_each_layer_doubles_the_degree(layers: int) -> None:
    block = Block((5, *[6] * layers), 1, False, np.random.default_rng(0)).double()
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    degree = 2**layers
    with torch.no_grad():
        points = torch.stack([block(t / degree * x, OFF) for t in range(degree + 2)])
    beyond, top = torch.diff(points, n=degree + 1, dim=0), torch.diff(points, n=degree, dim=0)
    assert beyond.abs().max() < 1e-3 * top.abs().max()


def test_a_layer_by_hand() -> None:
    block = Block((2, 4), 1, False, np.random.default_rng(0)).double()
    with torch.no_grad():
        block.layers[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [2, 0], [1, 1]]))
        block.layers[0].bias.copy_(torch.tensor([0.0, 0, 1, 0]))
        block.last.weight.copy_(torch.tensor([[1.0, 10, 100, 1000]]))
        found = block(torch.tensor([[3.0, 2.0]]).double(), OFF)
    assert found.tolist() == [[3 + 20 + 100 * 3 * 7 + 1000 * 2 * 5]]


def test_field_gates_are_open_at_the_start() -> None:
    fields, gate = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)), FieldGate(5)
    assert torch.equal(gate(fields), fields)
    with torch.no_grad():
        gate.line.weight.copy_(torch.arange(25).view(5, 5) / 10)
        found = gate(fields)
    for d in range(3):
        weights = fields[:, :, d] @ gate.line.weight.detach().T + 1
        torch.testing.assert_close(found[:, :, d], fields[:, :, d] * weights)


def test_the_answer_is_the_mean_of_the_blocks(rows: Rows) -> None:
    model = FinalNet(**QUICK).fit(rows)
    net, encoded = model.net_, model.encoder_.encode(rows.features, tokens)
    with torch.no_grad():
        fields = net.table(encoded).fields
        first = net.blocks[0](torch.cat([fields, net.gate(fields)], 1).flatten(1), OFF)
        second = net.blocks[1](fields.flatten(1), OFF)
        torch.testing.assert_close(net(encoded, OFF)[0], (first + second) / 2)


def test_blocks_are_taught_by_their_mean(rows: Rows) -> None:
    model = FinalNet(**QUICK).fit(rows)
    outputs = torch.randn(6, 2, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[1.0], [0], [1], [0], [float("nan")], [1]])
    weights = torch.tensor([1.0, 2, 1, 0.5, 1, 1])
    found = model._loss(outputs, labels, weights)
    seen = [0, 1, 2, 3, 5]
    mean = outputs.mean(1)[seen, 0]
    teacher = torch.sigmoid(mean).detach()
    each = functional.binary_cross_entropy_with_logits(mean, labels[seen, 0], reduction="none")
    for block in range(2):
        each = each + functional.binary_cross_entropy_with_logits(outputs[seen, block, 0], teacher, reduction="none")
    expected = (each * weights[seen]).sum() / 5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, outputs)[0] for loss in (found, expected)))


def test_values_are_taught_in_their_own_units(rows: Rows) -> None:
    stars = np.random.default_rng(0).normal(50, 10, len(rows)).astype(np.float32)
    model = FinalNet(**QUICK).fit(Rows(rows.features, {"stars": stars}))
    outputs = torch.tensor([[[1.0], [-1.0]], [[0.5], [0.5]]])
    task = model.kinds_[0]
    labels = torch.tensor([[task.mean], [task.mean + task.spread]], dtype=torch.float32)
    assert model._loss(outputs, labels, torch.ones(2)).item() == pytest.approx(0.5 * 0.25 + 0.5 * 2, abs=1e-4)


def test_one_block_has_no_distillation(rows: Rows) -> None:
    one = FinalNet(**{**QUICK, "hidden_2": ()}).fit(rows)
    assert len(one.net_.blocks) == 1
    outputs, labels = torch.zeros(3, 1, 1), torch.ones(3, 1)
    assert one._loss(outputs, labels, torch.ones(3)).item() == pytest.approx(np.log(2))
    two = FinalNet(**QUICK, distil=0.0).fit(rows)
    assert two._loss(outputs.expand(-1, 2, -1), labels, torch.ones(3)).item() == pytest.approx(np.log(2))
    none = FinalNet(**QUICK, gate=False).fit(rows)
    assert none.net_.gate is None


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="widths must be even, not 7"):
        FinalNet(hidden=(8, 7))
