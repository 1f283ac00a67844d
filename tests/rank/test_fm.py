"""FM: the identity against the double loop, and exact explanations of fields and pairs."""

import itertools

import numpy as np
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.nn.dropout import OFF
from palate.rank.fm import FM
from palate.retrieval.tokens import tokens


def two_tasks(n: int = 200) -> Rows:
    rows = click_rows(n)
    stars = np.random.default_rng(0).normal(5, 2, n).astype(np.float32)
    return Rows(rows.features, {**rows.labels, "stars": stars})


@pytest.fixture(scope="module", params=[1, 2], ids=["one task", "two tasks"])
def fitted(request: pytest.FixtureRequest) -> tuple[FM, Rows]:
    rows = two_tasks() if request.param == 2 else click_rows(200)
    return FM(epochs=4, batch_size=64, lr=0.05, dim=5).fit(rows), rows


def test_the_network_equals_the_double_loop(fitted: tuple[FM, Rows]) -> None:
    model, rows = fitted
    encoded = model.encoder_.encode(rows.features.slice(0, 20), tokens)
    net = model.net_
    with torch.no_grad():
        found = net(encoded, OFF)[0].double().numpy()
        vectors, main = net.table(encoded).fields.double().numpy(), net.main(encoded)[0].double().numpy()
        weights = net.weights.double().numpy()
    for n, task in itertools.product(range(20), range(found.shape[1])):
        total = main[n, task]
        for i, j in itertools.combinations(range(vectors.shape[1]), 2):
            total += sum(vectors[n, i, f] * vectors[n, j, f] * weights[f, task] for f in range(5))
        assert found[n, task] == pytest.approx(total, abs=1e-5)


def test_an_explanation_adds_up(fitted: tuple[FM, Rows]) -> None:
    model, rows = fitted
    predicted = model.predict(rows).values.astype(np.float64)
    for at in range(5):
        for number, task in enumerate(model.tasks):
            found = model.explain_row(rows.slice(at, at + 1), task)
            p = predicted[at, number]
            score = np.log(p / (1 - p)) if model.kinds_[number].binary else p
            assert found.score == pytest.approx(score, abs=1e-4) and found.exact
            assert found.score == pytest.approx(found.rest + sum(reason.weight for reason in found.evidence))
            assert sorted(len(reason.detail["fields"]) for reason in found.evidence) == [1] * 6 + [2] * 15


def test_one_task_leaves_products_unweighted(fitted: tuple[FM, Rows]) -> None:
    model, _ = fitted
    ones = bool((model.net_.weights == 1).all())
    assert ones == (len(model.tasks) == 1)
