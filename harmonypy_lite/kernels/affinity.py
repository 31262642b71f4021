"""How near cells are to clusters, before (`affinity`) and with (`tempered`) the penalty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harmonypy_lite.kernels.jit import kernel
from harmonypy_lite.kernels.lanes import exp_row, line_max
from harmonypy_lite.kernels.product import TILE, multiply
from harmonypy_lite.kernels.rows import unit_rows


class Target(NamedTuple):
    """What cells are assigned to; P is K padded, with slope 0 and a huge offset behind K."""

    Yt: np.ndarray  # (d, P) unit centroids
    slope: np.ndarray  # (P,) 2 / sigma
    offset: np.ndarray  # (1, P) 2 / sigma
    tilt: np.ndarray  # (B, L) penalties, exponentiated: 1, and 0 behind K
    sigma: np.ndarray  # (K,), or (1,) if they are all the same


@kernel
def near(U, lo, hi, target, line, A, shift):
    """A_ik = exp(l_ik - shift_i), l_ik = u_i.Y_k slope_k - offset_k, shift_i = max_k l_ik.

    IN U (at least hi-lo, d) unit cells of the rows lo to hi, target (`Target`), line (TILE,P) for
    scratch. OUT A (n,L), shift (n).
    """
    multiply(U[: hi - lo], target.Yt, line)
    for i in range(hi - lo):
        most = line_max(line, i, target.slope, target.offset, 0)
        shift[lo + i] = most
        exp_row(line, i, most, A, lo + i)


@kernel
def affinity(Z, target, A, shift):
    """`near` for cells of any length. IN Z (n,d), target (`Target`). OUT A (n,L), shift (n)."""
    U = np.empty((TILE, Z.shape[1]), np.float32)
    line = np.empty((TILE, target.Yt.shape[1]), np.float32)
    for start in range(0, Z.shape[0], TILE):
        stop = min(start + TILE, Z.shape[0])
        unit_rows(Z[start:stop], U)
        near(U, start, stop, target, line, A, shift)


@kernel
def tempered(Z, target, codes, log_tilt, A, shift):
    """As `affinity`, with l_ik = u_i.Y_k slope_k - offset_k + sum_c log_tilt[code_ic, k].

    For penalties so steep that their exponential leaves the range of single precision.
    IN as in `affinity`, and codes (n,C), log_tilt (B,K) <= 0. OUT A (n,L), shift (n).
    """
    U = np.empty((TILE, Z.shape[1]), np.float32)
    line = np.empty((TILE, target.Yt.shape[1]), np.float32)
    farther = target.offset.copy()
    for start in range(0, Z.shape[0], TILE):
        stop = min(start + TILE, Z.shape[0])
        unit_rows(Z[start:stop], U)
        multiply(U[: stop - start], target.Yt, line)
        for i in range(start, stop):
            for k in range(log_tilt.shape[1]):
                farther[0, k] = target.offset[0, k]
                for c in range(codes.shape[1]):
                    farther[0, k] -= log_tilt[codes[i, c], k]
            most = line_max(line, i - start, target.slope, farther, 0)
            shift[i] = most
            exp_row(line, i - start, most, A, i)
