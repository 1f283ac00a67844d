"""Recurrent layers over sequences side by side: the gates by hand, fresh states, the same alone or together."""

import torch

from palate.nn.dropout import Dropout
from palate.nn.recurrent import RecurrentEncoder


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


def test_one_layer_follows_the_gates():
    """r, z, n as in Cho et al. 2014, in PyTorch's form: h = (1 - z) n + z h."""
    module = RecurrentEncoder(9, 4, 4)
    module.reset(torch.Generator().manual_seed(1))
    cell, h = module.cells[0], torch.zeros(4)
    x = module.items.weight[[2, 7, 2]]
    with torch.no_grad():
        for t in range(3):
            (i_r, i_z, i_n), (h_r, h_z, h_n) = (
                (w @ v + b).chunk(3)
                for w, v, b in ((cell.weight_ih_l0, x[t], cell.bias_ih_l0), (cell.weight_hh_l0, h, cell.bias_hh_l0))
            )
            r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
            h = (1 - z) * torch.tanh(i_n + r * h_n) + z * h
        out = module(x, torch.tensor([1, 1, 1]))
    torch.testing.assert_close(out[-1], h)


def test_dropout_draws_from_the_generator_passed():
    module = RecurrentEncoder(9, 4, 6)
    module.reset(torch.Generator().manual_seed(1))
    x, active = module.items.weight[[1, 2, 3]], torch.tensor([2, 1])
    first, again, other = (module(x, active, Dropout(0.5, torch.Generator().manual_seed(s))) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_starting_weights_repeat_under_a_seed():
    first, second = RecurrentEncoder(9, 4, 6), RecurrentEncoder(9, 4, 6)
    for module in (first, second):
        module.reset(torch.Generator().manual_seed(5))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    recurrent = first.cells[0].weight_hh_l0[:6]
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(6), atol=1e-5, rtol=0)
