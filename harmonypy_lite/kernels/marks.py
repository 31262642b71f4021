"""The least of many numbers, and which of 64 lie below a bar, as the bits of one number.

A plain loop that copies the few numbers below a bar looks at each of them by itself. One comparison
per vector and a walk over the bits that are set look at those alone.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from harmonypy_lite.kernels.jit import inlined

#: Numbers that are compared at once.
MARKED = 64
_ONE = np.uint64(1)
_ALIGNED = 4  # rows need no alignment beyond that of a number


_LANE = ir.IntType(32)


def _numbers(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, i: Any, first: Any) -> Any:
    """Return where the MARKED numbers from column `first` of row `i` of a contiguous array are."""
    X = context.make_array(kind)(context, builder, value=array)
    width = cgutils.unpack_tuple(builder, X.shape)[1]
    at = builder.gep(X.data, [builder.add(builder.mul(i, width), first)])
    return builder.bitcast(at, ir.VectorType(X.data.type.pointee, MARKED).as_pointer())


@intrinsic
def _below(typing, X, i, first, bar):
    """Bit j is 1 if X[i, first + j] < bar, j < MARKED; X is contiguous."""
    signature = types.uint64(X, types.int64, types.int64, X.dtype)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        at = _numbers(context, builder, sig.args[0], *args[:3])
        numbers = builder.load(at, align=_ALIGNED)
        none = ir.Constant(numbers.type, ir.Undefined)
        one = builder.insert_element(none, args[3], ir.Constant(_LANE, 0))
        zeros = ir.Constant(ir.VectorType(_LANE, MARKED), [0] * MARKED)
        marks = builder.fcmp_ordered("<", numbers, builder.shuffle_vector(one, none, zeros))
        return builder.bitcast(marks, ir.IntType(64))

    return signature, generate


@intrinsic
def _lower(typing, least, i, first, X, j):
    """least[i, first + l] = min(least[i, first + l], X[j, l]), l < MARKED; both contiguous."""
    signature = types.void(least, types.int64, types.int64, X, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        to = _numbers(context, builder, sig.args[0], *args[:3])
        other = _numbers(
            context, builder, sig.args[3], args[3], args[4], ir.Constant(ir.IntType(64), 0)
        )
        held, new = (builder.load(at, align=_ALIGNED) for at in (to, other))
        smaller = builder.select(builder.fcmp_ordered("<", new, held), new, held)
        builder.store(smaller, to, align=_ALIGNED)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _first_mark(typing, marks):
    """Place of the lowest bit that is 1; one is."""
    signature = types.int64(types.uint64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return signature, generate


@intrinsic
def _count(typing, marks):
    """Number of bits that are 1."""
    signature = types.int64(types.uint64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return signature, generate


@inlined
def without_first(marks):
    """`marks` without its lowest bit."""
    return marks & (marks - _ONE)


def _plain_below(X: np.ndarray, i: int, first: int, bar: float) -> np.uint64:
    marks = np.packbits(X[i, first : first + MARKED] < bar, bitorder="little")
    return np.uint64(int.from_bytes(marks.tobytes(), "little"))


def _plain_count(marks: np.uint64) -> int:
    return int(marks).bit_count()


def _plain_lower(least: np.ndarray, i: int, first: int, X: np.ndarray, j: int) -> None:
    own = least[i, first : first + MARKED]
    np.minimum(own, X[j], out=own)


def _plain_first_mark(marks: np.uint64) -> int:
    return (int(marks) & -int(marks)).bit_length() - 1


# With the compiler switched off (coverage, debugging) there is no LLVM to compare vectors in.
_OFF = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]
below: Any = _plain_below if _OFF else _below
first_mark: Any = _plain_first_mark if _OFF else _first_mark
lower: Any = _plain_lower if _OFF else _lower
count: Any = _plain_count if _OFF else _count
