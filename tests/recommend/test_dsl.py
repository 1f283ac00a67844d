"""DSL: the hinge, the similarity network, ties that are predicted, answers from the history."""

import numpy as np
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.nn.graph import propagate
from palate.nn.social import SocialGraph
from palate.recommend.dsl import DSL, Denoised, alignment
from palate.recommend.graph_base import FreeVectors, Setting, Step
from palate.training.triples import Pairs

SMALL = {"dim": 8, "layers": 2, "epochs": 15, "batch_size": 64, "lr": 0.02}


def test_the_hinge_by_hand():
    z, y = torch.tensor([0.5, 1.0, 0.25, 0.8]), torch.tensor([1.0, 2.0, -2.0, 1.25])
    assert alignment(z, y).item() == pytest.approx((0.5 + 0 + 1.5 + 0) / 4)


def test_ties_that_interests_deny_are_let_alone():
    """z = 0: a constant loss of 1, and no gradient to the social vectors."""
    y = torch.randn(5, requires_grad=True)
    loss = alignment(torch.zeros(5), y)
    assert loss.item() == 1
    assert not torch.autograd.grad(loss, y)[0].any()


def test_social_vectors_are_drawn_together_as_far_as_interests_agree():
    y = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(alignment(torch.tensor([0.1, 0.5, 1.0]), y), y)
    torch.testing.assert_close(gradient, -torch.tensor([0.1, 0.5, 1.0]) / 3)


def test_similarity_is_a_share_and_follows_the_formula(tied):
    part = Denoised(SocialGraph.of(tied, "test"), DSL(**SMALL).config, np.random.default_rng(0))
    a, b = (torch.randn(7, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    z = part.similarity(a, b).detach()
    w, v = part.hidden.detach().numpy(), part.out.detach().numpy()
    hidden = np.concatenate([a.numpy(), b.numpy()], 1) @ w
    hidden = np.where(hidden > 0, hidden, 0.01 * hidden) + a.numpy() + b.numpy()
    np.testing.assert_allclose(z.numpy(), 1 / (1 + np.exp(-hidden @ v)), atol=1e-6)
    dropped = part.similarity(a, b, torch.Generator().manual_seed(0)).detach()
    assert not torch.equal(z, dropped)


@pytest.mark.parametrize(("social", "align"), [(0.7, 0.0), (0.0, 0.4), (0.7, 0.4)])
def test_a_step_by_hand(tied, social, align):
    """Ties against strangers, and the hinge over pairs of the batch's people, on layers by dense matrices."""
    config = DSL(**SMALL, social=social, align=align, dropout=0.0, social_layers=2).config
    graph, setting, n = SocialGraph.of(tied, "test"), Setting.of(tied, Fitting()), tied.n_users
    part = Denoised(graph, config, np.random.default_rng(0))
    table = FreeVectors(len(setting.graph), 8, 1.0, np.random.default_rng(0), (part,))
    batch = next(iter(Pairs(setting.matrix, 40).epoch(np.random.default_rng(0))))
    step = Step(batch, torch.Generator().manual_seed(1), n, 2, 0)
    step.layer0, step.graph = table.layer0(step), setting.graph
    (step.vectors,) = step.propagate()
    found, wanted, again = part.loss(step).item(), 0.0, torch.Generator().manual_seed(1)
    free, s = table.free.detach().numpy(), graph.either.toarray()
    a = s / np.sqrt(np.maximum(np.outer(s.sum(1), s.sum(1)), 1))
    t = (free[:n] + a @ free[:n] + a @ a @ free[:n]) / 3
    if social:
        rng = np.random.default_rng(Step(batch, again, n, 2, 0).seed())
        drawn = rng.integers(len(part.heads), size=40)
        heads, tails = part.heads[drawn], part.tails[drawn]
        strangers = part.strangers.sample_for(rng, heads)
        assert (graph.ties.toarray()[heads, tails] > 0).all()
        wanted += social * np.logaddexp(0, (t[heads] * (t[strangers] - t[tails])).sum(1)).mean()
    if align:
        first = batch.users
        second = first[torch.randperm(40, generator=again).numpy()]
        z = part.similarity(step.vectors.users(first), step.vectors.users(second)).detach().numpy()
        wanted += align * np.maximum(0, 1 - z * (t[first] * t[second]).sum(1)).mean()
    assert found == pytest.approx(wanted, rel=1e-4)


def test_strangers_are_neither_tied_nor_oneself(tied):
    social = SocialGraph.of(tied, "test")
    part = Denoised(social, DSL(**SMALL).config, np.random.default_rng(0))
    people = np.repeat(part.heads, 5)
    drawn = part.strangers.sample_for(np.random.default_rng(1), people)
    assert not (social.ties[people, drawn] > 0).any() and (drawn != people).all()


def test_it_learns_who_is_tied(tied):
    kept = {}

    class Kept(DSL):
        def _finish(self, table, graph, n_users):
            kept["free"] = table.free.detach()[:n_users].clone()
            super()._finish(table, graph, n_users)

    social = SocialGraph.of(tied, "test")
    ranks = []
    for weight in (0.0, 1.0):
        Kept(**SMALL, social=weight, align=0.0).fit(tied)
        part = Denoised(social, DSL(**SMALL).config, np.random.default_rng(0))
        t = propagate(kept["free"], part.graph_of_ties, 2).numpy()
        strangers = part.strangers.sample_for(np.random.default_rng(2), part.heads)
        friend, stranger = ((t[part.heads] * t[ends]).sum(1) for ends in (part.tails, strangers))
        ranks.append((friend > stranger).mean())
    assert ranks[1] > ranks[0] and ranks[1] > 0.85


def test_it_learns_tastes_and_explains(tied, finds_tastes, sums_up):
    model = DSL(**SMALL).fit(tied)
    finds_tastes(model)
    sums_up(model, Requests.of_users(tied, np.array([0, 5], np.int32)))


def test_everybody_tied_to_everybody(tied):
    """There are no strangers then: ties teach nothing, and nothing breaks."""
    data = Dataset.from_columns([0, 1, 1], [0, 1, 2])
    model = DSL(**{**SMALL, "epochs": 2}).fit(data.derive({"step": "pair"}, graphs={"social": pair(tied)}))
    assert np.isfinite(model.own_).all() and model.record_.notes["ties"]["kept"] == 2


def pair(tied):
    found = tied.graphs["social"]
    ends = np.array([[0, 1], [1, 0]], np.int32)
    return type(found)(ends[0], ends[0] * 0, ends[1], "user", "user", found.relations)


def test_resumes_to_the_bit(tied, tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = DSL(**short).fit(tied, seed=4)
    DSL(**{**short, "epochs": 3}).fit(tied, seed=4, checkpoint=tmp_path)
    resumed = DSL(**short).fit(tied, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
