"""Field attention: the formula, its forms, its gradient, and what it must not depend on."""

import numpy as np
import pytest
import torch

from palate.nn.dropout import Dropout
from palate.nn.field_attention import FORMS, FieldAttention, Interaction, field_attention_reference
from palate.runtime import generator

SHAPES = [(6, 8, 2), (8, 8, 4), (5, 6, 1)]


def layer_of(width=6, units=8, heads=2, interaction=FORMS["paper"], seed=0):
    return FieldAttention(width, units, heads, generator(seed, "layer"), interaction)


def fields_of(n=7, f=5, width=6, seed=1):
    return torch.from_numpy(generator(seed, "fields").standard_normal((n, f, width)).astype(np.float32))


@pytest.mark.parametrize(("width", "units", "heads"), SHAPES)
@pytest.mark.parametrize("scale", [False, True])
def test_it_is_the_formula(width, units, heads, scale):
    layer, fields = layer_of(width, units, heads, Interaction(scale=scale)), fields_of(width=width)
    weights = [w.double().numpy() for w in layer.weight.detach().split(units)]
    out, attention = layer.attend(fields)
    for row in range(len(fields)):
        expected, shares = field_attention_reference(fields[row].double().numpy(), weights, heads, scale=scale)
        np.testing.assert_allclose(out[row].detach().numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(attention[row].detach().numpy(), shares, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("width", "units", "heads"), SHAPES)
def test_both_ways_to_compute_it_agree(form, width, units, heads):
    layer, fields = layer_of(width, units, heads, FORMS[form]), fields_of(width=width)
    out, attention = layer.attend(fields)
    torch.testing.assert_close(layer(fields), out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention.sum(-1), torch.ones(7, heads, 5))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("width", "units", "heads"), SHAPES)
def test_both_ways_have_the_same_gradient(form, width, units, heads):
    layer = layer_of(width, units, heads, FORMS[form])
    slopes = []
    for plain in (False, True):
        fields = fields_of(width=width).requires_grad_()
        out = layer.attend(fields)[0] if plain else layer(fields)
        asked = (fields, *layer.parameters())
        slopes.append(torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), asked))
    for fused, plain in zip(*slopes, strict=True):
        torch.testing.assert_close(fused, plain, atol=1e-4, rtol=1e-4)


def test_very_many_fields_go_by_plain_torch():
    layer, fields = layer_of(6, 8, 2, FORMS["fuxictr"]), fields_of(2, 70)
    torch.testing.assert_close(layer(fields), layer.attend(fields)[0], atol=1e-5, rtol=1e-5)
    assert layer(fields[:0]).shape == (0, 70, 8)
    assert layer(fields[:0, :5]).shape == (0, 5, 8)


def test_forms_differ_where_the_table_says():
    sizes = {form: sum(p.numel() for p in layer_of(8, 8, 2, FORMS[form]).parameters()) for form in FORMS}
    assert sizes == {"paper": 4 * 64, "original": 4 * (64 + 8) + 16, "fuxictr": 3 * 64 + 16}
    assert sum(p.numel() for p in layer_of(6, 8, 2, FORMS["fuxictr"]).parameters()) == 4 * 48 + 16


def test_relu_and_bias_stand_in_all_projections_of_the_original_form():
    layer, x = layer_of(6, 8, 1, Interaction(relu=True, scale=True, norm="after")), fields_of(1)
    with torch.no_grad():
        layer.bias.copy_(torch.linspace(-0.2, 0.2, 32))
    q, k, v, r = (torch.relu(x[0] @ w.T + b) for w, b in zip(layer.weight.split(8), layer.bias.split(8), strict=True))
    mixed = torch.softmax(q @ k.T / 8**0.5, -1) @ v
    expected = torch.nn.functional.layer_norm(torch.relu(mixed + r), (8,))
    torch.testing.assert_close(layer(x)[0], expected, atol=1e-5, rtol=1e-5)


def test_normalisation_before_the_last_relu_and_an_identity_residual():
    layer, x = layer_of(8, 8, 1, FORMS["fuxictr"]), fields_of(1, width=8)
    q, k, v = (x[0] @ w.T for w in layer.weight.split(8))
    mixed = torch.softmax(q @ k.T / 8**0.5, -1) @ v
    expected = torch.relu(torch.nn.functional.layer_norm(mixed + x[0], (8,)))
    torch.testing.assert_close(layer(x)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_fitted_residual_has_no_bias_and_no_relu_beside_projections_that_have():
    layer, x = layer_of(6, 8, 2, Interaction(relu=True, residual="fitting")), fields_of(2)
    with torch.no_grad():
        layer.weight[16:24] = 0
    torch.testing.assert_close(layer(x), torch.relu(x @ layer.plain.weight.T))


def test_without_values_only_the_residual_is_left():
    layer, x = layer_of(), fields_of()
    with torch.no_grad():
        layer.weight[16:24] = 0
    torch.testing.assert_close(layer(x), torch.relu(x @ layer.weight[24:].T))
    none = layer_of(interaction=Interaction(residual="none"))
    with torch.no_grad():
        none.weight[16:24] = 0
    assert not none(x).any()


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_fields_does_not_matter(form):
    layer, x = layer_of(interaction=FORMS[form]), fields_of()
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradient(form):
    layer = layer_of(4, 4, 2, FORMS[form]).double()
    fields = fields_of(2, 3, 4).double().requires_grad_()
    parameters = tuple(layer.parameters())

    def out(x, *values):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(out, (fields, *parameters), eps=1e-6, atol=1e-5)


def test_dropout_sets_attention_to_zero_and_keeps_the_mean():
    layer, x = layer_of(6, 8, 2, Interaction(residual="none")), fields_of(1)
    with torch.no_grad():
        layer.weight[16:24] = layer.weight[16:24].abs()  # so the last ReLU cuts nothing
    x = x.abs()
    drop = Dropout(0.5, torch.Generator().manual_seed(3))
    many = torch.stack([layer(x, drop) for _ in range(4000)])
    torch.testing.assert_close(many.mean(0), layer(x), atol=0.05, rtol=0.05)
    assert many.std(0).min() > 0


def test_heads_must_fit():
    with pytest.raises(ValueError, match="can't be cut"):
        layer_of(6, 7, 2)
