"""The causal transformer, its attention, dropout and softmax losses, against definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from palate.nn.attention import CausalAttention, packed_mask
from palate.nn.dropout import Dropout, random_bytes
from palate.nn.recurrent import RecurrentEncoder
from palate.nn.softmax import shared_softmax, shared_softmax_reference, whole_softmax
from palate.nn.topgain import bpr_max, top1_max
from palate.nn.transformer import CausalTransformer, LiGRBlock

LAYERS = ("sasrec", "prenorm", "ligr")


def net(layer="sasrec", positions="end", n_items=30, dim=16, max_len=12):
    module = CausalTransformer(n_items, dim, max_len, blocks=2, heads=2, layer=layer, positions=positions)
    module.reset(torch.Generator().manual_seed(3))
    torch.nn.init.normal_(module.items.weight, generator=torch.Generator().manual_seed(4))
    return module


def states(module, row):
    items = torch.tensor([row])
    age = torch.arange(len(row) - 1, -1, -1)[None]
    return module(module.items(items), age)[0]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_later_item_never_changes_an_earlier_state(layer):
    module = net(layer, positions="start")
    items = torch.tensor([[3, 7, 1, 9, 4], [3, 7, 1, 2, 8]])
    places = torch.arange(5).expand(2, 5)
    with torch.no_grad():
        out = module(module.items(items), places)
    torch.testing.assert_close(out[0, :3], out[1, :3])
    assert not torch.allclose(out[0, 3:], out[1, 3:])


@pytest.mark.parametrize("layer", LAYERS)
def test_an_earlier_item_changes_later_states(layer):
    module = net(layer)
    with torch.no_grad():
        assert not torch.allclose(states(module, [3, 7, 1])[2], states(module, [4, 7, 1])[2])


@pytest.mark.parametrize("layer", LAYERS)
def test_packed_sequences_do_not_see_each_other(layer):
    module = net(layer)
    first, second = [3, 7, 1, 9], [5, 5, 2]
    row = torch.tensor([[*first, *second, 0, 0]])
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, -1, -1]])
    age = torch.tensor([[3, 2, 1, 0, 2, 1, 0, 0, 0]])
    with torch.no_grad():
        packed = module(module.items(row), age, packed_mask(segments))[0]
        torch.testing.assert_close(packed[:4], states(module, first), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed[4:7], states(module, second), atol=1e-5, rtol=1e-5)
    assert torch.isfinite(packed).all()


def test_attention_equals_its_formula():
    torch.manual_seed(0)
    attention = CausalAttention(8, 2)
    x = torch.randn(1, 4, 8)
    q, (k, v) = attention.query(x), attention.key_value(x).chunk(2, -1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = q[0, :, part] @ k[0, :, part].T / 2.0
        scores = scores.masked_fill(torch.ones(4, 4).triu(1).bool(), float("-inf"))
        heads.append(scores.softmax(-1) @ v[0, :, part])
    torch.testing.assert_close(attention(x, x)[0], attention.out(torch.cat(heads, -1)))


def test_heads_must_divide_dim():
    with pytest.raises(ValueError, match="can't be cut into 3 heads"):
        CausalAttention(16, 3)


def test_a_closed_ligr_gate_returns_its_input():
    block = LiGRBlock(8, 2)
    for gate in (block.gate1, block.gate2):
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.constant_(gate.bias, -200.0)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(block(x, None, Dropout()), x)


def test_dropout_keeps_the_mean_and_repeats_under_a_seed():
    x = torch.ones(400, 500)
    first, again = (Dropout(0.3, torch.Generator().manual_seed(1))(x) for _ in range(2))
    assert torch.equal(first, again)
    assert abs(first.mean().item() - 1) < 0.01
    assert abs((first == 0).float().mean().item() - 0.3) < 0.005
    assert Dropout(0.3)(x) is x
    with pytest.raises(ValueError, match="dropout rate"):
        Dropout(1.0)


def test_random_bytes_are_uniform():
    counts = np.bincount(random_bytes(1_000_003, torch.Generator().manual_seed(5)).numpy(), minlength=256)
    expected = 1_000_003 / 256
    assert ((counts - expected) ** 2 / expected).sum() < 350  # chi-square, 255 degrees of freedom: p about 1e-4


@given(st.integers(1, 70), st.integers(1, 90), st.booleans(), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_shared_softmax_equals_its_definition_with_gradients(p, k, hit, corrected, seed):
    g = torch.Generator().manual_seed(seed)
    q, v = torch.randn(p, 6, generator=g).requires_grad_(), torch.randn(k, 6, generator=g).requires_grad_()
    own = torch.randn(p, generator=g).requires_grad_()
    hits = torch.randint(-1, k, (p,), generator=g) if hit else None
    correction = torch.randn(k, generator=g) if corrected else None
    fast = shared_softmax(q, own, v, hits=hits, correction=correction)
    plain = shared_softmax_reference(q, own, v, hits, correction)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(3 * fast, (q, own, v)), torch.autograd.grad(3 * plain, (q, own, v)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_softmax_in_many_blocks_equals_one(monkeypatch):
    monkeypatch.setattr("palate.nn.softmax.BLOCK_BYTES", 4 * 50 * 16)
    q, v = torch.randn(133, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(0, 50, (133,))
    fast, plain = whole_softmax(q, v, targets), functional.cross_entropy(q @ v.T, targets)
    torch.testing.assert_close(fast, plain)
    for a, b in zip(torch.autograd.grad(fast, (q, v)), torch.autograd.grad(plain, (q, v)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_all_other_items_as_negatives_give_the_whole_softmax():
    q, v, targets = torch.randn(9, 8), torch.randn(20, 8), torch.randint(0, 20, (9,))
    own = (q * v[targets]).sum(1)
    torch.testing.assert_close(shared_softmax(q, own, v, hits=targets), whole_softmax(q, v, targets))


def test_bfloat16_products_stay_near():
    q, v, targets = torch.randn(64, 32), torch.randn(100, 32), torch.randint(0, 100, (64,))
    near = whole_softmax(q, v, targets, bfloat16=True)
    assert abs(near - whole_softmax(q, v, targets)) < 0.05 * near


def test_top_gain_losses_by_hand():
    own, others = torch.tensor([1.0]), torch.tensor([[0.0, 2.0, float("-inf")]])
    w = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    sigma = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = -np.log(w[0] * sigma(1.0) + w[1] * sigma(-1.0)) + 0.5 * (w[1] * 4.0)
    assert bpr_max(own, others, 0.5).item() == pytest.approx(expected, rel=1e-5)
    expected = w[0] * (sigma(-1.0) + sigma(0.0)) + w[1] * (sigma(1.0) + sigma(4.0))
    assert top1_max(own, others).item() == pytest.approx(expected, rel=1e-5)


def test_top_gain_losses_have_finite_gradients_at_left_out_columns():
    others = torch.tensor([[0.3, float("-inf"), 0.1]], requires_grad=True)
    (bpr_max(torch.zeros(1), others) + top1_max(torch.zeros(1), others)).backward()
    assert torch.isfinite(others.grad).all()
    assert others.grad[0, 1] == 0


def test_recurrent_states_start_fresh_and_agree_packed_or_alone():
    module = RecurrentEncoder(20, 6, 8, layers=2)
    module.reset(torch.Generator().manual_seed(0))
    long, short = torch.tensor([3, 5, 1]), torch.tensor([4, 2])
    time_major = torch.tensor([3, 4, 5, 2, 1])
    with torch.no_grad():
        together = module(module.items(time_major), torch.tensor([2, 2, 1]))
        alone_long = module(module.items(long), torch.tensor([1, 1, 1]))
        alone_short = module(module.items(short), torch.tensor([1, 1]))
        last = module.last(module.items(torch.tensor([[3, 5, 1], [4, 2, 0]])), torch.tensor([3, 2]))
    torch.testing.assert_close(together[[0, 2, 4]], alone_long)
    torch.testing.assert_close(together[[1, 3]], alone_short)
    torch.testing.assert_close(last, torch.stack([alone_long[2], alone_short[1]]))
