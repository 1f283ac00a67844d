"""Softmax for people with many answers: value and gradients equal the plain definition, for any block and threads."""

import numpy as np
import pytest
import torch

from palate.nn import multinomial as module
from palate.nn.multinomial import multinomial_pass, multinomial_reference
from palate.runtime import set_threads, threads

PEOPLE, ITEMS = 40, 25


def problem(dtype=np.float32):
    rng = np.random.default_rng(0)
    q, v = (rng.normal(size=(n, 6)).astype(dtype) for n in (PEOPLE, ITEMS))
    seen = rng.random((PEOPLE, ITEMS)) < 0.15
    seen[3] = False
    rows, columns = np.nonzero(seen)
    return q, v, rows, columns


def by_torch(q, v, rows, columns):
    a, b = torch.from_numpy(q).requires_grad_(), torch.from_numpy(v).requires_grad_()
    loss = multinomial_reference(a, b, torch.from_numpy(rows), torch.from_numpy(columns))
    return [loss.item(), *(g.numpy() for g in torch.autograd.grad(loss, (a, b)))]


def test_the_definition_by_hand():
    q, v, rows, columns = problem(np.float64)
    scores = q @ v.T
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    want = -np.mean([np.log(chances[u, i]) for u, i in zip(rows, columns, strict=True)])
    assert by_torch(q, v, rows, columns)[0] == pytest.approx(want)


@pytest.mark.parametrize("block", [1, 600, 2**22])
def test_one_pass_gives_value_and_gradients(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    for found, want in zip(multinomial_pass(*problem()), by_torch(*problem()), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)


def test_gradients_in_float64():
    for found, want in zip(multinomial_pass(*problem(np.float64)), by_torch(*problem(np.float64)), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-13)


def test_people_without_answers_have_no_gradient():
    assert not multinomial_pass(*problem())[1][3].any()


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    before, found = threads(), []
    try:
        for count in (1, 2, 3):
            set_threads(count)
            loss, d_q, d_v = multinomial_pass(*problem())
            found.append((loss, d_q.tobytes(), d_v.tobytes()))
    finally:
        set_threads(before)
    assert found[0] == found[1] == found[2]


def test_great_scores_stay_finite():
    q, v, rows, columns = problem()
    loss, d_q, d_v = multinomial_pass(q * 1000, v, rows, columns)
    assert np.isfinite(loss) and np.isfinite(d_q).all() and np.isfinite(d_v).all()
