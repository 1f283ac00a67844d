"""Registers of the processor inside kernels: as many float32 at once as one of them holds, and small products made of them.

    product    out[r] = start + Σ_k a[r, k] w[k]
    outer      out[i] += Σ_r a[r, i] b[r]

A compiler that vectorises loops by itself keeps sums in memory, and asks before each short loop whether its arrays overlap.
Here a sum of 4 rows times two registers never leaves the registers; on one core that is near what the processor can do at most.
The functions read addresses, and trust them: only kernels that know their shapes may call them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.core.datamodel.models import PrimitiveModel

from palate.kernels.compile import compiled

intrinsic: Callable[[Any], Any] = extending.intrinsic  # what it gives is called as numba has it, without the first parameter

_FEATURES = llvm.get_host_cpu_features()
#: Numbers of a register (where it has fewer, LLVM takes two of them).
LANES = 16 if _FEATURES.get("avx512f") else 8
#: Bytes of a register.
BYTES = 4 * LANES
#: Rows and columns of a tile whose sums stay in registers.
TALL, WIDE = 4, 2 * LANES

_REGISTER = ir.VectorType(ir.FloatType(), LANES)
_INDEX, _WORD = ir.IntType(32), ir.IntType(64)
#: One bit a lane, as a truth value of each and as a number.
_TRUTHS, _BITS = ir.VectorType(ir.IntType(1), LANES), ir.IntType(LANES)


class _Register(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"palate_register_{LANES}")


register = _Register()


@extending.register_model(_Register)
class _Model(PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _REGISTER)  # type: ignore[no-untyped-call]


def _function(signature: Any, build: Callable[[Any, Any], Any]) -> Any:
    """Return what numba wants of an intrinsic."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        found = build(builder, arguments)
        return context.get_dummy_value() if found is None else found

    return signature, emit


def _pointer(builder: Any, address: Any, kind: Any = _REGISTER) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _in_every_lane(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_REGISTER, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


@intrinsic
def zeros(_: Any) -> Any:
    """Return a register of zeros."""
    return _function(register(), lambda _builder, _arguments: ir.Constant(_REGISTER, [0.0] * LANES))


@intrinsic
def load(_: Any, address: Any) -> Any:
    """Return the :data:`LANES` float32 at an address."""
    return _function(register(types.int64), lambda b, a: b.load(_pointer(b, a[0]), align=4))


@intrinsic
def load_one(_: Any, address: Any) -> Any:
    """Return the float32 at an address, in every lane."""
    one = ir.FloatType()
    return _function(register(types.int64), lambda b, a: _in_every_lane(b, b.load(_pointer(b, a[0], one), align=4)))


@intrinsic
def spread(_: Any, value: Any) -> Any:
    """Return a float32 in every lane."""
    return _function(register(types.float32), lambda b, a: _in_every_lane(b, a[0]))


@intrinsic
def store(_: Any, address: Any, value: Any) -> Any:
    """Write a register to an address."""

    def build(builder: Any, arguments: Any) -> None:
        builder.store(arguments[1], _pointer(builder, arguments[0]), align=4)

    return _function(types.void(types.int64, register), build)


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a b + c``, rounded once."""

    def build(builder: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_REGISTER, [_REGISTER] * 3)
        name = f"llvm.fma.v{LANES}f32"
        function: Any = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        return builder.call(function, arguments)

    return _function(register(register, register, register), build)


@intrinsic
def add(_: Any, a: Any, b: Any) -> Any:
    """Return ``a + b``."""
    return _function(register(register, register), lambda builder, pair: builder.fadd(*pair))


@intrinsic
def times(_: Any, a: Any, b: Any) -> Any:
    """Return ``a b``."""
    return _function(register(register, register), lambda builder, pair: builder.fmul(*pair))


@intrinsic
def positive(_: Any, a: Any) -> Any:
    """Return a mask, ``int64`` with one bit a lane: those above zero."""

    def build(builder: Any, arguments: Any) -> Any:
        above = builder.fcmp_ordered(">", arguments[0], ir.Constant(_REGISTER, [0.0] * LANES))
        return builder.zext(builder.bitcast(above, _BITS), _WORD)

    return _function(types.int64(register), build)


@intrinsic
def exponential(_: Any, a: Any) -> Any:
    """Return ``exp(a)`` of lanes from -87 to 88, to 2 units in the last place; 0 below."""

    def build(builder: Any, arguments: Any) -> Any:
        def call(name: str, result: Any, *values: Any) -> Any:
            kind = ir.FunctionType(result, [value.type for value in values])
            function: Any = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
            return builder.call(function, values)

        def constant(value: float) -> Any:
            return ir.Constant(_REGISTER, [float(np.float32(value))] * LANES)

        words, fused = ir.VectorType(_INDEX, LANES), f"llvm.fma.v{LANES}f32"
        (x,) = arguments
        # exp(x) = 2^k exp(r), |r| <= ln 2 / 2; ln 2 is taken off in two parts, of which the first one is exact times k.
        k = call(f"llvm.rint.v{LANES}f32", _REGISTER, builder.fmul(x, constant(np.log2(np.e))))
        r = call(fused, _REGISTER, k, constant(-0.693359375), x)
        r = call(fused, _REGISTER, k, constant(0.693359375 - np.log(2)), r)
        series = constant(1 / 5040)
        for factor in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1, 1):
            series = call(fused, _REGISTER, series, r, constant(factor))
        power = call(f"llvm.fptosi.sat.v{LANES}i32.v{LANES}f32", words, k)
        raised = builder.shl(builder.add(power, ir.Constant(words, [127] * LANES)), ir.Constant(words, [23] * LANES))
        found = builder.fmul(series, builder.bitcast(raised, _REGISTER))
        return builder.select(builder.fcmp_ordered("<", x, constant(-87)), constant(0), found)

    return _function(register(register), build)


@intrinsic
def largest(_: Any, a: Any, b: Any) -> Any:
    """Return the larger number of each lane (that of ``b`` where ``a`` is none)."""
    return _function(register(register, register), lambda b, pair: b.select(b.fcmp_ordered(">", *pair), *pair))


@intrinsic
def at_least(_: Any, address: Any, least: Any) -> Any:
    """Return a mask of the :data:`LANES` bytes at an address: those not below ``least`` (``uint8``)."""

    def build(builder: Any, arguments: Any) -> Any:
        lane = ir.VectorType(ir.IntType(8), LANES)
        found = builder.load(_pointer(builder, arguments[0], lane), align=1)
        undefined = ir.Constant(lane, ir.Undefined)
        first = builder.insert_element(undefined, arguments[1], ir.Constant(_INDEX, 0))
        bound = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))
        return builder.zext(builder.bitcast(builder.icmp_unsigned(">=", found, bound), _BITS), _WORD)

    return _function(types.int64(types.int64, types.uint8), build)


@intrinsic
def pick(_: Any, mask: Any, a: Any, b: Any) -> Any:
    """Return the lanes of ``a`` where a mask has its bit, else those of ``b``."""

    def build(builder: Any, arguments: Any) -> Any:
        truths = builder.bitcast(builder.trunc(arguments[0], _BITS), _TRUTHS)
        return builder.select(truths, *arguments[1:])

    return _function(register(types.int64, register, register), build)


@intrinsic
def store_mask(_: Any, address: Any, mask: Any) -> Any:
    """Write a mask to an address, in ``LANES / 8`` bytes: as :func:`numpy.packbits` does with ``bitorder="little"``."""

    def build(builder: Any, arguments: Any) -> None:
        builder.store(builder.trunc(arguments[1], _BITS), _pointer(builder, arguments[0], _BITS), align=1)

    return _function(types.void(types.int64, types.int64), build)


@intrinsic
def load_mask(_: Any, address: Any) -> Any:
    """Return the mask at an address."""
    return _function(types.int64(types.int64), lambda b, a: b.zext(b.load(_pointer(b, a[0], _BITS), align=1), _WORD))


def filled_up(size: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``size``."""
    return -(-size // step) * step


def widened(a: np.ndarray, rows: int = 1, columns: int = WIDE) -> np.ndarray:
    """Return a copy with zeros behind, so that rows and columns are multiples of these numbers."""
    out = np.zeros((filled_up(len(a), rows), filled_up(a.shape[1], columns)), a.dtype)
    out[: len(a), : a.shape[1]] = a
    return out


def product_reference(a: np.ndarray, w: np.ndarray, start: np.ndarray, out: np.ndarray, rows: int) -> None:
    """Write ``start + a w`` of the first rows into ``out``.

    Parameters
    ----------
    a
        ``float32[m, >= k]``; ``m`` is a multiple of :data:`TALL`.
    w, start
        ``float32[k, d]``, and ``float32[d]`` or ``float32[m, d]`` (which may be ``out``); ``d`` is a multiple of :data:`WIDE`.
    out
        ``float32[m, d]``; up to ``TALL - 1`` rows behind ``rows`` may be changed too.
    """
    out[:rows] = (start if start.ndim == 1 else start[:rows]) + a[:rows, : len(w)] @ w


def outer_reference(a: np.ndarray, b: np.ndarray, out: np.ndarray, rows: int) -> None:
    """Add ``aᵀ b`` of the first rows to ``out``.

    Parameters
    ----------
    a, b
        ``float32[m, k]`` and ``float32[m, d]``; ``k`` is a multiple of :data:`TALL`, ``d`` of :data:`WIDE`.
    out
        ``float32[k, d]``.
    """
    out += a[:rows].T @ b[:rows]


@compiled()
def product(a, w, start, out, rows):  # type: ignore[no-untyped-def]
    """As :func:`product_reference`, fast (arrays are C-contiguous)."""
    depth, step, stride = w.shape[0], w.shape[1] * 4, a.shape[1] * 4
    apart = step if start.ndim == 2 else 0
    for r in range(0, rows, TALL):
        for c in range(0, step, 2 * BYTES):
            p0 = a.ctypes.data + r * stride
            p1, p2, p3 = p0 + stride, p0 + 2 * stride, p0 + 3 * stride
            at, begin = w.ctypes.data + c, start.ctypes.data + r * apart + c
            a0, a1 = load(begin), load(begin + BYTES)
            b0, b1 = load(begin + apart), load(begin + apart + BYTES)
            c0, c1 = load(begin + 2 * apart), load(begin + 2 * apart + BYTES)
            d0, d1 = load(begin + 3 * apart), load(begin + 3 * apart + BYTES)
            for _ in range(depth):
                left, right = load(at), load(at + BYTES)
                one = load_one(p0)
                a0, a1 = fma(one, left, a0), fma(one, right, a1)
                one = load_one(p1)
                b0, b1 = fma(one, left, b0), fma(one, right, b1)
                one = load_one(p2)
                c0, c1 = fma(one, left, c0), fma(one, right, c1)
                one = load_one(p3)
                d0, d1 = fma(one, left, d0), fma(one, right, d1)
                at, p0, p1, p2, p3 = at + step, p0 + 4, p1 + 4, p2 + 4, p3 + 4
            _put(out.ctypes.data + r * step + c, step, a0, a1, b0, b1, c0, c1, d0, d1)


@compiled()
def outer(a, b, out, rows):  # type: ignore[no-untyped-def]
    """As :func:`outer_reference`, fast (arrays are C-contiguous)."""
    tall, wide = a.shape[1] * 4, b.shape[1] * 4
    for i in range(a.shape[1] // TALL):
        for c in range(0, wide, 2 * BYTES):
            to = out.ctypes.data + i * TALL * wide + c
            p, q = a.ctypes.data + i * TALL * 4, b.ctypes.data + c
            a0, a1 = load(to), load(to + BYTES)
            b0, b1 = load(to + wide), load(to + wide + BYTES)
            c0, c1 = load(to + 2 * wide), load(to + 2 * wide + BYTES)
            d0, d1 = load(to + 3 * wide), load(to + 3 * wide + BYTES)
            for _ in range(rows):
                left, right = load(q), load(q + BYTES)
                one = load_one(p)
                a0, a1 = fma(one, left, a0), fma(one, right, a1)
                one = load_one(p + 4)
                b0, b1 = fma(one, left, b0), fma(one, right, b1)
                one = load_one(p + 8)
                c0, c1 = fma(one, left, c0), fma(one, right, c1)
                one = load_one(p + 12)
                d0, d1 = fma(one, left, d0), fma(one, right, d1)
                p, q = p + tall, q + wide
            _put(to, wide, a0, a1, b0, b1, c0, c1, d0, d1)


@compiled(inline="always")
def _put(to, step, a0, a1, b0, b1, c0, c1, d0, d1):  # type: ignore[no-untyped-def]
    store(to, a0)
    store(to + BYTES, a1)
    store(to + step, b0)
    store(to + step + BYTES, b1)
    store(to + 2 * step, c0)
    store(to + 2 * step + BYTES, c1)
    store(to + 3 * step, d0)
    store(to + 3 * step + BYTES, d1)
