"""Writes vector code on the rows of arrays, in LLVM's own terms; the operations are in `lanes`."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from harmonypy_lite.kernels import halves, vector_math

#: Numbers in a vector.
LANES = 16
#: A number of 16 bits, see `halves`; and vectors in single precision and of 32-bit integers.
HALF = ir.IntType(16)
_NUMBER = ir.FloatType()
VECTOR = ir.VectorType(_NUMBER, LANES)
_INDEX = ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract",)
_ALIGNED, _HALF_ALIGNED = 4, 2  # rows need no alignment beyond that of a number


class Vectors:
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
        """Return a vector, in single precision if the array is of halves; see `halves`."""
        kind = base.type.pointee
        if kind != HALF:
            return self.builder.load(self._at(base, offset, kind), align=_ALIGNED)
        vector = self.builder.load(self._at(base, offset, kind), align=_HALF_ALIGNED)
        bits = self.builder.shl(self.builder.zext(vector, _INDEX), self._bits(halves.DROPPED))
        return self.builder.bitcast(self.builder.add(bits, self._bits(halves.LEAST)), VECTOR)

    def store(self, vector: Any, base: Any, offset: Any) -> None:
        """Store in the precision of the array that `base` is of."""
        if base.type.pointee == HALF:
            bits = self.builder.sub(self.builder.bitcast(vector, _INDEX), self._bits(halves.BIAS))
            short = self.builder.lshr(bits, self._bits(halves.DROPPED))
            vector = self.builder.trunc(short, ir.VectorType(HALF, LANES))
            self.builder.store(vector, self._at(base, offset, HALF), align=_HALF_ALIGNED)
            return
        if vector.type == VECTOR and base.type.pointee != _NUMBER:
            vector = self.builder.fpext(vector, ir.VectorType(base.type.pointee, LANES))
        place = self._at(base, offset, vector.type.element)
        self.builder.store(vector, place, align=_ALIGNED)

    def number(self, base: Any, offset: Any) -> Any:
        """Return one number of a row."""
        return self.builder.load(self.builder.gep(base, [offset]))

    def put_number(self, number: Any, base: Any, offset: Any) -> None:
        """Store one number in a row."""
        self.builder.store(number, self.builder.gep(base, [offset]))

    def spread(self, number: Any) -> Any:
        """Return a vector of the same number in all lanes."""
        undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(_INDEX, [0] * LANES))

    def constant(self, number: float) -> Any:
        """Return a vector of a number that is known now."""
        return ir.Constant(VECTOR, [float(np.float32(number))] * LANES)

    def product_sum(self, left: Any, right: Any, total: Any) -> Any:
        """Return left * right + total, one fused instruction where the processor has it."""
        product = self.builder.fmul(left, right, flags=_FUSED)
        return self.builder.fadd(product, total, flags=_FUSED)

    def slot(self, vector: Any) -> Any:
        """Return a place on the stack that holds `vector`; LLVM turns it into a register."""
        place = cgutils.alloca_once(self.builder, VECTOR)
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
        """Return the larger of two, lane by lane."""
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
        """Return the vector, 0 in the lanes that the mask leaves out."""
        if mask is None:
            return vector
        return self.builder.select(mask, vector, ir.Constant(VECTOR, [0.0] * LANES))

    def exp(self, x: Any, lowest: float) -> Any:
        """Return exp(x) for x <= 0, and exp(lowest) below `lowest`, >= `vector_math.EXP_LOWEST`."""
        builder = self.builder
        x = self.larger(x, self.constant(lowest))
        scaled = self.product_sum(x, self.constant(vector_math.LOG2_E), self.constant(0.5))
        name = f"llvm.floor.v{LANES}f32"
        kind = ir.FunctionType(VECTOR, [VECTOR])
        n = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [scaled])
        r = self.product_sum(n, self.constant(-vector_math.LN2_HIGH), x)
        r = self.product_sum(n, self.constant(-vector_math.LN2_LOW), r)
        p = self.constant(vector_math.EXP_TERMS[0])
        for term in vector_math.EXP_TERMS[1:]:
            p = self.product_sum(p, r, self.constant(term))
        exponent = builder.add(builder.fptosi(n, _INDEX), ir.Constant(_INDEX, [127] * LANES))
        power = builder.shl(exponent, ir.Constant(_INDEX, [23] * LANES))
        return builder.fmul(p, builder.bitcast(power, VECTOR))

    def _bits(self, number: int) -> Any:
        return ir.Constant(_INDEX, [number] * LANES)

    def nothing(self) -> Any:
        """Return what a function without result returns."""
        return self._context.get_dummy_value()

    def _at(self, base: Any, offset: Any, number: Any) -> Any:
        place = self.builder.gep(base, [offset])
        return self.builder.bitcast(place, ir.VectorType(number, LANES).as_pointer())


def integer(n: int) -> ir.Constant:
    """Return a 64-bit constant of LLVM."""
    return ir.Constant(ir.IntType(64), n)
