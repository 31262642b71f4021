"""exp and log in single precision as polynomials, which become vector code.

libm's scalar functions cost about twenty times as much per entry inside a loop. `exp` itself is
written in `lanes`, from the terms here. The error is below 2 units in the last place on [-20, 0],
where affinities lie, and below 5 at the end of the range (tests/test_vector_math.py).
"""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import inlined

#: exp(x) = 2^n exp(r), r = x - n ln 2, |r| <= ln 2 / 2; below EXP_LOWEST it stays as it is there.
EXP_LOWEST = -87.0
LOG2_E = 1.4426950408889634
#: ln 2 in two parts: the high part has few bits, so that n * LN2_HIGH is exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
#: exp(r) = 1 + r + r^2/2 + ..., highest power first.
EXP_TERMS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)

_LN2 = np.float32(0.6931471805599453)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_ONE, _TWO = np.float32(1.0), np.float32(2.0)


@inlined
def log32(x):
    """log(x) = e ln 2 + log(m), sqrt(1/2) <= m < sqrt(2), for normal x > 0.

    log(m) = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172: five terms of its series.
    """
    bits = np.float32(x).view(np.int32)
    e = np.int32(bits - _SQRT_HALF_BITS) >> np.int32(23)
    m = np.int32(bits - (e << np.int32(23))).view(np.float32)
    s = (m - _ONE) / (m + _ONE)
    square = s * s
    p = np.float32(1.0 / 9)
    p = p * square + np.float32(1.0 / 7)
    p = p * square + np.float32(1.0 / 5)
    p = p * square + np.float32(1.0 / 3)
    p = p * square + _ONE
    return np.float32(e) * _LN2 + _TWO * s * p
