"""SEPT: views by definition, pseudo-positives, the tri-training loss, warm-up."""

import numpy as np
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.nn.social import SocialGraph
from palate.recommend.graph_base import FreeVectors, Setting, Step
from palate.recommend.sept import SEPT, TriTraining, pseudo_positives, social_views, tri_training
from palate.training.triples import Pairs

SMALL = {"dim": 8, "layers": 2, "epochs": 15, "batch_size": 64, "lr": 0.02, "warm_epochs": 2, "k": 3, "ssl": 0.05}


@pytest.mark.parametrize("kind", ["mutual", "any"])
def test_views_by_definition(tied, kind):
    social = SocialGraph.of(tied, "test")
    directed = social.ties.toarray()
    s = directed * directed.T if kind == "mutual" else np.maximum(directed, directed.T)
    r = tied.matrix().toarray()
    for view, dense in zip(social_views(social, tied.matrix(), kind), ((s @ s) * s, (r @ r.T) * s), strict=True):
        dense = dense + np.eye(len(dense))
        root = np.sqrt(dense.sum(1))
        found = view.product(np.eye(len(dense), dtype=np.float32))
        np.testing.assert_allclose(found, dense / root[:, None] / root, atol=1e-6)
        np.testing.assert_allclose(found, found.T, atol=1e-7)


def test_one_way_ties_make_no_triangle_of_friends(tied):
    """Published code squares the directed matrix, so that a path u → v → w joined by u → w counts; S holds answered ties."""
    social = SocialGraph.of(tied, "test")
    directed = social.ties.toarray()
    published = (directed @ directed) * directed
    ours = social_views(social, tied.matrix())[0].product(np.eye(len(directed), dtype=np.float32))
    answered = directed * directed.T
    np.fill_diagonal(ours, 0)
    assert (published[answered == 0] > 0).any() and not ours[answered == 0].any()


def test_pseudo_positives_by_hand():
    first = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    second = torch.tensor([[0.2, 0.2, 0.6], [0.6, 0.3, 0.1], [0.3, 0.4, 0.3]])
    mean = ((first + second) / 2).numpy()
    for k, own in ((1, True), (2, True), (1, False), (2, False)):
        chosen = pseudo_positives(first, second, k, own=own).numpy()
        for u in range(3):
            allowed = [v for v in range(3) if own or v != u]
            assert sorted(mean[u, chosen[u]]) == sorted(np.sort(mean[u, allowed])[-k:])
            assert len(set(chosen[u])) == k and (own or u not in chosen[u])
    assert pseudo_positives(first, second, 10).shape == (3, 3)
    assert pseudo_positives(first, second, 10, own=False).shape == (3, 2)


def test_loss_by_hand():
    rng = np.random.default_rng(0)
    views = [rng.standard_normal((6, 4)) for _ in range(3)]
    other = rng.standard_normal((6, 4))

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    cosines = [unit(view) @ unit(other).T for view in views]
    chances = [np.exp(c) / np.exp(c).sum(1, keepdims=True) for c in cosines]
    total = 0.0
    for x, cosine in enumerate(cosines):
        mean = sum(chances[y] for y in range(3) if y != x) / 2
        for u in range(6):
            mass = np.exp(cosine[u] / 0.2)
            total -= np.log(mass[np.argsort(-mean[u])[:2]].sum() / mass.sum()) / 6
    given = [torch.tensor(v, dtype=torch.float32) for v in views]
    found = tri_training(given, torch.tensor(other, dtype=torch.float32), 2, 0.2)
    assert found.item() == pytest.approx(total, rel=1e-5)


def test_with_everybody_as_positive_there_is_nothing_to_learn():
    views = [torch.randn(5, 3, requires_grad=True) for _ in range(3)]
    loss = tri_training(views, torch.randn(5, 3), 5, 0.1)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert max(float(g.abs().max()) for g in torch.autograd.grad(loss, views)) < 1e-6


def test_a_step_by_dense_matrices(tied):
    """The views of a batch's people are means of layers over each graph, the unlabelled one over the thinned one."""
    config, setting = SEPT(**SMALL).config, Setting.of(tied, Fitting())
    friends, sharing = social_views(SocialGraph.of(tied, "test"), setting.matrix)
    part = TriTraining(setting.matrix, (friends, sharing), config)
    table = FreeVectors(len(setting.graph), 8, 1.0, np.random.default_rng(0), (part,))
    part.begin(config.warm_epochs + 1, np.random.default_rng(1))
    batch = next(iter(Pairs(setting.matrix, 40).epoch(np.random.default_rng(0))))
    step = Step(batch, torch.Generator(), setting.n_users, 2, 0)
    step.layer0, step.graph = table.layer0(step), setting.graph
    (step.vectors,) = step.propagate()
    found = part.loss(step)
    people, free = np.unique(batch.users), table.free.detach().numpy()

    def view(graph):
        a, x = graph.product(np.eye(len(graph), dtype=np.float32)), free[: len(graph)]
        return torch.from_numpy(((x + a @ x + a @ (a @ x)) / 3)[people])

    labelled = [view(graph) for graph in (setting.graph, friends, sharing)]
    wanted = config.ssl * tri_training(labelled, view(part.thinned), config.k, config.temperature)
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-6)


def test_the_unlabelled_view_lacks_other_edges_in_each_epoch(tied):
    config, matrix = SEPT(**{**SMALL, "drop": 0.3}).config, tied.matrix()
    part, rng = TriTraining(matrix, social_views(SocialGraph.of(tied, "test"), matrix), config), np.random.default_rng(0)
    whole, n, drawn = matrix.toarray() > 0, tied.n_users, []
    for epoch in range(1, 23):
        part.begin(epoch, rng)
        if epoch <= config.warm_epochs:
            assert part.thinned is None
            continue
        drawn.append(part.thinned.product(np.eye(len(part.thinned), dtype=np.float32))[:n, n:] > 0)
        assert not (drawn[-1] & ~whole).any()
    assert np.mean([view.sum() / whole.sum() for view in drawn]) == pytest.approx(0.7, abs=0.03)
    assert (drawn[0] != drawn[1]).any()


def test_it_waits_for_the_warm_up(tied):
    """Up to the warm-up it is the same fit as without the self-supervised part, and afterwards another."""
    users = Requests.of_users(tied, np.arange(tied.n_users, dtype=np.int32))

    def vectors(**settings):
        return SEPT(**{**SMALL, **settings}).fit(tied, seed=1).request_vectors(users)

    np.testing.assert_array_equal(vectors(epochs=2), vectors(epochs=2, ssl=0.0))
    assert np.abs(vectors(epochs=4) - vectors(epochs=4, ssl=0.0)).max() > 1e-4


def test_it_learns_tastes_and_explains(tied, finds_tastes, sums_up):
    model = SEPT(**SMALL, people=20).fit(tied)
    finds_tastes(model)
    sums_up(model, Requests.of_users(tied, np.array([0, 5], np.int32)))


def test_resumes_to_the_bit(tied, tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = SEPT(**short).fit(tied, seed=4)
    SEPT(**{**short, "epochs": 3}).fit(tied, seed=4, checkpoint=tmp_path)
    resumed = SEPT(**short).fit(tied, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
