"""Bi-interaction layers: the fast passes against the plain ones, for widths that fill registers and widths that don't."""

import numpy as np
import pytest

from palate.kernels.bi_interaction import mix, mix_back, mix_back_reference, mix_reference, scale_of, unpacked

SHAPES = [(0, 4, 3), (1, 1, 1), (5, 8, 5), (64, 64, 32), (700, 64, 64), (333, 33, 70)]


def case(rows, d, out, seed=0):
    rng = np.random.default_rng(seed)
    x, n, slope = (rng.standard_normal((rows, size)).astype(np.float32) for size in (d, d, out))
    weights = [rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(d)) for shape in ((d, out), out) * 2]
    return x, n, slope, weights, rng.integers(0, 256, (rows, out)).astype(np.uint8)


@pytest.mark.parametrize("cut", [0, 77])
@pytest.mark.parametrize(("rows", "d", "out"), SHAPES)
def test_forwards(rows, d, out, cut):
    x, n, _, weights, drawn = case(rows, d, out)
    args = (x, n, weights, drawn if cut else None, cut)
    (y, passed), (wanted, marks) = mix(*args), mix_reference(*args)
    assert y.shape == wanted.shape and y.flags.c_contiguous
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)
    bits, wanted_bits = unpacked(passed, out), unpacked(marks, out)
    np.testing.assert_array_equal(bits[2], wanted_bits[2])
    # A term that rounding alone keeps off zero may have either sign.
    assert (bits != wanted_bits).sum() <= 1e-4 * bits.size
    if cut:
        assert (bits[2] == (drawn >= cut)).all() and (y[drawn < cut] == 0).all()


@pytest.mark.parametrize("cut", [0, 77])
@pytest.mark.parametrize(("rows", "d", "out"), SHAPES)
def test_backwards(rows, d, out, cut):
    x, n, slope, weights, drawn = case(rows, d, out)
    _, passed = mix_reference(x, n, weights, drawn if cut else None, cut)
    args = (x, n, passed, slope, weights, scale_of(cut))
    x_wanted, n_wanted, wanted = mix_back_reference(*args)
    by_x, by_n, own = mix_back(*args)
    for one, other in zip((by_x, by_n, *own), (x_wanted, n_wanted, *wanted), strict=True):
        assert one.shape == other.shape and one.flags.c_contiguous
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_the_number_of_threads_does_not_change_the_bits(monkeypatch):
    x, n, slope, weights, drawn = case(5000, 64, 64)
    found = []
    for count in ("1", "3"):
        monkeypatch.setattr("palate.kernels.spans.threads", lambda count=count: int(count))
        y, passed = mix(x, n, weights, drawn, 60)
        by_x, by_n, own = mix_back(x, n.copy(), passed, slope, weights, scale_of(60))
        found.append((y, passed, by_x, by_n, *own))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
