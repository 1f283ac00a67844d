"""FinalMLP: fusion against the full bilinear form, gates that are open, chosen fields, and settings that don't fit."""

from typing import Any

import numpy as np
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.errors import ConfigError
from palate.nn.dropout import OFF
from palate.rank.finalmlp import FinalMLP, Fusion
from palate.retrieval.tokens import tokens

QUICK: dict[str, Any] = {
    "epochs": 2, "batch_size": 64, "dim": 3, "hidden": (8,), "hidden_2": (6,), "heads": 2, "gate_hidden": (5,),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> Rows:
    return click_rows(150)


@pytest.mark.parametrize(("heads", "tasks"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_fusion_is_a_bilinear_form_of_blocks(heads: int, tasks: int) -> None:
    fusion = Fusion(8, 6, heads, tasks, np.random.default_rng(0)).double()
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, w, generator=draw, dtype=torch.float64) for w in (8, 6))
    with torch.no_grad():
        found = fusion(first, second).numpy()
        plain = (fusion.first(first) + fusion.second(second)).numpy()
        pieces = fusion.product.numpy()
    a, b = 8 // heads, 6 // heads
    for task in range(tasks):
        whole = np.zeros((8, 6))  # one head fills it; more stand on its diagonal
        for h in range(heads):
            whole[h * a : (h + 1) * a, h * b : (h + 1) * b] = pieces[task, h]
        for n in range(5):
            assert found[n, task] == pytest.approx(plain[n, task] + first[n].numpy() @ whole @ second[n].numpy(), abs=1e-10)


def test_gates_at_zero_let_everything_through(rows: Rows) -> None:
    gated = FinalMLP(**QUICK).fit(rows)
    plain = FinalMLP(**QUICK, select=False).fit(rows)
    with torch.no_grad():
        for gate in gated.net_.gates:
            gate.net.last.weight.zero_()
            gate.net.last.bias.zero_()
        weights = {name: t for name, t in gated.net_.state_dict().items() if not name.startswith("gates.")}
        plain.net_.load_state_dict(weights)
    np.testing.assert_allclose(gated.predict(rows).values, plain.predict(rows).values, atol=1e-6)


def test_gates_lie_between_nothing_and_twice(rows: Rows) -> None:
    model = FinalMLP(**QUICK).fit(rows)
    fields = model.net_.table(model.encoder_.encode(rows.features, tokens)).fields
    gate = model.net_.gates[0]
    with torch.no_grad():
        gate.net.last.bias.copy_(torch.linspace(-50, 50, 18))
        found = gate(fields)
    assert found.shape == (150, 18) and found.min() < 1e-6 and found.max() == 2
    assert torch.equal(found[0], found[1]), "a gate without fields is the same for all rows"


def test_gates_look_at_the_chosen_fields_alone(rows: Rows) -> None:
    model = FinalMLP(**QUICK, context=("user",), context_2=("item", "title")).fit(rows)
    names = model.net_.table.names
    fields = model.net_.table(model.encoder_.encode(rows.features, tokens)).fields.detach()
    for gate, seen in zip(model.net_.gates, ({"user"}, {"item", "title"}), strict=True):
        with torch.no_grad():
            before = gate(fields)
            for at, name in enumerate(names):
                changed = fields.clone()
                changed[:, at] += 1.0
                assert torch.equal(gate(changed), before) == (name not in seen), name


def test_streams_see_different_selections(rows: Rows) -> None:
    model = FinalMLP(**QUICK, context=("user",), context_2=("item",)).fit(rows)
    net = model.net_
    encoded = model.encoder_.encode(rows.features, tokens)
    with torch.no_grad():
        vectors = net.table(encoded)
        outs = [s(vectors.flat * g(vectors.fields), OFF) for s, g in zip(net.stacks, net.gates, strict=True)]
        torch.testing.assert_close(net(encoded, OFF)[0], net.fusion(*outs))


def test_settings_that_do_not_fit_are_refused(rows: Rows) -> None:
    with pytest.raises(ConfigError, match="heads=3 must divide the last widths 8 and 6"):
        FinalMLP(**{**QUICK, "heads": 3})
    with pytest.raises(ConfigError, match=r"(?s)no such field.*item"):
        FinalMLP(**QUICK, context=("itme",)).fit(rows)
