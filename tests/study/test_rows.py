"""Tuning of rankers: defaults first, seeded, on validation rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.catalog.registry import create
from palate.catalog.spaces import Range
from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.errors import ConfigError, DataError
from palate.study.row_parts import whole_groups
from palate.study.rows import answered, tune_ranker

pytest.importorskip("optuna")
pytest.importorskip("torch")
BASE: dict[str, Any] = {"epochs": 2, "batch_size": 100}
SPACE = {"lr": Range(1e-3, 0.3, log=True)}


@pytest.fixture(scope="module")
def parts() -> tuple[Rows, Rows]:
    return click_rows(300), click_rows(200, seed=1)


def test_the_defaults_come_first_and_the_best_wins(parts: tuple[Rows, Rows]) -> None:
    found = tune_ranker(*parts, "lr", trials=4, base=BASE, space=SPACE)
    assert found.trials[0].settings == {} and len(found.trials) == 4
    assert found.value == max(trial.value for trial in found.trials)
    model = create("lr", **found.settings).fit(*parts, seed=0)
    assert answered(model, parts[1]).values(["auc"], resamples=0)[0].value == found.value
    assert found.settings["epochs"] == 2


def test_the_seed_fixes_the_trials(parts: tuple[Rows, Rows]) -> None:
    seen = [[(dict(t.settings), t.value) for t in tune_ranker(*parts, "lr", trials=3, base=BASE, space=SPACE, seed=s).trials]
            for s in (1, 1, 2)]  # fmt: skip
    assert seen[0] == seen[1] != seen[2]


def test_losses_are_lowered(parts: tuple[Rows, Rows]) -> None:
    found = tune_ranker(*parts, "lr", trials=3, base=BASE, space=SPACE, metric="log_loss")
    assert found.value == min(trial.value for trial in found.trials)
    assert len({trial.value for trial in found.trials}) == 3


def test_a_trial_that_fails_is_recorded(parts: tuple[Rows, Rows]) -> None:
    space = {"min_count": Range(choices=(1,)), "lr": Range(1e30, 1e31, log=True)}
    found = tune_ranker(*parts, "fm", trials=3, base=BASE, space=space)
    assert found.trials[1].error and np.isnan(found.trials[1].value)
    assert found.settings == BASE and found.value == found.trials[0].value
    with pytest.raises(DataError):
        tune_ranker(parts[0].slice(0, 0), parts[1], "fm", trials=2, base=BASE, space=space)


def test_what_is_kept_is_not_fitted_again(parts: tuple[Rows, Rows]) -> None:
    known: dict[str, list[Any]] = {}

    def kept(make: Any, key: dict[str, Any]) -> list[Any]:
        name = str(sorted(key.items()))
        if name not in known:
            known[name] = make()
        return known[name]

    first = tune_ranker(*parts, "lr", trials=3, base=BASE, space=SPACE, kept=kept)
    assert len(known) == 3
    again = tune_ranker(*parts, "lr", trials=3, base=BASE, space=SPACE, kept=kept)
    assert len(known) == 3 and again.trials == first.trials


def test_metrics_of_rows(parts: tuple[Rows, Rows]) -> None:
    model = create("lr", **BASE).fit(parts[0])

    def value(rows: Rows, metric: str) -> float:
        return answered(model, rows).values([metric], resamples=0)[0].value

    assert 0 < value(parts[1], "gauc") < 1
    hidden = parts[1].labels["click"].copy()
    hidden[::2] = np.nan
    half = Rows(parts[1].features, {"click": hidden})
    assert value(half, "log_loss") != value(parts[1], "log_loss")
    with pytest.raises(ConfigError, match="gauc needs groups"):
        value(half, "gauc")
    with pytest.raises(ConfigError, match="unknown metric"):
        tune_ranker(*parts, "lr", trials=1, metric="ndcg")
    with pytest.raises(ConfigError, match="at least 1"):
        tune_ranker(*parts, "lr", trials=0)
    with pytest.raises(ConfigError, match="neither more nor less"):
        tune_ranker(*parts, "lr", trials=1, metric="calibration_ratio")


def test_no_request_is_cut_by_a_block() -> None:
    groups = np.repeat(np.arange(40), np.arange(40) % 7 + 1)
    table = pa.table({"g": [f"r{g}" for g in groups], "x": np.arange(len(groups))})
    for size in (1, 5, 13, 500):
        blocks = list(whole_groups([table.slice(at, size) for at in range(0, len(table), size)], "g"))
        assert pa.concat_tables(blocks).column("x").to_pylist() == table.column("x").to_pylist()
        own = [set(block.column("g").to_pylist()) for block in blocks]
        assert sum(map(len, own)) == 40
