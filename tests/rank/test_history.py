"""Which columns are history and target: guessed, named, several side by side; what is refused."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError
from palate.rank.din import DIN
from palate.rank.history import History, HistoryConfig, history_of, with_history

QUICK: dict[str, Any] = {"dim": 4, "batch_size": 64, "lr": 0.02, "epochs": 1, "hidden": (8,)}
GUESSED = (RowField("item", "category"), RowField("history", "list", max_length=16), RowField("tags", "list", max_length=16))


def rows_of(n: int = 40, **columns: Any) -> Rows:
    click = (np.arange(n) % 2).astype(np.float32)
    return Rows(pa.table({name: pa.array(values) for name, values in columns.items()}), {"click": click})


def test_a_list_called_history_shares_the_codes_of_the_item() -> None:
    found = {f.name: f for f in with_history(GUESSED, HistoryConfig(history_length=7))}
    assert found["history"] == RowField("history", "sequence", share="item", max_length=7)
    assert found["tags"].kind == "list"
    model = DIN(**QUICK).fit(click_rows(100))
    assert model.net_.history == History(("history",), ("item",))
    layout = model.encoder_.layout
    assert layout.bases["history"] == layout.bases["item"]


def test_names_decide() -> None:
    config = HistoryConfig(history=("tags",), target=("item",))
    found = {f.name: f for f in with_history(GUESSED, config)}
    assert found["tags"].kind == "sequence" and found["tags"].share == "item" and found["history"].kind == "list"
    model = DIN(**QUICK, history=("tags",), target=("item",)).fit(click_rows(100))
    assert model.net_.history == History(("tags",), ("item",)) and "history" in model.encoder_.layout.bags


def test_a_sequence_that_is_given_is_taken_as_it_is() -> None:
    fields = (RowField("history", "sequence", share="item", max_length=3), RowField("item", "category"))
    model = DIN(**QUICK, fields=fields).fit(click_rows(100))
    assert model.net_.history == History(("history",), ("item",))
    assert {f.name: f.max_length for f in model.encoder_.fields}["history"] == 3
    other = (RowField("tags", "sequence", share="item"), RowField("history", "list"))
    assert DIN(**QUICK, fields=other).fit(click_rows(100)).net_.history == History(("tags",), ("item",))


def test_without_a_history_or_target_it_is_a_network_over_fields() -> None:
    for gone in ("history", "item"):
        rows = click_rows(100)
        model = DIN(**QUICK).fit(Rows(rows.features.drop_columns([gone]), rows.labels))
        assert model.net_.history is None and model.net_.attention is None
    given = (RowField("history", "list"),)
    assert DIN(**QUICK, fields=given).fit(click_rows(100)).net_.history is None, "a list that is given stays one"


def test_several_facts_of_an_event_stand_side_by_side() -> None:
    many = rows_of(
        item=["a", "b"] * 20, brand=["x", "y"] * 20, history=[["a"], ["a", "b"]] * 20, brands=[["x"], ["x", "y"]] * 20
    )
    model = DIN(**QUICK, history=("history", "brands"), target=("item", "brand")).fit(many)
    assert model.net_.attention.unit.width == 2 * QUICK["dim"]
    odd = rows_of(2, item=["a", "b"], brand=["x", "y"], history=[["a"], ["a", "b"]], brands=[["x"], ["x"]])
    with pytest.raises(DataError, match="different lengths"):
        model.predict(odd)
    one = rows_of(3, item=["a", "b", "a"], brand=["x", "y", "x"], history=[["a", "b"]] * 3, brands=[["x", "y"]] * 3)
    alone = np.concatenate([model.predict(one.slice(at, at + 1)).values for at in range(3)])
    np.testing.assert_allclose(model.predict(one).values, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": ("clicks",)}, "no such field"),
        ({"history": ("user",)}, "a history is a sequence"),
        ({"history": ("history",), "target": ("item", "user")}, "one target"),
        ({"target": ("item",)}, "one target"),
        ({"history": ("history", "tags")}, "no field with one code"),
        ({"history": ("history",), "target": ("price",)}, "no field with one code"),
    ],
)
def test_what_can_not_be_a_history_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DIN(**QUICK, **settings).fit(click_rows(60))


def test_sequences_of_different_widths_are_refused() -> None:
    fields = (RowField("a", "sequence", max_length=3), RowField("b", "sequence", max_length=4), RowField("item", "category"))
    with pytest.raises(ConfigError, match="one max_length"):
        with_history(fields, HistoryConfig(fields=fields, history=("a", "b"), target=("item", "item")))


def test_the_history_of_a_layout_is_found_again_after_saving(tmp_path: Any) -> None:
    model = DIN(**QUICK).fit(click_rows(100))
    model.save(tmp_path / "bundle")
    again = DIN.load(tmp_path / "bundle")
    assert again.net_.history == model.net_.history == history_of(again.encoder_.layout, again.config)


def test_many_candidates_of_one_person_share_the_history() -> None:
    rows = click_rows(200)
    model = DIN(**QUICK).fit(rows)
    items = pa.array([f"i{at % 30}" for at in range(50)])
    first = rows.features.slice(0, 1).set_column(4, "history", pa.array([["i3", "i5", "i3"]]))
    asked = pa.concat_tables([first] * 50).combine_chunks()
    asked = asked.set_column(asked.column_names.index("item"), "item", items)
    encoded = model.encoder_.encode(asked, str.split)
    with torch.no_grad():
        vectors = model.net_.table(encoded)
    assert vectors.sequences["history"][0].stride(0) == 0
    alone = np.concatenate([model.predict(Rows(asked.slice(at, 1))).values for at in range(50)])
    np.testing.assert_allclose(model.predict(Rows(asked)).values, alone, atol=1e-6)
