"""Groups of items, by which a slate recommender's prior is made."""

import pyarrow as pa
import pytest

from palate.data.dataset import Dataset, Entities
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError
from palate.explore.item_groups import item_groups


def entities(**columns):
    return Entities(Vocabulary.range(len(next(iter(columns.values())))), pa.table(columns))


def test_groups_of_items():
    codes, labels, name = item_groups(entities(title=["x", "y", "z"], category=[["b", "a"], ["c"], ["b"]]))
    assert (codes.tolist(), labels, name) == ([0, 1, 0], ["b", "c"], "category")
    codes, labels, _ = item_groups(entities(place=["oslo", None, "bergen"], categories=[[], ["a"], None]))
    assert codes.tolist() == [1, 0, 1] and labels == ["a", "unknown"]
    codes, labels, name = item_groups(entities(place=["oslo", None, "oslo"]), "place")
    assert codes.tolist() == [0, 1, 0] and name == "place"
    assert item_groups(Dataset.from_columns([0], [1]).items)[1:] == (["all"], None)
    with pytest.raises(ConfigError, match="no such item attribute"):
        item_groups(entities(place=["oslo"]), "palce")
