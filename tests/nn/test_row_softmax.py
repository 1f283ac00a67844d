"""Softmax of short rows: values and gradients of PyTorch's."""

import pytest
import torch

from palate.nn.row_softmax import row_softmax, row_softmax_reference


@pytest.mark.parametrize("shape", [(5, 2, 7, 7), (3, 1), (0, 4), (2, 70), (9,)])
def test_equals_that_of_torch(shape):
    g = torch.Generator().manual_seed(0)
    x = (5 * torch.randn(*shape, generator=g)).requires_grad_()
    slope = torch.randn(*shape, generator=g)
    fast, plain = row_softmax(x), row_softmax_reference(x)
    torch.testing.assert_close(fast, plain, atol=1e-6, rtol=1e-5)
    grads = [torch.autograd.grad((one * slope).sum(), x)[0] for one in (fast, plain)]
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)


def test_strides_and_large_numbers():
    x = torch.randn(4, 6, 3).transpose(1, 2) + 300
    torch.testing.assert_close(row_softmax(x), row_softmax_reference(x))
    assert row_softmax(x.double()).dtype == torch.float64
