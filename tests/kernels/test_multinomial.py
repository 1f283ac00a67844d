"""The softmax over a catalogue in blocks, against all scores at once."""

import numpy as np
import pytest

from palate.kernels import multinomial as module
from palate.kernels.multinomial import multinomial_rows, multinomial_rows_reference


def case(n, m, d, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    q, v = ((scale * rng.standard_normal((rows, d))).astype(np.float32) for rows in (n, m))
    rows = [rng.choice(m, rng.integers(0, min(m, 5) + 1), replace=False) for _ in range(n)]
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return q, v, offsets, np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int32)


@pytest.mark.parametrize("block", [1, 2**20])
@pytest.mark.parametrize(
    ("n", "m", "d", "scale"), [(0, 3, 2, 1), (1, 1, 1, 1), (7, 31, 5, 1), (300, 500, 64, 1), (90, 64, 33, 9)]
)
def test_fast_equals_plain(monkeypatch, block, n, m, d, scale):
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    args = case(n, m, d, scale)
    (loss, *slopes), (wanted, *wanted_slopes) = multinomial_rows(*args), multinomial_rows_reference(*args)
    np.testing.assert_allclose(loss, wanted, rtol=1e-4, atol=1e-6)
    for one, other in zip(slopes, wanted_slopes, strict=True):
        assert one.dtype == np.float32 and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 / max(1, n))


def test_what_is_not_a_number_stays_seen():
    q, v, offsets, columns = case(5, 9, 4)
    q[2, 1] = np.nan
    loss, by_q, by_v = multinomial_rows(q, v, offsets, columns)
    assert np.isnan(loss) and np.isnan(by_q[2]).all() and np.isnan(by_v).any()


def test_the_number_of_threads_does_not_change_the_bits(monkeypatch):
    args, found = case(203, 500, 16), []
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    for count in (1, 3):
        monkeypatch.setattr("palate.kernels.spans.threads", lambda count=count: count)
        found.append(multinomial_rows(*args))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
