"""Knowledge: rows, what is left out, inverses, people beside it."""

import numpy as np
import pytest
from scipy import sparse

from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.nn.knowledge import Edges, Knowledge
from palate.simulate.world import World

DATA = Dataset.from_columns(["u", "u", "v", "w"], ["a", "b", "c", "d"])


def graph(triples, heads="entity", tails="entity", item_entity=(0, 1, -1, 1), relations=("of", "by"), entities=6):
    head, relation, tail = (
        (np.array(c, np.int32) for c in zip(*triples, strict=True)) if triples else (np.empty(0, np.int32),) * 3
    )
    return Graph(
        head, relation, tail, heads, tails, Vocabulary(list(relations)), Vocabulary([f"e{n}" for n in range(entities)]),
        None if item_entity is None else np.array(item_entity, np.int32),
    )  # fmt: skip


def knowledge(*args, **keys):
    return Knowledge.of(DATA.derive({"step": "graph"}, graphs={"knowledge": graph(*args, **keys)}))


def triples_of(k):
    return {(int(h), int(r), int(t)) for h, r, t in zip(k.head, k.relation, k.tail, strict=True)}


def test_rows_by_hand():
    """Items are rows 0 to 3; items 1 and 3 both stand for entity 1; item 2 stands for none; entities 3 and 5 get rows."""
    k = knowledge([(0, 0, 3), (1, 1, 3), (5, 0, 3)])
    assert k.entities.tolist() == [3, 5]
    assert (k.n_items, k.n_rows, k.n_relations) == (4, 6, 2)
    assert triples_of(k) == {(0, 0, 4), (1, 1, 4), (3, 1, 4), (5, 0, 4)}
    assert k.counts == {"read": 3, "unknown": 0, "self_loops": 0, "duplicates": 0, "items_without_triples": 1}


def test_what_is_left_out_is_counted():
    k = knowledge([(0, 0, 3), (0, 0, 3), (4, 1, 4), (-1, 0, 3), (2, 0, -1), (2, -1, 4)], item_entity=(0, -1, -1, -1))
    assert triples_of(k) == {(0, 0, 4)} and k.entities.tolist() == [3, 4]
    assert k.counts == {"read": 6, "unknown": 3, "self_loops": 1, "duplicates": 1, "items_without_triples": 3}


def test_two_items_of_one_entity_do_not_loop():
    """A triple of an entity with itself becomes links between its items, but for each with itself."""
    k = knowledge([(1, 0, 1)])
    assert triples_of(k) == {(1, 0, 3), (3, 0, 1)}
    assert k.counts["self_loops"] == 2


def test_items_may_be_heads_without_entities():
    k = knowledge([(0, 0, 2), (3, 1, 2)], heads="item", item_entity=None)
    assert triples_of(k) == {(0, 0, 4), (3, 1, 4)} and k.n_rows == 5


def test_an_empty_graph_and_one_edge():
    assert len(knowledge([])) == 0 and knowledge([]).n_rows == 4
    edges = knowledge([(0, 1, 3)]).edges
    assert edges.tails.tolist() == [4, 0] and edges.relations.tolist() == [2, 3] and edges.inverse.tolist() == [1, 0]
    assert [len(part) for part in edges.by_relation] == [0, 0, 1, 1]
    np.testing.assert_array_equal(edges.asks, edges.heads * 4 + edges.relations)
    np.testing.assert_array_equal(edges.offers, edges.tails * 4 + edges.relations)


def test_triples_that_speak_of_no_item_are_refused():
    triples = [(0, 0, 3), (4, 1, 3)]
    with pytest.raises(DataError, match=r"no triple[\s\S]*item_entities"):
        knowledge(triples, item_entity=(-1, -1, -1, -1))
    assert len(knowledge(triples, item_entity=(0, -1, -1, -1))) == 2


def test_no_graph_is_refused_or_counts_as_empty():
    with pytest.raises(DataError, match="no knowledge graph"):
        Knowledge.of(DATA)
    k = Knowledge.of(DATA, required=False)
    assert len(k) == 0 and k.n_rows == DATA.n_items
    assert len(k.with_people(DATA.matrix())) == 2 * len(DATA)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"triples": [(0, 0, 6)]}, "entity of a tail"),
        ({"triples": [(0, 2, 1)]}, "relation"),
        ({"triples": [(0, 0, 1)], "item_entity": (0, 1, 2, 6)}, "entity of an item"),
        ({"triples": [(0, 0, 1)], "item_entity": (0, 1)}, "one number an item"),
        ({"triples": [(0, 0, 1)], "heads": "user"}, "items and entities"),
        ({"triples": [(4, 0, 1)], "heads": "item"}, "item of a head"),
    ],
)
def test_bad_numbers_are_named(keys, told):
    with pytest.raises(DataError, match=told):
        knowledge(**keys)


def test_every_link_has_its_inverse():
    world = World(users=60, items=40, events=600, topics=5).dataset(text=False, impressions=False)
    k = Knowledge.of(world)
    edges = k.with_people(world.matrix())
    assert len(edges) == 2 * (len(k) + world.matrix().nnz)
    np.testing.assert_array_equal(edges.heads[edges.inverse], edges.tails)
    np.testing.assert_array_equal(edges.relations[edges.inverse], edges.relations ^ 1)
    np.testing.assert_array_equal(edges.inverse[edges.inverse], np.arange(len(edges)))
    assert (np.diff(edges.heads) >= 0).all() and edges.degrees.sum() == len(edges)
    people = edges.heads < world.n_users
    assert (edges.relations[people] == 0).all() and (edges.tails[people] < world.n_users + world.n_items).all()


def test_groups_hold_one_head_and_one_relation():
    edges = Edges.both_ways(4, np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0]), np.array([1, 2, 1, 3]), 2)
    bounds, group = edges.groups
    for g in range(len(bounds) - 1):
        own = slice(bounds[g], bounds[g + 1])
        assert len(set(edges.heads[own])) == len(set(edges.relations[own])) == 1
        assert (np.diff(edges.tails[own]) > 0).all() and (group[own] == g).all()


def test_people_alone():
    edges = Knowledge.of(DATA, required=False).with_people(sparse.csr_matrix((3, 4), dtype=np.float32))
    assert len(edges) == 0 and edges.rows == 7 and len(edges.by_relation) == 2
    assert [len(part) for part in edges.groups] == [1, 0]
