"""Distances: Euclid's, in place of products of blocks, and Mahalanobis's from clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import kernel
from harmonypy_lite.kernels.product import multiply

Array = NDArray[Any]


@kernel
def surrogate_to_distance(half_norm: Array, block: Array) -> None:
    """d_ij = sqrt(2 max(0, |x_i|²/2 + s_ij)), with s_ij = |y_j|²/2 - x_i·y_j.

    IN half_norm, |x|²/2 (rows,).  OUT block (rows, columns), s on entry and d on return.
    """
    rows, columns = block.shape
    for i in range(rows):
        x = half_norm[i]
        for j in range(columns):
            squared = x + block[i, j]
            squared = squared if squared > 0 else block.dtype.type(0)
            block[i, j] = np.sqrt(squared + squared)


@kernel
def mahalanobis(Z: Array, R: Array, mean: Array, whitener: Array, near: float, out: Array) -> None:
    """d_i = sum_k R_ik |(z_i - mean_k) L_k| / sum_k R_ik, over the k with R_ik >= near; 0 if none.

    IN Z (n, d); R (n, K); mean (K, d); whitener, L (K, d, d padded with zeros); all float32; near.
    OUT out (n,).
    """
    n, dims = Z.shape
    cells, weight = np.empty(n, np.int64), np.zeros(n)
    apart = np.empty((n, dims), np.float32)
    white = np.empty((n, whitener.shape[2]), np.float32)
    out[:] = 0
    for k in range(R.shape[1]):
        held = 0
        for i in range(n):
            if R[i, k] >= near:
                cells[held] = i
                for t in range(dims):
                    apart[held, t] = Z[i, t] - mean[k, t]
                held += 1
        multiply(apart[:held], whitener[k], white)
        for c in range(held):
            square = np.float32(0)
            for t in range(white.shape[1]):
                square += white[c, t] * white[c, t]
            i = cells[c]
            weight[i] += R[i, k]
            out[i] += R[i, k] * np.sqrt(square)
    for i in range(n):
        if weight[i] > 0:
            out[i] /= weight[i]
