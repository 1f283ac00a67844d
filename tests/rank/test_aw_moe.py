"""AW-MoE: the exact invariants of gate, experts and contrast; types of people that only histories show."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.errors import ConfigError, UnsupportedError
from palate.evaluation.metrics.predictive import auc
from palate.nn.dropout import OFF, Dropout
from palate.rank.aw_moe import AWMoE, thinned

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 128, "lr": 0.02, "epochs": 2, "hidden": (8,), "source": 8}


def fitted(rows: Rows | None = None, **settings: Any) -> AWMoE:
    return AWMoE(**{**QUICK, **settings}).fit(click_rows(150) if rows is None else rows)


def encoded(model: AWMoE, rows: Rows) -> Any:
    return model.encoder_.encode(rows.features, str.split)


def with_history(rows: Rows, histories: list[list[str]]) -> Rows:
    at = rows.features.column_names.index("history")
    return Rows(rows.features.set_column(at, "history", pa.array(histories, pa.list_(pa.string()))), rows.labels)


def test_one_expert_and_a_gate_of_one_is_a_single_network() -> None:
    rows = click_rows(100)
    model = fitted(experts=1)
    net = model.net_
    with torch.no_grad():
        net.gate_unit.rest.last.weight.zero_()
        net.gate_unit.rest.last.bias.zero_()
        net.default_gate.fill_(1.0)
        read = net.read(encoded(model, rows))
        torch.testing.assert_close(net(encoded(model, rows), OFF)[0], net.experts[0](read.x, OFF))


@pytest.mark.parametrize("pool", ["sum", "mean", "softmax"])
@pytest.mark.parametrize("norm", ["none", "softmax"])
def test_the_gate_by_the_plain_definition(pool: str, norm: str) -> None:
    rows = click_rows(60, seed=1)
    model = fitted(pool=pool, gate_norm=norm)
    net, found = model.net_, model.gates(rows)
    with torch.no_grad():
        vectors = net.table(encoded(model, rows))
        history, mask = vectors.sequences["history"]
        h_t = torch.relu(net.of_target(vectors.fields[:, net.table.names.index("item")]))
        for row in range(10):
            events = torch.relu(net.of_event(history[row][mask[row]]))
            gate = net.default_gate.clone()
            scores, wishes = [], []
            for h in events:
                joined = torch.cat([h_t[row], h, h_t[row] * h])
                unit = net.activation_unit
                scores.append(unit.rest.last(torch.relu(unit.first(joined)))[0])
                wishes.append(net.gate_unit.rest.last(torch.relu(net.gate_unit.first(torch.cat([h_t[row], h])))))
            if scores:
                w = torch.stack(scores)
                w = {"sum": w, "mean": w / len(w), "softmax": w.softmax(0)}[pool]
                gate = gate + w @ torch.stack(wishes)
            gate = gate.softmax(0) if norm == "softmax" else gate
            np.testing.assert_allclose(found[row], gate.numpy(), atol=1e-5)


def test_the_order_of_events_and_padding_do_not_matter() -> None:
    rows = click_rows(60, seed=1)
    model = fitted()
    before, answers = model.gates(rows), model.predict(rows).values
    turned = with_history(rows, [own[::-1] for own in rows.features.column("history").to_pylist()])
    np.testing.assert_allclose(model.gates(turned), before, atol=1e-6)
    np.testing.assert_allclose(model.predict(turned).values, answers, atol=1e-6)
    codes = encoded(model, rows)
    with torch.no_grad():
        model.net_.table.table[0] = 9.0
        np.testing.assert_allclose(model.net_.read(codes).gate.numpy(), before, atol=1e-6)
    np.testing.assert_allclose(model.predict(rows).values, answers, atol=1e-6)


def test_experts_times_c_and_gate_by_c_answer_the_same() -> None:
    rows = click_rows(60, seed=1)
    model = fitted()
    net, before = model.net_, model.predict(rows).values
    with torch.no_grad():
        for expert in net.experts:
            expert.last.weight.mul_(4)
            expert.last.bias.mul_(4)
        for part in (net.gate_unit.rest.last.weight, net.gate_unit.rest.last.bias, net.default_gate):
            part.div_(4)
    np.testing.assert_allclose(model.predict(rows).values, before, atol=1e-5)


def test_the_contrast_without_masking_has_its_analytic_value() -> None:
    rows = click_rows(150)
    model = fitted(drop_events=0.0, temperature=0.5, contrast=1.0, people=500)
    net, codes = model.net_, encoded(model, rows)
    users = rows.features.column("user").to_pylist()
    full = [at for at, own in enumerate(rows.features.column("history").to_pylist()) if own]
    first = {users[at]: at for at in reversed(full)}
    gates = model.gates(rows)[sorted(first.values())].astype(np.float64)
    unit = gates / np.linalg.norm(gates, axis=1, keepdims=True)
    others = np.exp((unit @ unit.T - 1) / 0.5)
    by_hand = np.log(others.sum(1)).mean()  # ln(1 + Σ_v e^{(cos - 1)/τ}) over the others
    assert len(first) == 20
    net.train()(codes, _on())
    np.testing.assert_allclose(float(net.take_aside().detach()), by_hand, rtol=1e-4)


def test_people_are_told_apart_from_others_alone() -> None:
    rows = click_rows(150)
    alone = Rows(rows.features.set_column(0, "user", pa.array(["one"] * 150)), rows.labels)
    model = fitted(alone, contrast=1.0)
    net = model.net_.train()
    net(encoded(model, alone), _on())
    assert float(net.take_aside().detach()) == pytest.approx(0, abs=1e-6), "one person has nobody to be told apart from"
    unnamed = Rows(rows.features.drop_columns(["user"]), rows.labels)
    model = fitted(unnamed)
    codes = encoded(model, unnamed)
    histories = [tuple(own) for own in rows.features.column("history").to_pylist()]
    chosen = model.net_._people(codes, np.array([at for at, own in enumerate(histories) if own]))
    assert len(chosen) == len({own for own in histories if own}) and (np.diff(chosen) > 0).all()


def test_a_column_that_only_tells_people_apart_is_not_read() -> None:
    rows = click_rows(150)
    own = Rows(rows.features.rename_columns(["who", *rows.features.column_names[1:]]), rows.labels)
    model = fitted(own, person="who")
    other = Rows(own.features.set_column(0, "who", pa.array(["someone"] * 150)))
    np.testing.assert_array_equal(model.predict(other).values, model.predict(own).values)
    assert len(model.net_._people(encoded(model, own), np.arange(150))) == 20


def test_the_second_view_keeps_an_event_at_least() -> None:
    mask = torch.from_numpy(np.arange(6) < np.array([0, 1, 2, 6])[:, None]).repeat(500, 1)
    found = thinned(mask, 0.5, torch.Generator().manual_seed(0))
    assert not (found & ~mask).any()
    kept = found.sum(1).view(500, 4).float()
    assert (kept[:, 0] == 0).all() and (kept[:, 1] == 1).all() and (kept[:, 2] >= 1).all()
    assert kept[:, 2].mean() == pytest.approx(1.25, abs=0.08) and kept[:, 3].mean() == pytest.approx(3.02, abs=0.15)
    assert torch.equal(thinned(mask, 0.0, torch.Generator().manual_seed(0)), mask)


def test_masking_is_of_the_gate_alone() -> None:
    rows = click_rows(150)
    model = fitted(drop_events=0.9)
    net, codes = model.net_, encoded(model, rows)
    with torch.no_grad():
        answering = net.eval()(codes, OFF)[0]
        learning = net.train()(codes, _on())[0]
    torch.testing.assert_close(learning, answering)


def test_the_contrast_teaches_gate_and_events() -> None:
    rows = click_rows(150)
    model = fitted(contrast=1.0)
    net = model.net_.train()
    net(encoded(model, rows), _on())
    net.zero_grad(set_to_none=True)
    net.take_aside().backward()
    assert net.aside is None
    for part in (net.gate_unit.first.weight, net.activation_unit.first.weight, net.of_event.weight, net.table.table):
        assert part.grad is not None and part.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.experts.parameters())


def test_a_gate_of_query_and_history_is_made_once_a_request() -> None:
    rows = click_rows(150)
    model = fitted(rows, query=("title",))
    one = rows.features.slice(1, 1)
    table = pa.concat_tables([one] * 20).combine_chunks()
    table = table.set_column(1, "item", pa.array([f"i{at}" for at in range(20)]))
    table = table.set_column(4, "history", pa.array([["i3", "i5", "i3"]] * 20))
    codes = encoded(model, Rows(table))
    with torch.no_grad():
        read = model.net_.read(codes)
        assert read.gate.stride(0) == 0 and len(read.parts[0]) == 1
    alone = np.concatenate([model.predict(Rows(table.slice(at, 1))).values for at in range(20)])
    np.testing.assert_allclose(model.predict(Rows(table)).values, alone, atol=1e-6)
    gates = model.gates(Rows(table))
    np.testing.assert_array_equal(gates, gates[:1].repeat(20, 0))
    other = table.set_column(5, "title", pa.array(["word1 and other2"] * 10 + ["word3 and other5"] * 10))
    found = model.gates(Rows(other))
    np.testing.assert_allclose(found[0], model.gates(Rows(other.slice(0, 1)))[0], atol=1e-6)
    assert not np.allclose(found[0], found[-1])
    by_target = fitted(rows).gates(Rows(table))
    assert not np.allclose(by_target[0], by_target[1]), "without a query the gate looks at the target"


def test_types_of_people_that_histories_show() -> None:
    """Two types of people like opposite items; what they did shows which."""
    rng = np.random.default_rng(0)

    def made(n: int) -> tuple[Rows, np.ndarray]:
        kind, item = rng.integers(2, size=n), rng.integers(20, size=n)
        liked = [2 * rng.integers(10, size=rng.integers(1, 5)) + k for k in kind]
        click = rng.random(n) < np.where(item % 2 == kind, 0.9, 0.1)
        table = pa.table({"item": [f"i{i}" for i in item], "history": [[f"i{i}" for i in own] for own in liked]})
        return Rows(table, {"click": click.astype(np.float32)}), kind

    (train, _), (test, kind) = made(1_500), made(600)
    model = fitted(train, epochs=12, experts=2, pool="mean")
    assert auc(test.labels["click"], model.predict(test).values[:, 0]) > 0.85
    facts = model.record_.notes["gate"]
    assert len(facts["mean"]) == 2 and min(facts["sd"]) > 0.01
    assert model.gates(test).shape == (len(kind), 2)


def test_plain_gates_and_bad_settings() -> None:
    rows = click_rows(150)
    plain = fitted(rows, gate="input", contrast=0.0)
    np.testing.assert_allclose(plain.gates(rows).sum(1), 1, rtol=1e-5)
    with pytest.raises(ConfigError, match="only a gate of events"):
        fitted(rows, gate="input")
    bare = Rows(rows.features.drop_columns(["history"]), rows.labels)
    with pytest.raises(UnsupportedError, match="history"):
        fitted(bare).gates(bare)
    for wrong in ({"query": ("nothing",)}, {"person": "price"}, {"people": 1}):
        with pytest.raises(ConfigError):
            fitted(rows, **wrong)


def _on() -> Dropout:
    return Dropout(0.0, torch.Generator().manual_seed(0))
