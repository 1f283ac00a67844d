"""Causal attention over packed rows, against its formula."""

import pytest
import torch

from palate.nn.attention import CausalAttention, packed_mask


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


def test_without_projection_the_heads_are_the_answer():
    attention = CausalAttention(8, 2, project=False, bias=False)
    assert sorted(name for name, _ in attention.named_parameters()) == ["key_value.weight", "query.weight"]
    x = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attention(x, x), attention.key_value(x).chunk(2, -1)[1])  # one position sees itself alone


def test_queries_and_context_may_differ():
    attention = CausalAttention(8, 1)
    x, y = torch.randn(2, 1, 3, 8, generator=torch.Generator().manual_seed(1))
    q, (k, v) = attention.query(x), attention.key_value(y).chunk(2, -1)
    scores = (q[0] @ k[0].T / 8**0.5).masked_fill(torch.ones(3, 3).triu(1).bool(), float("-inf"))
    torch.testing.assert_close(attention(x, y)[0], attention.out(scores.softmax(-1) @ v[0]))


def test_the_mask_by_hand():
    mask = packed_mask(torch.tensor([[0, 0, 1, -1]]))
    assert mask.shape == (1, 1, 4, 4)
    allowed = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert (mask[0, 0] == 0).int().tolist() == allowed
    assert torch.isneginf(mask[0, 0][mask[0, 0] != 0]).all()


def test_a_mask_of_one_whole_sequence_is_plain_causality():
    attention = CausalAttention(8, 2)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(attention(x, x, packed_mask(torch.zeros(3, 5, dtype=torch.int32))), attention(x, x))
