"""Losses: values by hand, gradients against plain forms, memory, corrections that are unbiased."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.nn import losses


def numbers(*shape, seed=0, scale=1.0):
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    return made.requires_grad_()


def same_gradients(fast, plain, *inputs, atol=1e-5):
    torch.testing.assert_close(fast, plain, atol=atol, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


def test_bpr_by_hand():
    value = losses.bpr(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert value.item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)
    wide = losses.bpr(torch.tensor([1.0]), torch.tensor([[0.0, 1.0]]))
    assert wide.item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)


def test_bce_by_hand():
    value = losses.bce(torch.tensor([0.5]), torch.tensor([[-1.0, 2.0]]))
    wanted = (
        -(math.log(1 / (1 + math.exp(-0.5))) + math.log(1 - 1 / (1 + math.exp(1))) + math.log(1 - 1 / (1 + math.exp(-2)))) / 3
    )
    assert value.item() == pytest.approx(wanted)


def test_gbce_follows_its_paper():
    """β = α (t (1 - 1/α) + 1/α): t = 0 is plain BCE, t = 1 raises the positive's probability to α."""
    positive, negative, rate = torch.tensor([0.3, -1.0]), torch.tensor([[0.1, 2.0], [-0.5, 0.0]]), 0.1
    torch.testing.assert_close(losses.gbce(positive, negative, 0.0, rate), losses.bce(positive, negative))
    full = -(rate * functional.logsigmoid(positive) + functional.logsigmoid(-negative).sum(1)).mean() / 3
    torch.testing.assert_close(losses.gbce(positive, negative, 1.0, rate), full)
    beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
    probability = torch.sigmoid(positive) ** beta
    middle = -(probability.log() + (1 - torch.sigmoid(negative)).log().sum(1)).mean() / 3
    torch.testing.assert_close(losses.gbce(positive, negative, 0.75, rate), middle)


def test_gbce_scores_are_calibrated_at_t_one():
    """With t = 1 the best score of an item is the logit of its true probability (equation 12 of the paper)."""
    p, rate = 0.2, 0.05
    s = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([s], max_iter=200, tolerance_grad=1e-10)

    def closure():
        optimizer.zero_grad()
        # An item is the positive with probability p, and else one of the negatives with probability α.
        value = -(p * rate * functional.logsigmoid(s) + (1 - p) * rate * functional.logsigmoid(-s)).sum()
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.sigmoid(s).item() == pytest.approx(p, abs=1e-4)
    expected = p * losses.gbce(s, torch.full((1, 1), -math.inf), 1.0, rate) + (1 - p) * rate * losses.gbce(
        torch.full((1,), math.inf), s[None], 0.0, 1.0
    )
    (slope,) = torch.autograd.grad(expected.sum(), s)
    assert abs(slope.item()) < 1e-5


@pytest.mark.parametrize(("t", "rate"), [(-0.1, 0.5), (0.5, 0.0), (0.5, 1.5)])
def test_gbce_refuses_nonsense(t, rate):
    with pytest.raises(ValueError, match="sampling rate"):
        losses.gbce(torch.zeros(1), torch.zeros(1), t, rate)


def test_masked_negatives_have_no_effect():
    positive, negative = numbers(4), numbers(4, 3, seed=1)
    padded = torch.cat([negative, torch.full((4, 1), -math.inf)], 1)
    torch.testing.assert_close(losses.bce(positive, padded) * 5, losses.bce(positive, negative) * 4)
    (gradient,) = torch.autograd.grad(losses.bce(positive, padded), negative)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_full_softmax_equals_cross_entropy(temperature):
    q, v = numbers(50, 8, scale=0.5), numbers(300, 8, seed=1, scale=0.5)
    targets = torch.randint(300, (50,), generator=torch.Generator().manual_seed(2))
    plain = functional.cross_entropy(q @ v.T / temperature, targets)
    same_gradients(losses.full_softmax(q, v, targets, temperature), plain, q, v)


def test_full_softmax_is_bounded_in_memory(monkeypatch):
    """No tensor that is made has more numbers than a block, the queries or the vectors."""
    import palate.nn.softmax as softmax

    monkeypatch.setattr(softmax, "BLOCK_BYTES", 4 * 32 * 500)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    q, v = numbers(1000, 4), numbers(500, 4, seed=1)
    with Watch():
        losses.full_softmax(q, v, torch.zeros(1000, dtype=torch.int64)).backward()
    assert max(sizes) <= 32 * 500 < 1000 * 500


def test_sampled_softmax_by_hand_and_accidental_hits():
    q, own, others = numbers(6, 4), numbers(6, 4, seed=1), numbers(5, 4, seed=2)
    targets, ids = torch.tensor([0, 1, 2, 3, 4, 9]), torch.tensor([7, 1, 1, 3, 8])
    got = losses.sampled_softmax(q, own, others, targets=targets, negative_ids=ids, temperature=0.5)
    total = 0.0
    for r in range(6):
        s = (q[r] @ own[r]).item() / 0.5
        rest = [(q[r] @ others[c]).item() / 0.5 for c in range(5) if ids[c] != targets[r]]
        total += math.log(math.exp(s) + sum(map(math.exp, rest))) - s
    assert got.item() == pytest.approx(total / 6, rel=1e-5)
    scores = torch.cat([(q * own).sum(1, keepdim=True), q @ others.T], 1)
    plain = functional.cross_entropy(scores, torch.zeros(6, dtype=torch.int64))
    same_gradients(losses.sampled_softmax(q, own, others), plain, q, own, others)


def test_log_q_makes_the_sum_unbiased():
    """Averaged over draws, e^s⁺ + Σ e^{s_j - ln(n q_j)} over draws other than the target is the whole sum."""
    rng = np.random.default_rng(0)
    vectors, query = numbers(12, 3), numbers(1, 3, seed=3)
    probability = rng.dirichlet(np.full(12, 5.0))
    target, n = 4, 6
    whole = torch.logsumexp(query @ vectors.T, 1).exp().item()
    s = (query @ vectors[target]).item()
    sums = []
    for _ in range(4000):
        ids = torch.from_numpy(rng.choice(12, n, p=probability))
        log_q = torch.from_numpy(np.log(probability)[ids]).float()
        with torch.no_grad():
            loss = losses.sampled_softmax(
                query, vectors[target][None], vectors[ids], targets=torch.tensor([target]), negative_ids=ids, log_q=log_q
            )
        sums.append(math.exp(loss.item() + s))
    error = np.std(sums) / math.sqrt(len(sums))
    assert abs(np.mean(sums) - whole) < 4 * error
    assert error < 0.05 * whole


def test_uniform_log_q_of_all_items_is_the_full_softmax():
    q, v = numbers(5, 4), numbers(9, 4, seed=1)
    targets = torch.tensor([0, 3, 8, 8, 2])
    log_q = torch.full((9,), -math.log(9))
    got = losses.sampled_softmax(q, v[targets], v, targets=targets, negative_ids=torch.arange(9), log_q=log_q)
    torch.testing.assert_close(got, functional.cross_entropy(q @ v.T, targets))


def test_in_batch_log_q_moves_popular_positives():
    q, v = numbers(3, 4), numbers(3, 4, seed=1)
    log_q = torch.tensor([-1.0, -3.0, -2.0])
    got = losses.sampled_softmax(
        q, v, v, targets=torch.arange(3), negative_ids=torch.arange(3), log_q=log_q, target_log_q=log_q
    )
    torch.testing.assert_close(got, functional.cross_entropy(q @ v.T - log_q, torch.arange(3)))


def test_info_nce():
    a, b = numbers(7, 5), numbers(7, 5, seed=1)
    cosines = functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T
    same_gradients(losses.info_nce(a, b, 0.3), functional.cross_entropy(cosines / 0.3, torch.arange(7)), a, b)
    assert losses.info_nce(torch.eye(6), torch.eye(6), 0.01).item() < 1e-6
    assert losses.info_nce(torch.ones(6, 3), torch.ones(6, 3)).item() == pytest.approx(math.log(6), rel=1e-5)


def test_cml_by_hand():
    people, liked = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    others = torch.tensor([[[0.0, 1.1], [3.0, 0.0], [0.5, 0.0]]])
    # d⁺ = 1, d⁻ = 1.21, 9, 0.25: two are nearer than 1 + 0.5.
    wanted = math.log(1 + 100 * 2 / 3) * (0.5 + 1 - 0.25)
    assert losses.cml(people, liked, others, 100, margin=0.5).item() == pytest.approx(wanted, rel=1e-5)
    far = torch.tensor([[[9.0, 0.0]]])
    assert losses.cml(people, liked, far, 100, margin=0.5).item() == 0


def test_unit_ball_and_decorrelation():
    v = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    losses.to_unit_ball(v)
    torch.testing.assert_close(v, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    x = numbers(40, 3).detach()
    c = np.cov(x.numpy().T, bias=True)
    wanted = ((c**2).sum() - (np.diag(c) ** 2).sum()) / 40
    assert losses.decorrelation(x).item() == pytest.approx(wanted, rel=1e-4)


def doubles(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


AT = torch.tensor([0, 4, 2, 6])
DIFFERENTIABLE = {
    "bpr": (losses.bpr, ((4,), (4, 3))),
    "bce": (losses.bce, ((4,), (4, 3))),
    "gbce": (lambda p, n: losses.gbce(p, n, 0.75, 0.1), ((4,), (4, 3))),
    "full_softmax": (lambda q, v: losses.full_softmax(q, v, AT, 0.5), ((4, 3), (7, 3))),
    "sampled_softmax": (
        lambda q, p, n: losses.sampled_softmax(
            q, p, n, targets=AT, negative_ids=torch.arange(5), log_q=torch.linspace(-3, -1, 5).double(), temperature=0.5
        ),
        ((4, 3), (4, 3), (5, 3)),
    ),
    "info_nce": (losses.info_nce, ((4, 3), (4, 3))),
    "cml": (lambda u, i, j: losses.cml(u, i, j, 100), ((4, 3), (4, 3), (4, 5, 3))),
    "decorrelation": (losses.decorrelation, ((6, 3),)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_equal_differences(name):
    """Against finite differences in float64."""
    loss, shapes = DIFFERENTIABLE[name]
    assert torch.autograd.gradcheck(loss, tuple(doubles(*shape, seed=n) for n, shape in enumerate(shapes)))


def test_the_weight_of_cml_has_no_gradient():
    """Only the hinge is differentiated: its slope by the person is 2 (q_j - q_i), times the weight."""
    person, liked = torch.tensor([[0.0, 0.0]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    nearest = torch.tensor([[[0.0, 0.5]]])
    (slope,) = torch.autograd.grad(losses.cml(person, liked, nearest, 10, margin=0.5), person)
    torch.testing.assert_close(slope, math.log(11) * 2 * (nearest[:, 0] - liked))
