"""Affine maps by oneDNN: values and gradients of PyTorch's own, with and without bias, ReLU and dropout."""

import pytest
import torch

from palate.nn import affine as module
from palate.nn.affine import Affine, affine, affine_reference, hidden, hidden_reference
from palate.nn.dropout import Dropout

CLOSE = {"atol": 2e-4, "rtol": 1e-4}


@pytest.fixture
def tensors():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=g) for shape in ((90, 40), (30, 40), (30,), (90, 30))]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)
    if not module._there():
        pytest.skip("this build of PyTorch has no oneDNN")


def course(function, x, weight, bias, slope, *rest):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    bias = None if bias is None else bias.clone().requires_grad_()
    found = function(x, weight, bias, *rest)
    (found * slope).sum().backward()
    return [found.detach(), x.grad, weight.grad, *([] if bias is None else [bias.grad])]


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.parametrize("biased", [True, False])
def test_affine_equals_reference(tensors, biased, few, monkeypatch):
    monkeypatch.setattr(module, "FEW", few)
    x, weight, bias, slope = tensors
    given = (x, weight, bias if biased else None, slope)
    for found, truth in zip(course(affine, *given), course(affine_reference, *given), strict=True):
        torch.testing.assert_close(found, truth, **CLOSE)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_hidden_equals_reference(tensors, biased, rate):
    x, weight, bias, slope = tensors
    given = (x, weight, bias if biased else None, slope)
    found, truth = (
        course(function, *given, Dropout(rate, torch.Generator().manual_seed(3))) for function in (hidden, hidden_reference)
    )
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    assert torch.equal(found[0] == 0, truth[0] == 0), "the same elements are dropped"


def test_more_dimensions_and_slices(tensors):
    x, weight, bias, _ = tensors
    wide = torch.randn(6, 15, 80)[:, :, ::2]
    torch.testing.assert_close(affine(wide, weight, bias), affine_reference(wide, weight, bias), **CLOSE)
    torch.testing.assert_close(affine(x[::3], weight.clone(), bias), affine_reference(x[::3], weight, bias), **CLOSE)


def test_columns_of_wider_matrices_are_copied_first(monkeypatch):
    """oneDNN would take them, but hundreds of times as slowly."""
    seen, product = [], torch.ops.mkldnn._linear_pointwise

    def look(x, weight, *rest):
        seen.extend(a.is_contiguous() or a.t().is_contiguous() for a in (x, weight))
        return product(x, weight, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", look)
    x, weight = torch.randn(90, 50)[:, :40], torch.randn(30, 50)[:, 5:45]
    slope = torch.randn(90, 30)
    for found, truth in zip(
        course(affine, x, weight, None, slope), course(affine_reference, x, weight, None, slope), strict=True
    ):
        torch.testing.assert_close(found, truth, **CLOSE)
    torch.testing.assert_close(affine(x, weight), affine_reference(x, weight), **CLOSE)
    assert seen and all(seen)


def test_answers_are_those_of_training(tensors):
    x, weight, bias, _ = tensors
    learning = hidden(x, weight.clone().requires_grad_(), bias)
    with torch.no_grad():
        assert torch.equal(hidden(x, weight, bias), learning)
        assert torch.equal(affine(x, weight, bias), affine(x, weight.clone().requires_grad_(), bias))


def test_only_what_is_needed_has_a_gradient(tensors):
    x, weight, _, slope = tensors
    weight = weight.clone().requires_grad_()
    (hidden(x, weight) * slope).sum().backward()
    assert x.grad is None and weight.grad is not None


def test_other_numbers_go_to_torch(tensors):
    x, weight, bias, _ = tensors
    assert affine(x.double(), weight.double(), bias.double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert affine(x, weight, bias).dtype == torch.bfloat16
        assert hidden(x, weight, bias).dtype == torch.bfloat16
    assert affine(x[:0], weight, bias).shape == (0, 30)


def test_module_is_that_of_torch(tensors):
    x, weight, bias, _ = tensors
    ours, theirs = Affine(40, 30), torch.nn.Linear(40, 30)
    ours.load_state_dict({"weight": weight, "bias": bias})
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)
