"""Work shared out to threads."""

import os
import sys

import numpy as np
import pytest

from palate.kernels import spans as module
from palate.kernels.spans import even_spans
from palate.runtime import set_threads, threads


def test_an_error_in_a_span_is_raised(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)

    def run(low, high):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        module.each_span(run, np.arange(9), 100)


def test_spans_cover_all_rows_evenly():
    offsets = np.concatenate([[0], np.cumsum([0, 100, 0, 0, 3, 50, 1, 1, 45])])
    spans = even_spans(offsets, 4)
    assert spans[0] == 0 and spans[-1] == 9
    assert (np.diff(spans) >= 0).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="forking a process with threads warns")
def test_a_forked_child_makes_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)
    before, seen = threads(), np.zeros(8)

    def run(low, high):
        seen[low:high] += 1

    try:
        set_threads(2)
        module.each_span(run, np.arange(9), 100)
        child = os.fork()
        if child == 0:
            module.each_span(run, np.arange(9), 100)
            os._exit(0 if (seen == 2).all() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        set_threads(before)
