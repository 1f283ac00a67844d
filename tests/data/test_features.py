"""Features: kinds, codes, unknown and missing values, round trips, bad input."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.features import Features, Schema, guess_kind, learn_schema, with_graph_attributes
from palate.errors import ConfigError, DataError
from palate.retrieval.tokens import tokens
from palate.simulate.world import World

TABLE = pa.table({
    "title": ["Red shoe", "Blue shoe", "Red hat", None, "A hat a hat"],
    "maker": ["acme", "acme", "bolt", "rare", None],
    "topics": [["a", "b"], ["b"], [], None, ["b", "c", "a"]],
    "price": [1.0, 2.0, 3.0, float("nan"), 4.0],
    "size": pa.array([1, 1, 2, None, 2], pa.int32()),
    "code": ["x1", "x2", "x3", "x4", "x5"],
})  # fmt: skip


def local(schema: Schema, features: Features, name: str) -> list[list[int]]:
    f = schema.names.index(name)
    return [[v - int(schema.bases[f]) for v in row] for row in features.field(f).tolist()]


def test_kinds_are_guessed_from_what_columns_hold():
    found = {name: guess_kind(TABLE.column(name)) for name in TABLE.column_names}
    assert found == {
        "title": "text", "maker": "ignore", "topics": "set", "price": "number", "size": "category", "code": "ignore",
    }  # fmt: skip
    many = pa.chunked_array([pa.array(range(100))])
    assert guess_kind(many) == "number"
    assert guess_kind(pa.chunked_array([pa.array([True, False])])) == "category"
    assert guess_kind(pa.chunked_array([pa.array([None, None], pa.string())])) == "ignore"
    assert guess_kind(pa.chunked_array([pa.array(["u", "u", "v", "v"])])) == "category"
    assert guess_kind(pa.chunked_array([pa.array([[0.5, 1.0]])])) == "ignore"


def test_codes_by_hand():
    schema = learn_schema(TABLE, kinds={"maker": "category"}, min_count=2, text_buckets=1000, number_buckets=2)
    features = schema.encode(TABLE, 5, tokens)
    assert len(features) == 5 and features.n_fields == len(schema.fields) == 5
    assert local(schema, features, "maker") == [[1], [1], [0], [0], []]  # acme alone is common; others share code 0
    assert local(schema, features, "topics") == [[1, 2], [1], [], [], [0, 1, 2]]  # b is the commonest, then a; c is rare
    assert local(schema, features, "price") == [[1], [2], [2], [], [2]]
    assert local(schema, features, "size") == [[1], [1], [2], [], [2]]
    titles = local(schema, features, "title")
    assert [len(t) for t in titles] == [2, 2, 2, 0, 2]  # distinct words
    assert set(titles[0]) & set(titles[1]) and set(titles[2]) & set(titles[4])
    np.testing.assert_array_equal(features.known, [True, True, True, True, True])


def test_new_values_columns_that_are_missing_and_entities_without_values():
    schema = learn_schema(TABLE, kinds={"maker": "category"})
    later = pa.table({"maker": ["acme", "new", None], "colour": ["red", "red", "red"]})
    features = schema.encode(later, 3, tokens)
    assert local(schema, features, "maker") == [[1], [0], []]
    assert local(schema, features, "topics") == [[], [], []]
    np.testing.assert_array_equal(features.known, [True, True, False])
    assert not schema.encode(None, 2).known.any()
    taken = schema.encode(TABLE, 5, tokens).take(np.array([1, -1, 0]))
    assert local(schema, taken, "maker") == [[1], [], [1]]
    assert not taken.known[1]


def test_codes_of_fields_share_one_range_without_overlap():
    data = World(users=10, items=60, events=100).dataset()
    schema = learn_schema(data.items.attributes, text_buckets=64)
    features = schema.encode(data.items.attributes, data.n_items, tokens)
    for f in range(features.n_fields):
        own = features.field(f).values
        assert own.min() >= schema.bases[f] and own.max() < schema.bases[f + 1]
        assert len(features.field(f)) == data.n_items


def test_a_number_may_be_standardised():
    schema = learn_schema(TABLE, kinds={"price": "standard", "title": "ignore"})
    features = schema.encode(TABLE, 5, tokens)
    assert "price" not in schema.names and [f.name for f in schema.numbers] == ["price"]
    spread = np.std([1, 2, 3, 4])
    np.testing.assert_allclose(features.dense[:, 0], [(v - 2.5) / spread for v in (1, 2, 3, 2.5, 4)], rtol=1e-6)
    constant = learn_schema(pa.table({"p": [2.0, 2.0]}), kinds={"p": "standard"})
    np.testing.assert_array_equal(constant.encode(pa.table({"p": [2.0, 3.0]}), 2).dense, [[0], [1]])


def test_a_schema_is_kept_as_json_in_an_array():
    schema = learn_schema(TABLE, kinds={"price": "standard", "maker": "category"})
    again = Schema.of_array(schema.array())
    assert again == schema and again.array().dtype == np.uint8
    first, second = schema.encode(TABLE, 5, tokens), again.encode(TABLE, 5, tokens)
    assert first.bags.tolist() == second.bags.tolist()
    empty = learn_schema(None)
    assert Schema.of_array(empty.array()) == empty and empty.encode(None, 3).n_fields == 0


def test_integers_in_lists_and_dictionaries_are_read():
    table = pa.table({"tags": [[1, 2], [2], [2, 1]], "kind": pa.array(["p", "p", "q"]).dictionary_encode()})
    schema = learn_schema(table)
    features = schema.encode(table, 3)
    assert local(schema, features, "tags") == [[1, 2], [1], [1, 2]]
    assert local(schema, features, "kind") == [[1], [1], [0]]


def test_slices_of_a_table_are_read_right():
    table = pa.table({"tags": [["a"], ["b", "c"], ["b"], ["c"]]}).slice(1, 3)
    schema = learn_schema(table, min_count=1)
    assert local(schema, schema.encode(table, 3), "tags") == [[1, 2], [1], [2]]


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="no such attribute"):
        learn_schema(TABLE, kinds={"titel": "text"})
    with pytest.raises(ConfigError, match="no such attribute"):
        learn_schema(None, kinds={"title": "text"})
    schema = learn_schema(TABLE)
    with pytest.raises(DataError, match="rows for"):
        schema.encode(TABLE, 4, tokens)
    with pytest.raises(ConfigError, match="splits text"):
        schema.encode(TABLE, 5)
    with pytest.raises(DataError, match="read as numbers"):
        learn_schema(pa.table({"p": ["a", "b"]}), kinds={"p": "number"})


@pytest.mark.parametrize("text", [True, False])
def test_relations_of_a_graph_become_attributes(text):
    data = World(users=10, items=30, events=50).dataset(text=text)
    made = with_graph_attributes(data)
    table = made.items.attributes
    assert {"knowledge:has_category", "knowledge:made_by"} <= set(table.column_names)
    if text:
        makers = [row[0] for row in table.column("knowledge:made_by").to_pylist()]
        assert makers == table.column("maker").to_pylist()
        pairs = zip(table.column("knowledge:has_category").to_pylist(), table.column("categories").to_pylist(), strict=True)
        assert all(set(a) == set(b) for a, b in pairs)
    with pytest.raises(DataError, match="no such graph"):
        with_graph_attributes(data, "taste")
    with pytest.raises(DataError, match="begin at items"):
        with_graph_attributes(data, "social")


def test_a_table_without_columns_has_no_fields():
    data = Dataset.from_columns(["a"], ["x"])
    assert learn_schema(data.items.attributes).fields == ()
