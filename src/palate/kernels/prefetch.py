"""Ask the memory for a row before it is needed: a kernel that gathers random rows of a large matrix else waits for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from palate.kernels.compile import compiled

#: Bytes that come at once, and how many such lines are asked for (what follows them the processor fetches by itself).
LINE, LINES = 64, 4


@intrinsic
def _prefetch(typing_context: Any, address: Any) -> Any:
    """Emit the processor's prefetch of one line (for reading, to be kept near)."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function: Any = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        builder.call(function, [builder.inttoptr(arguments[0], pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.int64), build


@compiled(inline="always")
def prefetch_row(start, row, size):  # type: ignore[no-untyped-def]
    """Ask for the first lines of a row: ``start`` is the address of the matrix, ``size`` the bytes of a row."""
    address = start + np.int64(row) * size
    for line in range(0, min(size, LINES * LINE), LINE):
        _prefetch(address + line)  # type: ignore[call-arg]
