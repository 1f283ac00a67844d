"""Logs from tables: files of one's own, made-up impressions, and Open Bandit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.readers.open_bandit import read_open_bandit
from palate.errors import DataError
from palate.evaluation.offpolicy.estimate import check_support, estimate
from palate.evaluation.offpolicy.tables import log_of_impressions, log_of_table, rows_of, shares_of, slates_of_table

TABLE = pa.table(
    {
        "click": [1, 0, 0, 1],
        "p": [0.5, 0.25, 0.5, 1.0],
        "new": [0.25, 0.5, 1.0, 0.0],
        "who": ["ann", "bo", "ann", "cy"],
        "q": [0.5, 0.5, 0.5, 0.5],
        "mean q": [0.4, 0.4, 0.4, 0.4],
    }
)
NAMES = {"reward": "click", "propensity": "p", "target": "new"}


@pytest.mark.parametrize("kind", ["table", "polars", "parquet", "csv"])
def test_a_table_of_ones_own(kind: str, tmp_path: Path) -> None:
    source: object = TABLE
    if kind == "polars":
        source = pl.from_arrow(TABLE)
    elif kind == "parquet":
        source = tmp_path / "log.parquet"
        pq.write_table(TABLE, source)
    elif kind == "csv":
        source = tmp_path / "log.csv"
        pl.from_arrow(TABLE).write_csv(source)
    log = log_of_table(source, **NAMES, unit="who", q_logged="q", q_target="mean q")
    assert log.reward.tolist() == [1, 0, 0, 1] and log.weight.tolist() == [0.5, 2, 2, 0]
    assert log.unit.tolist() == [0, 1, 0, 2] and log.q_target.tolist() == [0.4] * 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reward": "clik"}, "click"),
        ({"unit": "whom"}, "who"),
        ({"reward": "who"}, "who, row 0"),
        ({"table": TABLE.set_column(1, "p", pa.array([0.5, 0.0, 0.5, 1.0]))}, "row 1"),
        ({"table": TABLE.set_column(0, "click", pa.array(["1", "0", "-", "1"]))}, "click, row 2"),
        ({"table": TABLE.set_column(3, "who", pa.array(["ann", None, "bo", "cy"])), "unit": "who"}, "who, row 1"),
        ({"table": TABLE.slice(0, 0)}, "no rows"),
    ],
)
def test_what_is_wrong_is_named(change: dict, told: str) -> None:
    table = change.pop("table", TABLE)
    with pytest.raises(DataError, match=told):
        log_of_table(table, **{**NAMES, **change})


# -- slates ------------------------------------------------------------------------------------

SLATES = pa.table(
    {
        "slate": ["b", "a", "a", "b"],
        "position": [2, 1, 2, 1],
        "click": [0, 1, 0, 1],
        "p": [0.5, 0.25, 0.5, 1.0],
        "new": [0.25, 0.5, 1.0, 0.0],
        "who": ["ann", "bo", "bo", "ann"],
    }
)


@pytest.mark.parametrize("first", [0, 1])
def test_slates_of_ones_own(first: int) -> None:
    table = SLATES.set_column(1, "position", pa.array(np.array([1, 0, 1, 0]) + first))
    log = slates_of_table(table, **NAMES, unit="who", chances="marginal")
    assert log.reward.tolist() == [[1, 0], [1, 0]] and log.chances == "marginal" and log.unit.tolist() == [0, 1]
    assert log.propensity.tolist() == [[1, 0.5], [0.25, 0.5]] and log.target.tolist() == [[0, 0.25], [0.5, 1]]


def test_slates_in_any_order_are_judged_alike() -> None:
    rng, n = np.random.default_rng(0), 400
    columns = {"slate": np.repeat(np.arange(n), 2), "position": np.tile([1, 2], n), "click": rng.random(2 * n) < 0.4}
    chances = {"p": rng.choice([0.4, 0.6], 2 * n), "new": rng.choice([0.3, 0.7], 2 * n)}
    table = pa.table(columns | chances)
    inorder, shuffled = (slates_of_table(one, **NAMES) for one in (table, table.take(rng.permutation(2 * n))))
    whole = np.prod((chances["new"] / chances["p"]).reshape(n, 2), axis=1)
    expected = np.mean(whole * columns["click"].reshape(n, 2).sum(axis=1))
    for log in (inorder, shuffled):
        assert estimate(log, ["sips"])[0].value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("position", [2, 1, 2, 2], "slate 'b'"),
        ("position", [3, 1, 2, 1], "slate 'b'"),
        ("position", [2, 1, 1.5, 1], "position, row 2"),
        ("position", [3, 2, 3, 2], "position, row 1"),
        ("slate", ["b", "a", "a", "c"], "slate 'b'"),
        ("slate", ["b", None, "a", "b"], "slate, row 1"),
        ("who", ["ann", "bo", "cy", "ann"], "who, slate 'a'"),
        ("p", [0.5, 0.0, 0.5, 1.0], "row 1, position 0"),
    ],
)
def test_what_is_wrong_with_slates_is_named(column: str, values: list, told: str) -> None:
    table = SLATES.set_column(SLATES.column_names.index(column), column, pa.array(values))
    with pytest.raises(DataError, match=told):
        slates_of_table(table, **NAMES, unit="who")


# -- impressions ------------------------------------------------------------------------------------


def campaign(folder: Path, rows: list[tuple[int, int, int, float]], items: int = 3) -> Path:
    """Write a folder of Open Bandit's form: item, position, click, propensity of each row."""
    folder.mkdir()
    head = ",timestamp,item_id,position,click,propensity_score,user_feature_0"
    lines = [f"{n},2019-11-24 00:00:{n % 60:02d}.5+00:00,{i},{p},{c},{q},aa" for n, (i, p, c, q) in enumerate(rows)]
    (folder / "men.csv").write_text("\n".join([head, *lines]) + "\n")
    (folder / "item_context.csv").write_text(",item_id,item_feature_0\n" + "".join(f"{i},{i},0.5\n" for i in range(items)))
    return folder


def test_impressions_become_a_log(tmp_path: Path) -> None:
    data = read_open_bandit(campaign(tmp_path / "men", [(0, 1, 1, 0.5), (1, 2, 0, 0.25), (0, 2, 0, 0.5), (2, 1, 0, 0.25)]))
    log = log_of_impressions(data, np.array([0.5, 0.3, 0.2]))
    assert log.reward.tolist() == [1, 0, 0, 0] and log.target.tolist() == [0.5, 0.3, 0.5, 0.2]
    by_position = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    log = log_of_impressions(data, by_position, q=np.array([1.0, 0.5, 0.0]))
    assert log.target.tolist() == [1, 0.5, 0, 0] and log.q_logged.tolist() == [1, 0.5, 1, 0]
    assert log.q_target.tolist() == [1, 0.25, 0.25, 1]
    assert log_of_impressions(data, rows_of(data, by_position)).target.tolist() == [1, 0.5, 0, 0]
    assert shares_of(data).tolist() == [[0.5, 0, 0.5], [0.5, 0.5, 0]]
    for wrong in (np.ones(2) / 2, np.ones((1, 3)) / 3, np.ones(3)):
        with pytest.raises(DataError):
            log_of_impressions(data, wrong)
    with pytest.raises(DataError, match="column"):
        log_of_impressions(data, np.ones(3) / 3, unit="user")


def made_up_log(folder: Path, chances: np.ndarray, n: int, seed: int) -> Path:
    """Write a campaign of a policy that draws with these chances; clicks have chance 0.1, 0.3 and 0.5."""
    rng = np.random.default_rng(seed)
    item = rng.choice(len(chances), n, p=chances)
    click = rng.random(n) < np.array([0.1, 0.3, 0.5])[item]
    rows = [(int(i), 1 + k % 3, int(c), float(chances[i])) for k, (i, c) in enumerate(zip(item, click, strict=True))]
    return campaign(folder, rows)


def test_the_value_of_the_other_policy_is_found_from_an_even_log(tmp_path: Path) -> None:
    even, other = np.full(3, 1 / 3), np.array([0.7, 0.2, 0.1])
    logged = read_open_bandit(made_up_log(tmp_path / "random", even, 3_000, 0))
    candidate = shares_of(read_open_bandit(made_up_log(tmp_path / "bts", other, 3_000, 1)))
    support = check_support(rows_of(logged, even), rows_of(logged, candidate))
    for found in estimate(log_of_impressions(logged, candidate), ["ips", "snips"], support=support):
        assert found.checked().low < 0.18 < found.high
        assert 1_000 < found.ess < 3_000


def test_missing_support_and_tiny_propensities_are_refused(tmp_path: Path) -> None:
    narrow = np.array([0.5, 0.5, 0.0])
    logged = read_open_bandit(made_up_log(tmp_path / "narrow", narrow, 2_000, 0))
    even = np.full(3, 1 / 3)
    support = check_support(rows_of(logged, shares_of(logged)), rows_of(logged, even))
    (found,) = estimate(log_of_impressions(logged, even), ["ips"], support=support)
    assert "support" in found.refused and np.isnan(found.value) and found.outside == 1
    rare = np.array([0.6, 0.399, 0.001])
    (found,) = estimate(log_of_impressions(read_open_bandit(made_up_log(tmp_path / "rare", rare, 2_000, 5)), even), ["ips"])
    assert found.ess < 100 and "effective sample size" in found.refused


@pytest.mark.data
@pytest.mark.parametrize(("name", "least", "ess"), [("all", 1e-4, 400), ("men", 2e-4, 700), ("women", 2e-6, 10)])
def test_open_bandit_is_judged(palate_data: Path, name: str, least: float, ess: float) -> None:
    folder = palate_data / "obd"
    if not folder.is_dir():
        pytest.skip("no Open Bandit here")
    even, thompson = (read_open_bandit(folder / policy / name) for policy in ("random", "bts"))
    n_items = even.n_items
    uniform, candidate = np.full(n_items, 1 / n_items), shares_of(thompson)
    # what the other policy would have earned, from the even log: it ran beside, so its own clicks are known
    support = check_support(rows_of(even, uniform), rows_of(even, candidate))
    assert support.outside == 0
    for found in estimate(log_of_impressions(even, candidate), ["ips", "snips"], support=support):
        assert found.low < thompson.impressions.column("click").to_numpy().mean() < found.high
        assert found.ess > 1_000 and found.mean_weight == pytest.approx(1, abs=4 * found.mean_weight_error)
    # the other way: small propensities, down to a millionth, leave little or nothing to count on
    back = log_of_impressions(thompson, uniform)
    assert back.propensity.min() < least
    (found,) = estimate(back, ["ips"])
    assert found.ess < ess and (name == "men" or found.refused is not None)
    # without an item in the log, a candidate that shows it is refused
    shown = rows_of(even, np.append(np.full(n_items - 1, 1 / (n_items - 1)), 0.0))
    support = check_support(shown, rows_of(even, candidate))
    assert "support" in estimate(log_of_impressions(even, candidate), ["ips"], support=support)[0].refused
