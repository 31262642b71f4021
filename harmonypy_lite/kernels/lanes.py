"""Operations on whole rows of numbers, `LANES` at a time.

LLVM turns a plain loop over a row into vector code with a scalar rest, which for rows of about a
hundred numbers takes longer than all the vectors; and where it sums up, the order may depend on
what it can prove about the loop. Here rows are cut into vectors by hand. Where a row is no multiple
of LANES wide, its last vector overlaps the one before, and sums leave out the lanes that were
counted already; so rows need no padding, but at least LANES numbers.

Vectors have the same length on every processor, so the order of each sum is the same everywhere;
processors with narrower registers take several for one.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from harmonypy_lite.kernels import halves, plain, vector_math
from harmonypy_lite.kernels.vectors import HALF, LANES, Vectors, integer


@intrinsic
def _dot(typing, A, i, T, b):
    """sum_k A[i, k] T[b, k]."""
    signature = types.float32(A, types.int64, T, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, table = lanes.row(0, args[1]), lanes.row(2, args[3])
        total = lanes.slot(lanes.constant(0.0))

        def step(offset: Any, mask: Any) -> None:
            left = lanes.masked(lanes.load(row, offset), mask)
            added = lanes.product_sum(left, lanes.load(table, offset), builder.load(total))
            builder.store(added, total)

        lanes.over(lanes.width(0), step)
        return lanes.folded(builder.load(total), builder.fadd)

    return signature, generate


@intrinsic
def _dot_four(typing, A, i, T, b, out, j):
    """out[j + r] = sum_k A[i + r, k] T[b, k], r < 4; bytes as of `dot`."""
    signature = types.void(A, types.int64, T, types.int64, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        rows = [lanes.row(0, builder.add(args[1], integer(r))) for r in range(4)]
        table, out = lanes.row(2, args[3]), lanes.array(4).data
        totals = [lanes.slot(lanes.constant(0.0)) for _ in rows]

        def step(offset: Any, mask: Any) -> None:
            right = lanes.load(table, offset)
            for row, total in zip(rows, totals, strict=True):
                left = lanes.masked(lanes.load(row, offset), mask)
                builder.store(lanes.product_sum(left, right, builder.load(total)), total)

        lanes.over(lanes.width(0), step)
        for r, total in enumerate(totals):
            number = lanes.folded(builder.load(total), builder.fadd)
            lanes.put_number(number, out, builder.add(args[5], integer(r)))
        return lanes.nothing()

    return signature, generate


def _make_add_rows(rows: int) -> Any:
    @intrinsic
    def add_rows(typing, A, i, weight, j, out):
        """out[k] += sum_r weight[j + r] A[i + r, k], r < rows, one after another."""
        signature = types.void(A, types.int64, weight, types.int64, out)

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            lanes = Vectors(context, builder, sig, args)
            numbers = [builder.add(args[3], integer(r)) for r in range(rows)]
            weights = [lanes.spread(lanes.number(lanes.array(2).data, n)) for n in numbers]
            lines = [lanes.row(0, builder.add(args[1], integer(r))) for r in range(rows)]
            out = lanes.array(4).data

            def step(offset: Any, mask: Any) -> None:
                total = lanes.load(out, offset)
                for line, weight in zip(lines, weights, strict=True):
                    left = lanes.masked(lanes.load(line, offset), mask)
                    total = lanes.product_sum(left, weight, total)
                lanes.store(total, out, offset)

            lanes.over(lanes.width(0), step)
            return lanes.nothing()

        return signature, generate

    return add_rows


@intrinsic
def _scale_row(typing, A, i, T, b, factor, out, j):
    """out[j, k] = A[i, k] T[b, k] factor, for the columns that A has; `out` is none of the two."""
    signature = types.void(A, types.int64, T, types.int64, types.float32, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, table, out = lanes.row(0, args[1]), lanes.row(2, args[3]), lanes.row(5, args[6])
        factor = lanes.spread(args[4])

        def step(offset: Any, mask: Any) -> None:
            product = builder.fmul(lanes.load(row, offset), lanes.load(table, offset))
            lanes.store(builder.fmul(product, factor), out, offset)

        lanes.over(lanes.width(0), step)
        return lanes.nothing()

    return signature, generate


@intrinsic
def _multiply_row(typing, A, i, T, b, out, j):
    """out[j, k] = A[i, k] T[b, k]; returns their sum. `out` is none of the two."""
    signature = types.float32(A, types.int64, T, types.int64, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, table, out = lanes.row(0, args[1]), lanes.row(2, args[3]), lanes.row(4, args[5])
        total = lanes.slot(lanes.constant(0.0))

        def step(offset: Any, mask: Any) -> None:
            product = builder.fmul(lanes.load(row, offset), lanes.load(table, offset))
            lanes.store(product, out, offset)
            added = builder.fadd(builder.load(total), lanes.masked(product, mask))
            builder.store(added, total)

        lanes.over(lanes.width(0), step)
        return lanes.folded(builder.load(total), builder.fadd)

    return signature, generate


@intrinsic
def _share_out(typing, X, i, factor, sums, scale, out, j):
    """sums[0, k] += x_k, out[j, k] += int64(x_k scale), x_k = X[i, k] factor."""
    signature = types.void(X, types.int64, types.float32, sums, types.float32, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, sums, out = lanes.row(0, args[1]), lanes.row(3, integer(0)), lanes.row(5, args[6])
        factor, scale = lanes.spread(args[2]), lanes.spread(args[4])
        fixed = ir.VectorType(ir.IntType(64), LANES)

        def step(offset: Any, mask: Any) -> None:
            share = lanes.masked(builder.fmul(lanes.load(row, offset), factor), mask)
            lanes.store(builder.fadd(lanes.load(sums, offset), share), sums, offset)
            added = builder.fptosi(builder.fmul(share, scale), fixed)
            lanes.store(builder.add(lanes.load(out, offset), added), out, offset)

        lanes.over(lanes.width(0), step)
        return lanes.nothing()

    return signature, generate


@intrinsic
def _line_max(typing, X, i, slope, offset, b):
    """X[i, k] = X[i, k] slope[k] - offset[b, k]; returns the largest. Rows are whole vectors."""
    signature = types.float32(X, types.int64, slope, offset, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, slope, offset = lanes.row(0, args[1]), lanes.array(2).data, lanes.row(3, args[4])
        largest = lanes.slot(lanes.constant(-3e38))

        def step(place: Any, mask: Any) -> None:
            minus = builder.fneg(lanes.load(offset, place))
            line = lanes.product_sum(lanes.load(row, place), lanes.load(slope, place), minus)
            lanes.store(line, row, place)
            builder.store(lanes.larger(line, builder.load(largest)), largest)

        lanes.over(lanes.width(0), step)
        return lanes.folded(builder.load(largest), lanes.larger)

    return signature, generate


@intrinsic
def _exp_row(typing, X, i, shift, out, j):
    """out[j, k] = exp(X[i, k] - shift), for the columns that `out` has; X[i] <= shift.

    `out` may be of halves.
    """
    signature = types.void(X, types.int64, types.float32, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, out, shift = lanes.row(0, args[1]), lanes.row(3, args[4]), lanes.spread(args[2])
        lowest = halves.LOWEST if out.type.pointee == HALF else vector_math.EXP_LOWEST

        def step(offset: Any, mask: Any) -> None:
            below = builder.fsub(lanes.load(row, offset), shift)
            lanes.store(lanes.exp(below, lowest), out, offset)

        lanes.over(lanes.width(3), step)
        return lanes.nothing()

    return signature, generate


@intrinsic
def _add_fixed(typing, X, i, scale, out, j):
    """out[j, k] += int64(X[i, k] scale), for the columns that `out` has."""
    signature = types.void(X, types.int64, X.dtype, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = Vectors(context, builder, sig, args)
        row, out = lanes.row(0, args[1]), lanes.row(3, args[4])
        fixed = ir.VectorType(ir.IntType(64), LANES)
        factor = lanes.spread(args[2])

        def step(offset: Any, mask: Any) -> None:
            number = builder.fmul(lanes.load(row, offset), factor)
            added = builder.fptosi(number, fixed)
            if mask is not None:
                added = builder.select(mask, added, ir.Constant(fixed, [0] * LANES))
            lanes.store(builder.add(lanes.load(out, offset), added), out, offset)

        lanes.over(lanes.width(3), step)
        return lanes.nothing()

    return signature, generate


def row_width(n: int) -> int:
    """Return how wide a row of `n` numbers is kept."""
    return max(n, LANES)


# With the compiler switched off (coverage, debugging) there is no LLVM to write vectors in.
_OFF = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]
dot: Any = plain.dot if _OFF else _dot
dot_four: Any = plain.dot_four if _OFF else _dot_four
add_row: Any = plain.add_rows(1) if _OFF else _make_add_rows(1)
add_four_rows: Any = plain.add_rows(4) if _OFF else _make_add_rows(4)
scale_row: Any = plain.scale_row if _OFF else _scale_row
multiply_row: Any = plain.multiply_row if _OFF else _multiply_row
share_out: Any = plain.share_out if _OFF else _share_out
line_max: Any = plain.line_max if _OFF else _line_max
add_fixed: Any = plain.add_fixed if _OFF else _add_fixed
exp_row: Any = plain.exp_row if _OFF else _exp_row
