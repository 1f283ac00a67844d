"""Python's cyclic collector beside a large catalogue.

A full collection looks at every object in memory and holds all threads meanwhile. For 100,000 items that is a fifth of a
second: again and again while they are read, and in the middle of answers later.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Make what stays for the life of the process: the collector rests meanwhile, and never looks at it afterwards.

    Reference counts still free what is let go; only cycles of what was there at the end are kept for ever.
    """
    rests = not gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if not rests:
            gc.enable()
