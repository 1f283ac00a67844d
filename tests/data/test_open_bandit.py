"""Open Bandit: a made-up folder of the same form, and what is said of a damaged one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from palate.data.readers.open_bandit import read_open_bandit
from palate.errors import DataError

HEAD = ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0,user-item_affinity_1"
ROWS = [
    "0,2019-11-24 00:00:02.5+00:00,1,3,0,0.5,aa,0.0,1.5",
    "1,2019-11-24 00:00:01+00:00,0,1,1,0.5,bb,2.0,0.0",
]
ITEMS = ",item_id,item_feature_0,item_feature_1\n0,0,-0.5,cc\n1,1,0.25,dd\n"


def folder(tmp_path: Path, head: str = HEAD, rows: list[str] = ROWS, items: str | None = ITEMS) -> Path:
    base = tmp_path / "men"
    base.mkdir()
    with gzip.open(base / "men.csv.gz", "wt") as stream:
        stream.write("\n".join([head, *rows]) + "\n")
    if items is not None:
        (base / "item_context.csv").write_text(items)
    return base


def test_a_campaign_is_read_in_order_of_time(tmp_path: Path) -> None:
    data = read_open_bandit(folder(tmp_path))
    table = data.impressions
    assert table.column_names == ["time", "item", "position", "click", "propensity", "user_feature_0", "affinity"]
    assert table.column("item").to_pylist() == [0, 1] and table.column("position").to_pylist() == [1, 3]
    assert table.column("click").to_pylist() == [1, 0] and table.column("propensity").to_pylist() == [0.5, 0.5]
    assert np.diff(table.column("time").to_numpy()).tolist() == [1_500_000]
    assert table.column("affinity").to_pylist() == [[2.0, 0.0], [0.0, 1.5]]
    assert data.n_items == 2 and data.n_users == 0 and len(data) == 0
    assert data.items.attributes.column("item_feature_0").to_pylist() == [-0.5, 0.25]
    assert data.items.attributes.column("item_feature_1").to_pylist() == ["cc", "dd"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"items": None}, "item_context"),
        ({"head": HEAD.replace("click", "clack")}, "a column is missing"),
        ({"rows": [ROWS[0], ROWS[1].replace(",1,1,", ",1,yes,")]}, "row 2"),
        ({"rows": [ROWS[0].replace("+00:00,1,", "+00:00,7,")]}, "item_context.csv"),
        ({"rows": [ROWS[0].replace("0.5,aa", ",aa"), ROWS[1]]}, "row 1"),
        ({"items": ITEMS.replace("item_id", "id")}, "a column is missing"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, change: dict, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_open_bandit(folder(tmp_path, **change))
