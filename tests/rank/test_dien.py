"""DIEN: order matters to it; the auxiliary loss; many candidates of one person; states of the last event."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.evaluation.metrics.predictive import auc
from palate.nn.dropout import Dropout
from palate.rank.dien import DIEN
from palate.rank.din import DIN

QUICK: dict[str, Any] = {"dim": 8, "batch_size": 128, "lr": 0.02, "epochs": 8, "hidden": (16,)}


def last_counts(n: int = 2_000, seed: int = 0) -> Rows:
    """Rows where a click means that item and last event are of one kind; all histories hold both kinds alike."""
    rng = np.random.default_rng(seed)
    history = [
        rng.permutation(np.concatenate([2 * rng.integers(6, size=2), 1 + 2 * rng.integers(6, size=2)])) for _ in range(n)
    ]
    item = rng.integers(12, size=n)
    click = np.array([own[-1] % 2 == i % 2 for own, i in zip(history, item, strict=True)])
    table = pa.table({"item": [f"i{i}" for i in item], "history": [[f"i{i}" for i in own] for own in history]})
    return Rows(table, {"click": click.astype(np.float32)})


def test_it_reads_the_order_of_events() -> None:
    train, test = last_counts(), last_counts(1_000, seed=1)
    found = [auc(test.labels["click"], kind(**QUICK).fit(train).predict(test).values[:, 0]) for kind in (DIEN, DIN)]
    assert found[0] > 0.9 and found[1] < 0.65


def test_the_auxiliary_loss_teaches_what_comes_next() -> None:
    """Events go round in a ring, clicks are noise: only the auxiliary loss can teach the states.

    After 10 epochs the loss is still falling steeply (0.55 to 0.71 for six starts), after 20 it is 0.17 to 0.26, and where
    nothing teaches it 1.34 to 1.40: far from the bounds for any start.
    """
    rng = np.random.default_rng(0)
    start = rng.integers(10, size=600)
    table = pa.table(
        {
            "item": [f"i{i}" for i in rng.integers(10, size=600)],
            "history": [[f"i{(s + k) % 10}" for k in range(6)] for s in start],
        }
    )
    rows = Rows(table, {"click": (rng.random(600) < 0.5).astype(np.float32)})
    values = {}
    for weight in (0.0, 1.0):
        model = DIEN(**{**QUICK, "epochs": 20}, auxiliary=weight).fit(rows)
        assert model.net_.aside is None, "answering leaves nothing aside"
        net = model.net_.train()
        net.auxiliary = 1.0
        net(model.encoder_.encode(rows.features, str.split), Dropout(0.0, torch.Generator().manual_seed(0)))
        values[weight] = float(net.take_aside().detach())
    assert values[1.0] < 0.7 < 1.1 < values[0.0]  # knowing nothing gives 2 ln 2 = 1.39


def test_the_loss_has_the_auxiliary_part() -> None:
    rows = click_rows(100)
    model = DIEN(**{**QUICK, "epochs": 1}, auxiliary=0.5).fit(rows)
    outputs, labels, weights = torch.zeros(4, 1), torch.tensor([[1.0], [0.0], [1.0], [0.0]]), torch.ones(4)
    model.net_.aside = torch.tensor(3.0)
    np.testing.assert_allclose(float(model._loss(outputs, labels, weights)), np.log(2) + 1.5, rtol=1e-6)


def test_many_candidates_of_one_person_are_answered_as_alone() -> None:
    rows = click_rows(200)
    model = DIEN(**{**QUICK, "epochs": 2}).fit(rows)
    for history in (["i3", "i5", "i3"], []):
        table = pa.concat_tables([rows.features.slice(0, 1)] * 20).combine_chunks()
        table = table.set_column(1, "item", pa.array([f"i{at}" for at in range(20)]))
        table = table.set_column(4, "history", pa.array([history] * 20, pa.list_(pa.string())))
        alone = np.concatenate([model.predict(Rows(table.slice(at, 1))).values for at in range(20)])
        np.testing.assert_allclose(model.predict(Rows(table)).values, alone, atol=1e-6)
        assert len(np.unique(alone)) > 1


def test_without_histories_it_learns_from_the_rest() -> None:
    rows = click_rows(200)
    empty = rows.features.set_column(4, "history", pa.array([[]] * 200, pa.list_(pa.string())))
    assert np.isfinite(DIEN(**{**QUICK, "epochs": 2}).fit(Rows(empty, rows.labels)).predict(rows).values).all()
    none = Rows(rows.features.drop_columns(["history"]), rows.labels)
    assert DIEN(**{**QUICK, "epochs": 2}).fit(none).net_.history is None
