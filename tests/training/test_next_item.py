"""What next-item models share: negatives of a batch, hits, corrections, the losses by hand, groups of the optimiser."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.data.dataset import Dataset
from palate.recommend.sasrec import SASRec
from palate.training.config import TrainConfig
from palate.training.next_item import NextItemConfig, Sampled, SampledEpoch, adam, own_columns, sampler_of

COUNTS = np.array([5, 0, 20, 3, 8, 1])


@dataclass
class Targets:
    """A batch of which only the targets matter."""

    targets: np.ndarray

    def __len__(self):
        return len(self.targets)


def rng():
    return np.random.default_rng(0)


def test_own_columns():
    assert own_columns(np.array([5, 1, 9]), np.array([1, 5, 7])).tolist() == [1, 0, -1]
    assert own_columns(np.array([5]), np.array([], np.int64)).tolist() == [-1]


@pytest.mark.parametrize("kind", ["uniform", "popularity", "mixed", "in_batch"])
def test_the_distribution_that_the_settings_name(kind):
    sampler = sampler_of(NextItemConfig(negatives=kind, power=0.5), COUNTS)
    popular = (COUNTS + 1) ** 0.5 / ((COUNTS + 1) ** 0.5).sum()
    want = {
        "uniform": np.full(6, 1 / 6),
        "popularity": popular,
        "mixed": (popular + 1 / 6) / 2,
        "in_batch": COUNTS / COUNTS.sum(),
    }
    np.testing.assert_allclose(sampler.q, want[kind])


@pytest.mark.parametrize("kind", ["uniform", "in_batch"])
def test_shared_negatives_are_distinct_ascending_and_have_a_chance(kind):
    batches = [Targets(np.array([4, 2, 2, 0])), Targets(np.array([3]))]
    epoch = SampledEpoch(batches, sampler_of(NextItemConfig(negatives=kind), COUNTS), rng(), 4, "shared")
    first, second = epoch
    assert len(epoch) == 2
    for step in (first, second):
        assert step.drawn.dtype == np.int64 and (np.diff(step.drawn) > 0).all()
        assert step.log_pi.shape == step.drawn.shape and (step.log_pi <= 0).all()
    if kind == "in_batch":
        assert first.drawn.tolist() == [0, 2, 4] and second.drawn.tolist() == [3]
        q = COUNTS[[0, 2, 4]] / COUNTS.sum()
        np.testing.assert_allclose(first.log_pi, np.log(1 - (1 - q) ** 3), rtol=1e-5)


@pytest.mark.parametrize("kind", ["popularity", "in_batch"])
def test_own_negatives_for_each_position(kind):
    batch = Targets(np.array([4, 2, 2]))
    (step,) = SampledEpoch([batch], sampler_of(NextItemConfig(negatives=kind), COUNTS), rng(), 50, "each")
    assert step.drawn.shape == (150,) and step.log_pi is None
    if kind == "in_batch":
        assert set(step.drawn.tolist()) == {2, 4}


def test_full_softmax_draws_nothing():
    source = rng()
    (step,) = SampledEpoch([Targets(np.array([1]))], sampler_of(NextItemConfig(), COUNTS), source, 4, "none")
    assert step.negatives is None
    assert source.random() == rng().random()


@pytest.fixture(scope="module")
def data():
    made = np.random.default_rng(1)
    return Dataset.from_columns(np.repeat(np.arange(30), 6), made.integers(0, 12, 180), time=np.arange(180))


def objective(data, targets, drawn, log_pi=None, **settings):
    """The loss of fixed states by the model, and what it is made from."""
    model = SASRec(dim=8, epochs=0, **settings).fit(data)
    states = torch.randn(len(targets), 8, generator=torch.Generator().manual_seed(0))
    step = Sampled(Targets(targets), drawn, log_pi)
    rows = () if drawn is None else model._lookup(targets, drawn)
    table, temperature = model.table.detach(), model.config.temperature
    if model.config.similarity == "cosine":
        states_used, table = functional.normalize(states, dim=1), functional.normalize(table, dim=1)
    else:
        states_used = states
    return model._objective(states, step, rows).item(), (states_used @ table.T / temperature).numpy().astype(np.float64)


TARGETS, DRAWN = np.array([3, 0, 7, 3]), np.array([0, 3, 5, 9])


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_full_softmax_by_hand(data, similarity):
    found, scores = objective(data, TARGETS, None, loss="full_softmax", similarity=similarity)
    want = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(4), TARGETS])
    assert found == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(("negatives", "logq"), [("uniform", True), ("mixed", True), ("mixed", False)])
def test_sampled_softmax_by_hand(data, negatives, logq):
    """A row's own target is no negative of it; scores are corrected where draws are not uniform."""
    log_pi = np.log([0.9, 0.5, 0.3, 0.1]).astype(np.float32)
    found, scores = objective(data, TARGETS, DRAWN, log_pi, negatives=negatives, logq=logq)
    corrected = scores[:, DRAWN] - (log_pi if logq and negatives != "uniform" else 0)
    total = 0.0
    for row, target in enumerate(TARGETS):
        rest = sum(np.exp(s) for j, s in zip(DRAWN, corrected[row], strict=True) if j != target)
        total += np.log(np.exp(scores[row, target]) + rest) - scores[row, target]
    assert found == pytest.approx(total / 4, rel=1e-4)


def softplus(x):
    return np.log1p(np.exp(x))


def test_bce_by_hand(data):
    own_draws = np.array([[3, 5], [1, 2], [7, 7], [0, 11]])
    found, scores = objective(data, TARGETS, own_draws.ravel(), loss="bce", similarity="dot", temperature=1.0, n_negatives=2)
    total = 0.0
    for row, target in enumerate(TARGETS):
        total += softplus(-scores[row, target]) + sum(softplus(scores[row, j]) for j in own_draws[row] if j != target)
    assert found == pytest.approx(total / 3 / 4, rel=1e-4)


def test_gbce_by_hand(data):
    found, scores = objective(data, TARGETS, DRAWN, loss="gbce", calibration=0.75, similarity="dot", temperature=1.0)
    alpha = 4 / (data.n_items - 1)
    beta = alpha * (0.75 * (1 - 1 / alpha) + 1 / alpha)
    total = 0.0
    for row, target in enumerate(TARGETS):
        total += beta * softplus(-scores[row, target]) + sum(softplus(scores[row, j]) for j in DRAWN if j != target)
    assert found == pytest.approx(total / 5 / 4, rel=1e-4)


def test_tables_and_biases_are_not_decayed(data):
    model = SASRec(dim=8, epochs=0).fit(data)
    decayed, others = adam(model.module_, TrainConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    taken = {id(p) for p in decayed["params"]}
    assert id(model.table) not in taken and id(model.module_.places.weight) not in taken
    assert len(taken) + len(others["params"]) == len(list(model.module_.parameters()))


def test_gathered_rows_add_up_their_gradients(data):
    model = SASRec(dim=8, epochs=0).fit(data)
    first, second = model._lookup(np.array([2, 2]), np.array([2, 5]))
    (gradient,) = torch.autograd.grad(first.sum() + second.sum(), model.table)
    assert gradient[:, 0].tolist() == [0, 0, 3, 0, 0, 1, *[0] * (data.n_items - 6)]
