"""SimGCL and XSimGCL: the loss by the paper's steps, people from their history alone, what they learn."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError
from palate.nn.contrast import contrast_reference
from palate.nn.graph_views import Passes, Readout, views_reference
from palate.recommend.graph_base import Objective, Setting
from palate.recommend.simgcl import SimGCL
from palate.recommend.xsimgcl import XSimGCL

HALF, SMALL = 20, {"dim": 8, "epochs": 20, "batch_size": 128, "lr": 0.02}
BOTH = [SimGCL, XSimGCL]


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above; some pairs twice, one person and one item with nothing."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    user, item = np.repeat(np.arange(users), 6), np.concatenate(rows)
    whole = Dataset.from_columns(np.concatenate([user, user[:9], [users]]), np.concatenate([item, item[:9], [2 * HALF]]))
    return whole.derive({"step": "thin"}, interactions=whole.interactions.take(np.arange(len(whole) - 1)))


DATA = two_tastes()


def halves(data, items):
    return np.array([int(data.items.ids.decode(np.array([i])).to_pylist()[0]) < HALF for i in items.ravel()]).reshape(
        items.shape
    )


def prepared(kind, **settings):
    model = kind(**{**SMALL, "layers": 3, **settings})
    setting = Setting.of(DATA, Fitting(0, "cpu", lambda event: None, None, None, "", ()))
    aim = Objective(model._table(setting, model._parts(setting)), setting, model.config, model._lowest)
    return model, aim, next(iter(aim.batches(1, np.random.default_rng(0))))


def in_plain_torch(model, aim, batch, seed):
    """The loss step by step, with noise from the same seeds."""
    c, n, graph, x = model.config, DATA.n_users, aim.setting.graph, aim.table.free
    generator = torch.Generator().manual_seed(seed)
    seeds = [int(torch.randint(2**62, (1,), generator=generator)) for _ in range(2)]
    mean = Readout.mean(c.layers, 1)
    if isinstance(model, SimGCL):
        (e,) = views_reference(x, graph, Passes((mean,)))
        one, two = (views_reference(x, graph, Passes((mean,), (s,), c.eps))[0] for s in seeds)
    else:
        e, two = views_reference(x, graph, Passes((mean, Readout.layer(1, c.layers)), (seeds[0],), c.eps))
        one = e
    u, i, j = (torch.from_numpy(v.astype(np.int64)) for v in (batch.users, batch.positives, batch.negatives))
    loss = functional.softplus((e[u] * (e[n + j] - e[n + i])).sum(1)).mean()
    loss = loss + c.reg / (2 * len(u)) * sum(x[v].square().sum() for v in (u, n + i, n + j))
    for own, part in ((torch.unique(u), slice(0, n)), (torch.unique(i) + n, slice(n, None))):
        others, at = (two[own], None) if c.against == "batch" else (two[part], own - part.start)
        loss = loss + c.cl_weight * contrast_reference(one[own], others, c.temperature, at)
    return loss


@pytest.mark.parametrize("against", ["batch", "all"])
@pytest.mark.parametrize("kind", BOTH)
def test_loss_and_gradient_by_the_papers_steps(kind, against):
    model, aim, batch = prepared(kind, against=against, reg=0.1)
    found = aim.loss(batch, torch.Generator().manual_seed(5))
    wanted = in_plain_torch(model, aim, batch, 5)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(loss, aim.table.free)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_without_contrast_and_noise_it_is_the_base(kind):
    _, aim, batch = prepared(kind, cl_weight=0.0, eps=0.0)
    _, other, _ = prepared(SimGCL, cl_weight=0.0)  # SimGCL ranks by the clean pass, whatever the noise
    losses = [a.loss(batch, torch.Generator().manual_seed(1)) for a in (aim, other)]
    other.table.load_state_dict(aim.table.state_dict())
    losses[1] = other.loss(batch, torch.Generator().manual_seed(1))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("kind", BOTH)
def test_a_person_is_their_history(kind):
    model = kind(**{**SMALL, "epochs": 2}).fit(DATA)
    users = np.arange(DATA.n_users, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    stranger = Requests(np.full(len(users), -1, np.int32), known.histories)
    np.testing.assert_array_equal(model.request_vectors(known), model.request_vectors(stranger))
    assert model.request_vectors(known)[DATA.histories.lengths > 0].any(axis=1).all()
    silent = np.flatnonzero(DATA.item_counts == 0)
    assert len(silent) == 1 and not model.item_vectors[silent].any()
    why = model.explain(Requests.of_users(DATA, np.array([3], np.int32)), 7)
    assert why.exact
    np.testing.assert_allclose([why.rest, sum(e.weight for e in why.evidence)], [0, why.score], atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_people_get_their_taste(kind):
    model = kind(**{**SMALL, "epochs": 40}, cl_weight=0.02).fit(DATA)
    users = np.flatnonzero(DATA.histories.lengths > 0).astype(np.int32)[:80]
    asked = Requests.of_users(DATA, users)
    first = asked.histories.items[asked.histories.offsets[:-1]]
    assert (halves(DATA, model.recommend(asked, 5).items) == halves(DATA, first[:, None])).mean() > 0.95


def test_contrast_spreads_items_out():
    """The point of the contrast: cosines between items fall, on average, as its weight rises."""

    def closeness(weight):
        vectors = SimGCL(**SMALL, cl_weight=weight, eps=0.5).fit(DATA, seed=1).item_vectors
        unit = vectors[vectors.any(axis=1)]
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        half = unit[halves(DATA, np.flatnonzero(vectors.any(axis=1)))]
        return (half @ half.T).mean()

    assert closeness(2.0) < closeness(0.0) - 0.05


@pytest.mark.parametrize("kind", BOTH)
def test_resumes_to_the_bit(kind, tmp_path):
    whole = kind(**{**SMALL, "epochs": 5}).fit(DATA, seed=4)
    kind(**{**SMALL, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = kind(**{**SMALL, "epochs": 5}).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_a_contrast_layer_above_the_last_is_refused():
    with pytest.raises(ConfigError, match="contrast_layer"):
        XSimGCL(layers=2, contrast_layer=3)
