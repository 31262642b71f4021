"""Products of a small matrix with many rows, at the speed of the vector unit.

At these sizes (inner dimension 50 to 256, one side below 128) BLAS leaves a quarter of it unused,
and half where it does not know the processor. A tile of the result stays in registers while the
inner dimension runs; plain loops cannot say that, so the tile is written in LLVM's own terms.

Widths are padded to a multiple of LANES by the caller (`padded`), with zeros. Each entry of a
result is one chain of fused multiply-adds along the inner dimension, so its bytes do not depend on
which rows are multiplied together.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from harmonypy_lite.kernels.jit import kernel
from harmonypy_lite.kernels.vectors import LANES, integer

#: Rows that are multiplied at a time, and cells in one single-precision sum at most.
TILE = 256


def _register_bytes() -> int:
    """Return the bytes in a vector register; 16, which all have, where LLVM cannot tell."""
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # as numba, which then compiles for any processor of this kind
        return 16
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


_REGISTER = _register_bytes()
# Registers of the result's tile in one row: AVX-512 and NEON have 32 registers, AVX2 has 16.
_VECTORS = 2 if _REGISTER == 32 else 4
_ROWS = 4
_NEAR = 64  # rows of B of 4-byte numbers: with 112 in each they take 28 KB
_ALIGNED = 4  # rows need no alignment beyond that of a number


@kernel
def padded(width, lanes=LANES):
    """`width` rounded up to a multiple of `lanes`."""
    return -(-width // lanes) * lanes


class _Emitter:
    """Writes the few kinds of LLVM instructions that a tile is made of."""

    def __init__(self, builder: ir.IRBuilder, number: types.Float) -> None:
        self.builder = builder
        self.lanes = 8 * _REGISTER // number.bitwidth
        kind = ir.FloatType() if number.bitwidth == 32 else ir.DoubleType()
        self.kind = ir.VectorType(kind, self.lanes)
        self.zeros = ir.Constant(self.kind, [0.0] * self.lanes)

    def step(self, base: Any, *terms: tuple[Any, Any]) -> Any:
        """Return base + sum of count x stride."""
        for count, stride in terms:
            base = self.builder.gep(base, [self.builder.mul(count, stride)])
        return base

    def vector_at(self, base: Any, v: int) -> Any:
        at = self.builder.gep(base, [integer(v * self.lanes)])
        return self.builder.bitcast(at, self.kind.as_pointer())

    def vector(self, base: Any, v: int) -> Any:
        """Load a vector, made double if the array is single and the result is not."""
        at = self.builder.gep(base, [integer(v * self.lanes)])
        own = ir.VectorType(base.type.pointee, self.lanes)
        found = self.builder.load(self.builder.bitcast(at, own.as_pointer()), align=_ALIGNED)
        return found if own == self.kind else self.builder.fpext(found, self.kind)

    def spread(self, number: Any) -> Any:
        """A vector of the same number in all lanes."""
        undefined = ir.Constant(self.kind, ir.Undefined)
        lane = ir.IntType(32)
        first = self.builder.insert_element(undefined, number, ir.Constant(lane, 0))
        everywhere = ir.Constant(ir.VectorType(lane, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def add_product(self, left: Any, right: Any, total: Any) -> None:
        """*total += left * right, as one fused instruction where the processor has it."""
        term = self.builder.fmul(left, right, flags=("contract",))
        sum_ = self.builder.fadd(term, self.builder.load(total), flags=("contract",))
        self.builder.store(sum_, total)


def _make_tile(rows: int, vectors: int) -> Any:
    """Return the function that fills a tile of the result, `rows` x `vectors` registers."""

    @intrinsic
    def tile(typing, A, i, row_step, inner_step, first, last, B, j, C):
        """C[i + r, j + v] = sum_p A[(i + r) row_step + p inner_step] B[p, j + v], p < last.

        The terms below `first` are in C already.
        """
        signature = types.void(A, i, row_step, inner_step, first, last, B, j, C)

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            emit = _Emitter(builder, sig.args[0].dtype)
            i, row_step, inner_step, first, last = (args[n] for n in range(1, 6))
            j = args[7]
            a, b, c = (
                context.make_array(sig.args[n])(context, builder, value=args[n]) for n in (0, 6, 8)
            )
            width = cgutils.unpack_tuple(builder, b.shape)[1]
            # Slots on the stack, which LLVM turns into registers.
            sums = [
                [cgutils.alloca_once(builder, emit.kind) for _ in range(vectors)]
                for _ in range(rows)
            ]
            at_row = [builder.add(i, integer(r)) for r in range(rows)]
            lines = [emit.step(c.data, (at, width), (j, integer(1))) for at in at_row]
            with builder.if_else(builder.icmp_signed("==", first, integer(0))) as (begin, go_on):
                with begin:
                    for total in (total for row in sums for total in row):
                        builder.store(emit.zeros, total)
                with go_on:
                    for line, row in zip(lines, sums, strict=True):
                        for v, total in enumerate(row):
                            before = builder.load(emit.vector_at(line, v), align=_ALIGNED)
                            builder.store(before, total)
            with cgutils.for_range_slice(builder, first, last, integer(1)) as (index, _):
                line = emit.step(b.data, (index, width), (j, integer(1)))
                right = [emit.vector(line, v) for v in range(vectors)]
                for r in range(rows):
                    at = emit.step(a.data, (at_row[r], row_step), (index, inner_step))
                    left = emit.spread(builder.load(at))
                    for v in range(vectors):
                        emit.add_product(left, right[v], sums[r][v])
            for line, row in zip(lines, sums, strict=True):
                for v, total in enumerate(row):
                    builder.store(builder.load(total), emit.vector_at(line, v), align=_ALIGNED)
            return context.get_dummy_value()

        return signature, generate

    return tile


_tile_4, _row_4 = _make_tile(_ROWS, 4), _make_tile(1, 4)
_tile_3, _row_3 = _make_tile(_ROWS, 3), _make_tile(1, 3)
_tile_2, _row_2 = _make_tile(_ROWS, 2), _make_tile(1, 2)
_tile_1, _row_1 = _make_tile(_ROWS, 1), _make_tile(1, 1)


@kernel
def _fill(A, rows, row_step, inner_step, first, last, B, C):
    """C[i, j] = sum_p A[i row_step + p inner_step] B[p, j], i < rows, p < last.

    The terms below `first` are in C already.
    """
    whole = rows - rows % _ROWS
    lanes = _REGISTER // A.itemsize
    for j in range(0, B.shape[1], _VECTORS * lanes):
        vectors = min(_VECTORS, (B.shape[1] - j) // lanes)
        for i in range(0, whole, _ROWS):
            if vectors == 4:
                _tile_4(A, i, row_step, inner_step, first, last, B, j, C)
            elif vectors == 3:
                _tile_3(A, i, row_step, inner_step, first, last, B, j, C)
            elif vectors == 2:
                _tile_2(A, i, row_step, inner_step, first, last, B, j, C)
            else:
                _tile_1(A, i, row_step, inner_step, first, last, B, j, C)
        for i in range(whole, rows):
            if vectors == 4:
                _row_4(A, i, row_step, inner_step, first, last, B, j, C)
            elif vectors == 3:
                _row_3(A, i, row_step, inner_step, first, last, B, j, C)
            elif vectors == 2:
                _row_2(A, i, row_step, inner_step, first, last, B, j, C)
            else:
                _row_1(A, i, row_step, inner_step, first, last, B, j, C)


@kernel
def _multiply(A, B, C):
    _fill(A, A.shape[0], A.shape[1], 1, 0, B.shape[0], B, C)


@kernel
def _multiply_transposed(A, B, C):
    # A part of B that stays in the first cache meets all rows of the result at once.
    near = _NEAR * 4 // B.itemsize
    for first in range(0, A.shape[0], near):
        last = min(first + near, A.shape[0])
        _fill(A, A.shape[1], 1, A.shape[1], first, last, B, C)


def _plain_multiply(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> None:
    np.dot(A[:, : len(B)], B, C[: len(A)])


def _plain_multiply_transposed(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> None:
    np.dot(A.T, B[: A.shape[0]], C[: A.shape[1]])


# With the compiler switched off (coverage, debugging) there is no LLVM to write tiles in.
_OFF = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]
#: C[:n] = A[:, :m] B for A (n, at least m), B (m,w), C (at least n,w): contiguous, all float32 or
#: all float64, w a multiple of LANES.
multiply = _plain_multiply if _OFF else _multiply
#: C[:m] = A' B for A (n,m), B (n,w), C (at least m,w); otherwise as `multiply`, but that B may be
#: float32 where the others are float64.
multiply_transposed = _plain_multiply_transposed if _OFF else _multiply_transposed
