"""Features of items and requests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError
from palate.explore.features import ArmFeatures, FeatureConfig, item_table


def catalogue(**columns) -> Dataset:
    n = len(next(iter(columns.values()))) if columns else 3
    nothing = np.empty(0, np.int32)
    table = pa.table(columns) if columns else None
    return Dataset(Interactions.sorted(nothing, nothing), Entities(Vocabulary.range(0)), Entities(Vocabulary.range(n), table))


FULL = catalogue(
    kind=["a", "b", "a", "b"],
    tags=[["x", "y"], ["x"], ["y"], []],
    price=[1.0, 3.0, 1.0, 3.0],
    title=["one long title", "another long title", "a third title", "the last title of all"],
    vector=[[0.5, 0.1], [0.2, 0.2], None, [1.0, 0.0]],
)


def test_attributes_by_hand() -> None:
    found = item_table(FULL, ("kind", "tags", "price", "vector"))
    assert found.shape == (4, 2 + 2 + 1 + 2)
    kinds, tags = found[:, :2], found[:, 2:4]
    np.testing.assert_array_equal(kinds.sum(1), 1)
    np.testing.assert_array_equal(kinds[0], kinds[2])
    np.testing.assert_array_equal(tags.sum(1), [2, 1, 1, 0])
    np.testing.assert_allclose(found[:, 4], [-1, 1, -1, 1])
    np.testing.assert_allclose(found[:, 5:], [[0.5, 0.1], [0.2, 0.2], [0, 0], [1, 0]])
    np.testing.assert_array_equal(item_table(FULL), found)  # text is left out


def test_items_without_attributes_have_columns_of_their_own() -> None:
    np.testing.assert_array_equal(item_table(catalogue()), np.eye(3))


def test_requests_by_hand() -> None:
    features = ArmFeatures.of(FULL, FeatureConfig(item_features=("price",), context=("hour", "age"), history=True))
    context = pa.table({"age": [30, 40], "other": ["p", "q"], "hour": [1.5, 2.5]})
    asked = Requests(np.full(2, -1, np.int32), Histories.from_rows([[0, 1, 1], []]), context=context)
    np.testing.assert_allclose(features.of_requests(asked), [[1, 1.5, 30, 1 / 3], [1, 2.5, 40, 0]])
    assert features.width == 4


@pytest.mark.parametrize(
    ("names", "told"), [(("prices",), "did you mean 'price'"), (("title",), "can't be read"), (("kind", "no"), "no such")]
)
def test_wrong_attributes_are_named(names, told) -> None:
    with pytest.raises(ConfigError, match=told):
        item_table(FULL, names)


def test_vectors_of_different_lengths_are_named() -> None:
    with pytest.raises(DataError, match="item 1"):
        item_table(catalogue(vector=[[0.5, 0.1], [0.2]]))


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (None, "lacks a context column"),
        ({"hours": [1.0]}, "did you mean 'hours'"),
        ({"hour": [None]}, "row 0"),
        ({"hour": [np.inf]}, "row 0"),
        ({"hour": ["noon"]}, "else than numbers"),
    ],
)
def test_wrong_contexts_are_named(context, told) -> None:
    features = ArmFeatures(np.eye(2), ("hour",))
    table = (
        None
        if context is None
        else pa.table({k: pa.array(v, None if v != [None] else pa.float64()) for k, v in context.items()})
    )
    with pytest.raises(DataError, match=told):
        features.of_requests(Requests(np.full(1, -1, np.int32), Histories.empty(1), context=table))
