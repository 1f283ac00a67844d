"""A knowledge graph of attributes: values are entities, items their own, and systems of triples learn from it."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.attribute_graph import category_names, with_attribute_graph
from palate.data.dataset import Dataset, Entities
from palate.data.readers import read
from palate.errors import ConfigError, DataError
from palate.nn.knowledge import Knowledge


@pytest.fixture
def shop():
    plain = Dataset.from_columns(["u", "u", "v", "v"], ["a", "b", "c", "d"])
    table = pa.table({
        "title": ["One thing", "Two things", "Three things", "Four"],
        "maker": ["m", "m", "n", "n"],
        "categories": [["x", " y "], ["x", "x"], [], None],
        "price": [1.5, 2.5, 3.5, 4.5],
    })  # fmt: skip
    return plain.derive({"step": "items"}, items=Entities(plain.items.ids, table))


def triples(data):
    graph = data.graphs["knowledge"]
    names, relations = graph.entities.raw.to_pylist(), graph.relations.raw.to_pylist()
    ends = zip(graph.head.tolist(), graph.relation.tolist(), graph.tail.tolist(), strict=True)
    return [(names[h], relations[r], names[t]) for h, r, t in ends]


def test_values_are_entities_and_items_their_own(shop):
    assert category_names(shop) == ["maker", "categories"]
    made = with_attribute_graph(shop)
    assert triples(made) == [
        ("item: a", "maker", "maker: m"), ("item: b", "maker", "maker: m"), ("item: c", "maker", "maker: n"),
        ("item: d", "maker", "maker: n"),
        ("item: a", "categories", "categories: x"), ("item: a", "categories", "categories: y"),
        ("item: b", "categories", "categories: x"),
    ]  # fmt: skip
    assert made.spec[-1] == {"step": "attribute graph", "attributes": ["maker", "categories"], "triples": 7}
    knowledge = Knowledge.of(made)
    assert knowledge.n_rows == 4 + 4 and len(knowledge) == 7 and knowledge.counts["items_without_triples"] == 0
    assert triples(with_attribute_graph(shop, ["price"]))[0] == ("item: a", "price", "price: 1.5")


def test_what_can_not_be_is_told(shop):
    with pytest.raises(ConfigError, match="already"):
        with_attribute_graph(with_attribute_graph(shop))
    with pytest.raises(ConfigError, match=r"no such attribute[\s\S]*maker"):
        with_attribute_graph(shop, ["makr"])
    with pytest.raises(DataError, match="looks like a category"):
        with_attribute_graph(shop.derive({"step": "bare"}, items=Entities(shop.items.ids)))
    nested = shop.items.attributes.append_column("deep", pa.array([{"x": 1}] * 4))
    with pytest.raises(DataError, match=r"plain values[\s\S]*deep"):
        with_attribute_graph(shop.derive({"step": "deep"}, items=Entities(shop.items.ids, nested)), ["deep"])


def test_a_folder_is_read_with_a_graph_of_its_items(tmp_path):
    (tmp_path / "events.csv").write_text("user,item\nu,1\nu,2\nv,4\nv,3\n")
    (tmp_path / "items.csv").write_text("item_id,maker,label\n1,m,one two\n2,m,three\n3,n,four\n4,n,five\n")
    with pytest.raises(DataError, match="attribute_graph=all"):
        Knowledge.of(read(tmp_path))
    for names, relations in (("all", ["maker"]), ("label, maker", ["label", "maker"])):
        found = read(tmp_path, attribute_graph=names).graphs["knowledge"]
        assert found.relations.raw.to_pylist() == relations and np.array_equal(found.item_entity, [0, 1, 2, 3])
