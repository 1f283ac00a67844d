"""Shapley values: against all subsets by hand, their axioms, estimates that add up, crosses, sequences that go together."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")
pytest.importorskip("shap")

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowEncoder
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError, MissingExtraError, NotFittedError, UnsupportedError
from palate.rank.deepfm import DeepFM
from palate.rank.din import DIN
from palate.rank.linear import LR
from palate.rank.mlp import MLPRanker
from palate.rank.neural import BACKGROUND, NeuralRanker
from palate.rank.shapley import EXACT, Parts, shapley

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 64, "lr": 0.02, "epochs": 3}
Answer = Callable[[Encoded], np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Let the library compile its kernels outside the tests."""
    encoder, whole = world(3)
    shapley(lambda rows: rows.numbers.sum(1), encoder, whole.take(slice(0, 2)), whole.take(slice(2, 3)), each(encoder), who="")


def table_of(n: int, seed: int = 0) -> pa.Table:
    """Return two categories, a sequence and a number."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "a": [f"a{v}" for v in rng.integers(4, size=n)],
            "b": [f"b{v}" for v in rng.integers(4, size=n)],
            "s": [[f"s{v}" for v in rng.integers(5, size=rng.integers(4))] for _ in range(n)],
            "x": rng.normal(size=n),
        }
    )


def world(n: int = 8, seed: int = 0) -> tuple[RowEncoder, Encoded]:
    """Return an encoder of two categories, their cross, a sequence and a number; and rows."""
    table = table_of(n, seed)
    fields = (
        RowField("a", "category"),
        RowField("b", "category"),
        RowField("a&b", "cross", of=("a", "b")),
        RowField("s", "sequence", max_length=3),
        RowField("x", "number", scale="none"),
    )
    encoder = RowEncoder.learn(fields, lambda: [table])
    return encoder, encoder.encode(table)


def wide(players: int, n: int = 6, seed: int = 0) -> tuple[RowEncoder, Encoded]:
    """Return an encoder of many numbers, and rows."""
    values = np.random.default_rng(seed).normal(size=(n, players))
    table = pa.table({f"x{at}": values[:, at] for at in range(players)})
    encoder = RowEncoder.learn([RowField(name, "number", scale="none") for name in table.column_names], lambda: [table])
    return encoder, encoder.encode(table)


def each(encoder: RowEncoder) -> list[tuple[str, ...]]:
    return [(f.name,) for f in encoder.fields if f.kind != "cross"]


def parts_of(answer: Answer, encoder: RowEncoder, whole: Encoded, seed: int = 0) -> Parts:
    """Explain the last row against the others."""
    return shapley(answer, encoder, whole.take(slice(0, -1)), whole.take(slice(-1, None)), each(encoder), who="it", seed=seed)


def by_hand(answer: Answer, encoder: RowEncoder, whole: Encoded) -> np.ndarray:
    """Return Shapley values by their definition, subset by subset."""
    layout, names = encoder.layout, [name for (name,) in each(encoder)]
    spans = {**layout.bags, **layout.sequences}

    def worth(own: set[str]) -> float:
        codes, numbers = whole.codes[:-1].copy(), whole.numbers[:-1].copy()
        for name in own:
            if name in layout.numbers:
                numbers[:, layout.numbers.index(name)] = whole.numbers[-1, layout.numbers.index(name)]
            else:
                span = slice(*spans[name]) if name in spans else layout.single.index(name)
                codes[:, span] = whole.codes[-1, span]
        return float(answer(encoder.crossed_anew(Encoded(codes, numbers))).mean())

    n, found = len(names), []
    for name in names:
        others, part = [other for other in names if other != name], 0.0
        for size in range(n):
            for own in itertools.combinations(others, size):
                share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                part += share * (worth({*own, name}) - worth(set(own)))
        found.append(part)
    return np.array(found)


def tangled(encoder: RowEncoder, seed: int = 1) -> Answer:
    """Return a function in which everything acts together, the cross too."""
    weights = np.random.default_rng(seed).normal(size=encoder.layout.n_codes)
    weights[0] = 0

    def answer(rows: Encoded) -> np.ndarray:
        return np.sin(weights[rows.codes].sum(1) + 0.7 * rows.numbers[:, 0]) * (1 + weights[rows.codes[:, 0]])

    return answer


@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_the_definition(seed: int) -> None:
    encoder, whole = world(seed=seed)
    answer = tangled(encoder)
    found = parts_of(answer, encoder, whole)
    np.testing.assert_allclose(found.values, by_hand(answer, encoder, whole), atol=1e-12)
    assert found.exact and found.base == pytest.approx(answer(whole.take(slice(0, -1))).mean())
    assert found.base + found.values.sum() == pytest.approx(answer(whole)[-1], abs=1e-12)


def test_a_sum_falls_into_its_terms() -> None:
    encoder, whole = wide(5)
    weights = np.array([1.0, -2.0, 0.0, 0.5, 3.0])
    found = parts_of(lambda rows: rows.numbers @ weights, encoder, whole)
    np.testing.assert_allclose(found.values, weights * (whole.numbers[-1] - whole.numbers[:-1].mean(0)), atol=1e-6)
    assert found.values[2] == pytest.approx(0, abs=1e-12), "what is not read has no part"


def test_equals_get_equal_parts_and_what_does_not_differ_gets_none() -> None:
    encoder, whole = wide(3)
    whole.numbers[:, 1] = whole.numbers[:, 0]
    whole.numbers[:, 2] = 0.25
    found = parts_of(lambda rows: rows.numbers[:, 0] * rows.numbers[:, 1] + 9 * rows.numbers[:, 2], encoder, whole)
    assert found.values[0] == pytest.approx(found.values[1]) and found.values[0] != 0 and found.values[2] == 0


def test_a_row_like_all_of_the_background_has_no_parts() -> None:
    encoder, whole = world()
    same, answer = whole.take(np.zeros(5, np.int64)), tangled(encoder)
    found = parts_of(answer, encoder, same)
    assert not found.values.any() and found.exact and found.base == pytest.approx(answer(same)[0])


def test_the_part_of_a_cross_goes_to_the_fields_that_it_joins() -> None:
    encoder, whole = world(20)
    at = encoder.layout.single.index("a&b")

    def met(rows: Encoded) -> np.ndarray:
        return (rows.codes[:, at] == whole.codes[-1, at]).astype(float)

    found = dict(zip([name for (name,) in each(encoder)], parts_of(met, encoder, whole).values, strict=True))
    places = [encoder.layout.single.index(name) for name in "ab"]
    a, b = (whole.codes[:-1, place] == whole.codes[-1, place] for place in places)
    neither, just_a, just_b = (a & b).mean(), b.mean(), a.mean()  # v(∅), v({a}), v({b})
    assert found["a"] == pytest.approx(((just_a - neither) + (1 - just_b)) / 2)
    assert found["b"] == pytest.approx(((just_b - neither) + (1 - just_a)) / 2)
    assert found["s"] == pytest.approx(0, abs=1e-12) and found["x"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("buckets", [0, 50])
def test_crosses_follow_from_the_fields_that_they_join(buckets: int) -> None:
    fields = (
        RowField("a", "category", min_count=2),
        RowField("x", "bucket", buckets=3),
        RowField("a&x", "cross", of=("a", "x"), hash_buckets=buckets),
        RowField("s", "sequence"),
    )
    table = table_of(30)
    encoder = RowEncoder.learn(fields, lambda: [table])
    whole = encoder.encode(table)
    np.testing.assert_array_equal(encoder.crossed_anew(whole).codes, whole.codes)
    turned = whole.codes.copy()
    turned[:, encoder.layout.single.index("a")] = whole.codes[::-1, encoder.layout.single.index("a")]
    other = table.set_column(0, "a", pa.array(table.column("a").to_pylist()[::-1]))
    np.testing.assert_array_equal(encoder.crossed_anew(Encoded(turned, whole.numbers)).codes, encoder.encode(other).codes)
    assert (encoder.encode(other).codes != whole.codes).any(0).sum() == 2, "the field and its cross changed, and nothing else"


# -- more fields than all subsets of which could be tried ---------------------------------------------


def test_estimates_add_up_and_are_exact_for_pairs() -> None:
    encoder, whole = wide(EXACT + 6)
    weights = np.random.default_rng(2).normal(size=(EXACT + 6, EXACT + 6))

    def pairs(rows: Encoded) -> np.ndarray:
        x = rows.numbers.astype(np.float64)
        return ((x @ weights) * x).sum(1)

    found, again = parts_of(pairs, encoder, whole), parts_of(pairs, encoder, whole, seed=7)
    assert not found.exact
    assert found.base + found.values.sum() == pytest.approx(pairs(whole)[-1], abs=1e-9)
    np.testing.assert_allclose(found.values, again.values, atol=1e-9)
    x, mean = whole.numbers[-1].astype(float), whole.numbers[:-1].astype(float).mean(0)
    square = (whole.numbers[:-1].astype(float) ** 2).mean(0)
    both = weights + weights.T - 2 * np.diag(np.diag(weights))
    alone = np.diag(weights) * (x**2 - square)
    together = 0.5 * (x * (both @ x) + x * (both @ mean) - mean * (both @ x))  # ½[(x-b)(x'-b') + 2(x-b)b'] summed over others
    moments = whole.numbers[:-1].astype(float).T @ whole.numbers[:-1].astype(float) / (len(whole) - 1)
    np.testing.assert_allclose(found.values, alone + together - 0.5 * (both * moments).sum(1), atol=1e-6)


def test_draws_are_repeatable_and_leave_the_global_generator_alone() -> None:
    encoder, whole = wide(EXACT + 3)

    def answer(rows: Encoded) -> np.ndarray:
        return np.prod(1 + np.sin(rows.numbers.astype(float)), axis=1)

    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first = parts_of(answer, encoder, whole, seed=1)
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    np.testing.assert_array_equal(parts_of(answer, encoder, whole, seed=1).values, first.values)
    other = parts_of(answer, encoder, whole, seed=2).values
    assert (other != first.values).any()
    np.testing.assert_allclose(other, first.values, atol=0.5 * np.abs(first.values).max())


# -- rankers ------------------------------------------------------------------------------------------


class PlainLR(LR):
    """LR that is explained as a network is."""

    background_rows = BACKGROUND
    explain_row = NeuralRanker.explain_row


def test_of_a_sum_of_weights_they_are_the_weights_less_their_mean() -> None:
    rows = click_rows(200)
    model, own = PlainLR(**QUICK).fit(rows, seed=5), LR(**QUICK).fit(rows, seed=5)
    kept = model.background_
    weights = model.net_.get_submodule("main").get_submodule("weights")
    mean = weights(kept).fields.mean(0)[:, 0].detach().numpy()  # type: ignore[operator]
    for at in range(4):
        one, two = model.explain_row(rows.slice(at, at + 1)), own.explain_row(rows.slice(at, at + 1))
        whole = {reason.subject: reason.weight for reason in two.evidence}
        less = dict(zip(weights.names, mean, strict=True))  # type: ignore[arg-type]
        for reason in one.evidence:
            assert reason.weight == pytest.approx(whole[reason.subject] - less[reason.detail["fields"][0]], abs=1e-5)
        assert one.score == pytest.approx(two.score, abs=1e-5) and one.rest == pytest.approx(two.rest + mean.sum(), abs=1e-5)


def test_the_score_is_the_logit_before_calibration_and_the_reasons_are_in_words() -> None:
    rows, valid = click_rows(300), click_rows(200, seed=1)
    model = DeepFM(**QUICK, calibrate="platt").fit(rows, valid)
    found = model.explain_row(rows.slice(3, 4))
    p = float(model._answers(model.encoder_.encode(rows.features.slice(3, 1), lambda text: text.split()))[0, 0])
    assert found.score == pytest.approx(math.log(p / (1 - p)), abs=1e-4)
    assert found.exact and found.method == f"Shapley values of the fields, against {BACKGROUND} training rows"
    assert {reason.subject.split("=")[0] for reason in found.evidence} == set(rows.features.column_names)
    assert "price=missing" in {reason.subject for reason in found.evidence}
    assert [abs(r.weight) for r in found.evidence] == sorted((abs(r.weight) for r in found.evidence), reverse=True)


def test_each_task_is_explained_in_its_own_unit() -> None:
    rows = click_rows(200)
    stars = (3 + 1.5 * rows.labels["click"]).astype(np.float32)
    model = MLPRanker(**QUICK).fit(Rows(rows.features, {**rows.labels, "stars": stars}))
    row = rows.slice(0, 1)
    values = model.predict(row)
    assert model.explain_row(row, "stars").score == pytest.approx(float(values.task("stars")[0]), abs=1e-4)
    logit = model.explain_row(row).score
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(float(values.task("click")[0]), abs=1e-5)


def test_sequences_that_go_together_are_one_player() -> None:
    n, rng = 80, np.random.default_rng(0)
    lengths = rng.integers(0, 4, size=n)
    items = [[f"i{v}" for v in rng.integers(6, size=k)] for k in lengths]
    brands = [[f"b{v}" for v in rng.integers(3, size=k)] for k in lengths]
    table = pa.table({"item": [f"i{v}" for v in rng.integers(6, size=n)], "brand": [f"b{v}" for v in rng.integers(3, size=n)]})
    table = table.append_column("items", pa.array(items)).append_column("brands", pa.array(brands))
    click = rng.integers(2, size=n).astype(np.float32)
    model = DIN(**QUICK, hidden=(8,), history=("items", "brands"), target=("item", "brand")).fit(Rows(table, {"click": click}))
    at = int(np.argmax(lengths))
    found = model.explain_row(Rows(table.slice(at, 1)))
    assert {tuple(reason.detail["fields"]) for reason in found.evidence} == {("item",), ("brand",), ("items", "brands")}
    assert found.score == pytest.approx(found.rest + sum(reason.weight for reason in found.evidence))


def test_kept_rows_are_few_and_drawn_by_the_seed() -> None:
    rows = click_rows(200)
    one, two, other = (MLPRanker(**{**QUICK, "epochs": 0}).fit(rows, seed=seed) for seed in (1, 1, 2))
    assert len(one.background_) == BACKGROUND
    np.testing.assert_array_equal(one.background_.codes, two.background_.codes)
    assert (one.background_.codes != other.background_.codes).any()
    few = MLPRanker(**{**QUICK, "epochs": 0}).fit(rows.slice(0, 10))
    np.testing.assert_array_equal(
        few.background_.codes[:, 0], few.encoder_.codes_of("user", rows.features.column("user")[:10].to_pylist())
    )
    assert not len(LR(**QUICK).fit(rows).background_)


def test_rows_of_people_who_are_forgotten_are_dropped() -> None:
    rows = click_rows(200)
    model = MLPRanker(**{**QUICK, "epochs": 1}).fit(rows)
    at = model.encoder_.layout.single.index("user")
    people = {code: model.encoder_.value_of("user", code) for code in set(model.background_.codes[:, at].tolist())}
    code, user = next(iter(people.items()))
    held = int((model.background_.codes[:, at] == code).sum())
    model.forget([user, "nobody"])
    assert held > 0 and len(model.background_) == BACKGROUND - held and code not in model.background_.codes[:, at]
    model.explain_row(rows.slice(0, 1))
    model.forget(list(people.values()))
    with pytest.raises(UnsupportedError, match="fit it again"):
        model.explain_row(rows.slice(0, 1))


def test_what_can_not_be_explained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = click_rows(100)
    model = MLPRanker(**{**QUICK, "epochs": 0}).fit(rows)
    with pytest.raises(DataError, match="one row"):
        model.explain_row(rows.slice(0, 2))
    with pytest.raises(ConfigError, match="click"):
        model.explain_row(rows.slice(0, 1), "clack")
    with pytest.raises(NotFittedError):
        MLPRanker().explain_row(rows.slice(0, 1))
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingExtraError, match=r"MLP needs shap.*\n?.*palate\[explain\]"):
        model.explain_row(rows.slice(0, 1))
