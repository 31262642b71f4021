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
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from harmonypy_lite.kernels import plain, vector_math

#: Numbers in a vector.
LANES = 16
_NUMBER = ir.FloatType()
_VECTOR = ir.VectorType(_NUMBER, LANES)
_INDEX = ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract",)
_ALIGNED = 4  # rows need no alignment beyond that of a number


class _Lanes:
    """Writes LLVM instructions on vectors of LANES single-precision numbers."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        self.builder, self.args = builder, args
        self._context, self._signature = context, signature

    def array(self, n: int) -> Any:
        """Return argument `n`, an array."""
        return self._context.make_array(self._signature.args[n])(
            self._context, self.builder, value=self.args[n]
        )

    def row(self, n: int, index: Any) -> Any:
        """Return where row `index` of argument `n` begins."""
        array = self.array(n)
        width = cgutils.unpack_tuple(self.builder, array.shape)[1]
        return self.builder.gep(array.data, [self.builder.mul(index, width)])

    def width(self, n: int) -> Any:
        """Return how wide the rows of argument `n` are."""
        return cgutils.unpack_tuple(self.builder, self.array(n).shape)[-1]

    def load(self, base: Any, offset: Any) -> Any:
        place = self._at(base, offset, base.type.pointee)
        return self.builder.load(place, align=_ALIGNED)

    def store(self, vector: Any, base: Any, offset: Any) -> None:
        """Store in the precision of the array that `base` is of."""
        if vector.type == _VECTOR and base.type.pointee != _NUMBER:
            vector = self.builder.fpext(vector, ir.VectorType(base.type.pointee, LANES))
        place = self._at(base, offset, vector.type.element)
        self.builder.store(vector, place, align=_ALIGNED)

    def number(self, base: Any, offset: Any) -> Any:
        return self.builder.load(self.builder.gep(base, [offset]))

    def put_number(self, number: Any, base: Any, offset: Any) -> None:
        self.builder.store(number, self.builder.gep(base, [offset]))

    def spread(self, number: Any) -> Any:
        """Return a vector of the same number in all lanes."""
        undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(_INDEX, [0] * LANES))

    def constant(self, number: float) -> Any:
        return ir.Constant(_VECTOR, [float(np.float32(number))] * LANES)

    def product_sum(self, left: Any, right: Any, total: Any) -> Any:
        """Return left * right + total, one fused instruction where the processor has it."""
        product = self.builder.fmul(left, right, flags=_FUSED)
        return self.builder.fadd(product, total, flags=_FUSED)

    def slot(self, vector: Any) -> Any:
        """Return a place on the stack that holds `vector`; LLVM turns it into a register."""
        place = cgutils.alloca_once(self.builder, _VECTOR)
        self.builder.store(vector, place)
        return place

    def folded(self, vector: Any, combine: Any) -> Any:
        """Return one number from the lanes, halving them again and again."""
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            half = ir.VectorType(ir.IntType(32), lanes)
            undefined = ir.Constant(vector.type, ir.Undefined)
            low, high = (
                self.builder.shuffle_vector(
                    vector, undefined, ir.Constant(half, list(range(first, first + lanes)))
                )
                for first in (0, lanes)
            )
            vector = combine(low, high)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    def larger(self, left: Any, right: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered(">", left, right), left, right)

    def over(self, width: Any, step: Any) -> None:
        """Call ``step(offset, mask)`` for each vector of a row; the mask is None for whole ones.

        Lanes of the last vector that the one before had already are 0 in its mask.
        """
        lanes = integer(LANES)
        whole = self.builder.udiv(width, lanes)
        with cgutils.for_range(self.builder, whole) as loop:
            step(self.builder.mul(loop.index, lanes), None)
        rest = self.builder.urem(width, lanes)
        with self.builder.if_then(self.builder.icmp_unsigned("!=", rest, integer(0))):
            seen = self.builder.trunc(self.builder.sub(lanes, rest), ir.IntType(32))
            counting = ir.Constant(_INDEX, list(range(LANES)))
            undefined = ir.Constant(_INDEX, ir.Undefined)
            first = self.builder.insert_element(undefined, seen, ir.Constant(ir.IntType(32), 0))
            every = self.builder.shuffle_vector(first, undefined, ir.Constant(_INDEX, [0] * LANES))
            mask = self.builder.icmp_unsigned(">=", counting, every)
            step(self.builder.sub(width, lanes), mask)

    def masked(self, vector: Any, mask: Any) -> Any:
        if mask is None:
            return vector
        return self.builder.select(mask, vector, ir.Constant(_VECTOR, [0.0] * LANES))

    def exp(self, x: Any) -> Any:
        """Return exp(x) as `vector_math.exp32`, for x <= 0."""
        builder = self.builder
        x = self.larger(x, self.constant(vector_math.EXP_LOWEST))
        scaled = self.product_sum(x, self.constant(vector_math.LOG2_E), self.constant(0.5))
        name = f"llvm.floor.v{LANES}f32"
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        n = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [scaled])
        r = self.product_sum(n, self.constant(-vector_math.LN2_HIGH), x)
        r = self.product_sum(n, self.constant(-vector_math.LN2_LOW), r)
        p = self.constant(vector_math.EXP_TERMS[0])
        for term in vector_math.EXP_TERMS[1:]:
            p = self.product_sum(p, r, self.constant(term))
        exponent = builder.add(builder.fptosi(n, _INDEX), ir.Constant(_INDEX, [127] * LANES))
        power = builder.shl(exponent, ir.Constant(_INDEX, [23] * LANES))
        return builder.fmul(p, builder.bitcast(power, _VECTOR))

    def nothing(self) -> Any:
        return self._context.get_dummy_value()

    def _at(self, base: Any, offset: Any, number: Any) -> Any:
        place = self.builder.gep(base, [offset])
        return self.builder.bitcast(place, ir.VectorType(number, LANES).as_pointer())


def integer(n: int) -> ir.Constant:
    """Return a 64-bit constant of LLVM."""
    return ir.Constant(ir.IntType(64), n)


@intrinsic
def _dot(typing, A, i, T, b):
    """sum_k A[i, k] T[b, k]."""
    signature = types.float32(A, types.int64, T, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, sig, args)
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
        lanes = _Lanes(context, builder, sig, args)
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
            lanes = _Lanes(context, builder, sig, args)
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
        lanes = _Lanes(context, builder, sig, args)
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
        lanes = _Lanes(context, builder, sig, args)
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
        lanes = _Lanes(context, builder, sig, args)
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
        lanes = _Lanes(context, builder, sig, args)
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
    """out[j, k] = exp(X[i, k] - shift), for the columns that `out` has; X[i] <= shift."""
    signature = types.void(X, types.int64, types.float32, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, sig, args)
        row, out, shift = lanes.row(0, args[1]), lanes.row(3, args[4]), lanes.spread(args[2])

        def step(offset: Any, mask: Any) -> None:
            below = builder.fsub(lanes.load(row, offset), shift)
            lanes.store(lanes.exp(below), out, offset)

        lanes.over(lanes.width(3), step)
        return lanes.nothing()

    return signature, generate


@intrinsic
def _add_fixed(typing, X, i, scale, out, j):
    """out[j, k] += int64(X[i, k] scale), for the columns that `out` has."""
    signature = types.void(X, types.int64, X.dtype, out, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, sig, args)
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
