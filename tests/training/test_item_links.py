"""Links between items: the Gram matrix by types, the cap of the busy, lift, balanced epochs."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError
from palate.training import item_links as module
from palate.training.item_links import LinkEpochs, co_consumed, item_links

ACTIONS = ["stream", "follow"]


def made(seed=0, users=25, items=14, share=0.25, kinds=("p", "a"), actions=False, repeats=0):
    """Random events with types by parity (item 0 has none), some repeated; the last person has nothing."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((users - 1, items)) < share)
    more = rng.integers(len(user), size=repeats) if repeats else np.empty(0, int)
    user, item = np.concatenate([user, user[more]]), np.concatenate([item, item[more]])
    action = rng.integers(2, size=len(user)) if actions else None
    events = Interactions.sorted(user, item, time=rng.permutation(len(user)), action=action)
    table = pa.table({"kind": [None, *(kinds[i % len(kinds)] for i in range(1, items))], "tags": [["x"]] * items})
    return Dataset(
        events,
        Entities(Vocabulary.range(users)),
        Entities(Vocabulary.range(items), table),
        actions=Vocabulary(pa.array(ACTIONS)) if actions else None,
    )


@pytest.mark.parametrize("repeats", [0, 20])
def test_links_are_the_upper_triangle_of_the_gram_matrix_by_type(repeats):
    data = made(repeats=repeats)
    links = item_links(data, item_type="kind", min_support=1, min_lift=0)
    gram = (data.matrix().T @ data.matrix()).toarray()
    first, second = np.nonzero(np.triu(gram, 1))
    np.testing.assert_array_equal(links.first, first)
    np.testing.assert_array_equal(links.second, second)
    np.testing.assert_array_equal(links.support, gram[first, second])
    assert links.names == ("", "a", "p")
    named = np.array(links.names)[links.types]
    assert named[0] == "" and set(named[2::2]) == {"p"} and set(named[1::2]) == {"a"}
    for name, count in links.counts.items():
        ends = set(name.split(" - "))
        assert count == sum({named[i], named[j]} == ends for i, j in zip(first, second, strict=True))
    assert sum(links.counts.values()) == len(links)


def test_kinds_are_left_out_by_name():
    links = item_links(made(), item_type="kind", min_support=1, min_lift=0)
    fewer = links.without(("a - a", " - p"))
    assert fewer.counts == {name: count for name, count in links.counts.items() if name not in ("a - a", " - p")}
    assert links.without(()) is links
    with pytest.raises(ConfigError, match="no such kind"):
        links.without(("p - a",))


def test_thresholds_by_hand():
    """Three people had 0 and 1, one of them 2; two others had 2 alone. lift(0,1) = 3·5/9, lift(0,2) = 1·5/9."""
    histories = Histories.from_rows([[0, 1, 2], [0, 1], [1, 0, 0], [2], [2]])
    pairs = lambda **settings: list(zip(*(c.tolist() for c in co_consumed(histories, 4, **settings)), strict=True))  # noqa: E731
    assert pairs() == [(0, 1, 3), (0, 2, 1), (1, 2, 1)]
    assert pairs(min_support=2) == [(0, 1, 3)]
    assert pairs(min_lift=1) == [(0, 1, 3)]
    assert pairs(min_lift=5 / 3) == [(0, 1, 3)] and pairs(min_lift=1.7) == []
    assert pairs(min_support=4) == []


def test_the_last_distinct_items_of_a_busy_person_make_links():
    """The last two distinct items of 0 1 2 0 are 2 and 0, whatever came before."""
    histories = Histories.from_rows([[0, 1, 2, 0], [1, 2]])
    first, second, support = co_consumed(histories, 3, max_items=2)
    assert list(zip(first, second, support, strict=True)) == [(0, 2, 1), (1, 2, 1)]


def test_blocks_of_items_give_the_same_links(monkeypatch):
    data = made(users=60, items=40)
    whole = co_consumed(data.histories, 40, min_support=2, min_lift=1)
    monkeypatch.setattr(module, "WORK", 50)
    for one, other in zip(whole, co_consumed(data.histories, 40, min_support=2, min_lift=1), strict=True):
        np.testing.assert_array_equal(one, other)


def test_edges_lead_both_ways_under_the_types_of_their_ends():
    links = item_links(made(), item_type="kind", min_support=1, min_lift=0)
    edges = links.edges()
    assert len(edges) == 2 * len(links) and edges.n_relations == 9
    np.testing.assert_array_equal(edges.relations, 3 * links.types[edges.heads] + links.types[edges.tails])
    np.testing.assert_array_equal(edges.heads[edges.inverse], edges.tails)
    np.testing.assert_array_equal(edges.tails[edges.inverse], edges.heads)
    joined = links.joined(np.arange(14)[:, None], np.arange(14)[None, :])
    dense = np.zeros((14, 14), bool)
    dense[links.first, links.second] = True
    np.testing.assert_array_equal(joined, dense | dense.T)


def test_weak_actions_make_no_links():
    data = made(actions=True)
    events = data.interactions
    strong = data.derive({"step": "streams"}, interactions=events.take(events.action == 0))
    gram = (strong.matrix().T @ strong.matrix()).toarray()
    links = item_links(data, weak=("follow",), min_support=1, min_lift=0)
    assert len(links) == np.count_nonzero(np.triu(gram, 1)) < len(item_links(data, min_support=1, min_lift=0))


@pytest.mark.parametrize(("settings", "word"), [
    ({"item_type": "knd"}, "kind"), ({"item_type": "tags"}, "one value"), ({"weak": ("folow",)}, "follow"),
])  # fmt: skip
def test_absent_names_are_refused(settings, word):
    with pytest.raises(ConfigError, match=word):
        item_links(made(actions=True), **settings)


def test_no_actions_no_attributes_too_many_types_are_refused():
    with pytest.raises(ConfigError, match="no actions"):
        item_links(made(), weak=("follow",))
    bare = Dataset.from_columns([1, 2], [1, 2])
    with pytest.raises(ConfigError, match="no attributes"):
        item_links(bare, item_type="kind")
    assert len(item_links(bare)) == 0 and item_links(bare).counts == {}
    with pytest.raises(ConfigError, match="16"):
        item_links(made(items=40, kinds=[f"k{i}" for i in range(39)]), item_type="kind")


KINDS = np.repeat([0, 1, 3], [7, 40, 95]).astype(np.int32)


def test_a_balanced_epoch_has_equally_many_links_of_each_kind():
    rng = np.random.default_rng(0)
    order = LinkEpochs(KINDS, rng=rng)
    assert len(order) == 21
    for number in range(1, 6):
        drawn = order.epoch(number, rng)
        assert len(np.unique(drawn)) == 21
        assert np.bincount(KINDS[drawn]).tolist() == [7, 7, 0, 7]


def test_every_link_of_a_kind_has_its_turn_equally_often():
    rng = np.random.default_rng(1)
    order = LinkEpochs(KINDS, rng=rng)
    for epochs in (13, 95):
        times = np.bincount(np.concatenate([order.epoch(e, rng) for e in range(1, epochs + 1)]), minlength=len(KINDS))
        for kind, size in ((0, 7), (1, 40), (3, 95)):
            own = times[np.equal(KINDS, kind)]
            assert own.sum() == 7 * epochs and own.max() - own.min() <= 1
            assert own.mean() == pytest.approx(7 * epochs / size)


def test_bounds_of_an_epoch():
    rng = np.random.default_rng(2)
    least = LinkEpochs(KINDS, least=60, rng=rng)
    assert np.bincount(KINDS[least.epoch(1, rng)]).tolist() == [20, 20, 0, 20]
    assert len(LinkEpochs(KINDS, most=5, rng=rng)) == 15
    everything = LinkEpochs(KINDS, balanced=False, rng=rng)
    np.testing.assert_array_equal(np.sort(everything.epoch(3, rng)), np.arange(len(KINDS)))
    assert len(LinkEpochs(KINDS, balanced=False, most=5, rng=rng)) == 15
    nothing = LinkEpochs(KINDS[:0], least=10, rng=rng)
    assert len(nothing) == 0 and len(nothing.epoch(1, rng)) == 0


def test_an_epoch_is_named_by_its_number():
    """A fit that goes on from epoch 4 takes the links that it would have taken."""
    orders = [LinkEpochs(KINDS, rng=np.random.default_rng(3)) for _ in range(2)]
    for number in range(1, 4):
        orders[0].epoch(number, np.random.default_rng(number))
    np.testing.assert_array_equal(*(order.epoch(4, np.random.default_rng(4)) for order in orders))
