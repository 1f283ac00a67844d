"""The causal transformer: causality, packed rows, its blocks by their formulas."""

import pytest
import torch
from torch.nn import functional

from palate.nn.attention import packed_mask
from palate.nn.dropout import OFF, Dropout
from palate.nn.transformer import CausalTransformer, LiGRBlock, PreNormBlock, SASRecBlock

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


def test_a_closed_ligr_gate_returns_its_input():
    block = LiGRBlock(8, 2)
    for gate in (block.gate1, block.gate2):
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.constant_(gate.bias, -200.0)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(block(x, None, Dropout()), x)


def block_and_input(kind):
    torch.manual_seed(0)
    return kind(8, 2), torch.randn(2, 5, 8)


def test_a_sasrec_block_starts_from_the_normalised_query():
    block, x = block_and_input(SASRecBlock)
    q = block.norm1(x)
    z = block.norm2(q + block.attention(q, x))
    torch.testing.assert_close(block(x, None, OFF), z + block.outer(functional.relu(block.inner(z))))
    assert isinstance(block.attention.out, torch.nn.Identity)


def test_a_prenorm_block_follows_its_formula():
    block, x = block_and_input(PreNormBlock)
    n = block.norm1(x)
    y = x + block.attention(n, n)
    torch.testing.assert_close(block(x, None, OFF), y + block.outer(functional.gelu(block.inner(block.norm2(y)))))
    assert block.inner.out_features == 32


def test_a_ligr_block_is_gated_by_its_raw_input():
    block, x = block_and_input(LiGRBlock)
    n = block.norm1(x)
    y = x + torch.sigmoid(block.gate1(x)) * block.attention(n, n)
    left, right = block.inner(block.norm2(y)).chunk(2, -1)
    want = y + torch.sigmoid(block.gate2(y)) * block.outer(functional.silu(left) * right)
    torch.testing.assert_close(block(x, None, OFF), want)
    assert block.outer.in_features == 32 and block.inner.bias is None


def test_inputs_are_scaled_and_placed():
    module = net(positions="start")
    with torch.no_grad():
        module.blocks = torch.nn.ModuleList()
        x, places = module.items(torch.tensor([[3, 7]])), torch.tensor([[0, 1]])
        want = module.norm(x * 4.0 + module.places(places))
        torch.testing.assert_close(module(x, places), want)
    assert net(positions="none").places is None
