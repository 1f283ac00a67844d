"""What was there at the end is left alone by the collector; what comes later is not."""

import gc
import weakref

import pytest

from palate.serve.memory.lasting import lasting


class _Ring:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _thaw():
    yield
    gc.unfreeze()


def test_the_collector_rests_inside_and_works_afterwards():
    assert gc.isenabled()
    with lasting():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_stays_is_not_looked_at_and_later_cycles_are_freed():
    with lasting():
        kept = [_Ring() for _ in range(1_000)]
    assert gc.get_freeze_count() >= 1_000
    assert not any(isinstance(found, _Ring) for found in gc.get_objects())
    later = weakref.ref(_Ring())
    gc.collect()
    assert later() is None
    assert len(kept) == 1_000


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with lasting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_works_after_an_error():
    with pytest.raises(RuntimeError), lasting():
        raise RuntimeError
    assert gc.isenabled()
