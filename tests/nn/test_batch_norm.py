"""Batch normalisation: as torch's, and one row alone by the running statistics."""

import torch

from palate.nn.batch_norm import BatchNorm


def test_many_rows_are_normalised_as_torch_does() -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    ours, plain = BatchNorm(3), torch.nn.BatchNorm1d(3)
    for _ in range(3):
        torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def test_one_row_is_normalised_as_in_answering() -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    norm = BatchNorm(3)
    norm(x)
    before = {name: t.clone() for name, t in norm.state_dict().items()}
    row = x[:1].clone().requires_grad_()
    found = norm(row)
    found.sum().backward()
    assert row.grad is not None and (row.grad != 0).all()
    torch.testing.assert_close(found, norm.eval()(x[:1]))
    assert all(torch.equal(t, before[name]) for name, t in norm.state_dict().items())
