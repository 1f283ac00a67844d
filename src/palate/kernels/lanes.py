"""Vectors of 16 numbers inside kernels, a lane a row: work whose inner loops are short fills the vector unit all the same.

Inside a compiled function :func:`load` gives 16 numbers that lie side by side, :func:`spread` one number 16 times; ``+``,
``-`` and ``*`` go lane by lane. Lanes live in registers; numbers of arrays would not, as a compiler must fear that arrays
overlap. A processor with shorter vectors takes two or four instructions for one. Places are not checked, as in any kernel.
(:mod:`palate.kernels.vectors` has registers along a row, as long as the processor's.)

    rows to lanes and back    :func:`to_lanes`, :func:`from_lanes`: 16 x 16 numbers are turned in registers
    products                  Σ_e a_e b_ei, for some i
    exp                       Cody and Waite's: powers of 2 by the bits of the exponent, the rest by a polynomial of degree 6;
                              relative error below 2e-7, and 0 stands for e^x below e^-87

Products and sums may be contracted (fma) and reordered, but NaN and infinity keep their meaning.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel

from palate.kernels.compile import compiled

#: Numbers side by side.
LANES = 16

intrinsic: Callable[[Any], Any] = extending.intrinsic  # what it gives is called as numba has it, without the first parameter

_FLOATS, _INTS, _BYTES = (ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.IntType(32), ir.IntType(8)))
_FAST = ("nsz", "arcp", "contract", "afn", "reassoc")


class _Lanes(types.Type):
    """The type of 16 numbers in the eyes of numba."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


_LANES = _Lanes()


@extending.register_model(_Lanes)
class _Model(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _FLOATS)  # type: ignore[no-untyped-call]


def _all(value: float | int, kind: ir.VectorType = _FLOATS) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _data(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Return a pointer to element ``at`` of a contiguous array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [a.type for a in arguments])
    declared = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(declared, arguments, fastmath=_FAST)


def padded(rows: np.ndarray) -> np.ndarray:
    """Return rows that fill tiles of 16: with rows of zeros, where some are missing."""
    missing = -len(rows) % LANES
    if missing:
        rows = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
    return np.ascontiguousarray(rows)


# -- memory -----------------------------------------------------------------------------------------


@intrinsic
def load(typingctx, array, at):  # type: ignore[no-untyped-def]
    """Return elements ``at`` … ``at + 15`` of a flat ``float32`` array."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _data(context, builder, signature.args[0], *given)
        return builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4)

    return _LANES(array, types.intp), make


@intrinsic
def store(typingctx, array, at, lanes):  # type: ignore[no-untyped-def]
    """Write lanes to elements ``at`` … ``at + 15`` of a flat ``float32`` array."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _data(context, builder, signature.args[0], *given[:2])
        builder.store(given[2], builder.bitcast(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), make


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of 16 rows of 16 numbers, or of 8 pairs of rows (r, r + 8) of 8; it is its own inverse.

    Bit k of the number of a vector changes places with bit k of the place in it, one after the other.
    """
    found, step = list(rows), 1
    while step < len(found):
        masks = [
            ir.Constant(_INTS, [(at & ~step | high) if not at & step else LANES + (at & ~step | high) for at in range(LANES)])
            for high in (0, step)
        ]
        for at in range(len(found)):
            if not at & step:
                pair = found[at], found[at | step]
                found[at], found[at | step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        step *= 2
    return found


def _places(context: Any, builder: Any, kind: Any, array: Any, at: Any, step: Any, vector: ir.VectorType) -> list[Any]:
    """Return pointers to the vectors that begin at ``at``, ``at + step`` …, 16 of them."""
    found = []
    for lane in range(LANES):
        place = _data(context, builder, kind, array, builder.add(at, builder.mul(step, ir.Constant(step.type, lane))))
        found.append(builder.bitcast(place, vector.as_pointer()))
    return found


def _blocks(width: int) -> tuple[Any, Any]:
    """Return what reads and what writes 16 rows of 8 or 16 numbers."""
    vector = ir.VectorType(ir.FloatType(), width)
    whole = ir.Constant(_INTS, list(range(LANES)))

    def lanes_of(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> list[Any]:
        step = ir.Constant(at.type, LANES)
        return _places(context, builder, kind, array, at, step, _FLOATS)[:width]

    @intrinsic
    def read(typingctx, array, at, step, out, to):  # type: ignore[no-untyped-def]
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            places = _places(context, builder, signature.args[0], given[0], given[1], given[2], vector)
            rows = [builder.load(place, align=4) for place in places]
            if width < LANES:
                rows = [builder.shuffle_vector(rows[at], rows[at + width], whole) for at in range(width)]
            columns = lanes_of(context, builder, signature.args[3], *given[3:])
            for row, place in zip(_turned(builder, rows), columns, strict=True):
                builder.store(row, place, align=4)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, out, types.intp), make

    @intrinsic
    def write(typingctx, lanes, at, array, to, step):  # type: ignore[no-untyped-def]
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            found = lanes_of(context, builder, signature.args[0], *given[:2])
            rows = _turned(builder, [builder.load(place, align=4) for place in found])
            if width < LANES:
                half = ir.VectorType(ir.IntType(32), width)
                cuts = [ir.Constant(half, list(range(low, low + width))) for low in (0, width)]
                rows = [builder.shuffle_vector(row, row, cut) for cut in cuts for row in rows]
            places = _places(context, builder, signature.args[2], given[2], given[3], given[4], vector)
            for row, place in zip(rows, places, strict=True):
                builder.store(row, place, align=4)
            return context.get_dummy_value()

        return types.void(lanes, types.intp, array, types.intp, types.intp), make

    return read, write


_read16, _write16 = _blocks(16)
_read8, _write8 = _blocks(8)


@compiled()
def to_lanes(array, at, step, width, out, to):  # type: ignore[no-untyped-def]
    """Read 16 rows of ``width`` numbers, which begin at ``at``, ``at + step`` …; write ``[width, 16]`` from ``to`` on."""
    c = 0
    while c + 16 <= width:
        _read16(array, at + c, step, out, to + LANES * c)
        c += 16
    while c + 8 <= width:
        _read8(array, at + c, step, out, to + LANES * c)
        c += 8
    for left in range(c, width):
        for lane in range(LANES):
            out[to + LANES * left + lane] = array[at + left + step * lane]


@compiled()
def from_lanes(lanes, at, width, array, to, step):  # type: ignore[no-untyped-def]
    """Write ``[width, 16]``, which begin at ``at``, as 16 rows from ``to``, ``to + step`` … on."""
    c = 0
    while c + 16 <= width:
        _write16(lanes, at + LANES * c, array, to + c, step)
        c += 16
    while c + 8 <= width:
        _write8(lanes, at + LANES * c, array, to + c, step)
        c += 8
    for left in range(c, width):
        for lane in range(LANES):
            array[to + left + step * lane] = lanes[at + LANES * left + lane]


# -- arithmetic -------------------------------------------------------------------------------------


@intrinsic
def spread(typingctx, value):  # type: ignore[no-untyped-def]
    """Return one number 16 times."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        first = builder.insert_element(_all(0.0), given[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, _all(0.0), _all(0, _INTS))

    return _LANES(types.float32), make


def _pairwise(made: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function of two lanes from what builds it."""

    @intrinsic
    def found(typingctx, a, b):  # type: ignore[no-untyped-def]
        if not (isinstance(a, _Lanes) and isinstance(b, _Lanes)):
            return None
        return _LANES(a, b), lambda context, builder, signature, given: made(builder, *given)

    return found


_add = _pairwise(lambda builder, a, b: builder.fadd(a, b, flags=_FAST))
_subtract = _pairwise(lambda builder, a, b: builder.fsub(a, b, flags=_FAST))
_multiply = _pairwise(lambda builder, a, b: builder.fmul(a, b, flags=_FAST))
#: The larger one of two, lane by lane.
larger = _pairwise(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
#: The first one where the second is above 0, else 0.
where_positive = _pairwise(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", b, _all(0.0)), a, _all(0.0)))


@extending.overload(operator.add)
def _plus(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, _Lanes) and isinstance(b, _Lanes):
        return lambda a, b: _add(a, b)
    return None


@extending.overload(operator.sub)
def _minus(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, _Lanes) and isinstance(b, _Lanes):
        return lambda a, b: _subtract(a, b)
    return None


@extending.overload(operator.mul)
def _times(a, b):  # type: ignore[no-untyped-def]
    if isinstance(a, _Lanes) and isinstance(b, _Lanes):
        return lambda a, b: _multiply(a, b)
    return None


@intrinsic
def inverse(typingctx, lanes):  # type: ignore[no-untyped-def]
    """Return 1 / x."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.fdiv(_all(1.0), given[0])

    return _LANES(lanes), make


@intrinsic
def root(typingctx, lanes):  # type: ignore[no-untyped-def]
    """Return √x."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _call(builder, f"llvm.sqrt.v{LANES}f32", *given)

    return _LANES(lanes), make


@intrinsic
def exp(typingctx, lanes):  # type: ignore[no-untyped-def]
    """Return e^x for x up to 88 (see the module's text)."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        def times_plus(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=_FAST), c, flags=_FAST)

        x = given[0]
        turns = _call(builder, f"llvm.floor.v{LANES}f32", times_plus(x, _all(1.4426950408889634), _all(0.5)))
        rest = times_plus(turns, _all(-0.693359375), x)
        rest = times_plus(turns, _all(2.12194440e-4), rest)
        power = _all(1.9875691500e-4)
        for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            power = times_plus(power, rest, _all(term))
        power = builder.fadd(times_plus(builder.fmul(power, rest), rest, rest), _all(1.0))
        whole = builder.fptosi(turns, _INTS)
        scale = builder.bitcast(builder.shl(builder.add(whole, _all(127, _INTS)), _all(23, _INTS)), _FLOATS)
        seen = builder.fcmp_ordered(">", x, _all(-87.0))
        return builder.select(seen, builder.fmul(power, scale), _all(0.0))

    return _LANES(lanes), make


@intrinsic
def kept(typingctx, random, at, cut, scale):  # type: ignore[no-untyped-def]
    """Return ``scale`` where a byte of ``random`` (``uint8``, from ``at``) is at least ``cut``, else 0: dropout."""

    def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _data(context, builder, signature.args[0], *given[:2])
        drawn = builder.load(builder.bitcast(place, _BYTES.as_pointer()), align=1)
        least, factor = (
            builder.shuffle_vector(
                builder.insert_element(_all(0, kind), value, ir.Constant(ir.IntType(32), 0)), _all(0, kind), _all(0, _INTS)
            )
            for kind, value in ((_BYTES, given[2]), (_FLOATS, given[3]))
        )
        return builder.select(builder.icmp_unsigned(">=", drawn, least), factor, _all(0.0))

    return _LANES(random, types.intp, types.uint8, types.float32), make


@compiled()
def products(a, at, step, n, b, row, column, count, out, to):  # type: ignore[no-untyped-def]
    """Write ``Σ_e a[at + e·step] b[e·row + i·column]``, ``e < n``, for ``i < count`` from ``out[to]`` on; all counted in lanes.

    Four i at a time, so that what is read of ``a`` serves four.
    """
    i, zero = 0, spread(np.float32(0))
    while i + 4 <= count:
        first, second, third, fourth = zero, zero, zero, zero
        for e in range(n):
            x, place = load(a, LANES * (at + e * step)), LANES * (e * row + i * column)
            first = first + x * load(b, place)
            second = second + x * load(b, place + LANES * column)
            third = third + x * load(b, place + 2 * LANES * column)
            fourth = fourth + x * load(b, place + 3 * LANES * column)
        store(out, LANES * (to + i), first)
        store(out, LANES * (to + i + 1), second)
        store(out, LANES * (to + i + 2), third)
        store(out, LANES * (to + i + 3), fourth)
        i += 4
    for left in range(i, count):
        total = zero
        for e in range(n):
            total = total + load(a, LANES * (at + e * step)) * load(b, LANES * (e * row + left * column))
        store(out, LANES * (to + left), total)
