"""Dual intent: guesses by hand, what padding would leak, and the losses at points where their value is known."""

import math

import numpy as np
import pytest
import torch

from palate.data.ragged import Ragged
from palate.nn.dual_intent import DualIntent, lists_of, own_slots, supervision, translation_contrast
from palate.nn.sparse import Sparse

D, WORDS = 4, 6


@pytest.fixture
def net():
    return DualIntent(WORDS, D, np.random.default_rng(0))


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def guessed(net, own, led, people, items):
    """Guess for rows that stand beside each other."""
    lists = lists_of(Ragged.from_rows(led), np.arange(len(led)), WORDS)
    return net.guess(net.people(people, Ragged.from_rows(own)), items, lists)


def test_a_guess_by_hand(net):
    own, led = [[4, 1], []], [[2, 0, 5], [3]]
    people, items, w = drawn(2, D), drawn(2, D, seed=1), net.words
    found = guessed(net, own, led, people, items)
    none = torch.zeros(D)
    for row, (mine, theirs) in enumerate(zip(own, led, strict=True)):
        slots = [w[n] for n in mine] + [none] * (3 - len(mine))
        key = net.key(torch.cat([people[row], *slots]))
        words = w[theirs]
        shares = torch.softmax((words @ net.gate.weight.T + drawn(D, seed=5)) @ key, 0)  # a bias of the gate changes nothing
        x = torch.cat([people[row], items[row], sum(slots), shares @ words])
        first, second = net.generator.layers
        expected = net.generator.last(torch.tanh(second(torch.tanh(first(x)))))
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def test_padding_leaks_nothing_here_but_does_as_published(net):
    """Short lists filled up with word 0, which then is a word like any other, change with that word; ours don't."""
    own, led = [[4]], [[2, 5]]
    filled_own, filled_led = [[4, 0, 0]], [[2, 5] + [0] * 8]
    people, items = drawn(1, D), drawn(1, D, seed=1)
    bag, filled_bag = (Sparse.of(np.array(rows, np.float32)) for rows in ([[0, 0, 1, 0, 0, 0]], [[2, 0, 1, 0, 0, 0]]))

    def all_of(first, second, queries):
        return guessed(net, first, second, people, items).detach(), queries.times(net.words).detach()

    before, leaky = all_of(own, led, bag), all_of(filled_own, filled_led, filled_bag)
    torch.testing.assert_close(leaky[1] - before[1], 2 * net.words[:1].detach())
    with torch.no_grad():
        net.words[0] += 1
    after, leaky_after = all_of(own, led, bag), all_of(filled_own, filled_led, filled_bag)
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one, two)
    for one, two in zip(leaky, leaky_after, strict=True):
        assert (one - two).abs().max() > 0.01


def test_missing_words_learn_nothing(net):
    guessed(net, [[4]], [[2, 5]], drawn(1, D), drawn(1, D)).sum().backward()
    assert net.words.grad[[2, 4, 5]].abs().sum(1).gt(0).all() and not net.words.grad[[0, 1, 3]].any()
    assert own_slots(Ragged.from_rows([[4], [], [1, 2, 3]]), WORDS).tolist() == [[4, 6, 6], [6, 6, 6], [1, 2, 3]]


def test_nothing_known_of_words_at_all():
    net = DualIntent(0, D, np.random.default_rng(0))
    lists = lists_of(Ragged.empty(2), np.arange(2), 0)
    out = net.guess(net.people(drawn(2, D), Ragged.empty(2)), drawn(2, D), lists)
    out.sum().backward()
    assert out.shape == (2, D) and torch.isfinite(out).all()


def test_search_and_feed_have_scores_of_their_own(net):
    rows = drawn(3, D), drawn(3, D, seed=1), drawn(3, D, seed=2)
    x = torch.cat(rows, 1)
    for search, network in ((True, net.search), (False, net.feed)):
        hidden = x
        for layer in network.layers:
            hidden = torch.nn.functional.leaky_relu(layer(hidden))
        torch.testing.assert_close(net.score(*rows, search=search), network.last(hidden)[:, 0])
    assert not torch.allclose(net.score(*rows, search=True), net.score(*rows, search=False))


def test_losses_where_their_value_is_known():
    people, demands, items = drawn(5, D), drawn(5, D, seed=1), drawn(5, D, seed=2)
    assert float(translation_contrast(people, demands, items, items, 5)) == pytest.approx(math.log(2))
    assert float(translation_contrast(people, demands, people + demands, items + 100, 5)) < 1e-6
    none = torch.zeros(0, D)
    assert float(supervision(none, none, 7)) == 0
    assert float(supervision(items + 2, items, 10)) == pytest.approx(5 * 4 / 10, rel=1e-5)


def test_making_one_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    DualIntent(WORDS, D, np.random.default_rng(0))
    assert torch.equal(before, torch.get_rng_state())
