"""How near cells are to clusters, before (`affinity`) and with (`tempered`) the penalty."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.rows import unit_rows
from harmonypy_lite.kernels.vector_math import exp32


@inlined
def _exp_below_maximum(row):
    """row_k -> exp(row_k - max row); returns the maximum."""
    highest = row[0]
    for k in range(row.size):
        highest = max(highest, row[k])
    for k in range(row.size):
        row[k] = exp32(row[k] - highest)
    return highest


@kernel
def affinity(Z, Yt, slope, U, A, shift):
    """A_ik = exp(l_ik - shift_i), l_ik = (u_i.Y_k - 1) slope_k, shift_i = max_k l_ik.

    IN Z (n,d) cells, Yt (d,K) unit centroids, slope (K) = 2 / sigma. OUT U (tile,d) scratch,
    A (n,K), shift (n).
    """
    tile = U.shape[0]
    for start in range(0, Z.shape[0], tile):
        stop = min(start + tile, Z.shape[0])
        unit_rows(Z[start:stop], U)
        np.dot(U[: stop - start], Yt, A[start:stop])
        for i in range(start, stop):
            row = A[i]
            for k in range(row.size):
                row[k] = row[k] * slope[k] - slope[k]
            shift[i] = _exp_below_maximum(row)


@kernel
def tempered(Z, Yt, slope, codes, log_tilt, U, A, shift):
    """As `affinity`, with l_ik = (u_i.Y_k - 1) slope_k + sum_c log_tilt[code_ic, k].

    For penalties so steep that their exponential leaves the range of single precision.
    IN Z (n,d), Yt (d,K), slope (K), codes (n,C), log_tilt (B,K). OUT U scratch, A (n,K), shift (n).
    """
    tile = U.shape[0]
    for start in range(0, Z.shape[0], tile):
        stop = min(start + tile, Z.shape[0])
        unit_rows(Z[start:stop], U)
        np.dot(U[: stop - start], Yt, A[start:stop])
        for i in range(start, stop):
            row = A[i]
            for k in range(row.size):
                row[k] = row[k] * slope[k] - slope[k]
            for c in range(codes.shape[1]):
                add = log_tilt[codes[i, c]]
                for k in range(row.size):
                    row[k] += add[k]
            shift[i] = _exp_below_maximum(row)
