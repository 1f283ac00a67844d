"""Hot loops, each twice: a plain reference and a fast form, tested equal."""

from __future__ import annotations

from palate.runtime import set_threads, wanted_threads

if (_wanted := wanted_threads()) is not None:
    set_threads(_wanted)
