"""Early stopping: the earliest best look counts, patience counts looks and steps, and its state goes through JSON."""

import json

import pytest

from palate.training.stopping import Stopping


def test_stopping():
    stopping = Stopping(2)
    assert [stopping.look(e, v) for e, v in enumerate([0.1, 0.3, 0.3], 1)] == [True, True, False]
    again = Stopping(2)
    again.restore(stopping.state())
    assert not again.stop
    assert not again.look(4, 0.2)
    assert again.stop
    assert (again.best_epoch, again.best_value) == (2, 0.3)
    with pytest.raises(ValueError, match="not a number"):
        again.look(5, float("nan"))


@pytest.mark.parametrize(
    ("patience", "values", "stops_after"),
    [
        (1, [0.2, 0.1], 2),
        (2, [0.2, 0.1, 0.3, 0.1, 0.1], 5),
        (3, [0.2, 0.2, 0.2, 0.2], 4),
        (0, [0.5] * 9, None),
        (5, [0.1, 0.0], None),
    ],
)
def test_patience(patience, values, stops_after):
    stopping = Stopping(patience)
    stopped = None
    for epoch, value in enumerate(values, 1):
        stopping.look(epoch, value)
        if stopping.stop:
            stopped = epoch
            break
    assert stopped == stops_after


def test_patience_counts_steps_too():
    """Two looks of three steps are too few, and ten steps in one look are."""
    small, large = Stopping(2, least=10), Stopping(2, least=10)
    stops = []
    for epoch, value in enumerate([0.5, *[0.4] * 6], 1):
        small.look(epoch, value, 3)
        stops.append(small.stop)
    assert stops == [False] * 4 + [True] * 3
    large.look(1, 0.5, 50)
    large.look(2, 0.4, 50)
    assert not large.stop
    large.look(3, 0.4, 50)
    assert large.stop
    again = Stopping(2, least=10)
    again.restore(small.state())
    assert again.stop
    again.look(8, 0.6, 3)
    assert again.steps == 0 and not again.stop


def test_before_the_first_look():
    stopping = Stopping(1)
    assert not stopping.stop and stopping.best_epoch is None and stopping.best_value is None


def test_values_below_zero_can_be_best():
    stopping = Stopping(1)
    assert stopping.look(1, -3.0) and stopping.look(2, -2.0)


def test_its_state_is_plain_json():
    stopping = Stopping(3)
    for epoch, value in enumerate([0.1, 0.4, 0.2], 1):
        stopping.look(epoch, value)
    again = Stopping(3)
    again.restore(json.loads(json.dumps(stopping.state())))
    assert vars(again) == vars(stopping)


def test_patience_counts_after_the_warm_up():
    stopping = Stopping(2, warmup=4)
    for epoch, value in enumerate([0.3, 0.2, 0.2, 0.2, 0.2], 1):
        stopping.look(epoch, value)
        assert not stopping.stop
    assert stopping.waited == 1 and stopping.best_epoch == 1
    stopping.look(6, 0.2)
    assert stopping.stop
    floored = Stopping(1, floor=lambda: 1.0, warmup=1)
    assert not any((floored.look(epoch, value), floored.stop)[1] for epoch, value in enumerate([0.3, 0.2, 0.2], 1))


def test_patience_counts_once_popularity_is_clearly_passed():
    stopping = Stopping(2, floor=lambda: 0.10)
    for epoch, value in enumerate([0.10, 0.09, 0.08, 0.08, 0.09, 0.105, 0.10, 0.10, 0.10], 1):
        stopping.look(epoch, value)
        assert not stopping.stop and not stopping.passed
    assert stopping.best_epoch == 6
    stopping.look(10, 0.12)
    assert stopping.passed and stopping.waited == 0
    stopping.look(11, 0.11)
    assert not stopping.stop
    stopping.look(12, 0.11)
    assert stopping.stop and stopping.best_epoch == 10
    below = Stopping(1, floor=lambda: -1.0)  # a tenth above is towards zero
    below.look(1, -0.95)
    assert not below.passed
    below.look(2, -0.8)
    assert below.passed
