"""How near cells are to clusters, before (`affinity`) and with (`tempered`) the penalty."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.product import TILE, multiply
from harmonypy_lite.kernels.rows import unit_rows
from harmonypy_lite.kernels.vector_math import exp32


@inlined
def _nearest(distance, bits, i):
    """min_k distance_ik, for distances that are not below zero by more than rounding.

    Such numbers are ordered as their bits are, and the minimum of integers is vectorised.
    """
    least = bits[i, 0]
    for k in range(bits.shape[1]):
        least = min(least, bits[i, k])
    return np.int32(least).view(np.float32)


@kernel
def affinity(Z, Yt, slope, offset, A, shift):
    """A_ik = exp(l_ik - shift_i), l_ik = u_i.Y_k slope_k - offset_k, shift_i = max_k l_ik.

    IN Z (n,d) cells, Yt (d,P) unit centroids, slope (P) and offset (P) = 2 / sigma; P is K padded,
    with slope 0 and a huge offset behind K. OUT A (n,K), shift (n).
    """
    U = np.empty((TILE, Z.shape[1]), np.float32)
    distance = np.empty((TILE, Yt.shape[1]), np.float32)  # -l
    bits = distance.view(np.int32)
    for start in range(0, Z.shape[0], TILE):
        stop = min(start + TILE, Z.shape[0])
        unit_rows(Z[start:stop], U)
        multiply(U[: stop - start], Yt, distance)
        for i in range(stop - start):
            for k in range(slope.size):
                distance[i, k] = offset[k] - distance[i, k] * slope[k]
            least = _nearest(distance, bits, i)
            shift[start + i] = -least
            for k in range(A.shape[1]):
                A[start + i, k] = exp32(least - distance[i, k])


@kernel
def tempered(Z, Yt, slope, offset, codes, log_tilt, A, shift):
    """As `affinity`, with l_ik = u_i.Y_k slope_k - offset_k + sum_c log_tilt[code_ic, k].

    For penalties so steep that their exponential leaves the range of single precision.
    IN as in `affinity`, and codes (n,C), log_tilt (B,K) <= 0. OUT A (n,K), shift (n).
    """
    U = np.empty((TILE, Z.shape[1]), np.float32)
    distance = np.empty((TILE, Yt.shape[1]), np.float32)
    bits = distance.view(np.int32)
    for start in range(0, Z.shape[0], TILE):
        stop = min(start + TILE, Z.shape[0])
        unit_rows(Z[start:stop], U)
        multiply(U[: stop - start], Yt, distance)
        for i in range(stop - start):
            for k in range(slope.size):
                distance[i, k] = offset[k] - distance[i, k] * slope[k]
            for c in range(codes.shape[1]):
                b = codes[start + i, c]
                for k in range(A.shape[1]):
                    distance[i, k] -= log_tilt[b, k]
            least = _nearest(distance, bits, i)
            shift[start + i] = -least
            for k in range(A.shape[1]):
                A[start + i, k] = exp32(least - distance[i, k])
