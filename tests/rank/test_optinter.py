"""OptInter: its exact properties, what the search finds, what is kept after it, and crosses that are by pair."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.model import Fitting
from palate.contracts.ranker import Rows
from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError
from palate.evaluation.metrics.predictive import auc
from palate.nn.dropout import OFF
from palate.nn.field_pairs import annealed, cross_name
from palate.rank.optinter import METHODS, OptInter, OptInterNet, PairConfig, PairMethod, PairSearch, SearchNet, choose
from palate.runtime import generator

SMALL = {"epochs": 2, "batch_size": 64, "dim": 4, "pair_dim": 3, "hidden": (8,), "lr": 0.01, "pair_min_count": 1}
PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def rows_of(n=300, seed=0, k=5):
    """Three categories after two numbers; the label follows a table of the pair (a, b)."""
    rng = generator(seed, "rows")
    x = rng.integers(k, size=(n, 3))
    table = 4 * generator(7, "table").standard_normal((k, k))
    table -= table.mean(0) + table.mean(1, keepdims=True) - table.mean()
    label = (rng.random(n) < 1 / (1 + np.exp(-table[x[:, 0], x[:, 1]]))).astype(np.float32)
    numbers = {"n1": rng.random(n), "n2": rng.random(n)}
    return Rows(
        pa.table({**numbers, **{name: [f"{name}{v}" for v in x[:, at]] for at, name in enumerate("abc")}}), {"click": label}
    )


ROWS = rows_of()


def networks(methods):
    """The network of a search, and that of a choice, of one and the same encoded rows."""
    fields = [*(RowField(n, "number") for n in ("n1", "n2")), *(RowField(n, "category") for n in "abc")]
    crosses = [RowField(cross_name(pair), "cross", of=pair) for pair in PAIRS]
    encoder = RowEncoder.learn([*fields, *crosses], lambda: [ROWS.features])
    kept = [f for f, m in zip(crosses, methods, strict=True) if m == "memorise"]
    own = RowEncoder.learn([*fields, *kept], lambda: [ROWS.features])
    c = PairConfig(**SMALL)
    search = SearchNet(c, encoder.layout, PAIRS, 1, generator(0, "a"), 10)
    chosen = [PairMethod(*p, m, (0.0,)) for p, m in zip(PAIRS, methods, strict=True)]
    return (
        search,
        OptInterNet(c, own.layout, chosen, 1, generator(1, "b")),
        encoder.encode(ROWS.features),
        own.encode(ROWS.features),
    )


def settle(search, methods):
    """Make the mix of a search one-hot."""
    with torch.no_grad():
        for row, method in zip(search.raw, methods, strict=True):
            row[METHODS.index(method)] = 1e4


@pytest.mark.parametrize("method", ["memorise", "factorise"])
def test_a_settled_search_is_the_shell_bit_for_bit(method):
    search, net, all_rows, rows = networks([method] * 3)
    settle(search, [method] * 3)
    net.load_state_dict({k: v for k, v in search.state_dict().items() if k in net.state_dict()})
    assert torch.equal(search.eval()(all_rows, OFF)[0], net.eval()(rows, OFF)[0])


def test_a_settled_search_is_the_model_of_its_choice():
    methods = ["factorise", "naive", "memorise"]
    search, net, all_rows, rows = networks(methods)
    settle(search, methods)
    with torch.no_grad():
        net.table.table.copy_(search.table.table)
        net.table.numbers.copy_(search.table.numbers)
        memory, additions, kept = search.pairs.memory, search.pairs.additions, net.pairs
        bases, sizes = memory.layout.bases, memory.layout.sizes
        start = bases["b & c"]
        kept.memory.table[1:] = memory.table[start : start + sizes["b & c"]]
        kept.additions.table.copy_(additions.table[: kept.additions.layout.n_codes])
        wide = search.deep.layers[0].weight
        own = wide[:, : 5 * 4]
        pairs = wide[:, 5 * 4 :].view(8, 3, 3)
        net.deep.layers[0].weight.copy_(torch.cat([own, pairs[:, 2], pairs[:, 0]], 1))  # memorised pairs stand first
        net.deep.last.weight.copy_(search.deep.last.weight)
        torch.testing.assert_close(net.eval()(rows, OFF)[0], search.eval()(all_rows, OFF)[0])


def test_naive_pairs_have_no_gradient_and_then_no_tables():
    methods = ["memorise", "naive", "factorise"]
    search, net, all_rows, _ = networks(methods)
    settle(search, methods)
    search(all_rows, OFF)[0].square().sum().backward()
    grad, layout = search.pairs.memory.table.grad, search.pairs.memory.layout
    for pair, method in zip(PAIRS, methods, strict=True):
        own = grad[layout.bases[cross_name(pair)] :][: layout.sizes[cross_name(pair)]]
        assert bool(own.any()) == (method == "memorise")
    assert net.pairs.memory.layout.single == ("a & b",)
    assert net.pairs.additions.layout.single == ("b", "c")


@pytest.mark.parametrize("gap", [0.2, 0.5, 3.0])
def test_a_cold_softmax_is_one_hot(gap):
    alpha = torch.tensor([[0.0, gap, -1.0], [gap, 0.0, 0.0]])
    found = annealed(alpha, 0.01)
    np.testing.assert_allclose(found, [[0, 1, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(annealed(alpha, 1.0), alpha.softmax(-1))


def test_vectors_of_pairs_by_hand():
    search, _, rows, _ = networks(["memorise"] * 3)
    memorised, factorised = search.pairs(rows)
    v, layout = search.pairs.additions, search.pairs.additions.layout
    codes = search.pairs.fields.take(rows).codes
    for at, (first, second) in enumerate(PAIRS):
        left, right = (v.table[codes[:, layout.single.index(name)].astype(np.int64)] for name in (first, second))
        torch.testing.assert_close(factorised[:, at], left * right)
        cross = search.pairs.crosses.take(rows).codes[:, at].astype(np.int64)
        torch.testing.assert_close(memorised[:, at], search.pairs.memory.table[cross])
    expected = sum(float(p.detach().square().sum()) for p in search.pairs.parameters())
    assert float(search.pairs.squares().detach()) == pytest.approx(expected)


@pytest.mark.parametrize("progress", [0.0, 0.75])
def test_the_search_mixes_candidates_by_shares_at_its_temperature(progress):
    search, _, rows, _ = networks(["memorise"] * 3)
    with torch.no_grad():
        search.raw.copy_(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
        search.progress.fill_(progress)
        memorised, factorised = search.pairs(rows)
        shares = (search.alpha / (1 - progress)).softmax(1)
        mixed = torch.stack([shares[p, 0] * memorised[:, p] + shares[p, 1] * factorised[:, p] for p in range(3)], 1)
        x = torch.cat([search.table(search.part.take(rows)).flat, mixed.flatten(1)], 1)
        torch.testing.assert_close(search.eval()(rows, OFF)[0], search.deep(x, OFF))


# -- accounting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "methods",
    [("memorise", "factorise", "naive"), ("factorise", "naive", "factorise"), ("naive", "naive", "naive")],
)
def test_parameters_are_those_of_the_formula(methods):
    given = tuple((*pair, m) for pair, m in zip(PAIRS, methods, strict=True))
    model = OptInter(**SMALL, method="given", pairs=given).fit(ROWS)
    count, sizes, dim, pair_dim = model.parameters(), model.encoder_.layout.sizes, 4, 3
    assert count["fields"] == dim * (1 + sum(sizes[n] for n in "abc") + 2)  # padding, values, two numbers
    memorised = [cross_name(p) for p, m in zip(PAIRS, methods, strict=True) if m == "memorise"]
    assert [n for n in model.encoder_.layout.single if n not in "abc"] == memorised
    assert count["memorised pairs"] == (pair_dim * (1 + sum(sizes[n] for n in memorised)) if memorised else 0)
    fields = {n for p, m in zip(PAIRS, methods, strict=True) if m == "factorise" for n in p}
    assert count["factorised pairs"] == (pair_dim * (1 + sum(sizes[n] for n in fields)) if fields else 0)
    width = dim * 5 + pair_dim * sum(m != "naive" for m in methods)
    assert count["dense layers"] == 8 * width + 8 + 16 + 8 + 1
    assert count["all"] == sum(v for name, v in count.items() if name != "all")
    assert model.record_.notes["parameters"] == count
    assert sum(model.record_.notes["methods"].values()) == 3


def test_methods_are_told_and_printed():
    model = OptInter(**SMALL, method="memorise").fit(ROWS)
    assert model.methods == dict.fromkeys(PAIRS, "memorise")
    lines = model.methods_table().splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("a & b")
    assert "memorise" in lines[1]
    assert [p["method"] for p in model.export()["pairs"]] == ["memorise"] * 3


# -- crosses are by pair ----------------------------------------------------------------------------------------------------


def test_the_columns_of_a_memorised_pair_are_its_own_though_numbers_stand_before_them():
    model = OptInter(**SMALL, method="memorise").fit(ROWS)
    encoder, table = model.encoder_, ROWS.features
    codes = encoder.encode(table).codes
    for pair in PAIRS:
        at = encoder.layout.single.index(cross_name(pair))
        for row in range(40):
            values = " & ".join(table.column(name)[row].as_py() for name in pair)
            assert encoder.value_of(cross_name(pair), int(codes[row, at])) == values


def test_each_pair_has_a_vocabulary_of_its_own():
    model = OptInter(**SMALL, method="memorise").fit(ROWS)
    encoder, table = model.encoder_, ROWS.features
    codes, layout = encoder.encode(table).codes, encoder.layout
    values = {pair: encoder.learnt[cross_name(pair)].values.to_pylist() for pair in PAIRS}
    for pair in PAIRS:
        own = codes[:, layout.single.index(cross_name(pair))] - layout.bases[cross_name(pair)]
        assert (own >= 2).all()  # every pair of training values is known
        assert len(values[pair]) == len(np.unique(own))
    # the published reading: the dictionary that has the number of the pair's first field; that of b & c is then that of a & c
    keys = encoder._keys(encoder._field("b & c"), encoder._local_codes(table, {"b", "c"}))
    by_first_field = values[PAIRS[["a", "b", "c"].index("b")]]
    words = {key: encoder._uncrossed(encoder._field("a & c"), key) for key in by_first_field}
    meant = [" & ".join(words[key]) if key in words else "unknown" for key in keys.tolist()]
    true = [f"{b.as_py()} & {c.as_py()}" for b, c in zip(table.column("b"), table.column("c"), strict=True)]
    assert not any(m == t for m, t in zip(meant, true, strict=True))


def test_rare_pairs_share_a_vector_and_hashed_ones_have_so_many():
    model = OptInter(**{**SMALL, "pair_min_count": 12}, method="memorise").fit(ROWS)
    pairs = list(zip(ROWS.features.column("a").to_pylist(), ROWS.features.column("b").to_pylist(), strict=True))
    often = sum(pairs.count(p) >= 12 for p in set(pairs))
    assert 0 < often < len(set(pairs))
    assert model.encoder_.layout.sizes["a & b"] == often + 2
    hashed = OptInter(**SMALL, method="memorise", pair_buckets=16).fit(ROWS)
    assert hashed.encoder_.layout.sizes["a & b"] == 16 + 2


# -- the search -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    train, valid = rows_of(3000, 1, k=8), rows_of(600, 2, k=8)
    settings = {**SMALL, "batch_size": 128, "lr": 0.02, "epochs": 6, "method_lr": 0.02, "margin": 0.15}
    return OptInter(**settings).fit(train, valid), OptInter(**settings, method="naive").fit(train, valid), rows_of(1000, 3, k=8)


def test_the_search_finds_the_pair_that_matters(found):
    model, naive, test = found
    assert model.methods["a", "b"] != "naive"
    assert model.methods["a", "c"] == model.methods["b", "c"] == "naive"
    values = [auc(test.labels["click"], m.predict(test).values[:, 0]) for m in (model, naive)]
    assert values[0] > 0.85, values
    assert model.parameters()["all"] < model.record_.notes["search"]["parameters"]["all"]
    shares = {p.pair: p.shares for p in model.pairs_}
    assert sum(shares["a", "b"]) == pytest.approx(1, abs=1e-5)
    assert shares["a", "b"][2] < min(shares["a", "c"][2], shares["b", "c"][2])


def test_preferences_move_by_their_own_step_size():
    search = PairSearch(**{**SMALL, "batch_size": 300, "search_epochs": 1, "method_lr": 0.05})
    search._fit(lambda: [ROWS], None, Fitting())
    moved = search.net_.alpha.detach().abs()
    np.testing.assert_allclose(moved, 0.05, rtol=0.02)  # the first step of Adam has the size of the rate


def test_the_temperature_falls_to_the_last_batch():
    seen = []

    class Watched(PairSearch):
        def _loss(self, outputs, labels, weights):
            seen.append(self.net_.temperature)
            return super()._loss(outputs, labels, weights)

    Watched(**{**SMALL, "batch_size": 100, "search_epochs": 2})._fit(lambda: [ROWS], None, Fitting())
    np.testing.assert_allclose(seen, [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.01], atol=1e-6)


def test_preferences_are_those_of_the_epoch_with_the_best_validation_value():
    seen = []

    class Watched(PairSearch):
        def _value(self, store):
            seen.append(self.net_.raw.detach().clone())
            return [0.6, 0.9, 0.7][len(seen) - 1]

    search = Watched(**{**SMALL, "search_epochs": 3, "patience": 0})
    search._fit(lambda: [ROWS], lambda: [rows_of(seed=1)], Fitting())
    assert len(seen) == 3 and not torch.equal(seen[1], seen[2])
    assert torch.equal(search.net_.raw, seen[1])


def test_layer_normalisation_learns_in_the_search_and_after_it():
    """In the published code no optimizer holds its weights: they stay 1 and 0."""
    search = PairSearch(**SMALL)
    search._fit(lambda: [ROWS], None, Fitting())
    for net in (search.net_, OptInter(**SMALL, method="memorise").fit(ROWS).net_):
        norm = net.deep.activations[0][0]
        assert (norm.weight != 1).all() and norm.bias.any()


def test_pairs_of_rare_values_alone_can_not_be_memorised():
    model = OptInter(**{**SMALL, "pair_min_count": 200}).fit(ROWS)
    assert all(p.shares[0] == 0 for p in model.pairs_)
    assert "memorise" not in model.methods.values()


@pytest.mark.parametrize(
    ("shares", "margin", "method"),
    [
        ((0.4, 0.35, 0.25), 0.0, "memorise"),
        ((0.4, 0.35, 0.25), 0.08, "factorise"),
        ((0.4, 0.35, 0.25), 0.2, "naive"),
        ((0.5, 0.2, 0.3), 0.1, "memorise"),
        ((1 / 3, 1 / 3, 1 / 3), 0.0, "naive"),
    ],
)
def test_a_simpler_method_within_the_margin_is_taken(shares, margin, method):
    assert choose(shares, margin) == method


def test_the_penalty_is_on_vectors_of_pairs_alone():
    held = OptInter(**{**SMALL, "epochs": 20}, method="memorise", pair_reg=1e4).fit(ROWS)
    free = OptInter(**{**SMALL, "epochs": 20}, method="memorise", pair_reg=0.0).fit(ROWS)
    size = [float(m.net_.pairs.squares().detach()) for m in (held, free)]
    assert size[0] < 0.02 * size[1]
    fields = [float(m.net_.table.table.detach().square().sum()) for m in (held, free)]
    assert fields[0] > 0.2 * fields[1]


# -- settings, bundles ------------------------------------------------------------------------------------------------------


def test_shells_are_drawn_by_the_seed():
    drawn = [OptInter(**{**SMALL, "epochs": 0}, method="random").fit(click_more(), seed=seed).methods for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0].values()) <= set(METHODS)


def click_more():
    """Rows with six categories."""
    rng = generator(0, "more")
    x = rng.integers(3, size=(60, 6))
    return Rows(pa.table({f"f{i}": [f"v{v}" for v in x[:, i]] for i in range(6)}), {"click": (x[:, 0] > 0).astype(np.float32)})


def test_a_bundle_keeps_the_methods(tmp_path):
    model = OptInter(**SMALL).fit(ROWS)
    model.save(tmp_path / "bundle")
    loaded = OptInter.load(tmp_path / "bundle")
    assert loaded.pairs_ == model.pairs_
    assert loaded.methods_table() == model.methods_table()
    np.testing.assert_array_equal(loaded.predict(ROWS).values, model.predict(ROWS).values)


def test_a_fit_goes_on_from_its_checkpoints(tmp_path):
    whole = OptInter(**SMALL).fit(ROWS, rows_of(seed=1))
    first = OptInter(**{**SMALL, "epochs": 1}).fit(ROWS, rows_of(seed=1), checkpoint=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"search", "model"}
    again = OptInter(**SMALL).fit(ROWS, rows_of(seed=1), checkpoint=tmp_path)
    assert first.pairs_ == again.pairs_ == whole.pairs_
    np.testing.assert_array_equal(again.predict(ROWS).values, whole.predict(ROWS).values)


def test_fields_to_pair_can_be_named():
    model = OptInter(**SMALL, method="memorise", pair_fields=("c", "a")).fit(ROWS)
    assert list(model.methods) == [("a", "c")]
    with pytest.raises(ConfigError, match="can't be paired"):
        OptInter(**SMALL, pair_fields=("a", "n1")).fit(ROWS)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="method is not 'given'"):
        OptInter(pairs=(("a", "b", "memorise"),))
    with pytest.raises(ConfigError, match="no such pair"):
        OptInter(**SMALL, method="given", pairs=(("a", "z", "memorise"),)).fit(ROWS)
    alone = Rows(ROWS.features.select(["n1", "a"]), ROWS.labels)
    with pytest.raises(DataError, match="no two fields to pair"):
        OptInter(**SMALL).fit(alone)
    assert OptInter(**SMALL, method="naive").fit(alone).methods == {}


def test_rows_of_all_kinds_of_columns():
    rows = click_rows(200)
    model = OptInter(**{**SMALL, "epochs": 4}).fit(rows)
    assert ("user", "item") in model.methods
    assert {name for pair in model.methods for name in pair} <= {"user", "item", "title"}
