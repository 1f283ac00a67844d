"""Rows of a tensor and their weighted size: values and gradients equal the plain forms."""

import numpy as np
import torch

from palate.nn.take import take, take_reference, take_sized, take_sized_reference, weighted_size, weighted_size_reference


def test_fast_equals_plain():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows, weights = np.array([3, 3, 0, 8]), np.linspace(0, 2, 9).astype(np.float32)
    for fast, plain in (
        ((take(x, rows) ** 2).sum(), (take_reference(x, rows) ** 2).sum()),
        (take(x, rows).sum(), take_reference(x, rows).sum()),
        (3 * weighted_size(x, weights), 3 * weighted_size_reference(x, weights)),
    ):
        torch.testing.assert_close(fast, plain)
        torch.testing.assert_close(torch.autograd.grad(fast, x), torch.autograd.grad(plain, x))
    assert take(x, np.empty(0, np.int64)).shape == (0, 4)


def test_rows_with_their_size():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = np.array([3, 3, 0, 8])
    for weigh in (lambda found, size: (found**3).sum() + 0.7 * size, lambda found, size: found.sum(), lambda found, size: size):
        fast, plain = weigh(*take_sized(x, rows)), weigh(*take_sized_reference(x, rows))
        torch.testing.assert_close(fast, plain)
        torch.testing.assert_close(torch.autograd.grad(fast, x), torch.autograd.grad(plain, x))
    assert float(take_sized(x, np.empty(0, np.int64))[1].detach()) == 0
