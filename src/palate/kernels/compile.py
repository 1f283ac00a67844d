"""How kernels are compiled: by numba, cached on disk, without the GIL, one policy for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numba as nb


def compiled(
    *, parallel: bool = False, fast_math: bool = False, inline: Literal["never", "always"] = "never"
) -> Callable[[Any], Any]:
    """Compile a function of arrays with numba.

    ``fast_math`` allows sums to be reordered (SIMD); never use it where NaN or ``inf`` carry meaning.
    """
    flags: Any = {"nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"} if fast_math else False
    return nb.njit(cache=True, nogil=True, parallel=parallel, fastmath=flags, inline=inline, error_model="numpy")
