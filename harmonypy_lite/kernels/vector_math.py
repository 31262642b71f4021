"""exp and log in single precision as polynomials, which LLVM turns into vector code.

libm's scalar `expf` costs about twenty times as much per entry inside a loop. The error is below 2
units in the last place on [-20, 0], where affinities lie, and below 5 at the ends of the range
(tests/test_vector_math.py).
"""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import inlined

_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts: the high part has few bits, so that n * LN2_HIGH is exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_LOWEST = np.float32(-87.0)
_EXP_HIGHEST = np.float32(88.0)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)


@inlined
def exp32(x):
    """exp(x) = 2^n exp(r), r = x - n ln 2, |r| <= ln 2 / 2; x is clipped to [-87, 88]."""
    x = min(max(x, _EXP_LOWEST), _EXP_HIGHEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = np.float32(1.0 / 5040)
    p = p * r + np.float32(1.0 / 720)
    p = p * r + np.float32(1.0 / 120)
    p = p * r + np.float32(1.0 / 24)
    p = p * r + np.float32(1.0 / 6)
    p = p * r + _HALF
    p = p * r + _ONE
    p = p * r + _ONE
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
