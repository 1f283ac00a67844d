"""The gate of Category-MoE: what it keeps, its two terms, and that it knows nobody."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.errors import ConfigError
from palate.nn.dropout import Dropout
from palate.rank.aw_moe import AWMoE
from palate.rank.category_gate import CategoryGate

SETTINGS = {
    "dim": 4, "batch_size": 128, "lr": 0.02, "epochs": 2, "hidden": (8,), "source": 8,
    "contrast": 0.0, "gate": "category", "category": ("item",),
}  # fmt: skip


def gate(experts: int = 5, kept: int = 2, top: int = 3) -> CategoryGate:
    return CategoryGate(4, top, experts, kept, np.random.default_rng(0))


def test_the_largest_weights_are_kept_in_proportion() -> None:
    net, own = gate(), torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, whole = net(own).numpy(), net.own(own).softmax(1).numpy()
    assert ((found > 0).sum(1) == 2).all()
    for row, weights in zip(found, whole, strict=True):
        best = np.argsort(-weights)[:2]
        np.testing.assert_allclose(row[best], weights[best] / weights[best].sum(), rtol=1e-5)
    all_kept = gate(kept=9)
    torch.testing.assert_close(all_kept(own), all_kept.own(own).softmax(1))


def test_both_terms_by_hand() -> None:
    net = gate(experts=3, kept=2)
    drawn = torch.Generator().manual_seed(1)
    own, top = torch.randn(10, 4, generator=drawn), torch.randn(10, 3, generator=drawn)
    with torch.no_grad():
        p, q = net.own(own).softmax(1), net.top(top).softmax(1)
        assert float(net.hierarchy(own, top)) == pytest.approx(float(((p - q) ** 2).sum(1).mean()))
        scores, weights = torch.randn(10, 3, 1, generator=drawn), net(own)
        chances = scores[:, :, 0].sigmoid().numpy()
        left = (weights.numpy() == 0).argmax(1)  # one expert is not kept, so nothing is left to chance
        by_hand = [
            np.mean([(chances[row, i] - chances[row, j]) ** 2 for i in range(3) if i != j]) for row, j in enumerate(left)
        ]
        assert float(net.disagreement(scores, weights, None)) == pytest.approx(np.mean(by_hand), rel=1e-5)
        assert float(gate(top=0).hierarchy(own, top)) == 0
        assert float(gate(kept=5).disagreement(torch.zeros(2, 5, 1), torch.full((2, 5), 0.2), None)) == 0


def test_the_gate_knows_the_category_alone() -> None:
    rows = click_rows(150)
    model = AWMoE(**SETTINGS).fit(rows)
    found = model.gates(rows)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    items = rows.features.column("item").to_pylist()
    for item in set(items):
        own = found[[at for at, name in enumerate(items) if name == item]]
        np.testing.assert_allclose(own, own[:1].repeat(len(own), 0), atol=1e-6)
    at = rows.features.column_names.index("history")
    other = Rows(rows.features.set_column(at, "history", pa.array([["i1"]] * 150, pa.list_(pa.string()))), rows.labels)
    np.testing.assert_array_equal(model.gates(other), found)


def test_its_terms_reach_the_loss_only_in_training() -> None:
    rows = click_rows(150)
    model = AWMoE(**{**SETTINGS, "top_category": ("user",), "hierarchy": 1.0, "disagreement": 0.5}).fit(rows)
    codes = model.encoder_.encode(rows.features, str.split)
    net = model.net_.train()
    net(codes, Dropout(0.0, torch.Generator().manual_seed(0)))
    aside = net.take_aside()
    assert aside is not None
    aside.backward()
    assert net.category_gate.top.weight.grad.abs().sum() > 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.experts.parameters())
    net.eval()(codes, Dropout())
    assert net.take_aside() is None


def test_wrong_settings_are_refused() -> None:
    rows = click_rows(60)
    for wrong, said in (({"category": ()}, "needs their fields"), ({"contrast": 0.1}, "only a gate of events")):
        with pytest.raises(ConfigError, match=said):
            AWMoE(**{**SETTINGS, **wrong}).fit(rows)
    with pytest.raises(ConfigError, match="no such field"):
        AWMoE(**{**SETTINGS, "category": ("itme",)}).fit(rows)
