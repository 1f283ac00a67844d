"""DIN: what it finds that a mean of the history hides; sum pooling as a special case; tasks, resumption, softmax."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.errors import ConfigError
from palate.evaluation.metrics.predictive import auc
from palate.nn.dropout import OFF
from palate.rank.din import DIN
from palate.rank.mlp import MLPRanker

QUICK: dict[str, Any] = {"dim": 8, "batch_size": 128, "lr": 0.02, "epochs": 8, "hidden": (16,), "attention_hidden": (16,)}


def seen_before(n: int = 2_000, items: int = 60, seed: int = 0) -> Rows:
    """Rows where a click means that the item stands in the history."""
    rng = np.random.default_rng(seed)
    history = [rng.choice(items, size=rng.integers(2, 9), replace=False) for _ in range(n)]
    click = rng.random(n) < 0.5
    item = np.array(
        [own[-1 - at % 2] if yes else rng.integers(items) for at, (own, yes) in enumerate(zip(history, click, strict=True))]
    )
    table = pa.table({"item": [f"i{i}" for i in item], "history": [[f"i{i}" for i in own] for own in history]})
    return Rows(table, {"click": click.astype(np.float32)})


@pytest.mark.parametrize("softmax", [False, True])
def test_it_finds_the_events_that_matter(softmax: bool) -> None:
    train, test = seen_before(), seen_before(1_000, seed=1)
    found = [
        auc(test.labels["click"], model.fit(train).predict(test).values[:, 0])
        for model in (DIN(**QUICK, softmax=softmax), MLPRanker(**{k: v for k, v in QUICK.items() if k != "attention_hidden"}))
    ]
    assert found[0] > 0.85 > found[1] + 0.1


def test_constant_scores_are_the_sum_of_the_events() -> None:
    rows = click_rows(100)
    model = DIN(**{**QUICK, "epochs": 1}).fit(rows)
    net, encoded = model.net_, model.encoder_.encode(rows.features, str.split)
    with torch.no_grad():
        net.attention.unit.rest.last.weight.zero_()
        net.attention.unit.rest.last.bias.fill_(1.0)
        vectors = net.table(encoded)
        summed = vectors.sequences["history"][0].sum(1)
        torch.testing.assert_close(net(encoded, OFF)[0], net.deep(torch.cat([vectors.flat, summed], 1), OFF))


def test_the_order_of_events_does_not_matter() -> None:
    rows = click_rows(100)
    model = DIN(**{**QUICK, "epochs": 2}).fit(rows)
    at = rows.features.column_names.index("history")
    turned = pa.array([own[::-1] for own in rows.features.column("history").to_pylist()])
    other = Rows(rows.features.set_column(at, "history", turned))
    np.testing.assert_allclose(model.predict(other).values, model.predict(rows).values, atol=1e-6)


def test_only_the_latest_events_are_read() -> None:
    rows = seen_before(200)
    model = DIN(**{**QUICK, "epochs": 1}, history_length=2).fit(rows)
    at = rows.features.column_names.index("history")
    latest = pa.array([own[-2:] for own in rows.features.column("history").to_pylist()])
    other = Rows(rows.features.set_column(at, "history", latest))
    np.testing.assert_array_equal(model.predict(other).values, model.predict(rows).values)


def test_a_fit_that_is_resumed_has_the_same_bits(tmp_path: Path) -> None:
    rows, valid = click_rows(300), click_rows(100, seed=1)
    settings = {**QUICK, "epochs": 3, "dropout": 0.2, "patience": 0, "batch_norm": True}
    whole = DIN(**settings).fit(rows, valid)
    DIN(**{**settings, "epochs": 1}).fit(rows, valid, checkpoint=tmp_path)
    again = DIN(**settings).fit(rows, valid, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.predict(valid).values, whole.predict(valid).values)


def test_several_tasks_are_answered() -> None:
    rows = seen_before(400)
    labels = {"click": rows.labels["click"], "skip": 1 - rows.labels["click"]}
    found = DIN(**QUICK).fit(Rows(rows.features, labels)).predict(rows)
    assert found.tasks == ("click", "skip") and np.corrcoef(found.values.T)[0, 1] < -0.9


def test_bad_settings_are_refused() -> None:
    for wrong in ({"activation": "tanh"}, {"attention_hidden": ()}, {"history_length": 0}):
        with pytest.raises(ConfigError):
            DIN(**wrong)
