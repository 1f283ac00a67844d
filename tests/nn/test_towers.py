"""Towers: embeddings of fields by hand, in-batch softmax against plain definitions, spreading."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from palate.data.features import Features  # noqa: E402
from palate.data.ragged import Ragged  # noqa: E402
from palate.nn.losses import info_nce, sampled_softmax  # noqa: E402
from palate.nn.towers import FieldEmbedding, Tower, in_batch_softmax, spread_out  # noqa: E402


def rng(seed=0):
    return np.random.default_rng(seed)


def features(rows, k):
    return Features(Ragged.from_rows(rows), np.zeros((len(rows) // k, 0), np.float32), k)


def unit(*shape, seed=0):
    return functional.normalize(torch.from_numpy(rng(seed).standard_normal(shape)), dim=1)


def test_a_field_is_the_mean_of_its_values_and_has_a_vector_when_empty():
    layer = FieldEmbedding(6, 2, 3, rng())
    got = layer(features([[0, 2], [4], [], [3, 4, 5]], 2)).detach()
    table, missing = layer.table.detach(), layer.missing.detach()
    torch.testing.assert_close(got[0], torch.cat([table[[0, 2]].mean(0), table[4]]))
    torch.testing.assert_close(got[1], torch.cat([missing[0], table[3:6].mean(0)]))


def test_values_left_out_do_not_matter():
    layer = FieldEmbedding(6, 2, 3, rng())
    kept = torch.tensor([True, False, False])
    first = layer(features([[0, 2], [4]], 2), kept=kept)
    second = layer(features([[0, 5], [3]], 2), kept=kept)
    assert torch.equal(first, second)
    torch.testing.assert_close(first[0], torch.cat([layer.table[0], layer.missing[1]]))


def test_a_layer_without_fields_is_empty():
    assert FieldEmbedding(0, 0, 3, rng())(features([], 1).take(np.array([-1, -1]))).shape == (2, 0)


def test_a_tower_has_length_one_and_drops_only_with_a_generator():
    tower = Tower(5, (7,), 4, rng(), dropout=0.5)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tower(x).norm(dim=1), torch.ones(3))
    assert torch.equal(tower(x), tower(x))
    assert not torch.equal(tower(x), tower(x, torch.Generator().manual_seed(1)))


def batch(items, d=4, seed=0):
    """Distinct items, which of them each row has, and their counts."""
    distinct, rows, counts = np.unique(items, return_inverse=True, return_counts=True)
    q, z = unit(len(items), d, seed=seed).requires_grad_(), unit(len(distinct), d, seed=seed + 1).requires_grad_()
    return q, z, torch.from_numpy(rows), torch.from_numpy(counts)


def test_in_batch_softmax_is_the_plain_sum_over_rows():
    q, z, rows, counts = batch([3, 1, 3, 2, 2, 2])
    log_q = torch.log(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))
    s = q @ z[rows].T / 0.3 - log_q[rows]
    hit = (rows[:, None] == rows[None]) & ~torch.eye(len(rows), dtype=torch.bool)
    wanted = functional.cross_entropy(s.masked_fill(hit, float("-inf")), torch.arange(len(rows)))
    got = in_batch_softmax(q, z, rows, counts, 0.3, log_q)
    torch.testing.assert_close(got, wanted)
    other = sampled_softmax(q, z[rows], z[rows], targets=rows, negative_ids=rows, log_q=log_q[rows],
                            target_log_q=log_q[rows], temperature=0.3)  # fmt: skip
    torch.testing.assert_close(got, other)
    for parameter in (q, z):
        torch.testing.assert_close(*(torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (got, wanted)))


def test_uniform_frequencies_change_nothing():
    q, z, rows, counts = batch([3, 1, 0, 2, 2])
    uniform = torch.full((len(z),), -np.log(100.0), dtype=torch.float64)
    torch.testing.assert_close(in_batch_softmax(q, z, rows, counts, 0.1, uniform), in_batch_softmax(q, z, rows, counts, 0.1))


def test_correction_makes_the_batch_stand_for_the_catalogue():
    """With items drawn by a skewed Q, the mean corrected denominator is that of the whole catalogue."""
    draw, n, size = rng(1), 5, 64
    p = np.array([0.5, 0.3, 0.1, 0.07, 0.03])
    z, q = unit(n, 4, seed=2), unit(1, 4, seed=3)
    scores = (q @ z.T)[0].numpy()
    sums = [np.exp(scores[i] - np.log(p[i])).mean() for i in (draw.choice(n, size, p=p) for _ in range(4000))]
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.01)


def test_a_batch_of_one_item_has_no_negatives():
    q, z, rows, counts = batch([4, 4, 4])
    loss = in_batch_softmax(q, z, rows, counts, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12) and torch.isfinite(q.grad).all()


def test_perfect_separation_costs_nothing():
    z = torch.eye(4)
    loss = in_batch_softmax(z, z, torch.arange(4), torch.ones(4), 0.01)
    assert loss.item() < 1e-6


def test_spreading_by_the_plain_sum():
    z = unit(7, 3)
    g = z @ z.T
    wanted = (g.square().sum() - g.diagonal().square().sum()) / 7
    torch.testing.assert_close(spread_out(z), wanted)
    assert spread_out(torch.eye(5)).item() == pytest.approx(0, abs=1e-7)


def test_contrast_of_equal_views_spreads():
    """With identity augmentation the contrast is -1/N Σ ln e^{1/τ} / (e^{1/τ} + Σ_{j≠i} e^{s_ij/τ})."""
    z, tau = unit(6, 3), 0.2
    e = torch.exp(z @ z.T / tau)
    own = np.exp(1 / tau)
    wanted = -torch.log(own / (own + e.sum(1) - e.diagonal())).mean()
    torch.testing.assert_close(info_nce(z, z, tau), wanted)
