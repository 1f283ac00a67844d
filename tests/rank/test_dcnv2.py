"""DCN-v2: identity without weights, degree, the mixture by hand, and its three structures."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.nn.dropout import OFF
from palate.rank.dcnv2 import Cross, DCNv2, DCNv2Net, MixedCross
from palate.rank.mlp import MLPRanker
from palate.retrieval.tokens import tokens

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 64, "dim": 3, "hidden": (8,)}


def x_of(n: int = 5, width: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(**settings: Any) -> tuple[DCNv2, Rows]:
    rows = click_rows(150)
    return DCNv2(**{**QUICK, **settings}).fit(rows), rows


@pytest.mark.parametrize("rank", [0, 2])
def test_without_weights_cross_layers_change_nothing(rank: int) -> None:
    model, rows = fitted(rank=rank)
    net = model.net_
    assert isinstance(net, DCNv2Net)
    with torch.no_grad():
        for layer in net.crosses:
            for p in layer.parameters():
                p.zero_()
        x = net.table(model.encoder_.encode(rows.features, tokens)).flat
        assert torch.equal(net.crossed(x), x)


def test_a_full_layer_by_hand() -> None:
    layer = Cross(2, np.random.default_rng(0)).double()
    with torch.no_grad():
        layer.line.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        layer.line.bias.copy_(torch.tensor([0.5, 0.0]))
        found = layer(torch.tensor([[2.0, 3.0]]).double(), torch.tensor([[1.0, -1.0]]).double())
    assert found.tolist() == [[2 * (1 - 2 + 0.5) + 1, 3 * 1 - 1]]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_give_products_of_one_input_more_than_layers(layers: int) -> None:
    crosses = [Cross(6, np.random.default_rng(at)).double() for at in range(layers)]

    def along(t: float) -> torch.Tensor:
        first = t * x_of()
        x = first
        for layer in crosses:
            x = layer(first, x)
        return x

    with torch.no_grad():
        points = torch.stack([along(float(t)) for t in range(layers + 3)])
        degree = layers + 1
        beyond = torch.diff(points, n=degree + 1, dim=0)
        top = torch.diff(points, n=degree, dim=0)
    assert beyond.abs().max() < 1e-8 * points.abs().max()
    assert top.abs().min(1).values.max() > 1e-6


def test_a_mixture_by_hand() -> None:
    layer = MixedCross(6, 2, 3, np.random.default_rng(0)).double()
    first, x = x_of(), x_of(seed=1)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(6, dtype=torch.float64) / 10)
        found = layer(first, x).numpy()
    down, within, up = (p.detach().numpy() for p in (layer.down, layer.within, layer.up))
    gates = softmax(x.numpy() @ layer.gate.weight.detach().numpy().T, axis=1)
    for n in range(5):
        total = x[n].numpy().copy()
        for e in range(3):
            low = np.tanh(np.tanh(x[n].numpy() @ down[e]) @ within[e])
            total += gates[n, e] * first[n].numpy() * (low @ up[e] + np.arange(6) / 10)
        np.testing.assert_allclose(found[n], total, atol=1e-12)


def test_each_layer_has_its_own_gate_of_experts() -> None:
    model, _ = fitted(rank=2, experts=3, cross_layers=2)
    gates = [name for name in model.net_.state_dict() if "gate" in name]
    assert gates == ["crosses.0.gate.weight", "crosses.1.gate.weight"]


def test_structures() -> None:
    for structure in ("cross", "stacked", "parallel"):
        model, rows = fitted(structure=structure)
        net = model.net_
        assert isinstance(net, DCNv2Net)
        with torch.no_grad():
            encoded = model.encoder_.encode(rows.features, tokens)
            x = net.table(encoded).flat
            found = net(encoded, OFF)[0]
            if structure == "cross":
                assert net.deep is None
                torch.testing.assert_close(found, net.last(net.crossed(x)))
            elif structure == "stacked":
                torch.testing.assert_close(found, net.deep(net.crossed(x), OFF))
            else:
                torch.testing.assert_close(found, net.last(torch.cat([net.crossed(x), net.deep(x, OFF)], 1)))


def test_stacked_without_cross_weights_is_a_plain_mlp() -> None:
    model, rows = fitted(structure="stacked")
    other = MLPRanker(**QUICK).fit(rows)
    net = model.net_
    assert isinstance(net, DCNv2Net)
    with torch.no_grad():
        for p in net.crosses.parameters():
            p.zero_()
        weights = dict(other.net_.state_dict())
        assert not net.load_state_dict(weights, strict=False).unexpected_keys
    np.testing.assert_allclose(model.predict(rows).values, other.predict(rows).values, atol=1e-6)


def test_numbers_far_beyond_training_are_answered() -> None:
    model, rows = fitted(cross_layers=6, structure="cross")
    column = rows.features.column_names.index("price")
    far = rows.features.set_column(column, "price", [[1e30] * len(rows)])
    assert np.isfinite(model.predict(Rows(far)).values).all()
