"""What all neural rankers share: stopping, resuming, labels that are missing, weights, tasks, rare values, calibration."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError, TrainingError
from palate.evaluation.metrics.predictive import auc, expected_calibration_error
from palate.rank.deepfm import DeepFM
from palate.rank.fm import FM
from palate.rank.linear import LR
from palate.rank.mlp import MLPRanker

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 64, "lr": 0.02, "epochs": 4}


def table_of(**columns: Any) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def by_item(n: int = 600, seed: int = 0, rates: tuple[float, ...] = (0.2, 0.8)) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    item = rng.integers(len(rates), size=n)
    return table_of(item=[f"i{i}" for i in item]), item, (rng.random(n) < np.array(rates)[item]).astype(np.float32)


def test_it_stops_early_and_keeps_the_best_epoch() -> None:
    rows, valid = click_rows(300), click_rows(200, seed=1)
    model = MLPRanker(**{**QUICK, "epochs": 40, "patience": 3, "lr": 0.03}).fit(rows, valid)
    notes = model.record_.notes
    assert notes["epochs"] < 40 and notes["epochs"] == notes["best_epoch"] + 3
    values = [value for _, _, value in notes["curve"]]
    assert notes["best_value"] == max(values)
    assert auc(valid.labels["click"], model.predict(valid).values[:, 0]) == pytest.approx(notes["best_value"], abs=1e-12)
    shorter = MLPRanker(**{**QUICK, "epochs": notes["best_epoch"], "patience": 0, "lr": 0.03}).fit(rows, valid)
    np.testing.assert_array_equal(shorter.predict(valid).values, model.predict(valid).values)


def test_stopping_on_log_loss_picks_the_least() -> None:
    model = LR(**{**QUICK, "epochs": 6, "stop_on": "log_loss"}).fit(click_rows(300), click_rows(200, seed=1))
    assert model.record_.notes["best_value"] < 0
    assert model.record_.notes["best_value"] == max(value for _, _, value in model.record_.notes["curve"])


@pytest.mark.parametrize("kind", [FM, MLPRanker])
def test_a_fit_that_is_resumed_has_the_same_bits(kind: type[FM], tmp_path: Path) -> None:
    rows, valid = click_rows(300), click_rows(100, seed=1)
    settings = {**QUICK, "dropout": 0.2, "patience": 0}
    whole = kind(**settings).fit(rows, valid)
    kind(**{**settings, "epochs": 2}).fit(rows, valid, checkpoint=tmp_path)
    seen = []
    again = kind(**settings).fit(rows, valid, checkpoint=tmp_path, callbacks=[lambda event: seen.append(event.epoch)])
    assert seen == [3, 4], "the first epochs were run again"
    np.testing.assert_array_equal(again.predict(valid).values, whole.predict(valid).values)
    with pytest.raises(TrainingError):
        kind(**settings).fit(click_rows(310), valid, checkpoint=tmp_path)


def test_rows_kept_in_a_file_are_learnt_from(tmp_path: Path) -> None:
    table, item, click = by_item(60_000)
    rows = Rows(table.append_column("noise", pa.array(np.random.default_rng(1).normal(size=60_000))), {"click": click})
    settings = {"fields": (RowField("item", "category"), RowField("noise", "number")), "dim": 2, "epochs": 3, "lr": 0.1}

    def blocks() -> list[Rows]:
        return [rows.slice(at, at + 5_000) for at in range(0, 60_000, 5_000)]

    wide = {**settings, "fields": (*settings["fields"], RowField("noise_2", "bucket"), *_padding())}
    many = [Rows(_widened(block.features), block.labels) for block in blocks()]
    model = LR(**wide, memory_mb=1, batch_size=4096).fit(lambda: many)
    found = model.predict(Rows(_widened(table.slice(0, 100).append_column("noise", pa.array(np.zeros(100)))))).values[:, 0]
    for at, rate in enumerate((0.2, 0.8)):
        assert found[item[:100] == at].mean() == pytest.approx(rate, abs=0.05)


def _padding() -> tuple[RowField, ...]:
    return (RowField("none", "list", max_length=20),)


def _widened(table: pa.Table) -> pa.Table:
    """Rows of 23 codes: 60,000 of them are beyond 1 MB."""
    empty = pa.array([[]] * table.num_rows, pa.list_(pa.string()))
    return table.append_column("noise_2", table.column("noise")).append_column("none", empty)


def test_labels_that_were_not_observed_have_no_say() -> None:
    table, item, click = by_item()
    wrong, hidden = click.copy(), click.copy()
    odd = np.arange(len(click)) % 2 == 1
    hidden[odd] = np.nan
    model = LR(**{**QUICK, "epochs": 30}).fit(Rows(table, {"click": hidden}))
    found = model.predict(Rows(table)).values[:, 0]
    for at in range(2):
        assert found[item == at].mean() == pytest.approx(click[(item == at) & ~odd].mean(), abs=0.04)
    wrong[odd] = 1 - wrong[odd]
    misled = LR(**{**QUICK, "epochs": 30}).fit(Rows(table, {"click": wrong})).predict(Rows(table)).values[:, 0]
    assert abs(np.ptp(misled)) < 0.2 < np.ptp(found)


def test_validation_leaves_hidden_labels_out() -> None:
    rows, valid = click_rows(200), click_rows(100, seed=1)
    labels = valid.labels["click"].copy()
    labels[::2] = np.nan
    model = LR(**{**QUICK, "epochs": 2}).fit(rows, Rows(valid.features, {"click": labels}))
    seen = ~np.isnan(labels)
    assert model.record_.notes["best_value"] == pytest.approx(auc(labels[seen], model.predict(valid).values[seen, 0]))


def test_weights_count_as_repetitions() -> None:
    table, item, click = by_item()
    settings = {**QUICK, "epochs": 60, "batch_size": 600, "lr": 0.1}
    weights = np.where(click > 0.5, 3.0, 1.0).astype(np.float32)
    found = LR(**settings).fit(Rows(table, {"click": click}, weights)).predict(Rows(table)).values[:, 0]
    for at in range(2):
        rate = click[item == at].mean()
        assert found[item == at].mean() == pytest.approx(3 * rate / (3 * rate + 1 - rate), abs=0.04)
    nothing = Rows(table, {"click": click}, np.where(item == 1, 0.0, 1.0).astype(np.float32))
    blind = LR(**settings).fit(nothing).predict(Rows(table)).values[:, 0]
    assert np.ptp(blind) == pytest.approx(0, abs=0.3)
    assert blind[item == 1].mean() < 0.5 < found[item == 1].mean()


def test_values_are_predicted_in_their_own_units() -> None:
    rng = np.random.default_rng(0)
    item = rng.integers(4, size=500)
    stars = (100 + 20 * item + rng.normal(size=500)).astype(np.float32)
    rows = Rows(table_of(item=[f"i{i}" for i in item]), {"stars": stars})
    model = LR(**{**QUICK, "epochs": 80, "lr": 0.1, "patience": 0}).fit(rows, rows)
    found = model.predict(rows).values[:, 0]
    for at in range(4):
        assert found[item == at].mean() == pytest.approx(100 + 20 * at, abs=1.5)
    assert model.record_.notes["best_value"] == pytest.approx(-np.mean((found - stars) ** 2) / stars.var(), rel=1e-3)


@pytest.mark.parametrize("kind", [LR, FM, MLPRanker, DeepFM])
def test_several_tasks_are_learnt_at_once(kind: type[LR]) -> None:
    rng = np.random.default_rng(0)
    item = rng.integers(3, size=900)
    chances = np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])[item]
    labels = (rng.random((900, 2)) < chances).astype(np.float32)
    stars = (item + 3).astype(np.float32)
    stars[::4] = np.nan
    rows = Rows(table_of(item=[f"i{i}" for i in item]), {"click": labels[:, 0], "buy": labels[:, 1], "stars": stars})
    model = kind(**{**QUICK, "epochs": 20, "batch_size": 128, "lr": 0.03}).fit(rows)
    found = model.predict(rows)
    assert found.tasks == ("click", "buy", "stars")
    for at in range(3):
        own = found.values[item == at].mean(0)
        assert (np.abs(own - [*chances[item == at][0], at + 3]) < [0.12, 0.12, 0.5]).all(), own
    ranked = model.rank(Rows(rows.features, groups=np.zeros(900, np.int32)), "buy").values
    assert item[ranked[0]] == 0 and item[ranked[-1]] == 2


def test_rare_values_share_the_code_of_unknown_ones() -> None:
    table = table_of(item=["a"] * 50 + ["b"] * 50 + ["rare"])
    click = np.array([1.0] * 50 + [0.0] * 50 + [1.0], np.float32)
    asked = Rows(table_of(item=["rare", "never seen", "a"]))
    rare, unknown, common = LR(**QUICK, min_count=2).fit(Rows(table, {"click": click})).predict(asked).values[:, 0]
    assert rare == unknown != common
    rare, unknown, _ = LR(**QUICK).fit(Rows(table, {"click": click})).predict(asked).values[:, 0]
    assert rare != unknown
    given = LR(**QUICK, min_count=2, fields=(RowField("item", "category"),)).fit(Rows(table, {"click": click}))
    assert given.encoder_.fields[0].min_count == 1, "a field that is given keeps its own"


def test_columns_are_left_out_where_asked() -> None:
    rows = click_rows(200)
    model = LR(**QUICK, leave_out=("title", "price")).fit(rows)
    assert {f.name for f in model.encoder_.fields} == {"user", "item", "tags", "history"}
    assert model.export()["tasks"][0]["name"] == "click"
    model.predict(Rows(rows.features.drop_columns(["title"])))


def test_one_class_and_bad_labels_are_refused() -> None:
    rows = click_rows(100)
    with pytest.raises(DataError, match="all labels of a task are the same"):
        LR(**QUICK).fit(Rows(rows.features, {"click": np.zeros(100, np.float32)}))
    with pytest.raises(DataError, match="no label of a task"):
        LR(**QUICK).fit(rows, Rows(rows.features, {"other": rows.labels["click"]}))
    with pytest.raises(TrainingError, match="validation value is not a number"):
        LR(**QUICK).fit(rows, Rows(rows.features, {"click": np.ones(100, np.float32)}))


def test_penalties_hold_weights_down() -> None:
    rows = click_rows(300)
    sizes = []
    for settings in ({}, {"embedding_reg": 3.0}, {"net_reg": 3.0}):
        net = MLPRanker(**QUICK, **settings).fit(rows).net_
        weights = dict(net.state_dict())
        sizes.append(tuple(float(weights[name].square().sum()) for name in ("table.table", "deep.layers.0.weight")))
    assert sizes[1][0] < 0.5 * sizes[0][0] and sizes[2][1] < 0.5 * sizes[0][1]


def test_a_penalty_on_the_table_holds_rare_values_down_most() -> None:
    rare = np.arange(600) % 100 == 0
    rows = Rows(table_of(item=np.where(rare, "rare", "common")), {"click": rare.astype(np.float32)})
    of_common, of_rare = [], []
    for where in ("batch", "table"):
        net = LR(**QUICK | {"epochs": 60}, embedding_reg=1e-2, embedding_reg_on=where).fit(rows).net_
        weights = net.get_parameter("main.weights.table").detach().numpy()[-2:, 0]
        of_common.append(abs(weights[0]))
        of_rare.append(abs(weights[1]))
    assert of_rare[1] < 0.3 * of_rare[0] and of_common[1] > 0.9 * of_common[0]
    with pytest.raises(ConfigError, match="embedding_reg_on"):
        LR(embedding_reg_on="rows")


@pytest.mark.parametrize("how", ["platt", "isotonic"])
def test_calibrated_probabilities_are_met_and_saved(how: str, tmp_path: Path) -> None:
    rows, valid, new = click_rows(400), click_rows(1_500, seed=1), click_rows(1_500, seed=2)
    settings = {**QUICK, "epochs": 12, "patience": 0, "lr": 0.03}  # too long: it is too sure of itself
    plain = MLPRanker(**settings).fit(rows, valid)
    model = MLPRanker(**settings, calibrate=how).fit(rows, valid)
    raw, found, truth = plain.predict(new).values[:, 0], model.predict(new).values[:, 0], new.labels["click"]
    assert expected_calibration_error(truth, found) < 0.75 * expected_calibration_error(truth, raw)
    order = np.argsort(raw, kind="stable")
    assert (np.diff(found[order].astype(np.float64)) >= -1e-7).all(), "the order of rows has changed"
    assert auc(truth, found) == pytest.approx(auc(truth, raw), abs=5e-3 if how == "isotonic" else 1e-6)
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(MLPRanker.load(tmp_path / "bundle").predict(new).values, model.predict(new).values)


def test_calibration_needs_validation_rows() -> None:
    with pytest.raises(ConfigError, match="calibration needs validation rows"):
        LR(**QUICK, calibrate="platt").fit(click_rows(100))
