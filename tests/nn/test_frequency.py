"""Streaming frequencies: by hand, in the limit, with collisions, through checkpoints."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from palate.nn.frequency import StreamingFrequency  # noqa: E402


def items(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def test_by_hand():
    stream = StreamingFrequency(4, alpha=0.5)
    for seen in (items(0, 1), items(0), items(0), items(0, 1)):
        stream.see(seen)
    # Item 0: in every batch, gap 1. Item 1: first in batch 1 (gap 1), then 3 later: (1 + 3) / 2. Item 2: never, once in 4.
    np.testing.assert_allclose(stream.log_q(items(0, 1, 2)).exp(), [1, 1 / 2, 1 / 4], rtol=1e-6)


@pytest.mark.parametrize("size", [0, 4096])
def test_estimates_tend_to_the_true_shares(size):
    rng = np.random.default_rng(0)
    p = np.array([0.9, 0.5, 0.2, 0.05])
    stream = StreamingFrequency(10_000, size=size, tables=2, alpha=0.01)
    for _ in range(6000):
        stream.see(torch.from_numpy(np.flatnonzero(rng.random(4) < p)))
    np.testing.assert_allclose(stream.log_q(items(0, 1, 2, 3)).exp(), p, rtol=0.2)


def test_collisions_are_resolved_by_the_longest_gap():
    """One short table takes rare items for frequent ones; with more tables they are seldom all taken."""
    rng = np.random.default_rng(1)
    errors = {}
    for tables in (1, 4):
        stream = StreamingFrequency(1000, size=64, tables=tables, alpha=0.05)
        for _ in range(400):
            stream.see(torch.from_numpy(np.unique(rng.choice(30, 8))))
        rare = StreamingFrequency(1000, size=0)
        assert rare.exact and not stream.exact
        stream.see(items(999))
        errors[tables] = float((stream.log_q(torch.arange(500, 1000)).exp() > 0.1).float().mean())
    assert errors[4] < errors[1]


def test_the_estimate_goes_on_from_a_checkpoint():
    whole, first, second = (StreamingFrequency(5, alpha=0.3) for _ in range(3))
    batches = [items(0, 1), items(2), items(0), items(1, 2), items(0, 4)]
    for batch in batches:
        whole.see(batch)
    for batch in batches[:2]:
        first.see(batch)
    second.load_state_dict(first.state_dict())
    for batch in batches[2:]:
        second.see(batch)
    assert torch.equal(whole.log_q(torch.arange(5)), second.log_q(torch.arange(5)))


def test_before_any_batch_everything_is_alike():
    assert (StreamingFrequency(3).log_q(torch.arange(3)) == 0).all()
