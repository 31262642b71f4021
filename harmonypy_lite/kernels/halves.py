"""Numbers in 16 bits, from exp(-44.36) to 1, with 11 significant bits.

A number's half is the upper part of its bits in single precision, counted from those of the
smallest one: 1 is 65535. IEEE's half precision spends a bit on the sign and ends at exp(-17);
affinities are positive and reach exp(-40) at the usual width of clusters. `lanes` writes the same
in vector instructions.
"""

from __future__ import annotations

import numpy as np

#: Bits of single precision that a half does not have.
DROPPED = 13
#: Bits of the smallest number in single precision: those of 1 less all 65535 steps.
LEAST = 0x3F800000 - (0xFFFF << DROPPED)
#: ... less half a step, so that cutting off rounds to the nearest.
BIAS = LEAST - (1 << (DROPPED - 1))
#: Logarithm of the smallest number, rounded up.
LOWEST = -44.36


def to_half(x: np.ndarray) -> np.ndarray:
    """Return uint16, for float32 x from exp(LOWEST) to 1.

    Examples
    --------
    >>> to_half(np.array([1.0, 0.5], np.float32))
    array([65535, 64511], dtype=uint16)
    """
    return ((x.view(np.uint32) - np.uint32(BIAS)) >> np.uint32(DROPPED)).astype(np.uint16)


def from_half(half: np.ndarray) -> np.ndarray:
    """Return float32.

    Examples
    --------
    >>> from_half(to_half(np.array([1.0, 0.3], np.float32)))
    array([1.        , 0.30004883], dtype=float32)
    """
    return ((half.astype(np.uint32) << np.uint32(DROPPED)) + np.uint32(LEAST)).view(np.float32)
