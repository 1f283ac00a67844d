"""LLMRec beside its published code, where that says something else than the paper means: L2, and what pruning keeps."""

import numpy as np
import pytest
import torch

from palate.contracts.conformance_bench import small_world
from palate.contracts.model import Fitting
from palate.recommend.graph_base import Setting
from palate.recommend.llmrec import Augmented, LLMRec, kept_triples, pruned_bpr
from palate.recommend.llmrec_side import Links, Side
from palate.training.triples import Triples

DATA = small_world()
BATCH = Triples(*(np.array(part, np.int32) for part in ([0, 1, 2], [3, 4, 5], [6, 7, 8])))


def loss(reg):
    """The loss of a batch of three triples, and its free vectors."""
    model = LLMRec(dim=4, reg=reg, augmentor="none", share=0.0, prune=0.0, text_weight=0.0, mask=0.0)
    setting, c = Setting.of(DATA, Fitting()), model.config
    side = Side([], Links(setting.matrix), c.dim, c.mask, c.power, np.random.default_rng(0))
    table = model._table(setting, (side,))
    picks = np.full((DATA.n_users, 2), -1, np.int32)
    return Augmented(table, setting, c, side, picks).loss(BATCH, torch.Generator().manual_seed(0)), table.free


def test_l2_draws_vectors_in_where_the_published_inverse_drives_them_out():
    """Ours: half the sum of squares. Published: one over twice that sum, whose slope points the other way."""
    (with_, free), (without, same) = loss(0.2), loss(0.0)
    torch.testing.assert_close(free, same)
    rows = np.concatenate([BATCH.users, BATCH.positives + DATA.n_users, BATCH.negatives + DATA.n_users])
    x = free.detach().double().numpy()[rows]
    ours, published = 0.2 / 3 * (x**2).sum() / 2, 0.2 / 3 / (2 * (x**2).sum())
    found = (with_ - without).item()
    assert found == pytest.approx(ours, rel=1e-3) and abs(found - published) > 0.1 * ours
    slope = (torch.autograd.grad(with_, free)[0] - torch.autograd.grad(without, same)[0]).double().numpy()[rows]
    np.testing.assert_allclose(slope, 0.2 / 3 * x, rtol=1e-3, atol=1e-6)
    outwards = -0.2 / 3 * x / (x**2).sum() ** 2
    assert (slope * x).sum() > 0 > (outwards * x).sum()


def test_pruning_drops_the_noise_that_the_published_order_keeps():
    """Published: ``log σ`` in ascending order, the first 1 - w₄ of it, which are the largest losses."""
    rng = np.random.default_rng(0)
    wrong = rng.permutation(100) < 30
    margins = rng.normal(np.where(wrong, -2.0, 2.0), 0.4)  # <h_u, h_i> - <h_u, h_j>
    losses, log_sigmoid = np.logaddexp(0, -margins), -np.logaddexp(0, -margins)
    for rate in (0.3, 0.71):
        count = 100 - int(rate * 100)
        meant, published = np.argsort(losses, kind="stable")[:count], np.argsort(log_sigmoid, kind="stable")[:count]
        ours = kept_triples(losses, rate, "noise_dropped")
        assert set(ours) == set(meant) != set(published) == set(kept_triples(losses, rate, "hardest_kept"))
        assert not wrong[ours].any() and wrong[published].sum() == min(30, count)
        vectors = torch.from_numpy(np.concatenate([[1.0], margins, [0.0]]).astype(np.float32))[:, None]
        rows = np.zeros(100, np.int64), np.arange(1, 101), np.full(100, 101)
        for by, kept in (("noise_dropped", meant), ("hardest_kept", published)):
            assert float(pruned_bpr(vectors, *rows, rate, by)) == pytest.approx(losses[kept].mean(), rel=1e-5)
    assert LLMRec().config.prune_by == "noise_dropped"
