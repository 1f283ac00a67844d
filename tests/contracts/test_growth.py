"""Growth: a data set in a model's numbers, and what an update refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.growth import grown
from palate.data.dataset import Dataset, Entities, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError, UnsupportedError
from palate.recommend.ease import EASE
from palate.recommend.popularity import Popularity

OLD = Dataset.from_columns(["b", "b", "a", "gone"], ["y", "x", "y", "z"], time=[1, 2, 3, 4])
NEW = Dataset.from_columns(
    ["a", "c", "b", "b", "a", "c"], ["w", "y", "y", "x", "y", "x"], time=[9, 7, 1, 2, 3, 8], value=[1, 2, 3, 4, 5, 6]
)


def events(data: Dataset) -> list[tuple[object, ...]]:
    """What happened, in raw ids, by person and time."""
    seen = data.interactions
    columns = (data.users.ids.decode(seen.user), data.items.ids.decode(seen.item), seen.time, seen.value)
    return list(zip(columns[0].to_pylist(), columns[1].to_pylist(), columns[2].tolist(), columns[3].tolist(), strict=True))


def test_the_models_own_come_first_and_nothing_else_changes() -> None:
    titled = replace(NEW, items=Entities(NEW.items.ids, pa.table({"title": [f"T{raw}" for raw in "wyx"]})))
    data = grown(titled, Popularity().fit(OLD))
    assert data.users.ids.raw.to_pylist() == ["b", "a", "gone", "c"]
    assert data.items.ids.raw.to_pylist() == ["y", "x", "z", "w"]
    assert data.items.attributes["title"].to_pylist() == ["Ty", "Tx", None, "Tw"]
    assert sorted(events(data)) == sorted(events(NEW))
    order = [(u, t) for u, t in zip(data.interactions.user.tolist(), data.interactions.time.tolist(), strict=True)]
    assert order == sorted(order) and data.histories.lengths.tolist() == [2, 2, 0, 2]


def test_equal_times_keep_the_order_of_the_file() -> None:
    data = Dataset.from_columns(["p", "q", "q", "p"], ["i", "k", "j", "j"], time=[5, 5, 5, 5])
    model = Popularity().fit(Dataset.from_columns(["q"], ["j"], time=[1]))
    moved = grown(data, model)
    assert [moved.items.ids.raw[i].as_py() for i in moved.histories.ragged[0]] == ["k", "j"]
    assert [moved.items.ids.raw[i].as_py() for i in moved.histories.ragged[1]] == ["i", "j"]


def test_graphs_follow_and_what_has_other_numbers_is_refused() -> None:
    zero = np.zeros(2, np.int32)
    social = Graph(np.array([0, 1]), zero, np.array([1, 0]), "user", "user", Vocabulary(["knows"]))
    facts = Graph(
        np.array([0, 2]), zero, zero, "item", "entity", Vocabulary(["is"]), Vocabulary(["e"]), np.array([0, -1, 0], np.int32)
    )
    model = Popularity().fit(OLD)
    data = grown(replace(NEW, graphs={"social": social, "knowledge": facts}), model)
    assert data.users.ids.decode(data.graphs["social"].head).to_pylist() == ["a", "c"]
    assert data.items.ids.decode(data.graphs["knowledge"].head).to_pylist() == ["w", "x"]
    assert data.graphs["knowledge"].tail.tolist() == [0, 0]
    assert data.graphs["knowledge"].item_entity.tolist() == [-1, 0, -1, 0]
    with pytest.raises(UnsupportedError, match="searches"):
        grown(replace(NEW, searches=pa.table({"user": [0]})), model)
    with pytest.raises(DataError, match="text in one place"):
        grown(Dataset.from_columns([1, 2], ["x", "y"]), model)


def test_an_update_refuses_other_numbers_and_systems_that_start_anew() -> None:
    model = Popularity().fit(OLD)
    with pytest.raises(DataError, match="users don't begin") as told:
        model.update(NEW)
    assert "number 0" in str(told.value) and "'b'" in str(told.value)
    with pytest.raises(DataError, match="items don't begin"):
        model.update(replace(grown(NEW, model), items=Entities(Vocabulary(["y", "x", "no"]))))
    with pytest.raises(UnsupportedError, match="ease can't learn on"):
        EASE().fit(OLD).update(grown(NEW, EASE().fit(OLD)))
    assert model.update(grown(NEW, model)).record_.notes == {"updates": 1}
    assert model.update(grown(NEW, model)).record_.notes == {"updates": 2}


def test_a_failed_update_leaves_the_model_as_it_was() -> None:
    class Failing(Popularity):
        def _fit(self, dataset, fitting):
            super()._fit(dataset, fitting)
            if fitting.former is not None:
                raise KeyboardInterrupt

    model = Failing().fit(OLD)
    with pytest.raises(KeyboardInterrupt):
        model.update(grown(NEW, model))
    assert model.fitted and len(model.items_) == 3 and model.weight_.tolist() == [2, 1, 1]
    assert model.record_.data["fingerprint"] == OLD.fingerprint
