"""AutoInt: its exact properties, what it can learn and FM can't, and its attention."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowEncoder
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.evaluation.metrics.predictive import auc
from palate.nn.dropout import OFF, Dropout
from palate.rank.autoint import AttentionMap, AutoInt, AutoIntConfig, AutoIntNet, AutoIntPlus
from palate.rank.fm import FM
from palate.retrieval.tokens import tokens
from palate.runtime import generator

SMALL = {"epochs": 2, "batch_size": 64, "dim": 4, "units": 8, "layers": 2, "lr": 0.01}
ROWS = click_rows(200)


def net_of(fields=("a", "b", "c"), numbers=(), lists=(), n=40, **settings):
    """A network at its start, its encoder, and rows of its fields."""
    rng = generator(3, "rows")
    columns = {name: [f"{name}{k}" for k in rng.integers(4, size=n)] for name in fields}
    columns |= {name: rng.random(n) for name in numbers}
    columns |= {name: [[f"{name}{k}"] for k in rng.integers(4, size=n)] for name in lists}
    table = pa.table(columns)
    kinds = [RowField(name, "category") for name in fields]
    kinds += [RowField(name, "list", max_length=3) for name in lists]
    kinds += [RowField(name, "number", scale="none") for name in numbers]
    encoder = RowEncoder.learn(kinds, lambda: [table])
    config = AutoIntConfig(**{"dim": 4, "units": 8, "layers": 2, **settings})
    net = AutoIntNet(config, encoder.layout, 1, generator(0, "net"))
    with torch.no_grad():
        net.table.table.mul_(100)  # far from the start, where everything is nearly linear
        net.table.numbers.mul_(100)
    return net.eval(), encoder, table


@pytest.mark.parametrize("form", ["paper", "original", "fuxictr"])
def test_the_order_of_fields_does_not_matter(form):
    net, encoder, table = net_of(form=form)
    rows, order = encoder.encode(table), [2, 0, 1]
    expected = net(rows, OFF)[0]
    turned = Encoded(rows.codes[:, order], rows.numbers)
    with torch.no_grad():
        weight = net.last.weight.view(1, 3, 8)[:, order].reshape(1, -1).clone()
        net.last.weight.copy_(weight)
        torch.testing.assert_close(net(turned, OFF)[0], expected, atol=1e-5, rtol=1e-5)


def test_without_layers_it_is_a_logistic_regression_on_vectors():
    net, encoder, table = net_of(layers=0)
    rows = encoder.encode(table)
    vectors = net.table.table[torch.from_numpy(rows.codes.astype(np.int64))].flatten(1)
    torch.testing.assert_close(net(rows, OFF)[0], vectors @ net.last.weight.T + net.last.bias)


@pytest.mark.parametrize("form", ["paper", "fuxictr"])
def test_without_values_a_layer_is_the_residual(form):
    net, encoder, table = net_of(layers=1, form=form, norm="none", residual="projected")
    with torch.no_grad():
        net.layers[0].weight[16:24] = 0
        rows = encoder.encode(table)
        fields = torch.relu(net.table(rows).fields @ net.layers[0].weight[24:].T)
        torch.testing.assert_close(net(rows, OFF)[0], net.last(fields.flatten(1)))


def test_vectors_start_as_set_and_may_be_left_whole_before_attention():
    net, encoder, table = net_of(start=0.5)
    assert 0.3 < float(net.table.table[1:].detach().std()) / 100 < 0.7
    rows, whole, dropped = encoder.encode(table), [], []
    for rate, found in ((0.0, whole), (None, dropped)):
        net.config = net.config.model_copy(update={"vector_dropout": rate})
        found += [net(rows, Dropout(0.5, torch.Generator().manual_seed(seed)))[0] for seed in (0, 1)]
    assert torch.equal(whole[0], whole[1]) and torch.equal(whole[0], net(rows, OFF)[0])
    assert not torch.equal(dropped[0], dropped[1])


def test_a_number_scales_its_vector_and_one_value_of_a_bag_is_a_single_value():
    net, encoder, table = net_of(("a",), numbers=("x",), lists=("b",))
    rows = encoder.encode(table)
    once = net.table(rows).fields
    twice = net.table(Encoded(rows.codes, 2 * rows.numbers)).fields
    torch.testing.assert_close(twice[:, 2], 2 * once[:, 2])
    torch.testing.assert_close(twice[:, :2], once[:, :2])
    first = torch.from_numpy(rows.codes[:, encoder.layout.bags["b"][0]].astype(np.int64))
    torch.testing.assert_close(once[:, 1], net.table.table[first])


def test_dense_layers_and_main_effects_are_added():
    model = AutoIntPlus(**SMALL, hidden=(8,), wide=True).fit(ROWS)
    encoded = model.encoder_.encode(ROWS.features, tokens)
    net = model.net_
    with torch.no_grad():
        logit, size = net(encoded, OFF)
        deep, (main, _) = net.deep(net.table(encoded).flat, OFF), net.main(encoded)
        net.deep, net.main = None, None
        alone, vectors = net(encoded, OFF)
    torch.testing.assert_close(logit, alone + deep + main)
    assert size > vectors
    assert AutoInt(**SMALL).fit(ROWS).net_.deep is None


def test_settings():
    assert AutoIntConfig(form="paper", scale=True, norm="after").interaction.scale
    assert AutoIntConfig(form="original").interaction.relu
    assert not AutoIntConfig(form="original", relu=False).interaction.relu
    with pytest.raises(ConfigError, match="must divide by heads"):
        AutoInt(units=9, heads=2)
    with pytest.raises(ConfigError, match="hidden"):
        AutoIntPlus(hidden=())


# -- what it can learn ------------------------------------------------------------------------------------------------------


def planted(n, seed=0):
    """Six fields of three values; labels follow a table of three of them, in which no value and no pair says anything alone."""
    rng = generator(seed, "planted")
    x = rng.integers(3, size=(n, 6))
    table = 4 * rng.standard_normal((3, 3, 3))
    for axis in range(3):
        table -= table.mean(axis, keepdims=True)
    label = (rng.random(n) < 1 / (1 + np.exp(-table[x[:, 1], x[:, 3], x[:, 5]]))).astype(np.float32)
    return Rows(pa.table({f"f{i}": [f"v{k}" for k in x[:, i]] for i in range(6)}), {"click": label})


@pytest.fixture(scope="module")
def fitted():
    rows = planted(4000)
    train, valid, test = rows.slice(0, 3000), rows.slice(3000, 3400), rows.slice(3400, 4000)
    settings = {"batch_size": 128, "dim": 8, "lr": 0.01, "epochs": 15, "patience": 0}
    return AutoInt(**settings, layers=2, units=32).fit(train, valid), FM(**settings).fit(train, valid), test


def test_it_learns_a_triple_and_fm_does_not(fitted):
    model, machine, test = fitted
    values = [auc(test.labels["click"], m.predict(test).values[:, 0]) for m in (model, machine)]
    assert values[0] > 0.8, values
    assert values[1] < 0.6, values


def test_attention_goes_to_the_partners(fitted):
    model, _, test = fitted
    found = model.attention(test).mean()
    planted_pairs = [found[m, k] for m in (1, 3, 5) for k in (1, 3, 5) if m != k]
    others = [found[m, k] for m in range(6) for k in range(6) if m != k and not {m, k} <= {1, 3, 5}]
    assert np.mean(planted_pairs) > np.mean(others)


def test_attention_has_rows_of_one_and_leaves_out_a_field_itself(fitted):
    model, _, test = fitted
    found = model.attention(test)
    assert found.weights.shape == (2, 2, 6, 6)
    np.testing.assert_allclose(found.weights.sum(-1), 1, atol=1e-5)
    others = found.mean()
    assert not np.diag(others).any()
    np.testing.assert_allclose(others.sum(1), 1, atol=1e-5)
    assert np.diag(found.mean(itself=True)).all()
    shown = found.strongest(5)
    assert [w for *_, w in shown] == sorted((w for *_, w in shown), reverse=True)
    assert all(m != k for m, k, _ in shown)


def test_mean_attention_is_the_mean_of_rows(fitted):
    model, _, test = fitted
    each = np.mean([model.attention(test.slice(at, at + 1)).weights for at in range(6)], axis=0)
    np.testing.assert_allclose(model.attention(test.slice(0, 6)).weights, each, atol=1e-5)


def test_a_row_is_explained_by_attention():
    model = AutoInt(**SMALL).fit(ROWS)
    found = model.explain_row(ROWS.slice(0, 1))
    assert not found.exact
    assert found.score == pytest.approx(float(model.predict(ROWS.slice(0, 1)).values[0, 0]), abs=1e-6)
    assert len(found.evidence) == 10
    assert "user=" in " ".join(str(e.subject) for e in found.evidence)
    assert all(e.detail["fields"][0] != e.detail["fields"][1] for e in found.evidence)
    with_itself = model.explain_row(ROWS.slice(0, 1), itself=True)
    weights = model.attention(ROWS.slice(0, 1)).mean(itself=True)
    assert with_itself.evidence[0].weight == pytest.approx(float(weights.max()))
    with pytest.raises(DataError, match="one row"):
        model.explain_row(ROWS.slice(0, 2))
    with pytest.raises(ConfigError, match="not predicted"):
        model.explain_row(ROWS.slice(0, 1), "clack")


def test_what_can_not_be_shown():
    model = AutoInt(**{**SMALL, "layers": 0}).fit(ROWS)
    with pytest.raises(UnsupportedError, match="without layers"):
        model.attention(ROWS)
    with pytest.raises(DataError, match="no rows"):
        AutoInt(**SMALL).fit(ROWS).attention(ROWS.slice(0, 0))


def test_a_single_field_attends_to_itself():
    alone = AttentionMap(("a",), np.ones((1, 1, 1, 1), np.float32))
    assert alone.strongest() == [("a", "a", 1.0)]
