"""Hot loops, each twice: a plain reference and a fast form, tested equal."""

from __future__ import annotations

import os

if os.environ.get("PALATE_THREADS"):
    from palate.runtime import set_threads, threads

    set_threads(threads())
