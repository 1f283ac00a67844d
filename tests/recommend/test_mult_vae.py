"""Mult-VAE: the likelihood by hand, the divergence, the gradient, annealing; what it learns; the encoder answers anybody."""

import numpy as np
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.nn.dropout import OFF
from palate.nn.multinomial import multinomial, multinomial_reference
from palate.recommend.mult_vae import Batch, MultVAE, Network, _People, annealed, kl_to_prior

HALF = 20
SMALL = {"dim": 6, "hidden": 16, "epochs": 60, "batch_size": 40, "lr": 0.01, "anneal": 10}


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    return Dataset.from_columns(np.repeat(np.arange(users), 6), np.concatenate(rows))


DATA = two_tastes()
LOW = np.array([DATA.items.ids.raw[n].as_py() < HALF for n in range(DATA.n_items)])


@pytest.fixture(scope="module")
def model():
    return MultVAE(**SMALL).fit(DATA)


def network(n_items=5, seed=0, **settings):
    config = MultVAE(**{**SMALL, **settings}).config
    return Network(n_items, config, np.random.default_rng(seed))


def test_the_likelihood_by_hand():
    """Two people; with no weights but the bias, π is its softmax: -ln of it, summed over each history."""
    made = network(3)
    with torch.no_grad():
        made.items.zero_()
        made.bias.copy_(torch.log(torch.tensor([1.0, 2.0, 5.0])))
    batch = Batch(np.array([0, 2, 3], np.int64), np.array([0, 2, 1], np.int32), 0.2)
    wanted = (-np.log(1 / 8) - np.log(5 / 8) - np.log(2 / 8)) / 2
    assert made.likelihood(torch.zeros(2, 6), batch).item() == pytest.approx(wanted, rel=1e-5)


def test_the_divergence_is_zero_at_the_prior_and_has_its_closed_form():
    zero = torch.zeros(3, 4)
    assert kl_to_prior(zero, zero).tolist() == [0, 0, 0]
    mean, log_variance = torch.randn(5, 4), torch.randn(5, 4)
    own = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_prior(mean, log_variance), wanted)
    assert (kl_to_prior(mean, log_variance) > 0).all()


def test_the_objective_is_likelihood_and_weighted_divergence():
    made = network(8, dropout=0.0)
    with torch.no_grad():
        made.code_bias[6:] = -60.0  # no noise: the code is its mean
        made.code[6:] = 0
    offsets, items = np.array([0, 2, 5], np.int64), np.array([1, 4, 0, 2, 7], np.int32)
    mean, log_variance = made.encode(Batch(offsets, items, 0.0), OFF)
    divergence = kl_to_prior(mean, log_variance).mean().item()
    values = [made.loss(Batch(offsets, items, b), torch.Generator().manual_seed(0)).item() for b in (0.0, 0.5)]
    assert values[0] == pytest.approx(made.likelihood(mean, Batch(offsets, items, 0.0)).item(), rel=1e-5)
    assert values[1] - values[0] == pytest.approx(0.5 * divergence, rel=1e-3)


def test_the_input_is_brought_to_length_one():
    """Layer one sees ``x/|x|``, and a history twice as long does not weigh more."""
    made = network(8)
    batch = Batch(np.array([0, 4], np.int64), np.array([0, 2, 5, 6], np.int32), 0.0)
    x = torch.zeros(8)
    x[[0, 2, 5, 6]] = 0.5
    h = torch.tanh(x @ made.enter + made.enter_bias)
    wanted = h @ made.code.T + made.code_bias
    torch.testing.assert_close(torch.cat(made.encode(batch, OFF), 1)[0], wanted, rtol=1e-5, atol=1e-6)


def test_multinomial_equals_its_plain_form_with_gradient():
    q, v = (torch.randn(n, 5, requires_grad=True) for n in (4, 9))
    rows, columns = np.array([0, 0, 1, 3, 3, 3]), np.array([2, 5, 8, 0, 1, 8])
    fast = multinomial(q, v, rows, columns)
    plain = multinomial_reference(q, v, torch.from_numpy(rows), torch.from_numpy(columns))
    torch.testing.assert_close(fast, plain)
    for a, b in zip(torch.autograd.grad(fast * 2, [q, v]), torch.autograd.grad(plain * 2, [q, v]), strict=True):
        torch.testing.assert_close(a, b)


def test_beta_rises_evenly_and_stays():
    config = MultVAE(beta=0.2, anneal=10).config
    assert [annealed(config, e) for e in (0, 2.5, 10, 50)] == pytest.approx([0, 0.05, 0.2, 0.2])
    assert annealed(MultVAE(beta=0.3, anneal=0).config, 0) == 0.3
    people = _People(DATA.matrix(), MultVAE(batch_size=30, anneal=2, beta=1.0).config)
    rng = np.random.default_rng(0)
    rates = [batch.beta for epoch in (1, 2, 3) for batch in people.epoch(epoch, rng)]
    assert rates == pytest.approx([0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1, 1])


def test_an_epoch_holds_everybody_once():
    people = _People(DATA.matrix(), MultVAE(batch_size=50).config)
    batches = list(people.epoch(1, np.random.default_rng(0)))
    assert [len(b) for b in batches] == [50, 50, 20] and sum(len(b.items) for b in batches) == DATA.matrix().nnz


def test_known_and_unseen_people_get_their_taste(model):
    users = np.arange(100, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    own = LOW[known.histories.items[known.histories.offsets[:-1]]]
    ranking = model.recommend(known, 5)
    assert (LOW[ranking.items] == own[:, None]).mean() > 0.95
    np.testing.assert_array_equal(ranking.items, model.recommend(unseen, 5).items)  # the encoder knows nobody by number


def test_answers_are_those_of_the_network(model):
    """The arrays that answer equal the network at its mean, with nothing dropped."""
    kept = {}

    class Kept(MultVAE):
        def _finish(self, network):
            kept["network"] = network
            super()._finish(network)

    fitted = Kept(**{**SMALL, "epochs": 2}).fit(DATA)
    matrix = DATA.matrix()
    matrix.sort_indices()
    batch = Batch(matrix.indptr.astype(np.int64), matrix.indices, 0.0)
    with torch.no_grad():
        mean, _ = kept["network"].encode(batch, OFF)
        g = torch.tanh(mean @ kept["network"].back.T + kept["network"].back_bias)
        wanted = (g @ kept["network"].items.T + kept["network"].bias).numpy()
    asked = Requests.of_users(DATA, np.arange(DATA.n_users, dtype=np.int32))
    got = fitted.request_vectors(asked) @ fitted.item_vectors.T
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_items_never_seen_say_nothing(events):
    fitted = MultVAE(**{**SMALL, "epochs": 2}).fit(events)
    silent = int(np.flatnonzero(events.item_counts == 0)[0])
    with_it, without = fitted.request_vectors(Requests.of_histories([[0, silent, 1], [0, 1]]))
    np.testing.assert_array_equal(with_it, without)
    assert fitted.recommend(Requests.of_histories([[silent]]), 3).cold.all()


def test_resumes_to_the_bit(tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = MultVAE(**short).fit(DATA, seed=4)
    MultVAE(**{**short, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = MultVAE(**short).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
